// Package deploy is what a release is: the plan over the fleet, the barrier and the waves, the undo,
// the rollback, and what became of every host. It decides with plain data and acts through Host.
package deploy

import (
	"context"
	"net"

	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// Host is one server that is connected. Its methods may be used from several goroutines. Every
// error is a fault; SSHLost means that the connection is gone and what was asked may or may not have
// been done.
type Host interface {
	Layout
	Processes
	// Inventory is the host as the file has it.
	Inventory() inventory.Host
	// Facts is what the host said of itself when it was connected.
	Facts() wire.HelloReply
	// Lock takes the app's lock, held until Close. Held is who has it when it could not be had.
	Lock(ctx context.Context, holder wire.Holder) (held *wire.Holder, err error)
	// BreakLock removes a lock that a dead run left. A lock that a helper holds ends with its run: that
	// one is refused with LockHeld.
	BreakLock(ctx context.Context) error
	// Dial connects from the host itself, so that a health check sees what nginx would see.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Close ends what still runs there, lets go of the lock and drops the connection.
	Close() error
}

// Layout is the app's folder on a host: releases/, current, shared/.
type Layout interface {
	State(ctx context.Context, sharedFiles []string) (wire.State, error)
	Prepare(ctx context.Context, sharedDirs []string) error
	Stage(ctx context.Context, req wire.StageRequest, src *filesync.Source, o filesync.SendOptions) (wire.StageReply, filesync.Stats, error)
	Switch(ctx context.Context, id, expect string) (previous string, err error)
	Mark(ctx context.Context, id string, mark wire.Mark, previous string) error
	Remove(ctx context.Context, ids []string) (kept []string, err error)
}

// Processes is what runs on a host.
type Processes interface {
	Commander
	Procs(ctx context.Context, pid int) ([]wire.Proc, error)
	Signal(ctx context.Context, req wire.SignalRequest) error
	File(ctx context.Context, req wire.FileRequest) (wire.FileReply, error)
}

// SocketCounter is a Host that can count the connections that are open on its ports. A host without the
// helper is none.
type SocketCounter interface {
	Sockets(ctx context.Context, ports ...int) (wire.SocketsReply, error)
}

// Service is the app's process on the hosts: deploy/process has the ways to drive one.
type Service interface {
	// Ready says, before anything is changed, whether the service can be driven on the host.
	Ready(ctx context.Context, h Host) error
	// Check proves that the staged release imports, without touching what serves.
	Check(ctx context.Context, h Host, id string) error
	// Start, Stop and Restart return when what they did is proven. id is the release that must serve;
	// "" is for a service that was there before any release: it must run, wherever its code is.
	Start(ctx context.Context, h Host, id string) error
	Stop(ctx context.Context, h Host) error
	Restart(ctx context.Context, h Host, id string, graceful bool) error
	// Way says in words how Restart would restart what runs now, and why so. It changes nothing.
	Way(ctx context.Context, h Host, graceful bool) (string, error)
	// Serves proves that the processes that serve now run in the release.
	Serves(ctx context.Context, h Host, id string) error
	// State is the service in one word for status: active, inactive, failed, unknown.
	State(ctx context.Context, h Host) (string, error)
}
