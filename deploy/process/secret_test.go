package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// unitHost is a host whose systemctl tells of a unit with the given lines.
type unitHost struct {
	noting
	lines string
}

func (h *unitHost) Exec(_ context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	if req.Argv[0] == "systemctl" {
		output("stdout", []byte("LoadState=loaded\nActiveState=active\nMainPID=0\n"+h.lines))
	}
	return wire.ExecReply{}, nil
}

func (h *unitHost) File(context.Context, wire.FileRequest) (wire.FileReply, error) {
	return wire.FileReply{}, nil
}

// A unit that is started with the secrets of current is checked with those of the staged release.
func TestCheckGetsTheSecretsOfTheStagedRelease(t *testing.T) {
	t.Parallel()
	const text = `version = 1
[app]
name = "shop"
path = "/opt/shop"
[secrets]
command = "x"
file = "conf/.env"
[env.test.hosts]
a = { role = "app" }
`
	f, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	const start = "ExecStart={ path=/usr/bin/gunicorn ; argv[]=/usr/bin/gunicorn shop.wsgi ; ignore_errors=no }\n"
	for file, with := range map[string]bool{"/opt/shop/current/conf/.env": true, "/opt/shop/shared/.env": false} {
		h := &unitHost{lines: start + "EnvironmentFiles=" + file + " (ignore_errors=no)\n"}
		got, _, err := New(env, nil).checkText(t.Context(), h, "20261123-104107-4f2c9e1", "/opt/shop/releases/20261123-104107-4f2c9e1")
		if err != nil || strings.HasPrefix(got, withSecrets) != with || !strings.Contains(got, "exec /usr/bin/gunicorn") {
			t.Errorf("%s: got %q, %v, want secrets to be %v", file, got, err, with)
		}
	}
}

func TestWithSecretsExportsThem(t *testing.T) {
	t.Parallel()
	s, err := deploy.ParseSecrets([]byte(`{"TOKEN": "it's \"$HOME\"\nand more"}`))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, s.Render(), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", withSecrets+`exec printenv TOKEN`)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "GODEPLOY_SECRETS=" + file}
	if out, err := cmd.Output(); err != nil || string(out) != "it's \"$HOME\"\nand more\n" {
		t.Errorf("got %q, %v", out, err)
	}
}
