package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

func TestProbeAnswersAndEnds(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "helper")
	cmd.Env = []string{wire.ProbeEnv + "=1"}
	if out, err := cmd.Output(); err != nil || string(out) != wire.ProbeAnswer+"\n" {
		t.Errorf("got %q, %v", out, err)
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

// TestUnlockEndsWhatRunsUnderTheLock: a hook that does not heed TERM has a grace, but not one that
// reaches into the next run.
func TestUnlockEndsWhatRunsUnderTheLock(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	p, s := startHelper(t), siteIn(t)
	take(t, p.Client, s, "ann")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	unlocked := make(chan error, 1)
	_, _ = p.Exec(ctx, wire.ExecRequest{Argv: []string{"sh", "-c", tree(file, "TERM") + "while :; do sleep 0.1; done"}}, func(byte, []byte) {
		cancel()
		go func() {
			err := p.Call(t.Context(), wire.KindUnlock, &wire.UnlockRequest{Site: s}, nil)
			for _, pid := range numbers(t, file) {
				if err == nil && !gone(pid) {
					err = fmt.Errorf("the lock is free and process %d still there", pid)
				}
			}
			unlocked <- err
		}()
	})
	if err := <-unlocked; err != nil {
		t.Error(err)
	}
}

// A line may take longer for the last of a program's output than the program lives.
func TestOutputIsWholeOnASlowLine(t *testing.T) {
	t.Parallel()
	programs, err := newPrograms()
	if err != nil {
		t.Fatal(err)
	}
	const size = 60_000 // all of it is in the pipe, and the program has ended, before the line takes any
	got, first := 0, true
	began := time.Now()
	r, err := programs.run(t.Context(), wire.ExecRequest{Argv: []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero", size)}},
		func(_ byte, p []byte) error {
			if first {
				first = false
				<-time.After(drain + time.Second)
			}
			got += len(p)
			return nil
		})
	if err != nil || r.Exit != 0 || got != size || r.Dropped != 0 || r.Held {
		t.Errorf("got %d bytes of %d after %v, %+v, %v", got, size, time.Since(began), r, err)
	}
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
