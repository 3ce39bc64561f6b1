package overssh

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

// TestAKeptDaemonThatHoldsItsOutputHoldsNobody: what a start hook leaves behind runs on and is not waited
// for.
func TestAKeptDaemonThatHoldsItsOutputHoldsNobody(t *testing.T) {
	t.Parallel()
	both(t, "keep", func(t *testing.T, m *machine, h deploy.Host) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var out strings.Builder
		reply, err := h.Exec(ctx, wire.ExecRequest{Keep: true, Argv: []string{"/bin/sh", "-c", "sleep 600 & echo $!; echo no >&2; exit 3"}}, collect(&out))
		pid, numErr := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(lineOf(out.String(), "stdout:"), "stdout:")))
		if numErr != nil {
			t.Fatalf("got %+v, %v and %q", reply, err, out.String())
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
		if err != nil || reply.Exit != 3 || !strings.Contains(out.String(), "stderr:no\n") {
			t.Errorf("got %+v, %v and %q", reply, err, out.String())
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("the daemon is gone: %v", err)
		}
		if strings.Count(out.String(), "\n") != 2 {
			t.Errorf("more was said than the program did: %q", out.String())
		}
	})
}

func lineOf(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

// A start hook that hangs is ended when its time is up, and what it has started is not.
func TestAKeptProgramThatHangsIsOutOfTime(t *testing.T) {
	t.Parallel()
	both(t, "hang", func(t *testing.T, m *machine, h deploy.Host) {
		var out strings.Builder
		reply, err := h.Exec(t.Context(), wire.ExecRequest{Keep: true, Timeout: time.Second,
			Argv: []string{"/bin/sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!; exec sleep 601"}}, collect(&out))
		pid, numErr := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(lineOf(out.String(), "stdout:"), "stdout:")))
		if numErr != nil || err != nil || !reply.TimedOut {
			t.Fatalf("got %+v, %v and %q", reply, err, out.String())
		}
		defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("the daemon is gone: %v", err)
		}
	})
}

// TestWatchdogEndsTheGroupWithoutSetsid: a host need not have setsid.
func TestWatchdogEndsTheGroupWithoutSetsid(t *testing.T) {
	t.Parallel()
	for _, with := range []string{"setsid", "perl", "python3"} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, name := range []string{with, "cat", "sleep", "sh"} {
				at := program(t, name)
				if name == "python3" { // it may be a script that picks one
					out, err := exec.Command(at, "-c", "import sys; print(sys.executable)").Output()
					if err != nil {
						t.Fatal(err)
					}
					at = strings.TrimSpace(string(out))
				}
				if err := os.Symlink(at, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			pipe := filepath.Join(dir, "alive")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", "-c", watchdog, "sh", "end", "word", dir, "sh", "-c", `sh -c 'exec 7>alive; sleep 600; sleep 600' & wait`)
			cmd.Env = []string{"PATH=" + dir}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				ended <- cmd.Wait()
				if f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil { // whoever waits for the grandchild in vain
					_ = f.Close()
				}
			}()
			_, _ = io.WriteString(in, "\n")
			f, err := os.Open(pipe) // the grandchild lives
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_ = in.Close()
			if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("the grandchild wrote something: %d, %v", n, err)
			}
			if err := <-ended; err == nil {
				t.Error("a program that was ended exits with 0")
			}
		})
	}
}

func TestEndMarkIsTakenOutOfStderr(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		out    string
		status int
	}{
		"said\nWORD 3\n":        {"said\n", 3},
		"no line endWORD 0\n":   {"no line end", 0},
		"WORD 7\nafter":         {"after", 7},
		"WOR WO WORDWORD 5\n":   {"WOR WO WORDWORD 5\n", -1},
		"WORD is what I say\n":  {"WORD is what I say\n", -1},
		"nothing at all WOR":    {"nothing at all WOR", -1},
		"WORD":                  {"WORD", -1},
		"":                      {"", -1},
		"long WORD 123456789\n": {"long WORD 123456789\n", -1},
	} {
		for _, size := range []int{1, 2, 3, 100} {
			var out bytes.Buffer
			m := &endMark{word: "WORD", out: &out, seen: make(chan int, 1)}
			for rest := []byte(text); len(rest) > 0; {
				n := min(size, len(rest))
				_, _ = m.Write(rest[:n])
				rest = rest[n:]
			}
			m.flush()
			status := -1
			if len(m.seen) > 0 {
				status = <-m.seen
			}
			if out.String() != want.out || status != want.status {
				t.Errorf("%q by %d: got %q and status %d, want %q and %d", text, size, out.String(), status, want.out, want.status)
			}
		}
	}
}
