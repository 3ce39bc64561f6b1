package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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
	h, err := newHost()
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
	s := wire.Site{App: "shop", Path: filepath.Join(t.TempDir(), "new/shop")}
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

// run runs a shell text and gives its output.
func run(t *testing.T, c *wire.Client, text string, change func(*wire.ExecRequest)) (string, wire.ExecReply, error) {
	t.Helper()
	req := wire.ExecRequest{Argv: []string{"sh", "-c", text}}
	if change != nil {
		change(&req)
	}
	var out bytes.Buffer
	r, err := c.Exec(t.Context(), req, func(_ byte, p []byte) { out.Write(p) })
	return out.String(), r, err
}

func TestExecEnvironmentIsSmallAndFixed(t *testing.T) {
	t.Setenv("FROM_THE_LOGIN", "x")
	c := local(t)
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	out, _, err := run(t, c, "env; pwd; echo pwd=$PWD; umask", func(r *wire.ExecRequest) {
		r.Dir, r.Env = link, map[string]string{"GODEPLOY_RELEASE": "a b'c\n", "LANG": "de_DE.UTF-8"}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LANG=de_DE.UTF-8\n", "GODEPLOY_RELEASE=a b'c\n", "HOME=", "PATH=/usr/local/sbin", "pwd=" + link + "\n", "\n" + link + "\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
	if strings.Contains(out, "FROM_THE_LOGIN") {
		t.Error("the login's environment came through")
	}
}

func TestExecTellsHowItEnded(t *testing.T) {
	t.Parallel()
	c := local(t)
	cases := []struct {
		text string
		set  func(*wire.ExecRequest)
		want wire.ExecReply
		out  string
	}{
		{"echo out; echo err >&2; exit 7", nil, wire.ExecReply{Exit: 7}, "out\nerr\n"},
		{"kill -SEGV $$", nil, wire.ExecReply{Exit: -1, Signal: "SEGV"}, ""},
		{"cat", func(r *wire.ExecRequest) { r.Stdin = []byte("given") }, wire.ExecReply{}, "given"},
		{"cat", nil, wire.ExecReply{}, ""},
		{"exec sleep 600", func(r *wire.ExecRequest) { r.Timeout = 50 * time.Millisecond }, wire.ExecReply{Exit: -1, Signal: "TERM", TimedOut: true}, ""},
	}
	for _, tc := range cases {
		out, got, err := run(t, c, tc.text, tc.set)
		got.MS = 0
		if err != nil || got != tc.want || len(out) != len(tc.out) {
			t.Errorf("%s: got %+v with %q, %v; want %+v with %q", tc.text, got, out, err, tc.want, tc.out)
		}
	}
}

func TestExecThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	c := local(t)
	crlf := filepath.Join(t.TempDir(), "hook")
	write(t, crlf, "#!/bin/sh\r\necho\r\n")
	if err := os.Chmod(crlf, 0o755); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		req  wire.ExecRequest
		code fault.Code
		hint string
	}{
		{wire.ExecRequest{Argv: []string{"no-such-tool"}}, fault.RemoteToolMissing, "looked in"},
		{wire.ExecRequest{Argv: []string{"true"}, Dir: "/no/such/dir"}, fault.ExecFailed, "/no/such/dir"},
		{wire.ExecRequest{Argv: []string{crlf}}, fault.ExecFailed, "Windows"},
		{wire.ExecRequest{Argv: []string{"true"}, User: "no-such-user"}, fault.ConfigValue, ""},
		{wire.ExecRequest{Argv: []string{"true"}, User: "root:no-such-group"}, fault.ConfigValue, ""},
	}
	for _, tc := range cases {
		_, err := c.Exec(t.Context(), tc.req, nil)
		e, _ := errors.AsType[*fault.Error](err)
		if e == nil || e.Code != tc.code || !strings.Contains(e.Cause, tc.hint) {
			t.Errorf("%v: got %#v, want %s with %q", tc.req.Argv, err, tc.code, tc.hint)
		}
	}
}

func TestExecAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	out, _, err := run(t, local(t), "id -un; id -gn; echo $HOME; echo $USER", func(r *wire.ExecRequest) { r.User = "nobody:daemon" })
	if want := "nobody\ndaemon\n/nonexistent\nnobody\n"; err != nil || out != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestExecOutputIsCappedAndCounted(t *testing.T) {
	t.Parallel()
	const more = 1 << 20
	out, r, err := run(t, local(t), fmt.Sprintf("head -c %d /dev/zero", wire.MaxOutput+more), nil)
	if err != nil || r.Exit != 0 || len(out) != wire.MaxOutput || r.Dropped != more {
		t.Errorf("got %d bytes, %+v, %v", len(out), r, err)
	}
}

// tree is a program that starts a child and a grandchild in a session of its own, tells their
// numbers, and waits; every one ignores what ignore names.
func tree(file, ignore string) string {
	return fmt.Sprintf(`trap "" %s; echo $$ >>%s; (echo $(exec sh -c 'echo $PPID') >>%s; sleep 600) & `+
		`setsid sh -c 'trap "" %s; echo $$ >>%s; sleep 601; sleep 602' & `+
		`while [ $(wc -l <%s) -lt 3 ]; do sleep 0.01; done; echo ready; `, ignore, file, file, ignore, file, file)
}

// numbers reads the processes a tree told of.
func numbers(t *testing.T, file string) (list []int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(b)) {
		n, _ := strconv.Atoi(f)
		list = append(list, n)
	}
	return list
}

func gone(pid int) bool {
	s, err := readStat(pid)
	return errors.Is(err, fs.ErrNotExist) || err == nil && s.state == 'Z'
}

func allGone(t *testing.T, file string) {
	t.Helper()
	list := numbers(t, file)
	if len(list) != 3 {
		t.Fatalf("the tree told of %v", list)
	}
	within(t, 10*time.Second, "every process is gone", func() bool {
		for _, pid := range list {
			if !gone(pid) {
				return false
			}
		}
		return true
	})
}

// TestNothingOfAProgramOutlives is the matrix of ends: every way a program can end takes its
// grandchildren along, those that left its session too.
func TestNothingOfAProgramOutlives(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, ignore, after string
		end                 func(p *process, cancel context.CancelFunc)
	}{
		{"it ends by itself", "HUP", "exit 0", func(*process, context.CancelFunc) {}},
		{"it is cancelled", "HUP", "sleep 603", func(_ *process, cancel context.CancelFunc) { cancel() }},
		{"the controller goes", "HUP", "sleep 604", func(p *process, _ context.CancelFunc) { _ = p.Close() }},
		{"the helper is told to end", "HUP", "sleep 605", func(p *process, _ context.CancelFunc) { _ = p.cmd.Process.Signal(unix.SIGTERM) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := startHelper(t)
			file := filepath.Join(t.TempDir(), "pids")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, _ = p.Exec(ctx, wire.ExecRequest{Argv: []string{"sh", "-c", tree(file, tc.ignore) + tc.after}}, func(_ byte, b []byte) {
				if strings.Contains(string(b), "ready") {
					tc.end(p, cancel)
				}
			})
			allGone(t, file)
		})
	}
}

func TestProgramThatIgnoresTermIsKilledAfterItsGrace(t *testing.T) {
	t.Parallel()
	p, err := newPrograms()
	if err != nil {
		t.Fatal(err)
	}
	p.grace = 300 * time.Millisecond
	file := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var began time.Time
	text := tree(file, "TERM") + "while :; do sleep 0.1; done"
	r, err := p.run(ctx, wire.ExecRequest{Argv: []string{"sh", "-c", text}}, func(byte, []byte) error {
		began = time.Now()
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || r.Signal != "KILL" || time.Since(began) < p.grace {
		t.Errorf("got %+v, %v after %s", r, err, time.Since(began))
	}
	for _, pid := range numbers(t, file) {
		if !gone(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
}

// TestKilledHelperLeavesNothingForTheNextRun: the child dies with the helper, and what it had
// started is killed by whoever takes the lock next.
func TestKilledHelperLeavesNothingForTheNextRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	p := startHelper(t)
	s := siteIn(t)
	take(t, p.Client, s, "ann")
	_, err := p.Exec(t.Context(), wire.ExecRequest{Argv: []string{"sh", "-c", tree(file, "HUP") + "sleep 606"}}, func(_ byte, b []byte) {
		_ = p.cmd.Process.Kill()
	})
	if !fault.Is(err, fault.SSHLost) {
		t.Errorf("got %v, want ssh-lost", err)
	}
	_ = p.cmd.Wait()
	next := startHelper(t)
	within(t, 5*time.Second, "the lock is free", func() bool { return take(t, next.Client, s, "bob") == nil })
	allGone(t, file)
}

func TestKeptProgramsDaemonGoesOn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	p := startHelper(t)
	start := time.Now()
	_, r, err := run(t, p.Client, `setsid sh -c 'echo $$ >`+file+`; sleep 607' & while [ ! -s `+file+` ]; do sleep 0.01; done`,
		func(r *wire.ExecRequest) { r.Keep = true })
	if err != nil || !r.Held || time.Since(start) > 8*time.Second {
		t.Errorf("got %+v, %v after %s; want its held output given up after %s", r, err, time.Since(start), drain)
	}
	_ = p.Close()
	_ = p.cmd.Wait()
	daemon := numbers(t, file)[0]
	if gone(daemon) {
		t.Error("the daemon went with the helper")
	}
	s, _ := readStat(daemon)
	if err := sendSignal(daemon, s.start+1, unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) || gone(daemon) {
		t.Errorf("a signal for another start time: %v", err)
	}
	// The sleep below it is in the same session.
	end(func(x stat, _ func() string) bool { return x.session == daemon }, 0)
	if !gone(daemon) {
		t.Error("the daemon is still there")
	}
}
