package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"godeploy/cmd"
	"godeploy/internal/sshtest"
)

// The build tag stands only until go.mod has golang.org/x/tools, which testscript needs for txtar.
//
// TestMain makes this test binary serve as `godeploy` too: the scripts run the very function that the
// shipped program runs, as a process of its own, with real signals and terminals.
//
// And as the helper: a development build pushes itself to hosts of its own kind.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "helper" {
		os.Exit(cmd.Main(os.Args, cmd.RealSystem()))
	}
	testscript.Main(m, map[string]func(){
		"godeploy": func() { os.Exit(cmd.Main(os.Args, cmd.RealSystem())) },
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sshd":     startServers,
			"status":   checkStatus,
			"envsubst": substitute,
		},
	})
}

// setupScript gives a script a home of its own, and nothing of what this machine's user or CI has set.
func setupScript(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, "home")
	for _, pair := range [][2]string{{"HOME", home}, {"USER", "ops"}, {"TERM", "xterm"}, {"LANG", "C.UTF-8"}, {"CI", ""}, {"GITHUB_ACTIONS", ""},
		{"GITLAB_CI", ""}, {"NO_COLOR", ""}, {"FORCE_COLOR", ""}, {"SSH_AUTH_SOCK", ""}, {"GODEPLOY_ENV", ""}} {
		env.Setenv(pair[0], pair[1])
	}
	return os.MkdirAll(home, 0o700)
}

// startServers is `sshd NAME...`: for each name an SSH server in this process that lets everybody in
// and runs real commands; NAME_PORT and NAME_KEY tell its port and the fingerprint of its host key.
func startServers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: sshd NAME...")
	}
	for _, name := range args {
		home := filepath.Join(ts.Getenv("WORK"), "hosts", name)
		ts.Check(os.MkdirAll(home, 0o755))
		server, err := sshtest.Start(sshtest.Options{NoAuth: true, Home: home, Env: []string{"PATH=" + ts.Getenv("PATH"), "HOSTNAME=" + name}})
		ts.Check(err)
		ts.Defer(func() {
			if err := server.Close(); err != nil {
				ts.Logf("close %s: %v", name, err)
			}
		})
		ts.Setenv(name+"_PORT", fmt.Sprint(server.Port()))
		ts.Setenv(name+"_KEY", server.Fingerprint())
	}
}

// checkStatus is `status CODE godeploy ARGS...`: runs the command and compares its exit status.
func checkStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit status %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// substitute is `envsubst FILE...`: replaces $NAME in files, since ports are known only while a script runs.
func substitute(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: envsubst FILE...")
	}
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o644))
	}
}
