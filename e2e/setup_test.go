package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/e2e/hosts"
)

// ownedBy puts [app] owner into the project's file.
func (o *operator) ownedBy(owner string) {
	o.t.Helper()
	name := filepath.Join(o.project, "godeploy.toml")
	text, err := os.ReadFile(name)
	must(o.t, err)
	changed := strings.Replace(string(text), "name = \"swiper\"\n", "name = \"swiper\"\nowner = \""+owner+"\"\n", 1)
	must(o.t, os.WriteFile(name, []byte(changed), 0o644))
}

// A server with nothing on it is made ready, a second run changes nothing, a release goes out on it, and what
// somebody spoils is put right; what is somebody's own stays.
func TestSetup(t *testing.T) {
	t.Parallel()
	ctx, f := bootFleet(t, hosts.Options{Only: []string{"lb1", "app1", "db1"}})
	o := newOperator(t, f)
	o.write(named(t, "v1"))
	o.configure(site{ssh: `user = "root"`, process: `command = "gunicorn -c swiper/gunicorn-config.py swiper.wsgi"
backlog = 512`, hooks: `setup = ["id -un > made-by"]`, more: "[setup]\npackages = [\"curl\", \"swiper-tool\"]\nvenv = \".venv\"\n"})
	o.ownedBy("webapp:webgroup")
	app1 := f.Host("app1")
	for _, h := range []*hosts.Host{app1, f.Host("lb1")} {
		hasAPackageToOffer(ctx, t, h)
	}
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")

	if out := o.want(ctx, 3, "setup", "prod", "--dry-run", "--diff", "--exit-code"); !strings.Contains(out.stdout, "+ExecStart=") {
		t.Error("the diff lacks the unit")
	}
	if out, err := app1.Sh(ctx, "ls -d /opt/* 2>/dev/null || true; getent passwd webapp || true; command -v swiper-tool || true"); err != nil || out != "" {
		t.Fatalf("a dry run made %q, %v", out, err)
	}
	if out := o.want(ctx, 0, "setup", "prod"); !strings.Contains(out.stderr, "/opt/swiper/shared/.env is missing") ||
		!strings.Contains(out.stderr, "swiper-tool: none -> installed by apt-get") {
		t.Error("the missing shared file is not named, or the package that came")
	}
	if out, err := app1.Sh(ctx, "swiper-tool"); err != nil || out != "a tool\n" {
		t.Errorf("the package's program: got %q, %v", out, err)
	}
	looksSetUp(ctx, t, app1)
	must(t, app1.WriteFile(ctx, hosts.AppPath+"/shared/.env", []byte(hosts.Dotenv), 0o600))
	_, err := app1.Exec(ctx, "chown", "webapp:webgroup", hosts.AppPath+"/shared/.env")
	must(t, err)
	o.setUpAgain(ctx, "0 changes, 1 hook run")
	o.wholeOn(ctx, o.release(ctx, named(t, "v1")))

	_, err = app1.Sh(ctx, "cd "+hosts.AppPath+"; chmod 0777 releases; chown root shared; rmdir shared/logs; sed -i 1d /etc/systemd/system/swiper.service")
	must(t, err)
	if out := o.setUpAgain(ctx, "3 changes, 1 hook run"); !strings.Contains(out.stderr, "swiper.service is your own and stays as it is") {
		t.Error("a unit without our mark is not told to be somebody's own")
	}
	if out := o.want(ctx, 64, "setup", "prod", "--only", "dirs,roofs"); !strings.Contains(out.stderr, "roofs") {
		t.Error("a group that is none is not named")
	}
	o.setUpAgain(ctx, "0 changes, 1 hook run")
}

// hasAPackageToOffer gives the host an archive of its own, with one package, of which apt has not heard yet.
func hasAPackageToOffer(ctx context.Context, t *testing.T, h *hosts.Host) {
	t.Helper()
	_, err := h.Sh(ctx, `mkdir -p /srv/archive/tree/DEBIAN /srv/archive/tree/usr/bin
cd /srv/archive
printf '#!/bin/sh\necho a tool\n' >tree/usr/bin/swiper-tool
chmod 0755 tree/usr/bin/swiper-tool
printf 'Package: swiper-tool\nVersion: 1.0\nArchitecture: all\nMaintainer: ops <ops@example.org>\nDescription: a tool\n' >tree/DEBIAN/control
dpkg-deb --build --root-owner-group tree swiper-tool.deb >/dev/null
{ dpkg-deb --field swiper-tool.deb
  echo "Filename: ./swiper-tool.deb"
  echo "Size: $(stat -c %s swiper-tool.deb)"
  echo "SHA256: $(sha256sum swiper-tool.deb | cut -d' ' -f1)"; } >Packages
rm -rf /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list`)
	must(t, err)
}

// setUpAgain runs setup and wants to read what it did.
func (o *operator) setUpAgain(ctx context.Context, want string) outcome {
	o.t.Helper()
	out := o.want(ctx, 0, "setup", "prod")
	if !strings.Contains(out.stderr, "Set up: "+want) {
		o.t.Errorf("setup did not say %q", want)
	}
	return out
}

func looksSetUp(ctx context.Context, t *testing.T, h *hosts.Host) {
	t.Helper()
	out, err := h.Sh(ctx, `cd /opt/swiper
stat -c '%n %a %U:%G' . releases shared shared/logs shared/medias shared/.venv
cat made-by; id -gn webapp; systemctl is-enabled swiper.service; shared/.venv/bin/python3 -c 'print("venv")'`)
	must(t, err)
	want := `. 755 webapp:webgroup
releases 755 webapp:webgroup
shared 755 webapp:webgroup
shared/logs 755 webapp:webgroup
shared/medias 755 webapp:webgroup
shared/.venv 755 webapp:webgroup
webapp
webgroup
enabled
venv
`
	if out != want {
		t.Errorf("after setup: got\n%s\nwant\n%s", out, want)
	}
}
