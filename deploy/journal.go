package deploy

import (
	"context"

	"godeploy/internal/wire"
)

// Journaled is a Host that writes down what a run does to it, and acts by itself when the run's end of
// the connection is gone between the switch and the proof. A host without the helper is none.
type Journaled interface {
	// Arm opens the journal's entry; it is asked before current moves. It is durable when Arm returns.
	Arm(ctx context.Context, req wire.ArmRequest) error
	// Reach notes a step. With StepProven the host keeps the new release when the connection ends, with
	// StepDone it has nothing left to do.
	Reach(ctx context.Context, step wire.Step) error
	// Recover finishes or undoes what a run that died has left. It may be asked at any time under the
	// lock, and again; "nothing" is the answer where there is nothing to do.
	Recover(ctx context.Context) (wire.Recovered, error)
}

// Abandoner is a Host whose connection can be ended as if the run had died: the host then finishes or
// undoes what its journal says, and lets go of the lock after.
type Abandoner interface {
	Abandon() error
}

// Auditor is a Host that keeps a log of the commands that changed it, in .godeploy/audit.log: lines of
// JSON, of which the newest are kept.
type Auditor interface {
	Audit(ctx context.Context, entry wire.AuditEntry) error
}

// Aftermather is a Service that can say how a host serves a release without the controller: what the
// host does when it is left alone between the switch and the proof. Nil means that it cannot.
type Aftermather interface {
	Aftermath(ctx context.Context, h Host) (*wire.Aftermath, error)
}
