package balance

import (
	"context"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
)

// A real nginx is drained by the words of a Drainer.
func TestNginxIsDrained(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n, fronts := newFronts(t, "")
	k := TierKind{Env: n.Env, Report: n.Report}
	if live, err := k.Live(ctx, n.Hosts); err != nil || live[0].Known || live[1].Known {
		t.Errorf("before any push: %+v, %v", live, err)
	}
	mustPush(t, n, State{})
	if err := k.Ready(ctx, n.Hosts); err != nil {
		t.Errorf("after a push: %v", err)
	}
	if err := k.Push(ctx, n.Hosts, drained("app2")); err != nil {
		t.Fatal(err)
	}
	live, err := k.Live(ctx, n.Hosts)
	for i, one := range live {
		if err != nil || !one.Known || !one.Loaded || !one.State.equal(drained("app2")) {
			t.Errorf("%s: %+v, %v", fronts[i].name, one, err)
		}
	}
	settles(t, k, n.Hosts)
	if err := k.Ready(ctx, n.Hosts); err != nil {
		t.Errorf("with a server down: %v", err)
	}
	was := *n.Env.Nginx
	n.Env.Nginx.Keepalive = 7
	if err := k.Ready(ctx, n.Hosts); !fault.Is(err, fault.NginxOutdated) {
		t.Errorf("godeploy.toml makes another file: %v", err)
	}
	*n.Env.Nginx = was
	fronts[1].sh(t, "echo '# by hand' >>/srv/front/nginx/"+siteFile)
	if _, err := k.Live(ctx, n.Hosts); !fault.Is(err, fault.NginxDrift) {
		t.Errorf("the file was edited: %v", err)
	}
	if err := k.Ready(ctx, n.Hosts); !fault.Is(err, fault.NginxDrift) {
		t.Errorf("the file was edited: %v", err)
	}
}

// A file that was swapped in by a run that died before its reload is not loaded.
func TestNginxThatWasNotReloaded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n, fronts := newFronts(t, "")
	k := TierKind{Env: n.Env, Report: n.Report}
	mustPush(t, n, State{})
	files, err := Render(n.Env, drained("app1"))
	if err != nil {
		t.Fatal(err)
	}
	fronts[0].write(t, siteFile, string(files[0].Content))
	live, err := k.Live(ctx, n.Hosts)
	if err != nil || live[0].Loaded || !live[0].State.Down["app1"] || !live[1].Loaded {
		t.Errorf("got %+v, %v", live, err)
	}
	if err := k.Push(ctx, n.Hosts, drained("app1")); err != nil {
		t.Fatal(err)
	}
	if live, err = k.Live(ctx, n.Hosts); err != nil || !live[0].Loaded || !live[1].Loaded {
		t.Errorf("pushed again: %+v, %v", live, err)
	}
}

func settles(t *testing.T, k TierKind, hosts []deploy.Host) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		settled, err := k.Settled(context.Background(), hosts)
		if err != nil {
			t.Fatal(err)
		}
		if settled {
			return
		}
		_ = deploy.Pause(t.Context(), 50*time.Millisecond)
	}
	t.Error("old workers stay")
}
