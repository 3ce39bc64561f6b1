package helper

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// TestMain lets the test binary be a helper: the tests start, kill and speak to real ones.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "helper" {
		os.Exit(Main(context.Background(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// within polls until done or fails the test.
func within(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// process is a helper in a process of its own.
type process struct {
	*wire.Client
	cmd *exec.Cmd
}

type pipes struct {
	io.Reader
	io.WriteCloser
	out io.Closer
}

func (p *pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.out.Close()) }

// startHelper starts one with HOME in a folder of the test, under which its lock state lies unless
// it is root.
func startHelper(t *testing.T) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "helper")
	cmd.Stderr = io.Discard
	in, err1 := cmd.StdinPipe()
	r, w, err2 := os.Pipe()
	cmd.Stdout = w
	if err := errors.Join(err1, err2, cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	c, err := wire.NewClient(t.Context(), &pipes{r, in, r}, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = cmd.Wait()
	})
	return &process{c, cmd}
}

// local is a helper in this process.
func local(t *testing.T) *wire.Client {
	t.Helper()
	h, err := newHost(Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.locks.state = filepath.Join(t.TempDir(), "state")
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- h.serve(context.Background(), far) }()
	c, err := wire.NewClient(t.Context(), near, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return c
}

func siteIn(t *testing.T) wire.Site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return wire.Site{App: "shop", Path: dir}
}

func take(t *testing.T, c *wire.Client, s wire.Site, who string) *wire.Holder {
	t.Helper()
	var r wire.LockReply
	if err := c.Call(t.Context(), wire.KindLock, &wire.LockRequest{Site: s, Holder: wire.Holder{Who: who}}, &r); err != nil {
		t.Fatalf("lock: %v", err)
	}
	return r.Held
}

func TestHelloTellsWhoAnswers(t *testing.T) {
	t.Parallel()
	p := startHelper(t)
	got, err := p.Hello(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := exec.Command("sha256sum", os.Args[0]).Output()
	if !strings.HasPrefix(string(want), got.Hash) || got.UID != os.Getuid() || got.OS != "linux" || got.BootID == "" || got.Home == "" {
		t.Errorf("got %+v, want hash %.64s", got, want)
	}
}

// TestWholeReleaseThroughAHelper does what a release does on one host, over the wire.
func TestWholeReleaseThroughAHelper(t *testing.T) {
	t.Parallel()
	c := local(t)
	dir := t.TempDir()
	s := wire.Site{App: "shop", Path: filepath.Join(dir, "new/shop")}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Join(lockState(), awayName(s))) })
	state := func() (st wire.State) {
		if err := c.Call(t.Context(), wire.KindState, &wire.StateRequest{Site: s, SharedFiles: []string{"f"}}, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	call := func(kind wire.Kind, req, reply wire.Checker) {
		t.Helper()
		if err := c.Call(t.Context(), kind, req, reply); err != nil {
			t.Fatalf("request 0x%02x: %v", uint8(kind), err)
		}
	}
	if st := state(); st.Exists || !st.Writable || len(st.Missing) != 1 || st.FreeBytes <= 0 {
		t.Errorf("before: %+v", st)
	}
	err := c.Call(t.Context(), wire.KindPrepare, &wire.PrepareRequest{Site: s}, nil)
	if !fault.Is(err, fault.LockLost) {
		t.Errorf("without the lock: got %v", err)
	}
	if held := take(t, c, s, "ann"); held != nil {
		t.Fatalf("held by %+v", held)
	}
	call(wire.KindPrepare, &wire.PrepareRequest{Site: s, SharedDirs: []string{"media"}}, nil)
	var staged wire.StageReply
	err = c.Stream(t.Context(), wire.KindStage, &wire.StageRequest{Site: s, Release: wire.Release{ID: id(1)}}, func(rw io.ReadWriter) error {
		_, err := filesync.Send(t.Context(), source(t, map[string]string{"a": "b"}), rw, filesync.SendOptions{})
		return err
	}, &staged)
	if err != nil || staged.Files != 1 {
		t.Fatalf("stage: %+v, %v", staged, err)
	}
	call(wire.KindSwitch, &wire.SwitchRequest{Site: s, ID: id(1)}, &wire.SwitchReply{})
	call(wire.KindMark, &wire.MarkRequest{Site: s, ID: id(1), Mark: wire.MarkHealthy}, nil)
	if st := state(); !st.Exists || st.Current != id(1) || len(st.Releases) != 1 || st.Releases[0].Mark != wire.MarkHealthy || !st.Writable {
		t.Errorf("after: %+v", st)
	}
	// The lock below the path was taken with Prepare, beside the one taken when there was no path.
	if held := take(t, local(t), s, "bob"); held == nil || held.Who != "ann" {
		t.Errorf("a second run got the lock: %+v", held)
	}
	call(wire.KindUnlock, &wire.UnlockRequest{Site: s}, nil)
	if held := take(t, local(t), s, "bob"); held != nil {
		t.Errorf("after unlock it is held by %+v", held)
	}
}

func TestLockIsHadByOneOfManyContenders(t *testing.T) {
	t.Parallel()
	s := siteIn(t)
	h := &locks{held: map[wire.Site][]*os.File{}}
	for round := range 50 {
		var mu sync.Mutex
		var won []*locks
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				l := &locks{held: map[wire.Site][]*os.File{}}
				held, err := l.take(s, wire.Holder{Who: strconv.Itoa(i)})
				if err != nil {
					t.Error(err)
				}
				if _, err := h.holder(s); err != nil { // somebody only looks
					t.Error(err)
				}
				if held == nil {
					mu.Lock()
					won = append(won, l)
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d winners", round, len(won))
		}
		won[0].releaseAll()
	}
}

func TestKilledHolderFreesItsLock(t *testing.T) {
	t.Parallel()
	s := siteIn(t)
	first, second := startHelper(t), local(t)
	if held := take(t, first.Client, s, "ann"); held != nil {
		t.Fatalf("held by %+v", held)
	}
	if held := take(t, second, s, "bob"); held == nil || held.Who != "ann" {
		t.Fatalf("held by %+v, want ann", held)
	}
	var st wire.State
	if err := second.Call(t.Context(), wire.KindState, &wire.StateRequest{Site: s}, &st); err != nil || st.Holder == nil || st.Holder.Who != "ann" {
		t.Errorf("state: %+v, %v; want ann as holder", st.Holder, err)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the lock is free", func() bool { return take(t, second, s, "bob") == nil })
}

func TestLockFollowsNoLink(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "precious")
	write(t, target, "precious")
	arrange := map[string]func(dir string) error{
		"folder is a link": func(dir string) error { return os.Symlink(filepath.Dir(target), dir+"/.godeploy") },
		"file is a link": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/.godeploy", 0o755), os.Symlink(target, dir+"/.godeploy/lock"))
		},
		"file has two names": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/.godeploy", 0o755), os.Link(target, dir+"/.godeploy/lock"))
		},
		"file is a FIFO": func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/.godeploy", 0o755), unix.Mkfifo(dir+"/.godeploy/lock", 0o644))
		},
	}
	for name, do := range arrange {
		s := siteIn(t)
		if err := do(s.Path); err != nil {
			t.Fatal(err)
		}
		l := &locks{held: map[wire.Site][]*os.File{}}
		if held, err := l.take(s, wire.Holder{Who: "ann"}); err == nil {
			t.Errorf("%s: took the lock, %+v", name, held)
		}
		if b, _ := os.ReadFile(target); string(b) != "precious" {
			t.Fatalf("%s: the target now holds %q", name, b)
		}
		if left, _ := os.ReadDir(filepath.Dir(target)); len(left) != 1 {
			t.Errorf("%s: made %v beside the target", name, left)
		}
	}
}

// Two apps of one name, and neither has its path yet: they are not the same app. The same app is.
func TestAppsThatAreNotThereAreToldApart(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), t.TempDir()
	hand := func() *locks { return &locks{state: state, held: map[wire.Site][]*os.File{}} }
	staging, production := wire.Site{App: "shop", Path: dir + "/staging"}, wire.Site{App: "shop", Path: dir + "/production"}
	one, two := hand(), hand()
	t.Cleanup(one.releaseAll)
	t.Cleanup(two.releaseAll)
	if held, err := one.take(staging, wire.Holder{Who: "ann"}); held != nil || err != nil {
		t.Fatalf("staging: held by %v, %v", held, err)
	}
	if held, err := two.take(production, wire.Holder{Who: "bob"}); held != nil || err != nil {
		t.Errorf("production: held by %v, %v", held, err)
	}
	if held, err := two.take(staging, wire.Holder{Who: "bob"}); held == nil || held.Who != "ann" || err != nil {
		t.Errorf("staging again: held by %v, %v, want ann", held, err)
	}
}

// A run that has just ended, or was killed, holds its lock for moments: a request that takes the lock by
// itself waits for that.
func TestARequestWithItsOwnLockWaitsForTheRunBefore(t *testing.T) {
	t.Parallel()
	h, err := newHost(Options{})
	if err != nil {
		t.Fatal(err)
	}
	site := siteIn(t)
	before := &locks{held: map[wire.Site][]*os.File{}}
	if held, err := before.take(site, wire.Holder{Who: "ann"}); held != nil || err != nil {
		t.Fatalf("held by %v, %v", held, err)
	}
	ends := time.AfterFunc(5*lockTries*lockPauses, func() { before.release(site) })
	t.Cleanup(func() { ends.Stop(); before.releaseAll(); h.locks.releaseAll() })
	if err := h.admit(t.Context(), site, wire.Holder{Who: "bob"}); err != nil {
		t.Error(err)
	}
}

// A change that was cancelled may still be under way when the lock is given back: the next run must not
// have it before that change has ended.
func TestUnlockWaitsForAChangeUnderWay(t *testing.T) {
	t.Parallel()
	h, err := newHost(Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.locks.state = t.TempDir()
	site := wire.Site{App: "shop", Path: filepath.Join(t.TempDir(), "opt", "shop")}
	if err := os.MkdirAll(site.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	if held, err := h.locks.take(site, wire.Holder{Who: "ops@laptop", Command: "release"}); held != nil || err != nil {
		t.Fatalf("held by %v, %v", held, err)
	}
	var ended atomic.Bool
	started, proceed, changed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.locked(t.Context(), site, func(*Site) (any, error) {
			close(started)
			<-proceed
			ended.Store(true)
			return nil, nil
		})
		changed <- err
	}()
	<-started
	unlocked := make(chan bool, 1)
	go func() {
		_, _ = h.unlock(t.Context(), wire.UnlockRequest{Site: site}) // it has no error of its own
		unlocked <- ended.Load()
	}()
	for range 1000 { // room for an unlock that does not wait to be done
		runtime.Gosched()
	}
	select {
	case <-unlocked:
		t.Fatal("the lock was given back under a change")
	default:
	}
	close(proceed)
	if !<-unlocked {
		t.Error("the lock was given back before the change had ended")
	}
	if err := <-changed; err != nil {
		t.Error(err)
	}
	if h.locks.has(site) {
		t.Error("the lock is still held")
	}
}
