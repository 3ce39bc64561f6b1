package setup

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const adopted = "20261123-104107-0000000"

func lying() Have {
	h := bare()
	h.Paths["/opt/shop"] = Stat{"directory", 0o755, "web", "www"}
	h.Unit = map[string]string{"LoadState": "loaded", "WorkingDirectory": "/opt/shop",
		"ExecStart": "{ path=/opt/shop/.venv/bin/gunicorn ; argv[]=/opt/shop/.venv/bin/gunicorn -c conf/g.py --config=/opt/shop/h.py --access-logformat %h shop.wsgi ; ignore_errors=no ; pid=7 }"}
	return h
}

func TestAdoptTakesOverOnceAndAsTheOwnerOfTheTree(t *testing.T) {
	t.Parallel()
	env := envOf(t, "")
	w := WantOf(env, env.Hosts[0])
	a := AdoptWant{ID: adopted, By: "me", Now: time.Unix(0, 0)}
	p, err := DecideAdopt(w, lying(), a)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"adopt /opt/shop: code straight in it -> release " + adopted,
		"adopt /etc/systemd/system/shop.service.d/50-godeploy-current.conf:  -> written"}
	if d := cmp.Diff(want, told(p)); d != "" {
		t.Error(d)
	}
	last := p.Steps[0].run[len(p.Steps[0].run)-1]
	if got := strings.Join(last.argv[7:], " "); last.as != "web" || got != "logs media/big .venv -- conf/.env" {
		t.Errorf("run as %q with %q", last.as, got)
	}
	const text = `[Service]
WorkingDirectory=/opt/shop/current
ExecStart=
ExecStart=/opt/shop/.venv/bin/gunicorn -c /opt/shop/current/conf/g.py --config=/opt/shop/current/h.py --access-logformat %%h shop.wsgi --chdir /opt/shop/current
`
	if _, got, _ := strings.Cut(p.Steps[1].run[0].file.Text, "\n"); got != text {
		t.Errorf("the drop-in is\n%s\nwant\n%s", got, text)
	}
	h := lying()
	h.Paths["/opt/shop/current"] = Stat{"symbolic link", 0o777, "web", "www"}
	if again, err := DecideAdopt(w, h, a); err != nil || len(again.Steps) != 0 {
		t.Errorf("a second time: %q, %v", told(again), err)
	}
	if _, err := DecideAdopt(w, bare(), a); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("with nothing there: %v", err)
	}
	h = lying()
	h.Unit["ExecStart"] = "{ path=/usr/bin/run ; argv[]=/usr/bin/run shop ; ignore_errors=no }"
	if p, err := DecideAdopt(w, h, a); err != nil || len(p.Steps) != 1 || len(p.Notes) != 1 {
		t.Errorf("a unit that is not understood: %q, notes %q, %v", told(p), p.Notes, err)
	}
}

func TestUnadoptWaitsForWhatRunsAndKeepsNewerCode(t *testing.T) {
	t.Parallel()
	env := envOf(t, "")
	w := WantOf(env, env.Hosts[0])
	h := lying()
	h.Files["/opt/shop/.godeploy/adopted"] = "release " + adopted + "\ndir logs\n"
	h.Files[DropIn("shop.service")] = "# Written by godeploy setup --adopt.\n"
	p, err := DecideUnadopt(w, h, wire.State{Current: adopted})
	if err != nil || len(p.Steps) != 2 || p.Steps[1].run[0].as != "web" {
		t.Errorf("got %q, %v", told(p), err)
	}
	p, err = DecideUnadopt(w, h, wire.State{Current: adopted, InUse: []string{adopted}})
	if err != nil || len(p.Steps) != 1 || len(p.Notes) != 1 {
		t.Errorf("in use: %q, notes %q, %v", told(p), p.Notes, err)
	}
	if _, err := DecideUnadopt(w, h, wire.State{Current: "20261123-104108-1234567"}); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("with newer code: %v", err)
	}
	h.Files["/opt/shop/.godeploy/adopted"] = "release ../../x\n"
	if p, err := DecideUnadopt(w, h, wire.State{}); err != nil || len(p.Steps) != 0 {
		t.Errorf("a record that makes no sense: %q, %v", told(p), err)
	}
}
