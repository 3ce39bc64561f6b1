package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"godeploy/e2e/hosts"
)

// binary builds godeploy once for all tests: with the race detector, and with the static helpers
// embedded, as a release has them. GODEPLOY_E2E_PLAIN leaves the detector out, for long measured runs.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "godeploy-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "godeploy")
	build := []string{"go", "build", "-race", "-tags", "embedhelper", "-o", path, "../cmd/godeploy"}
	if os.Getenv("GODEPLOY_E2E_PLAIN") != "" {
		build = slices.Delete(build, 2, 3)
	}
	for _, argv := range [][]string{{"make", "-C", "..", "--no-print-directory", "helper"}, build} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	return path, nil
})

// operator is a person with a project, at the operator's machine of a fleet.
type operator struct {
	t       *testing.T
	fleet   *hosts.Fleet
	project string // folder with godeploy.toml
	home    string
	binary  string
	front   front
}

// outcome is what one command line came to.
type outcome struct {
	code           int
	stdout, stderr string
}

func newOperator(t *testing.T, f *hosts.Fleet) *operator {
	t.Helper()
	path, err := binary()
	must(t, err)
	dir := t.TempDir()
	o := &operator{t: t, fleet: f, project: filepath.Join(dir, "swiper"), home: filepath.Join(dir, "home"), binary: path, front: nginxFront()}
	must(t, os.MkdirAll(o.home, 0o700))
	return o
}

// site says how the fleet's godeploy.toml differs from the usual one.
type site struct {
	process string // lines of [process]; "" is the systemd unit
	hooks   string // further lines of [hooks]
	ssh     string // lines of [env.prod.ssh]; "" is deploy with sudo
	more    string // further tables
}

// configure writes godeploy.toml for the fleet.
func (o *operator) configure(s site) {
	o.t.Helper()
	if s.process == "" {
		s.process = "unit = \"swiper.service\""
	}
	if s.ssh == "" {
		s.ssh = "user = \"deploy\"\nsudo = true"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `version = 1
[app]
name = "swiper"
path = "%s"
keep = 4
[sync]
exclude = ["__pycache__/", "*.pyc"]
[shared]
dirs = ["logs", "medias"]
files = [".env"]
[process]
%s
[health]
url = "http://{{.Host.Address}}:9000/healthz"
interval = "200ms"
tries = 15
settle = "500ms"
release_header = "X-Release"
[hooks]
release = ["scripts/release.sh"]
once = ["python3 manage.py migrate --noinput"]
%s
%s
[env.prod.ssh]
%s
keys = ["%s"]
[env.prod.role.app]
jump = [%s]
[env.prod.hosts]
`, hosts.AppPath, s.process, s.hooks, s.more, s.ssh, o.fleet.KeyFile, o.jumps())
	for _, h := range o.fleet.Hosts() {
		if h.Role() == "nginx" || h.Role() == "app" {
			role := h.Role()
			if role == "nginx" {
				role = o.front.kind
			}
			fmt.Fprintf(&b, "%s = { role = %q, address = %q, weight = %d }\n", h.Name, role, h.Addr(), max(h.Weight(), 1))
		}
	}
	must(o.t, os.WriteFile(filepath.Join(o.project, "godeploy.toml"), []byte(b.String()), 0o644))
}

// jumps lists the nginx hosts that the fleet has.
func (o *operator) jumps() string {
	var names []string
	for _, h := range o.fleet.Role("nginx") {
		names = append(names, fmt.Sprintf("%q", h.Name))
	}
	return strings.Join(names, ", ")
}

// start gives a godeploy command line in the operator's namespace, ready to be run.
func (o *operator) start(ctx context.Context, args ...string) *exec.Cmd {
	cmd := o.fleet.Operator(ctx, o.binary, args...)
	cmd.Dir = o.project
	cmd.Env = []string{"HOME=" + o.home, "PATH=" + os.Getenv("PATH"), "USER=ops", "TERM=dumb"}
	return cmd
}

// run runs godeploy to its end.
func (o *operator) run(ctx context.Context, args ...string) outcome {
	o.t.Helper()
	cmd := o.start(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.t.Fatalf("godeploy %s: %v", strings.Join(args, " "), err)
	}
	out := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	o.t.Logf("godeploy %s: exit %d\n%s%s", strings.Join(args, " "), out.code, out.stdout, out.stderr)
	return out
}

// want runs godeploy and stops the test when it ends with another exit code.
func (o *operator) want(ctx context.Context, code int, args ...string) outcome {
	o.t.Helper()
	out := o.run(ctx, args...)
	if out.code != code {
		o.t.Fatalf("godeploy %s: exit %d, want %d", strings.Join(args, " "), out.code, code)
	}
	return out
}
