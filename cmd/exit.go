package cmd

import (
	"errors"

	"godeploy/internal/fault"
)

// The exit codes say what state the fleet is in (docs/exit-codes.md). 2 is never used on purpose: it is
// what a crashed Go program leaves.
const (
	exitDone        = 0
	exitUnexpected  = 1
	exitDifferences = 3
	exitUnreachable = 4
	exitWholeOnOld  = 5
	exitMixed       = 6
	exitLockHeld    = 7
	exitFindings    = 8
	exitUsage       = 64
	exitInterrupt   = 130
	exitTerminated  = 143
)

// outcome is an error whose exit code the command has decided, because it knows what state it left
// the fleet in. It has no method ExitCode: urfave/cli would end the process on one. A nil Err is a
// code without a message, as for differences and findings.
type outcome struct {
	Code int
	Err  error
	// Result is the word for run.end; "" lets the code say it.
	Result string
}

func (o *outcome) Error() string {
	if o.Err == nil {
		return "ended with exit code"
	}
	return o.Err.Error()
}

func (o *outcome) Unwrap() error { return o.Err }

// exitWith makes a command end with that code; err may be nil.
func exitWith(code int, err error) error { return &outcome{Code: code, Err: err} }

// codeOf is the one place where an error becomes an exit code. A fault speaks for itself only while
// nothing has been changed; a command that has changed something returns an outcome.
func codeOf(err error) int {
	if err == nil {
		return exitDone
	}
	var o *outcome
	if errors.As(err, &o) {
		return o.Code
	}
	worst := exitDone
	for _, f := range fault.All(err) {
		worst = graver(worst, codeOfFault(f.Code))
	}
	return worst
}

// graver picks the code that asks more of the reader. An unexpected error hides nothing behind
// "retry"; "fix the call" goes before "retry later", since a retry cannot succeed.
func graver(a, b int) int {
	for _, code := range []int{exitTerminated, exitInterrupt, exitUnexpected, exitUsage, exitUnreachable, exitLockHeld} {
		if a == code || b == code {
			return code
		}
	}
	return max(a, b)
}

// codeOfFault is the table for failures that come before anything was changed.
func codeOfFault(code fault.Code) int {
	switch code {
	case fault.Usage, fault.ConfigSyntax, fault.ConfigUnknownKey, fault.ConfigValue, fault.ConfigNotBuilt,
		fault.ConfigMissing, fault.EnvUnknown, fault.HostUnknown, fault.LimitEmpty, fault.ConfirmNeeded,
		fault.BranchRefused, fault.TreeDirty, fault.ReleaseUnknown, fault.DeleteRefused, fault.SchemaAhead,
		fault.KeyRefused, fault.LockoutRefused:
		return exitUsage
	case fault.SSHRefused, fault.SSHTimeout, fault.SSHAuth, fault.SSHHostKeyUnknown, fault.SSHHostKeyChanged,
		fault.SSHJump, fault.SSHLost:
		return exitUnreachable
	case fault.LockHeld, fault.Frozen:
		return exitLockHeld
	case fault.KeyUnproven, fault.AccountRefused:
		return exitWholeOnOld
	case fault.DrainOpen:
		return exitFindings
	case fault.Interrupted:
		return exitInterrupt
	default:
		return exitUnexpected
	}
}

// resultOf is the word in run.end for a run that did not say its own.
func resultOf(err error, code int) string {
	var o *outcome
	if errors.As(err, &o) && o.Result != "" {
		return o.Result
	}
	switch code {
	case exitDone, exitDifferences, exitFindings:
		return "ok"
	case exitWholeOnOld:
		return "rolled_back"
	case exitMixed:
		return "mixed"
	case exitUsage, exitLockHeld:
		return "refused"
	case exitInterrupt, exitTerminated:
		return "interrupted"
	default:
		return "failed"
	}
}
