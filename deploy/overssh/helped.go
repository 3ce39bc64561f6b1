package overssh

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// helped is a host with the helper running. It implements deploy.Host.
type helped struct {
	site   wire.Site
	host   inventory.Host
	conn   carrier
	client *wire.Client
	facts  wire.HelloReply
	locked atomic.Bool
}

// carrier is what a helper is reached over, beside its own two streams; *sshx.Conn is one.
type carrier interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	RoundTrip() time.Duration
	Close() error
}

// Over is a host whose helper is at the other end of rwc: no SSH, no network. It is how the whole of a
// release is tried in one process. Its Dial connects from this machine. The host takes rwc over, also when
// Over fails; the caller closes the host.
func Over(ctx context.Context, env *inventory.Env, h inventory.Host, rwc io.ReadWriteCloser, o wire.Options) (deploy.Host, error) {
	client, err := wire.NewClient(ctx, rwc, o)
	if err != nil {
		return nil, fault.OnHost(h.Name, err)
	}
	facts, err := client.Hello(ctx)
	if err != nil {
		_ = client.Close() // err tells more
		return nil, fault.OnHost(h.Name, err)
	}
	return &helped{site: deploy.SiteOf(env, h), host: h, conn: here{}, client: client, facts: facts}, nil
}

// here is the line to a helper on this very machine.
type here struct{}

// DialContext connects from here.
func (here) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

// RoundTrip is nothing to speak of.
func (here) RoundTrip() time.Duration { return 0 }

// Close has nothing to close: the streams are the client's.
func (here) Close() error { return nil }

func (h *helped) Inventory() inventory.Host { return h.host }

func (h *helped) Facts() wire.HelloReply { return h.facts }

func (h *helped) State(ctx context.Context, sharedFiles []string) (wire.State, error) {
	var state wire.State
	err := h.client.Call(ctx, wire.KindState, &wire.StateRequest{Site: h.site, SharedFiles: sharedFiles}, &state)
	return state, err
}

func (h *helped) Lock(ctx context.Context, holder wire.Holder) (*wire.Holder, error) {
	var reply wire.LockReply
	err := h.client.Call(ctx, wire.KindLock, &wire.LockRequest{Site: h.site, Holder: holder}, &reply)
	if err == nil && reply.Held == nil {
		h.locked.Store(true)
	}
	return reply.Held, err
}

func (h *helped) BreakLock(ctx context.Context) error {
	state, err := h.State(ctx, nil)
	if err != nil || state.Holder == nil {
		return err
	}
	return fault.New(fault.LockHeld, "the lock is held by a live run of %s (%s)", state.Holder.Who, state.Holder.Command).
		Hint("it ends with that run, at the latest 30 s after the operator's machine has gone")
}

func (h *helped) Prepare(ctx context.Context, sharedDirs []string) error {
	return h.client.Call(ctx, wire.KindPrepare, &wire.PrepareRequest{Site: h.site, SharedDirs: sharedDirs}, nil)
}

func (h *helped) Stage(ctx context.Context, req wire.StageRequest, src *filesync.Source, o filesync.SendOptions) (wire.StageReply, filesync.Stats, error) {
	var reply wire.StageReply
	var stats filesync.Stats
	o.RoundTrip = h.conn.RoundTrip()
	err := h.client.Stream(ctx, wire.KindStage, &req, func(rw io.ReadWriter) (err error) {
		stats, err = filesync.Send(ctx, src, rw, o)
		return err
	}, &reply)
	return reply, stats, err
}

func (h *helped) Switch(ctx context.Context, id, expect string) (string, error) {
	var reply wire.SwitchReply
	err := h.client.Call(ctx, wire.KindSwitch, &wire.SwitchRequest{Site: h.site, ID: id, Expect: expect}, &reply)
	return reply.Previous, err
}

func (h *helped) Mark(ctx context.Context, id string, mark wire.Mark, previous string) error {
	return h.client.Call(ctx, wire.KindMark, &wire.MarkRequest{Site: h.site, ID: id, Mark: mark, Previous: previous}, nil)
}

func (h *helped) Remove(ctx context.Context, ids []string) ([]string, error) {
	return h.remove(ctx, wire.RemoveRequest{Site: h.site, IDs: ids})
}

// Retire implements deploy.Retirer.
func (h *helped) Retire(ctx context.Context, ids []string) ([]string, error) {
	return h.remove(ctx, wire.RemoveRequest{Site: h.site, IDs: ids, Retire: true})
}

func (h *helped) remove(ctx context.Context, req wire.RemoveRequest) ([]string, error) {
	var reply wire.RemoveReply
	err := h.client.Call(ctx, wire.KindRemove, &req, &reply)
	return reply.Kept, err
}

func (h *helped) Exec(ctx context.Context, req wire.ExecRequest, output func(stream string, p []byte)) (wire.ExecReply, error) {
	return h.client.Exec(ctx, req, func(stream byte, p []byte) {
		name := "stdout"
		if stream == 2 {
			name = "stderr"
		}
		output(name, p)
	})
}

func (h *helped) Procs(ctx context.Context, pid int) ([]wire.Proc, error) {
	var reply wire.ProcsReply
	err := h.client.Call(ctx, wire.KindProcs, &wire.ProcsRequest{PID: pid}, &reply)
	return reply.Procs, err
}

func (h *helped) Signal(ctx context.Context, req wire.SignalRequest) error {
	return h.client.Call(ctx, wire.KindSignal, &req, nil)
}

func (h *helped) File(ctx context.Context, req wire.FileRequest) (wire.FileReply, error) {
	var reply wire.FileReply
	err := h.client.Call(ctx, wire.KindFile, &req, &reply)
	return reply, err
}

func (h *helped) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.conn.DialContext(ctx, network, address)
}

// unlockTime bounds the wait for a host that does not answer any more.
const unlockTime = 3 * time.Second

// Close lets go of the lock by a request first: the helper's own end would do it too, but a moment
// later, and the operator's next command may come before that.
func (h *helped) Close() error {
	if h.locked.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), unlockTime)
		_ = h.client.Call(ctx, wire.KindUnlock, &wire.UnlockRequest{Site: h.site}, nil) // the end of the helper unlocks as well
		cancel()
	}
	err := h.client.Close()
	if cerr := h.conn.Close(); err == nil {
		err = cerr
	}
	return err
}
