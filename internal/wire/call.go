package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"godeploy/internal/fault"
)

// call is one exchange as the controller sees it.
type call struct {
	kind Kind
	id   uint32
	done chan result // gets exactly one
	out  *outputs    // of an Exec
	st   *stream     // of a request that carries data
	left sync.Once

	place chan struct{}           // nil for what the helper answers at once
	abort context.CancelCauseFunc // of a stream: asks the host to stop
}

// result is how an exchange ended.
type result struct {
	payload []byte
	err     error
}

// leave gives the call's place among those under way back.
func (k *call) leave() {
	if k.place != nil {
		<-k.place
	}
}

// finish gives the call its end, once.
func (k *call) finish(r result) {
	k.left.Do(func() {
		if k.st != nil {
			k.st.fail(r.asStreamEnd())
		}
		k.done <- r
	})
}

func (r result) asStreamEnd() error {
	if r.err != nil {
		return r.err
	}
	return io.ErrClosedPipe
}

// into decodes and checks the reply.
func (r result) into(kind Kind, reply Checker) error {
	if r.err != nil {
		return r.err
	}
	if reply == nil {
		reply = &Nothing{}
	}
	if err := decode(r.payload, reply); err != nil {
		return fault.New(fault.Protocol, "the helper's reply to request 0x%02x makes no sense", uint8(kind)).Wrap(err)
	}
	return nil
}

// decode takes one JSON object with nothing after it and checks it. Unknown fields are ignored.
func decode(payload []byte, into Checker) error {
	if err := json.Unmarshal(payload, into); err != nil {
		return err
	}
	return into.Check()
}

// wait sees an exchange to its end, handing out output on the way. A cancelled one is asked to stop
// and given a while to say how it ended.
func (c *Client) wait(ctx context.Context, k *call, onOutput func(byte, []byte)) result {
	cancelled := ctx.Done()
	var grace <-chan time.Time
	for {
		select {
		case <-k.out.ready():
			k.out.deliver(onOutput)
		case r := <-k.done:
			k.out.deliver(onOutput)
			return afterCancel(ctx, r, cancelled == nil)
		case <-cancelled:
			cancelled = nil
			c.cancel(ctx, k)
			grace = time.After(c.o.CancelGrace)
		case <-grace:
			k.out.drop()
			return result{err: fault.New(fault.Interrupted,
				"the helper did not say within %s what became of the cancelled request", c.o.CancelGrace).Wrap(context.Cause(ctx))}
		}
	}
}

func (c *Client) cancel(ctx context.Context, k *call) {
	if k.st != nil {
		k.st.fail(context.Cause(ctx))
	}
	_ = c.transmit(KindCancel, k.id, nil) // a lost connection ends the call anyway
}

// afterCancel lets the caller find the cause of its own cancelling in the error.
func afterCancel(ctx context.Context, r result, cancelled bool) result {
	if e, ok := errors.AsType[*fault.Error](r.err); ok && cancelled && e.Code == fault.Interrupted && e.Err == nil {
		again := *e // the first may already be in other hands
		r.err = again.Wrap(context.Cause(ctx))
	}
	return r
}

// Stream sends a request that carries data both ways, runs talk over them and waits for the reply.
// talk's end ends the data from this side. If talk fails the request is cancelled and talk's error
// is returned, unless the host had failed first: then the host's error is, being the cause.
func (c *Client) Stream(ctx context.Context, kind Kind, req Checker, talk func(io.ReadWriter) error, reply Checker) error {
	if !kind.streams() {
		return fault.New(fault.Internal, "request 0x%02x carries no data", uint8(kind))
	}
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	k := &call{kind: kind, abort: stop}
	if err := c.start(ctx, k, req); err != nil {
		return err
	}
	talked := make(chan error, 1)
	go func() {
		err := talk(k.st)
		if err == nil {
			// A host that has replied already had all it wanted.
			if err = k.st.end(); errors.Is(err, io.ErrClosedPipe) {
				err = nil
			}
		} else {
			stop(talkFailed{err})
		}
		talked <- err
	}()
	r := c.wait(inner, k, nil)
	k.st.fail(r.asStreamEnd())
	err := <-talked
	switch {
	case blamesTalk(inner, r.err):
		return context.Cause(inner).(talkFailed).error
	case err != nil && r.err == nil && !errors.Is(err, io.ErrClosedPipe): // that host had all it wanted
		return err
	}
	return r.into(kind, reply)
}

// talkFailed is the cause of a cancel that this side's half of a stream made necessary.
type talkFailed struct{ error }

// blamesTalk reports whether the host only says that it was told to stop because talk had failed.
func blamesTalk(inner context.Context, err error) bool {
	_, own := errors.AsType[talkFailed](context.Cause(inner))
	return own && fault.Is(err, fault.Interrupted)
}

// outputs is the output of one program between the reader of the connection and the caller of Exec.
// A helper sends at most MaxOutput; more is a breach.
type outputs struct {
	mu    sync.Mutex
	list  []output
	total int
	more  chan struct{}

	dropped bool // nobody listens any more
}

type output struct {
	stream byte
	p      []byte
}

// MaxOutput is how many bytes of one program's output a helper sends; the rest it counts.
const MaxOutput = 16 << 20

func newOutputs() *outputs { return &outputs{more: make(chan struct{}, 1)} }

// ready tells when there is something to deliver; of a nil outputs never.
func (o *outputs) ready() <-chan struct{} {
	if o == nil {
		return nil
	}
	return o.more
}

func (o *outputs) push(p []byte) error {
	if o == nil || len(p) < 1 || p[0] != 1 && p[0] != 2 {
		return breach("output that nobody asked for")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.total += len(p) - 1; o.total > MaxOutput {
		return breach("more output than %d bytes", MaxOutput)
	}
	if o.dropped {
		return nil
	}
	o.keep(p[0], p[1:])
	select {
	case o.more <- struct{}{}:
	default:
	}
	return nil
}

// maxWaiting is how many pieces of output may wait in their order across both streams; beyond it only
// each stream's own order is kept, so that single bytes by turns cannot make each cost many times its
// size.
const maxWaiting = 1 << 10

// keep joins a small piece to the last one of its stream where the order allows it.
func (o *outputs) keep(stream byte, p []byte) {
	if len(p) == 0 {
		return
	}
	last := len(o.list) - 1
	for i := last; i >= 0 && i > last-2 && len(p) < small; i-- {
		if o.list[i].stream == stream && (i == last || len(o.list) > maxWaiting) {
			o.list[i].p = append(o.list[i].p, p...)
			return
		}
	}
	o.list = append(o.list, output{stream, p})
}

func (o *outputs) drop() {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.dropped = nil, true
}

func (o *outputs) deliver(to func(byte, []byte)) {
	if o == nil {
		return
	}
	o.mu.Lock()
	list := o.list
	o.list = nil
	o.mu.Unlock()
	for _, one := range list {
		if to != nil {
			to(one.stream, one.p)
		}
	}
}

// readAll takes the helper's frames until the connection ends.
func (c *Client) readAll() {
	for {
		f, silent, err := c.recv()
		if silent {
			err = fmt.Errorf("the helper was silent for %s", c.o.Silence)
		}
		if err == nil {
			err = c.take(f)
		}
		if err != nil {
			c.lose(err)
			return
		}
	}
}

// take gives a frame to its exchange; an error is a breach that ends the connection.
func (c *Client) take(f Frame) error {
	c.mu.Lock()
	k := c.calls[f.ID]
	if k != nil && (f.Kind == KindReply || f.Kind == KindError || f.Kind == KindUnsupported) {
		delete(c.calls, f.ID)
		k.leave()
	}
	c.mu.Unlock()
	if k == nil {
		// An id is forgotten only with its end, so nothing may follow.
		return breach("frame 0x%02x for no request", uint8(f.Kind))
	}
	switch f.Kind {
	case KindReply:
		k.finish(result{payload: f.Payload})
	case KindError:
		k.finish(result{err: decodeError(f.Payload)})
	case KindUnsupported:
		k.finish(result{err: fault.New(fault.Protocol, "request 0x%02x", uint8(k.kind)).Wrap(ErrUnsupported)})
	case KindOutput:
		return k.out.push(f.Payload)
	case KindData, KindDataEnd, KindWindow:
		if k.st == nil {
			return breach("data for request 0x%02x", uint8(k.kind))
		}
		return k.st.accept(f)
	default:
		return breach("frame of kind 0x%02x from a helper", uint8(f.Kind))
	}
	return nil
}

func decodeError(payload []byte) error {
	var r ErrorReply
	if err := decode(payload, &r); err != nil {
		return breach("an error that makes no sense: %v", err)
	}
	return r.fault()
}

// lostErr says that the connection to the helper has ended.
func lostErr(cause error) error {
	if fault.Is(cause, fault.Protocol) || fault.Is(cause, fault.SSHLost) {
		return cause
	}
	if errors.Is(cause, io.EOF) {
		cause = errors.New("the helper has ended")
	}
	return fault.New(fault.SSHLost, "the connection to the helper was lost").Wrap(cause)
}

// notMet says what came in place of a helper.
func notMet(noise []byte, silent bool, o Options, err error) error {
	if need := parseNeed(noise); need != nil {
		return need
	}
	if own, ok := errors.AsType[*fault.Error](err); ok {
		return own
	}
	if why := parseFail(noise); why != "" {
		return fault.New(fault.Protocol, "the helper cannot be installed").Fact("%s", why)
	}
	var e *fault.Error
	switch {
	case len(noise) > 0:
		e = fault.New(fault.Protocol, "the host printed %d bytes before the helper started, and the helper did not", len(noise)).
			Hint("a start-up file of the login shell prints or ends early, or the helper cannot run there")
	case silent:
		return fault.New(fault.Protocol, "the helper did not start within %s", o.Start)
	default:
		return fault.New(fault.Protocol, "the helper did not start").Wrap(noEOF(err))
	}
	for line := range bytes.Lines(noise[:min(len(noise), 2<<10)]) {
		if len(e.Facts) < 5 {
			_ = e.Fact("%s", bytes.TrimRight(line, "\r\n"))
		}
	}
	return e
}
