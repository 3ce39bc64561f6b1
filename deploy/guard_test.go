package deploy

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guarded starts a hook as sudo would: helper, sudo and guard are three processes, the outer two played
// by shells. It gives the outer one, and what the hook says first: the pids of sudo and of the hook.
func guarded(t *testing.T, hook, then string) (cmd *exec.Cmd, sudo, pid int, out io.Reader) {
	t.Helper()
	const inner = `sh -c "$W" sh "$H" & wait $!; exit $?`
	cmd = exec.Command("sh", "-c", `sh -c "$M" & echo sudo $!; `+then)
	cmd.Env = append(os.Environ(), "M="+inner, "W="+guard, "H="+hook)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(pipe)
	for sudo == 0 || pid == 0 {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		who, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("the hook said %q", line)
		}
		if who == "sudo" {
			sudo = n
		} else {
			pid = n
		}
	}
	return cmd, sudo, pid, r
}

// A hook that does not heed TERM still ends when whoever may not signal it is gone.
func TestGuardEndsAHookThatNobodyWatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, then string
		victim     func(helper, sudo int) int
	}{
		{"sudo is killed", "wait $!", func(_, sudo int) int { return sudo }},
		{"sudo stays as a zombie", "exec sleep 622 >/dev/null", func(_, sudo int) int { return sudo }},
		{"the helper is killed", "wait $!", func(helper, _ int) int { return helper }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd, sudo, pid, out := guarded(t, `trap "" TERM; echo hook $$; while :; do sleep 0.1; done`, tt.then)
			if err := syscall.Kill(tt.victim(cmd.Process.Pid, sudo), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _, _ = io.Copy(io.Discard, out); close(ended) }() // ends when nobody has the pipe any more
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				_ = syscall.Kill(-pid, syscall.SIGKILL)
				t.Error("the hook goes on")
			}
			_ = cmd.Process.Kill() // the one that was to stay
			_ = cmd.Wait()
		})
	}
}

func TestGuardPassesOnHowAHookEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, hook string
		term       bool
		want       int
	}{
		{"success", "echo hook $$; exit 0", false, 0},
		{"failure", "echo hook $$; exit 7", false, 7},
		{"a daemon left behind goes too", "echo hook $$; sleep 621 & exit 3", false, 3},
		{"TERM is heeded", "trap 'exit 9' TERM; echo hook $$; while :; do sleep 0.1; done", true, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd, _, pid, out := guarded(t, tt.hook, "wait $!; exit $?")
			if tt.term {
				terminate(t, pid)
			}
			_, _ = io.Copy(io.Discard, out)
			err := cmd.Wait()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != tt.want {
				t.Errorf("got %v, want exit %d", err, tt.want)
			}
		})
	}
}

// terminate tells the guard, the parent of the hook, to end, as sudo does with a TERM of its own.
func terminate(t *testing.T, hook int) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(hook) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(parent, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}
