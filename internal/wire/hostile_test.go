package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/internal/fault"
)

// meetWith lets a client meet what speak writes.
func meetWith(t *testing.T, speak func(w net.Conn)) error {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		speak(far)
		_, _ = io.Copy(io.Discard, far)
	}()
	c, err := NewClient(t.Context(), near, Options{})
	if err == nil {
		_ = c.Close()
	}
	_ = far.Close()
	<-done
	return err
}

func preface() []byte {
	var b bytes.Buffer
	_ = WritePreface(&b, Preface{Protocol, []string{"a", "b"}})
	return b.Bytes()
}

func TestMeeting(t *testing.T) {
	t.Parallel()
	say := func(s string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, s) } }
	sayAndEnd := func(s string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, s); _ = c.Close() }
	}
	good := string(preface())
	cases := []struct {
		name  string
		speak func(net.Conn)
		want  string // part of the error, "" for none
	}{
		{"plain", say(good), ""},
		{"after login noise", say("Welcome to app1\r\n\x89gd\r\n\x89gd" + good), ""},
		{"after the most noise allowed", say(strings.Repeat("x", maxNoise) + good), ""},
		{"after more noise", say(strings.Repeat("x", maxNoise+1) + good), "the host printed 6554"},
		{"only noise", sayAndEnd("This account is currently not available.\n"), "the host printed 41 bytes before the helper started"},
		{"nothing", sayAndEnd(""), "the helper did not start"},
		{"cut in the preface", sayAndEnd(good[:6]), "the helper did not start"},
		{"other protocol", say("\x89gd\n\x00\x63\x00\x00"), "protocol 99"},
		{"endless capabilities", say("\x89gd\n\x00\x01\xff\xff"), "65535"},
		{"odd capability", say("\x89gd\n\x00\x01\x00\x03A\x1bB"), "capability"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := meetWith(t, tc.speak)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && !fault.Is(err, fault.Protocol) {
				t.Errorf("got %v, want a protocol fault", err)
			}
		})
	}
}

func TestNoiseIsShown(t *testing.T) {
	t.Parallel()
	err := meetWith(t, func(c net.Conn) { _, _ = io.WriteString(c, "line one\nline two\n"); _ = c.Close() })
	e, _ := errors.AsType[*fault.Error](err)
	if e == nil || strings.Join(e.Facts, "|") != "line one|line two" || e.Cause == "" {
		t.Errorf("got %#v, want both lines as facts", e)
	}
}

func TestNeedIsUnderstood(t *testing.T) {
	t.Parallel()
	err := meetWith(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "motd\nGODEPLOY-NEED Linux x86_64 raw,gzip /home/a b/.cache/godeploy\n")
		_ = c.Close()
	})
	need, _ := errors.AsType[*NeedError](err)
	if need == nil || *need != (NeedError{"Linux", "x86_64", "raw,gzip", "/home/a b/.cache/godeploy"}) {
		t.Errorf("got %#v", err)
	}
	if n := parseNeed([]byte("GODEPLOY-NEED Linux armv6l raw -\n")); n == nil || n.Dir != "" {
		t.Errorf("got %+v, want no folder", n)
	}
}

func TestSilentAndTricklingPeersEnd(t *testing.T) {
	t.Parallel()
	trickle := func(c net.Conn) {
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	for name, speak := range map[string]func(net.Conn){"silent": func(net.Conn) {}, "trickle": trickle} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := meetWith(t, speak)
				// The trickling side notices up to a second later.
				if took := time.Since(start).Truncate(2 * time.Second); !fault.Is(err, fault.Protocol) || took != 10*time.Second {
					t.Errorf("got %v after %s, want a protocol fault after 10s", err, took)
				}
			})
		})
	}
}

func TestClientLosesAHelperThatFallsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(preface())
			_, _ = io.Copy(io.Discard, far) // takes everything, pings too, and says nothing
		}()
		c, err := NewClient(t.Context(), near, Options{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = c.Call(t.Context(), KindPing, &Nothing{}, nil)
		if took := time.Since(start); !fault.Is(err, fault.SSHLost) || took != 30*time.Second {
			t.Errorf("got %v after %s, want ssh-lost after 30s", err, took)
		}
		_ = c.Close()
	})
}

func TestHeartbeatKeepsAnIdleConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		srv := &Server{Handler: func(context.Context, *Request) (any, error) { return nil, nil }}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(t.Context(), far) }()
		c, err := NewClient(t.Context(), near, Options{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // of the bubble's clock
		if err := c.Call(t.Context(), KindPing, &Nothing{}, nil); err != nil {
			t.Errorf("after an hour: %v", err)
		}
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestServerEndsWithoutAController(t *testing.T) {
	t.Parallel()
	cases := map[string]func(net.Conn){
		"says nothing":       func(net.Conn) {},
		"falls silent":       func(c net.Conn) { _, _ = c.Write(preface()) },
		"trickles one frame": func(c net.Conn) { _, _ = c.Write(preface()); dribble(c) },
	}
	for name, speak := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, near) }()
				var spoke sync.WaitGroup
				spoke.Go(func() { speak(near) })
				start := time.Now()
				err := (&Server{}).Serve(t.Context(), far)
				if took := time.Since(start); !fault.Is(err, fault.SSHLost) || took != 30*time.Second {
					t.Errorf("got %v after %s, want ssh-lost after 30s", err, took)
				}
				_ = near.Close()
				spoke.Wait()
			})
		})
	}
}

func dribble(c net.Conn) {
	for _, b := range AppendFrame(nil, Frame{KindPing, 1, make([]byte, 1000)}) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func TestServerEndsWhenNobodyTakesItsAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		go func() {
			_, _ = io.ReadFull(near, make([]byte, 8))
			_, _ = near.Write(preface())
			_, _ = near.Write(AppendFrame(nil, Frame{KindPing, 1, []byte("{}")}))
		}()
		start := time.Now()
		err := (&Server{}).Serve(t.Context(), far)
		if took := time.Since(start); err == nil || took != 30*time.Second {
			t.Errorf("got %v after %s, want an end after 30s", err, took)
		}
		_ = near.Close()
	})
}

func TestBreachOfControllerEndsTheServer(t *testing.T) {
	t.Parallel()
	fr := func(k Kind, id uint32, p string) []byte { return AppendFrame(nil, Frame{k, id, []byte(p)}) }
	cases := map[string][]byte{
		"4 GiB length":             {byte(KindPing), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
		"unknown kind":             fr(0x3f, 1, "{}"),
		"id 0":                     fr(KindPing, 0, "{}"),
		"id used twice":            append(fr(KindPing, 7, "{}"), fr(KindPing, 7, "{}")...),
		"ids going down":           append(fr(0x90, 7, ""), fr(KindPing, 6, "{}")...),
		"data for no request":      fr(KindData, 9, "x"),
		"data for an Exec":         append(fr(KindExec, 1, "{}"), fr(KindData, 1, "x")...),
		"reply from a controller":  append(fr(KindStage, 1, "{}"), fr(KindReply, 1, "{}")...),
		"odd window":               append(fr(KindStage, 1, "{}"), fr(KindWindow, 1, "x")...),
		"window too wide":          append(fr(KindStage, 1, "{}"), fr(KindWindow, 1, "\xff\xff\xff\xff")...),
		"data ended twice":         append(fr(KindStage, 1, "{}"), append(fr(KindDataEnd, 1, ""), fr(KindDataEnd, 1, "")...)...),
		"more data than allowed":   append(fr(KindStage, 1, "{}"), bytes.Repeat(fr(KindData, 1, strings.Repeat("x", MaxFrame)), 5)...),
		"frame of the wrong magic": []byte("GET / HTTP/1.1\r\n"),
	}
	for name, frames := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, near) }()
			go func() {
				if !strings.Contains(name, "magic") {
					_, _ = near.Write(preface())
				}
				_, _ = near.Write(frames)
			}()
			held := func(ctx context.Context, _ *Request) (any, error) { <-ctx.Done(); return nil, nil }
			err := (&Server{Handler: held}).Serve(t.Context(), far)
			if err == nil || name != "4 GiB length" && !fault.Is(err, fault.Protocol) {
				t.Errorf("got %v, want a protocol fault", err)
			}
			_ = near.Close()
		})
	}
}

func TestServerRefusesTooManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, near) }()
	go func() {
		_, _ = near.Write(preface())
		for i := range uint32(maxRequests + 1) {
			_, _ = near.Write(AppendFrame(nil, Frame{KindExec, i + 1, nil}))
		}
	}()
	held := func(ctx context.Context, _ *Request) (any, error) { <-ctx.Done(); return nil, nil }
	if err := (&Server{Handler: held}).Serve(t.Context(), far); !fault.Is(err, fault.Protocol) {
		t.Errorf("got %v, want a protocol fault", err)
	}
	_ = near.Close()
}

func TestBreachOfHelperEndsTheClient(t *testing.T) {
	t.Parallel()
	fr := func(k Kind, id uint32, p string) []byte { return AppendFrame(nil, Frame{k, id, []byte(p)}) }
	cases := map[string][]byte{
		"4 GiB length":        {byte(KindReply), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff},
		"reply to nothing":    fr(KindReply, 99, "{}"),
		"answered twice":      append(fr(KindReply, 1, `{"exit":0,"ms":1}`), fr(KindReply, 1, "{}")...),
		"unknown kind":        fr(0x30, 1, ""),
		"data for an Exec":    fr(KindData, 1, "x"),
		"output of stream 9":  fr(KindOutput, 1, "\x09x"),
		"output of no stream": fr(KindOutput, 1, ""),
		"endless output":      bytes.Repeat(fr(KindOutput, 1, "\x01"+strings.Repeat("x", MaxFrame-1)), 17),
		"a request":           fr(KindPing, 1, "{}"),
	}
	for name, frames := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			near, far := net.Pipe()
			go func() {
				_, _ = far.Write(preface())
				_, _ = io.ReadFull(far, make([]byte, 8))
				_, _ = ReadFrame(far)
				_, _ = far.Write(frames)
			}()
			c, err := NewClient(t.Context(), near, Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, nil)
			<-c.Done()
			_ = c.Close()
			_ = far.Close()
		})
	}
}

func TestReplyThatMakesNoSenseIsRefused(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"", "{", "[]", `{"exit":4000}`, `{"exit":1,"ms":-4}`} {
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(preface())
			_, _ = io.ReadFull(far, make([]byte, 8))
			_, _ = ReadFrame(far)
			_, _ = far.Write(AppendFrame(nil, Frame{KindReply, 1, []byte(reply)}))
			_, _ = io.Copy(io.Discard, far)
		}()
		c, err := NewClient(t.Context(), near, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, nil); !fault.Is(err, fault.Protocol) {
			t.Errorf("reply %q: got %v, want a protocol fault", reply, err)
		}
		_ = c.Close()
	}
}

func TestCancelledCallDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		srv := &Server{Handler: func(ctx context.Context, _ *Request) (any, error) {
			time.Sleep(20 * time.Second) // deaf to its context
			return nil, nil
		}}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(t.Context(), far) }()
		c, err := NewClient(t.Context(), near, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err = c.Call(ctx, KindState, &StateRequest{Site: testSite()}, nil)
		if took := time.Since(start); !fault.Is(err, fault.Interrupted) || !errors.Is(err, context.DeadlineExceeded) || took != 6*time.Second {
			t.Errorf("got %v after %s, want interrupted after 1s + 5s", err, took)
		}
		_ = c.Close()
		<-served
	})
}
