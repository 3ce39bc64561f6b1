package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/internal/fault"
)

// pair connects a client with a server of the given handler over a pipe.
func pair(t *testing.T, h Handler) *Client {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- (&Server{Handler: h, Capabilities: []string{"test"}}).Serve(t.Context(), far) }()
	c, err := NewClient(t.Context(), near, Options{})
	if err != nil {
		t.Fatalf("NewClient: %v", err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		<-served
	})
	return c
}

const testID = "20261123-104107-4f2c9e1"

func testSite() Site { return Site{App: "shop", Path: "/srv/shop"} }

func TestCallBringsReplyAndFaultWithItsCode(t *testing.T) {
	t.Parallel()
	c := pair(t, func(_ context.Context, r *Request) (any, error) {
		var q SwitchRequest
		if err := r.Decode(&q); err != nil {
			return nil, err
		}
		if q.Expect != "" {
			return nil, fault.New(fault.LayoutRefused, "current is a folder").Hint("move it away").Fact("ls").Try("godeploy setup")
		}
		return SwitchReply{Previous: q.ID}, nil
	})
	if !c.Can("test") || c.Can("other") {
		t.Errorf("capabilities: got %v", c.peer)
	}
	var reply SwitchReply
	if err := c.Call(t.Context(), KindSwitch, &SwitchRequest{Site: testSite(), ID: testID}, &reply); err != nil || reply.Previous != testID {
		t.Errorf("got %+v, %v; want the id back", reply, err)
	}
	err := c.Call(t.Context(), KindSwitch, &SwitchRequest{Site: testSite(), ID: testID, Expect: testID}, &reply)
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Code != fault.LayoutRefused || e.Msg != "current is a folder" || e.Cause != "move it away" ||
		len(e.Facts) != 1 || len(e.Next) != 1 {
		t.Errorf("got %#v, want the fault as the handler made it", err)
	}
}

func TestRequestsAreCheckedByBothEnds(t *testing.T) {
	t.Parallel()
	c := pair(t, func(_ context.Context, r *Request) (any, error) {
		var q SwitchRequest
		return nil, r.Decode(&q)
	})
	bad := SwitchRequest{Site: Site{App: "shop", Path: "/etc/shop"}, ID: testID}
	if err := c.Call(t.Context(), KindSwitch, &bad, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("sending %+v: got %v, want it refused here", bad, err)
	}
	// The site of an Unlock is good, but a Switch needs more than the handler gets.
	k := &call{kind: KindSwitch}
	if err := c.start(t.Context(), k, &Nothing{}); err != nil {
		t.Fatal(err)
	}
	if err := c.wait(t.Context(), k, nil).into(KindSwitch, nil); !fault.Is(err, fault.Protocol) {
		t.Errorf("empty Switch: got %v, want a protocol fault from the host", err)
	}
}

func TestUnknownOptionalRequestIsUnsupported(t *testing.T) {
	t.Parallel()
	c := pair(t, func(context.Context, *Request) (any, error) { return nil, nil })
	for _, kind := range []Kind{0x80, 0xa7, 0xff} {
		if err := c.Call(t.Context(), kind, &Nothing{}, nil); !errors.Is(err, ErrUnsupported) {
			t.Errorf("request 0x%02x: got %v, want ErrUnsupported", uint8(kind), err)
		}
	}
	if err := c.Call(t.Context(), KindPing, &Nothing{}, nil); err != nil {
		t.Errorf("the connection did not survive the grease: %v", err)
	}
}

func TestExecOutputComesInOrderBeforeTheReply(t *testing.T) {
	t.Parallel()
	c := pair(t, func(_ context.Context, r *Request) (any, error) {
		for i := range 300 {
			_ = r.Output(1, fmt.Appendf(nil, "%d\n", i))
		}
		_ = r.Output(2, bytes.Repeat([]byte("e"), 200_000))
		return ExecReply{Exit: 3}, nil
	})
	var out, errs bytes.Buffer
	r, err := c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, func(s byte, p []byte) {
		map[byte]*bytes.Buffer{1: &out, 2: &errs}[s].Write(p)
	})
	if err != nil || r.Exit != 3 || errs.Len() != 200_000 {
		t.Fatalf("got %+v, %v with %d bytes of stderr", r, err, errs.Len())
	}
	if n := strings.Count(out.String(), "\n"); n != 300 || !strings.HasSuffix(out.String(), "298\n299\n") {
		t.Errorf("got %d lines, want 300 in order", n)
	}
}

func TestCancelReachesTheHandlerAndItsCauseTheCaller(t *testing.T) {
	t.Parallel()
	running := make(chan struct{})
	c := pair(t, func(ctx context.Context, r *Request) (any, error) {
		close(running)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	cause := errors.New("the user pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-running; cancel(cause) }()
	_, err := c.Exec(ctx, ExecRequest{Argv: []string{"x"}}, nil)
	if !fault.Is(err, fault.Interrupted) || !errors.Is(err, cause) {
		t.Errorf("got %v, want interrupted by %v", err, cause)
	}
}

func TestRequestThatWasDoneInSpiteOfCancelIsSuccess(t *testing.T) {
	t.Parallel()
	running := make(chan struct{})
	c := pair(t, func(ctx context.Context, r *Request) (any, error) {
		close(running)
		<-ctx.Done()
		return SwitchReply{Previous: testID}, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-running; cancel() }()
	var reply SwitchReply
	if err := c.Call(ctx, KindSwitch, &SwitchRequest{Site: testSite()}, &reply); err != nil || reply.Previous != testID {
		t.Errorf("got %+v, %v; want the switch that took place", reply, err)
	}
}

func stage() *StageRequest {
	return &StageRequest{Site: testSite(), Release: Release{ID: testID}}
}

// TestStreamIsWholeBothWaysBesideOtherCalls sends far more than the windows, both ways at once,
// while pings and short calls go on.
func TestStreamIsWholeBothWaysBesideOtherCalls(t *testing.T) {
	t.Parallel()
	const size = 3*window + 12345
	c := pair(t, func(_ context.Context, r *Request) (any, error) {
		if r.Kind != KindStage {
			return nil, nil
		}
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(h, r.Stream()), r.Stream())
		return StageReply{Received: n, Files: int(h.Sum(nil)[0])}, err
	})
	h, back := sha256.New(), sha256.New()
	var reply StageReply
	err := c.Stream(t.Context(), KindStage, stage(), func(rw io.ReadWriter) error {
		var half sync.WaitGroup
		half.Go(func() { _, _ = io.CopyN(back, rw, size) })
		src := io.TeeReader(io.LimitReader(&counting{}, size), h)
		_, err := io.Copy(rw, src)
		_ = c.Call(t.Context(), KindState, &StateRequest{Site: testSite()}, nil)
		half.Wait()
		return err
	}, &reply)
	if err != nil || reply.Received != size || reply.Files != int(h.Sum(nil)[0]) || !bytes.Equal(h.Sum(nil), back.Sum(nil)) {
		t.Errorf("got %+v, %v; want %d bytes unchanged both ways", reply, err, size)
	}
}

type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n = c.n*31 + 7
		p[i] = c.n
	}
	return len(p), nil
}

func TestSlowStreamDoesNotStopOtherCalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := pair(t, func(_ context.Context, r *Request) (any, error) {
		if r.Kind == KindStage {
			<-release // reads nothing: the sender runs into its window
			_, err := io.Copy(io.Discard, r.Stream())
			return StageReply{}, err
		}
		return nil, nil
	})
	err := c.Stream(t.Context(), KindStage, stage(), func(rw io.ReadWriter) error {
		if _, err := rw.Write(make([]byte, window)); err != nil {
			return err
		}
		if err := c.Call(t.Context(), KindPing, &Nothing{}, nil); err != nil {
			return err
		}
		close(release)
		_, err := rw.Write(make([]byte, window))
		return err
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestStreamErrorNamesTheSideThatFailed(t *testing.T) {
	t.Parallel()
	full := fault.New(fault.DiskFull, "no room")
	own := errors.New("a source file changed")
	cases := []struct {
		name string
		host func(*Request) error
		talk func(io.ReadWriter) error
		want func(error) bool
	}{
		{"host fails while we write", func(*Request) error { return full },
			func(rw io.ReadWriter) error { _, err := rw.Write(make([]byte, 3*window)); return err },
			func(err error) bool { return fault.Is(err, fault.DiskFull) }},
		{"we fail while the host reads", func(r *Request) error { _, err := io.Copy(io.Discard, r.Stream()); return err },
			func(rw io.ReadWriter) error { _, _ = rw.Write([]byte("x")); return own },
			func(err error) bool { return errors.Is(err, own) }},
		{"host fails while we read", func(*Request) error { return full },
			func(rw io.ReadWriter) error { _, err := io.ReadAll(rw); return err },
			func(err error) bool { return fault.Is(err, fault.DiskFull) }},
		{"we fail though the host is content", func(*Request) error { return nil },
			func(rw io.ReadWriter) error { return own },
			func(err error) bool { return errors.Is(err, own) }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := pair(t, func(_ context.Context, r *Request) (any, error) { return nil, tc.host(r) })
			if err := c.Stream(t.Context(), KindStage, stage(), tc.talk, nil); !tc.want(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The helper takes ids in rising order only: requests that are sent at the same moment must not overtake
// each other between getting their id and going out.
func TestRequestsAtOnceKeepTheirOrder(t *testing.T) {
	t.Parallel()
	c := pair(t, func(context.Context, *Request) (any, error) { return Nothing{}, nil })
	ends := make(chan error, 8)
	for range cap(ends) {
		go func() {
			for range 300 {
				if err := c.Call(t.Context(), KindPing, &Nothing{}, nil); err != nil {
					ends <- err
					return
				}
			}
			ends <- nil
		}()
	}
	for range cap(ends) {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}

func TestLostConnectionEndsEveryCall(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	started := make(chan struct{}, 3)
	srv := &Server{Handler: func(ctx context.Context, r *Request) (any, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), far) }()
	c, err := NewClient(t.Context(), near, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 3)
	go func() { ends <- c.Call(t.Context(), KindState, &StateRequest{Site: testSite()}, nil) }()
	go func() { _, err := c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, nil); ends <- err }()
	go func() {
		ends <- c.Stream(t.Context(), KindStage, stage(), func(rw io.ReadWriter) error { _, err := io.ReadAll(rw); return err }, nil)
	}()
	for range 3 {
		<-started
	}
	_ = far.Close() // the cut
	for range 3 {
		if err := <-ends; !fault.Is(err, fault.SSHLost) {
			t.Errorf("got %v, want ssh-lost", err)
		}
	}
	<-served
	if err := c.Call(t.Context(), KindPing, &Nothing{}, nil); !fault.Is(err, fault.SSHLost) {
		t.Errorf("a later call: got %v, want ssh-lost", err)
	}
	_ = c.Close()
	<-c.Done()
}

func TestServeWaitsForHandlersWhenTheControllerGoes(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	var ended time.Time
	started := make(chan struct{})
	srv := &Server{Handler: func(ctx context.Context, r *Request) (any, error) {
		close(started)
		<-ctx.Done()
		ended = time.Now()
		return nil, nil
	}}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), far) }()
	c, err := NewClient(t.Context(), near, Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, nil) }()
	<-started
	_ = c.Close()
	if err := <-served; err != nil || ended.IsZero() {
		t.Errorf("Serve: %v, handler ended %v; want nil after the handler", err, ended)
	}
}
