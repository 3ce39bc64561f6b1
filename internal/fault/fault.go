// Package fault is how godeploy says that something went wrong, to the person who has to act:
// a stable code, what happened, where, the likely cause, and the next command to type.
//
// A fault is data. Only package cmd prints one and knows which exit code it means.
package fault

import (
	"fmt"
	"strings"
)

// Pos is a place in a file the user wrote. Line and Col count from 1; Col counts bytes; 0 means unknown.
type Pos struct {
	File string
	Line int
	Col  int
	// Key is the table or key at that place as a reader would name it, "[env.prod.hosts] app3".
	Key string
}

// String gives "file:line:col  key", leaving out what is unknown. The zero Pos is "".
func (p Pos) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Col > 0 {
			fmt.Fprintf(&b, ":%d", p.Col)
		}
	}
	if p.Key != "" {
		if b.Len() > 0 {
			b.WriteString("  ")
		}
		b.WriteString(p.Key)
	}
	return b.String()
}

// Error is one failure. Build it with New and the chaining methods, which change and return the
// receiver; once returned to a caller it is read-only and safe for concurrent use.
type Error struct {
	Code  Code
	Msg   string   // one line, subject first, lower case, no full stop
	Hosts []string // the hosts it happened on, in inventory order; empty when it is not about a host
	Facts []string // at most five lines of evidence: command, exit status, last output lines
	Pos   Pos      // place in the file, if the file is the cause
	Place string   // phase, step, host and address, if it happened on the way
	Cause string   // the likely cause, if one is known (printed as "hint:")
	Next  []string // commands to type next, pasteable (printed as "try:")
	Err   error    // what it wraps, or nil
}

// New starts a fault with a code and its one-line message.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// On names the hosts.
func (e *Error) On(hosts ...string) *Error { e.Hosts = append(e.Hosts, hosts...); return e }

// Fact adds a line of evidence.
func (e *Error) Fact(format string, args ...any) *Error {
	e.Facts = append(e.Facts, fmt.Sprintf(format, args...))
	return e
}

// At says which place in the file is the cause.
func (e *Error) At(pos Pos) *Error { e.Pos = pos; return e }

// In says where on the way it happened: phase, step, host.
func (e *Error) In(format string, args ...any) *Error {
	e.Place = fmt.Sprintf(format, args...)
	return e
}

// Hint says the likely cause. Leave it out when none is known.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Cause = fmt.Sprintf(format, args...)
	return e
}

// Try adds a command to type next.
func (e *Error) Try(format string, args ...any) *Error {
	e.Next = append(e.Next, fmt.Sprintf(format, args...))
	return e
}

// Wrap keeps the underlying error; its text follows the message.
func (e *Error) Wrap(err error) *Error { e.Err = err; return e }

// Error gives "message: cause", in one line; a place in a file stands in front.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos.Line > 0 {
		fmt.Fprintf(&b, "%s:%d: ", e.Pos.File, e.Pos.Line)
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap gives the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// All gives every fault in err, through errors.Join and %w, outermost first and in order. A fault hides
// what it wraps. An error without a fault in it becomes one with code Internal. All(nil) is nil.
func All(err error) []*Error {
	if err == nil {
		return nil
	}
	if found := within(err); len(found) > 0 {
		return found
	}
	return []*Error{{Code: Internal, Msg: err.Error()}}
}

// OnHost says on which host err happened: All then names it in every fault that names no host itself.
// The faults are not changed, for one fault may be the answer on many hosts at once. An interruption
// is nobody's, and nil stays nil.
func OnHost(name string, err error) error {
	if err == nil || Is(err, Interrupted) {
		return err
	}
	return &hostError{name, err}
}

type hostError struct {
	host string
	err  error
}

func (e *hostError) Error() string { return e.host + ": " + e.err.Error() }

func (e *hostError) Unwrap() error { return e.err }

// faults gives copies of what is below with the host named.
func (e *hostError) faults() []*Error {
	found := within(e.err)
	if len(found) == 0 {
		return []*Error{{Code: Internal, Msg: e.err.Error(), Hosts: []string{e.host}}}
	}
	named := make([]*Error, len(found))
	for i, f := range found {
		one := *f
		if len(one.Hosts) == 0 {
			one.Hosts = []string{e.host}
		}
		named[i] = &one
	}
	return named
}

func within(err error) []*Error {
	switch e := err.(type) {
	case *Error:
		return []*Error{e}
	case *hostError:
		return e.faults()
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, one := range e.Unwrap() {
			if found := within(one); len(found) > 0 {
				all = append(all, found...)
			} else {
				all = append(all, &Error{Code: Internal, Msg: one.Error()})
			}
		}
		return all
	case interface{ Unwrap() error }:
		return within(e.Unwrap())
	}
	return nil
}

// Is reports whether any fault in err has the code.
func Is(err error, code Code) bool {
	for _, e := range All(err) {
		if e.Code == code {
			return true
		}
	}
	return false
}
