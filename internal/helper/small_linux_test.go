package helper

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

func TestProcsShowsAProcessAndItsChildren(t *testing.T) {
	t.Parallel()
	c := local(t)
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "sleep 608 & echo up; wait")
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 3))
	var r wire.ProcsReply
	if err := c.Call(t.Context(), wire.KindProcs, &wire.ProcsRequest{PID: cmd.Process.Pid}, &r); err != nil || len(r.Procs) != 2 {
		t.Fatalf("got %+v, %v; want two", r, err)
	}
	first, child := r.Procs[0], r.Procs[1]
	if first.PID != cmd.Process.Pid || first.CWD != dir || first.Args[0] != "sh" || first.UID != os.Getuid() ||
		child.PPID != first.PID || !slices.Equal(child.Args, []string{"sleep", "608"}) {
		t.Errorf("got %+v", r)
	}
	kill := func(p wire.Proc, start uint64) error {
		return c.Call(t.Context(), wire.KindSignal, &wire.SignalRequest{PID: p.PID, Start: start, Signal: "TERM"}, nil)
	}
	if err := kill(child, child.Start-1); !fault.Is(err, fault.ExecFailed) {
		t.Errorf("another start time: got %v", err)
	}
	if err := errors.Join(kill(child, child.Start), cmd.Wait()); err != nil {
		t.Errorf("the shell was to end with its child: %v", err)
	}
	r = wire.ProcsReply{}
	if err := c.Call(t.Context(), wire.KindProcs, &wire.ProcsRequest{PID: first.PID}, &r); err != nil || len(r.Procs) != 0 {
		t.Errorf("after its end: %+v, %v", r, err)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	line := "7 (a) b) (S) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1\n"
	if s, err := parseStat(7, []byte(line)); err != nil || s != (stat{pid: 7, ppid: 3, session: 5, state: 'S', start: 98765}) {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"", "7 (a", "7 (a) S 1 2", strings.Replace(line, "98765", "x", 1)} {
		if s, err := parseStat(7, []byte(bad)); err == nil {
			t.Errorf("%q: got %+v", bad, s)
		}
	}
}

func TestFileIsReadAndWrittenWhole(t *testing.T) {
	t.Parallel()
	c := local(t)
	path := filepath.Join(t.TempDir(), "site.conf")
	call := func(req wire.FileRequest) (wire.FileReply, error) {
		var r wire.FileReply
		req.Path = path
		err := c.Call(t.Context(), wire.KindFile, &req, &r)
		return r, err
	}
	if r, err := call(wire.FileRequest{}); err != nil || r.Exists {
		t.Errorf("before: %+v, %v", r, err)
	}
	big := []byte(strings.Repeat("x", wire.MaxFile))
	if _, err := call(wire.FileRequest{Write: true, Content: big, Mode: 0o640}); err != nil {
		t.Fatal(err)
	}
	if r, err := call(wire.FileRequest{}); err != nil || !r.Exists || string(r.Content) != string(big) {
		t.Errorf("read back %d bytes, %v", len(r.Content), err)
	}
	if err := os.Chown(path, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	if _, err := call(wire.FileRequest{Write: true, Content: []byte("two")}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 || info.Size() != 3 {
		t.Errorf("mode %o, size %d; want the old mode kept", info.Mode().Perm(), info.Size())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left beside it: %v", left)
	}
}

func TestFileTakesOnlyPlainFiles(t *testing.T) {
	t.Parallel()
	c := local(t)
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	write(t, precious, "precious")
	if err := errors.Join(
		os.Symlink(precious, dir+"/link"), unix.Mkfifo(dir+"/fifo", 0o644), os.Mkdir(dir+"/folder", 0o755),
		os.WriteFile(dir+"/large", make([]byte, wire.MaxFile+1), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "fifo", "folder", "large"} {
		for _, w := range []bool{false, true} {
			if w && name == "large" {
				continue // may be replaced
			}
			start := time.Now()
			err := c.Call(t.Context(), wire.KindFile, &wire.FileRequest{Path: dir + "/" + name, Write: w, Content: []byte("x")}, nil)
			if err == nil || time.Since(start) > 5*time.Second {
				t.Errorf("%s, write %v: %v after %s", name, w, err, time.Since(start))
			}
		}
	}
	if b, _ := os.ReadFile(precious); string(b) != "precious" {
		t.Errorf("the link's target holds %q", b)
	}
}
