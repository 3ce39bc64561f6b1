package overssh

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/helper"
	"godeploy/internal/sshtest"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
	"godeploy/sync/synctest"
)

// TestMain lets the test binary be the helper that it pushes: a development build does the same.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		os.Exit(helper.Main(context.Background(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// machine is a fake server of the test: a home, a folder for the app, and an SSH server in this
// process that runs real commands.
type machine struct {
	home, path string
	server     *sshtest.Server
	env        *inventory.Env
}

func newMachine(t *testing.T, useHelper bool) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{home: filepath.Join(dir, "home"), path: filepath.Join(dir, "opt", "shop")}
	for _, d := range []string{m.home, filepath.Dir(m.path)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server, err := sshtest.Start(sshtest.Options{NoAuth: true, Home: m.home, SFTPServer: sftpServer(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	m.server = server
	text := `version = 1
[app]
name = "` + lonelyName(t, dir) + `"
path = "` + m.path + `"
[process]
manager = "command"
[hooks]
restart = ["true"]
[env.test.ssh]
helper = ` + map[bool]string{true: "true", false: "false"}[useHelper] + `
[env.test.hosts]
web1 = { role = "app", address = "127.0.0.1" }
`
	file, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.env, err = file.Env("test"); err != nil {
		t.Fatal(err)
	}
	return m
}

// lonelyName names an app after a folder of the test's own, and removes the place of the whole machine where
// its lock lies while its path is not there.
func lonelyName(t testing.TB, dir string) string {
	t.Helper()
	name := fmt.Sprintf("shop-%08x", crc32.ChecksumIEEE([]byte(dir)))
	t.Cleanup(func() {
		left, _ := filepath.Glob("/var/lib/godeploy/" + name + "-*")
		for _, dir := range left {
			_ = os.RemoveAll(dir) // where the tests' user may not, there is none
		}
	})
	return name
}

// sftpServer is OpenSSH's, the one that hosts have.
func sftpServer(t *testing.T) string {
	t.Helper()
	const path = "/usr/lib/openssh/sftp-server"
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal(err)
		}
		t.Skip("OpenSSH's sftp-server is not installed")
	}
	return path
}

// connect gives a new connection to the machine, closed with the test.
func (m *machine) connect(t *testing.T) deploy.Host {
	t.Helper()
	pool := sshx.NewPool(sshx.Options{})
	c := &Connector{Env: m.env, Helpers: Helpers(), Parallel: 1, Report: event.Discard{},
		Dial: func(ctx context.Context, h inventory.Host) (*sshx.Conn, error) {
			return pool.Dial(ctx, sshx.Target{Name: h.Name, Address: h.Address, Port: m.server.Port(),
				User: "deploy", HostKey: m.server.Fingerprint()})
		}}
	hosts, err := c.Connect(t.Context(), m.env.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(hosts); _ = pool.Close() })
	return hosts[0]
}

// both runs a test on a host with the helper and on one without.
func both(t *testing.T, name string, test func(t *testing.T, m *machine, h deploy.Host)) {
	t.Helper()
	for way, useHelper := range map[string]bool{"helper": true, "sftp": false} {
		t.Run(name+" by "+way, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, useHelper)
			h := m.connect(t)
			if _, ok := h.(*helped); ok != useHelper {
				t.Fatalf("got a %T", h)
			}
			test(t, m, h)
		})
	}
}

func collect(out *strings.Builder) func(string, []byte) {
	return func(stream string, p []byte) { out.WriteString(stream + ":" + string(p)) }
}

func TestExecOnAHost(t *testing.T) {
	t.Parallel()
	both(t, "exec", func(t *testing.T, m *machine, h deploy.Host) {
		for _, tt := range []struct {
			name string
			req  wire.ExecRequest
			exit int
			out  string
		}{
			{"output", wire.ExecRequest{Argv: []string{"echo", "a b", "$HOME", "'"}}, 0, "stdout:a b $HOME '\n"},
			{"errors", wire.ExecRequest{Argv: []string{"/bin/sh", "-c", "echo no >&2; exit 7"}}, 7, "stderr:no\n"},
			{"folder", wire.ExecRequest{Argv: []string{"/bin/sh", "-c", "pwd; echo $PWD"}, Dir: m.home}, 0, "stdout:" + m.home + "\n" + m.home + "\n"},
			{"environment", wire.ExecRequest{Argv: []string{"/bin/sh", "-c", `printf "%s\n" "$GREETING"`}, Env: map[string]string{"GREETING": `x 'y' "z" $w; \n`}}, 0, "stdout:" + `x 'y' "z" $w; \n` + "\n"},
			{"no input", wire.ExecRequest{Argv: []string{"/bin/sh", "-c", "read x || echo none"}}, 0, "stdout:none\n"},
			{"255", wire.ExecRequest{Argv: []string{"/bin/sh", "-c", "exit 255"}}, 255, ""},
		} {
			var out strings.Builder
			reply, err := h.Exec(t.Context(), tt.req, collect(&out))
			if got := strings.ReplaceAll(out.String(), "\nstdout:", "\n"); err != nil || reply.Exit != tt.exit || got != tt.out {
				t.Errorf("%s: got exit %d, %q, %v, want %d, %q", tt.name, reply.Exit, got, err, tt.exit, tt.out)
			}
		}
	})
}

// Two levels deep, on purpose: the grandchild holds a FIFO open for as long as it lives.
func TestStoppedProgramsEndWithAllTheyStarted(t *testing.T) {
	t.Parallel()
	for how, limit := range map[string]time.Duration{"cancelled": 0, "out of time": 2 * time.Second} {
		both(t, how, func(t *testing.T, m *machine, h deploy.Host) {
			pipe := filepath.Join(m.home, "alive")
			if err := exec.Command("mkfifo", pipe).Run(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			stop := errors.New("stopped by the test")
			type ended struct {
				reply wire.ExecReply
				err   error
			}
			done := make(chan ended, 1)
			go func() {
				reply, err := h.Exec(ctx, wire.ExecRequest{Timeout: limit,
					Argv: []string{"/bin/sh", "-c", "sh -c 'exec 7>" + pipe + "; sleep 60; sleep 60' & wait"}}, func(string, []byte) {})
				done <- ended{reply, err}
			}()
			f, err := os.Open(pipe)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if limit == 0 {
				cancel(stop)
			}
			if n, err := f.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Error("the grandchild wrote something")
			}
			switch got := <-done; {
			case limit == 0 && got.err == nil:
				t.Errorf("got %+v, want an error for a cancelled program", got.reply)
			case limit > 0 && (got.err != nil || !got.reply.TimedOut):
				t.Errorf("got %+v, %v, want it to be out of time", got.reply, got.err)
			}
		})
	}
}

func TestReleasesOnAHost(t *testing.T) {
	t.Parallel()
	both(t, "layout", func(t *testing.T, m *machine, h deploy.Host) {
		ctx := t.Context()
		if s, err := h.State(ctx, []string{".env"}); err != nil || s.Exists || !s.Writable || len(s.Missing) != 1 {
			t.Fatalf("before: got %+v, %v", s, err)
		}
		lock(t, h)
		if err := h.Prepare(ctx, []string{"logs"}); err != nil {
			t.Fatal(err)
		}
		first, second := "20261123-104107-4f2c9e1", "20261123-114107-4f2c9e2"
		stage(t, h, first, "", "one")
		stage(t, h, second, first, "two")
		if _, err := h.Switch(ctx, first, ""); err != nil {
			t.Fatal(err)
		}
		if before, err := h.Switch(ctx, second, first); err != nil || before != first {
			t.Fatalf("switch: got %q, %v", before, err)
		}
		if err := h.Mark(ctx, second, wire.MarkHealthy, first); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(m.path, "current", "app.py"))
		if err != nil || string(text) != "two" {
			t.Errorf("current has %q, %v", text, err)
		}
		if link, err := os.Readlink(filepath.Join(m.path, "current", "logs")); err != nil || !strings.HasSuffix(link, "shared/logs") {
			t.Errorf("logs leads to %q, %v", link, err)
		}
		if kept, err := h.Remove(ctx, []string{first}); err != nil || len(kept) != 0 {
			t.Errorf("remove: kept %v, %v", kept, err)
		}
		s, err := h.State(ctx, nil)
		if err != nil || s.Current != second || len(s.Releases) != 1 || s.Releases[0].Mark != wire.MarkHealthy {
			t.Errorf("after: got %+v, %v", s, err)
		}
		if reply, err := h.File(ctx, wire.FileRequest{Path: m.path + "/current/app.py"}); err != nil || string(reply.Content) != "two" {
			t.Errorf("file: got %q, %v", reply.Content, err)
		}
		if reply, err := h.File(ctx, wire.FileRequest{Path: m.path + "/none"}); err != nil || reply.Exists {
			t.Errorf("no file: got %+v, %v", reply, err)
		}
	})
}

func lock(t *testing.T, h deploy.Host) {
	t.Helper()
	if held, err := h.Lock(t.Context(), wire.Holder{Who: "ops@laptop", PID: 1, Run: "20261123-104107", Command: "release", Since: time.Now()}); err != nil || held != nil {
		t.Fatalf("lock: held by %v, %v", held, err)
	}
}

func stage(t *testing.T, h deploy.Host, id, parent, content string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"app.py": content, "same.txt": "the same in all"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reply, _, err := h.Stage(t.Context(), wire.StageRequest{
		Site: deploy.SiteOf(mustEnv(h), h.Inventory()), Parent: parent, SharedDirs: []string{"logs"}, Links: "auto",
		Release: wire.Release{ID: id, Root: src.Manifest.Root().String(), Mark: wire.MarkStaged, Created: time.Now(), By: "ops@laptop"},
	}, src, filesync.SendOptions{})
	if err != nil || reply.Files != 2 {
		t.Fatalf("stage %s: got %+v, %v", id, reply, err)
	}
}

// mustEnv gives an environment with the host's own path, from which SiteOf makes the same site.
func mustEnv(h deploy.Host) *inventory.Env {
	var site wire.Site
	switch h := h.(type) {
	case *helped:
		site = h.site
	case *plain:
		site = h.site
	}
	env := &inventory.Env{}
	env.App.Name, env.App.Path = site.App, site.Path
	return env
}

func TestTheLockIsHeldUntilClose(t *testing.T) {
	t.Parallel()
	both(t, "lock", func(t *testing.T, m *machine, h deploy.Host) {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			t.Fatal(err)
		}
		lock(t, h)
		other := m.connect(t)
		held, err := other.Lock(t.Context(), wire.Holder{Who: "ci@runner", PID: 2, Run: "20261123-104108", Command: "rollback", Since: time.Now()})
		if err != nil || held == nil || held.Who != "ops@laptop" {
			t.Fatalf("got %+v, %v, want the lock of ops@laptop", held, err)
		}
		if s, err := other.State(t.Context(), nil); err != nil || s.Holder == nil || s.Holder.Command != "release" {
			t.Errorf("state: holder %+v, %v", s.Holder, err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		lock(t, other)
	})
}

func TestProcessesOfAHost(t *testing.T) {
	t.Parallel()
	both(t, "procs", func(t *testing.T, m *machine, h deploy.Host) {
		cmd := exec.Command("/bin/sh", "-c", "sleep 60 & echo started; wait")
		cmd.Dir = m.home
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		if _, err := out.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		procs, err := h.Procs(t.Context(), cmd.Process.Pid)
		if err != nil || len(procs) != 2 {
			t.Fatalf("got %+v, %v, want the shell and its child", procs, err)
		}
		if procs[0].CWD != m.home || procs[1].PPID != procs[0].PID || procs[0].Start == 0 {
			t.Errorf("got %+v", procs)
		}
		if err := h.Signal(t.Context(), wire.SignalRequest{PID: procs[1].PID, Start: procs[1].Start + 1, Signal: "TERM"}); err == nil {
			t.Error("a process that is not the one that was seen was signalled")
		}
		if err := h.Signal(t.Context(), wire.SignalRequest{PID: procs[1].PID, Start: procs[1].Start, Signal: "TERM"}); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the shell waits for its child, which was ended: %v", err)
		}
		if procs, err := h.Procs(t.Context(), cmd.Process.Pid); err != nil || len(procs) != 0 {
			t.Errorf("after its end: got %+v, %v", procs, err)
		}
	})
}

func TestAHostThatGoesAwayIsLostNotFine(t *testing.T) {
	t.Parallel()
	both(t, "lost", func(t *testing.T, m *machine, h deploy.Host) {
		m.server.Drop()
		if _, err := h.State(t.Context(), nil); err == nil {
			t.Error("a host that is gone has told its state")
		} else if _, ok := h.(*helped); ok && !fault.Is(err, fault.SSHLost) {
			t.Errorf("got %v, want ssh-lost", err)
		}
	})
}

func TestSFTPKeepsTheContractOfAFileTree(t *testing.T) {
	t.Parallel()
	synctest.Run(t, func(t *testing.T) filesync.FS {
		cmd := exec.Command(sftpServer(t))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		client, err := sftp.NewClientPipe(out, in)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close(); _ = cmd.Wait() })
		return newSFTPFS(client, synctest.TempDir(t))
	})
}
