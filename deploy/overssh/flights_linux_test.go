package overssh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/helper"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

const flight = 50 * time.Millisecond // one way

// slowPipe is one direction of a line: what is written arrives a flight later, however much it is.
type slowPipe struct {
	mu     sync.Mutex
	more   *sync.Cond
	chunks []slowChunk
	closed bool
}

type slowChunk struct {
	at time.Time
	p  []byte
}

func newSlowPipe() *slowPipe {
	s := &slowPipe{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *slowPipe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	s.chunks = append(s.chunks, slowChunk{time.Now().Add(flight), bytes.Clone(p)})
	s.more.Broadcast()
	return len(p), nil
}

func (s *slowPipe) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.chunks) == 0 {
		if s.closed {
			return 0, io.EOF
		}
		s.more.Wait()
	}
	if wait := time.Until(s.chunks[0].at); wait > 0 {
		s.mu.Unlock()
		time.Sleep(wait) // in a bubble: no time that anybody waits
		s.mu.Lock()
	}
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.chunks[0].p)
	if s.chunks[0].p = s.chunks[0].p[n:]; len(s.chunks[0].p) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, nil
}

func (s *slowPipe) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
	return nil
}

// line is one end of two of them.
type line struct{ in, out *slowPipe }

func (l line) Read(p []byte) (int, error)  { return l.in.Read(p) }
func (l line) Write(p []byte) (int, error) { return l.out.Write(p) }
func (l line) Close() error                { _ = l.in.Close(); return l.out.Close() } // neither fails

// farHost is a helper of this process at the end of a slow line.
func farHost(t *testing.T, ctx context.Context, env *inventory.Env, h inventory.Host) (*helped, func()) {
	t.Helper()
	there, back := newSlowPipe(), newSlowPipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := helper.Serve(ctx, line{there, back}); err != nil {
			t.Errorf("the helper of %s: %v", h.Name, err)
		}
		_ = back.Close() // what a dead process does
	}()
	client, err := wire.NewClient(ctx, line{back, there}, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	host := &helped{site: deploy.SiteOf(env, h), host: h, conn: &sshx.Conn{}, client: client,
		facts: wire.HelloReply{User: "deploy", UID: 1000}}
	return host, func() {
		_ = client.Close() // the helper hears the end of its input
		<-ended
	}
}

// A sync costs few round trips, whatever the number of hosts: what can be asked for at once is asked
// for at once. Time passes only on the line here, so it counts them.
func TestRoundTripsOfASync(t *testing.T) {
	dir, src := t.TempDir(), t.TempDir()
	write := func(text string) {
		for i := range 50 {
			if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("f%d", i)), fmt.Appendf(nil, "%s %d", text, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := farEnv(t, dir)
	for i := range env.Hosts {
		if err := os.MkdirAll(env.On(env.Hosts[i]).App.Path, 0o755); err != nil { // their locks lie there: one machine
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name, text string
		most       int // round trips
		verdict    deploy.Verdict
	}{
		{"first", "one", 4, deploy.Done}, // the last for the line in the host's log
		{"nothing new", "one", 2, deploy.Nothing},
		{"all changed", "two", 4, deploy.Done},
	} {
		write(step.text)
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			fleet := &deploy.Fleet{Env: env, Local: hooks.Local{}, Report: event.Discard{}, Parallel: 16, Now: time.Now,
				Holder: wire.Holder{Who: "ops@laptop"}}
			for _, h := range env.Hosts {
				host, end := farHost(t, ctx, env, h)
				defer end()
				fleet.Hosts = append(fleet.Hosts, host)
			}
			var tree *filesync.Source
			began := time.Now()
			result, err := fleet.Sync(ctx, deploy.SyncWant{Scan: func(ctx context.Context) (_ *filesync.Source, err error) {
				tree, err = filesync.Scan(ctx, src, filesync.ScanOptions{})
				return tree, err
			}})
			took := time.Since(began)
			if tree != nil {
				defer tree.Close()
			}
			if err != nil || result.Verdict != step.verdict {
				t.Fatalf("%s: got %v, %v", step.name, result.Verdict, err)
			}
			trips := int(took / (2 * flight))
			t.Logf("%s: %d round trips to %d hosts (%v)", step.name, trips, len(fleet.Hosts), took)
			if trips > step.most {
				t.Errorf("%s: %d round trips, want at most %d", step.name, trips, step.most)
			}
		})
	}
}

func farEnv(t *testing.T, dir string) *inventory.Env {
	t.Helper()
	text := `version = 1
[app]
name = "` + lonelyName(t, dir) + `"
path = "` + dir + `/{{.Host.Name}}/shop"
[process]
manager = "command"
[hooks]
restart = ["true"]
[env.test.hosts]
`
	for i := range 5 {
		text += fmt.Sprintf("web%d = { role = \"app\", address = \"192.0.2.%d\" }\n", i, i+1)
	}
	file, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	return env
}
