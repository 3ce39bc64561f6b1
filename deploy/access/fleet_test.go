package access

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

func TestForwards(t *testing.T) {
	t.Parallel()
	h := newHostsOf(t)
	for name, want := range map[string][]string{
		"gate": {"10.0.0.1:22", "10.0.0.2:2222"},
		"app1": {"127.0.0.1:9000"},
	} {
		host, _ := h.env.Host(name)
		if got := Forwards(h.env, host); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// Whatever call a rotation is killed before, the key at its path lets in everywhere, and the same rotation,
// given again, comes to its end.
func TestRotateKilledAnywhere(t *testing.T) {
	t.Parallel()
	for n := 1; n < 500; n++ {
		h := newHostsOf(t)
		old := h.pair(h.path)
		h.give(old)
		r := &Rotation{Path: h.path, Old: old, New: h.pair(h.path + ".new"), Stage: StageMade}
		kept := *r
		save := func(now Rotation) error {
			if err := h.step(); err != nil {
				return err
			}
			kept = now
			return nil
		}
		h.kill = n
		err := h.fleet().Rotate(context.Background(), h.env.Hosts, r, save)
		over := err == nil
		h.kill = 0
		for _, host := range h.env.Hosts {
			if !h.lets(host, h.mine()) {
				t.Fatalf("killed before call %d: %s lets in %s no more:\n%s", n, host.Name, h.path, h.files[host.Name])
			}
		}
		for try := 0; !over && try < 3; try++ {
			again := kept
			if err = h.fleet().Rotate(context.Background(), h.env.Hosts, &again, save); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("killed before call %d, it does not come to its end: %v", n, err)
		}
		for _, host := range h.env.Hosts {
			if h.lets(host, old) || !h.lets(host, r.New) || !strings.HasPrefix(h.files[host.Name], "# "+host.Name+"\n") {
				t.Fatalf("killed before call %d: at the end %s has\n%s", n, host.Name, h.files[host.Name])
			}
		}
		if over {
			if n < 30 {
				t.Fatalf("only %d calls were made", n)
			}
			return
		}
	}
	t.Fatal("a rotation makes more than 500 calls")
}

// Killed between any two changes of the local files, the path leads to a whole key, and the swap can be made
// again.
func TestSwapKilledAnywhere(t *testing.T) {
	t.Parallel()
	for n := range 3 {
		h := newHostsOf(t)
		r := &Rotation{Path: h.path, Old: h.pair(h.path), New: h.pair(h.path + ".new")}
		renames := 0
		_ = r.swap(func(from, to string) error {
			if renames++; renames > n {
				return errKilled
			}
			return os.Rename(from, to)
		})
		if k := h.mine(); !k.Same(r.Old) && !k.Same(r.New) {
			t.Fatalf("after %d renames the key is %s", n, k.Public())
		}
		if err := r.swap(os.Rename); err != nil || !h.mine().Same(r.New) {
			t.Fatalf("again after %d renames: %v", n, err)
		}
		if b, err := os.ReadFile(r.OldPath()); err != nil || !strings.HasPrefix(string(b), r.Old.Public()) {
			t.Errorf("the old key is kept as %q, %v", b, err)
		}
	}
}

// Whatever call a push is killed before, the old key lets in and no file is cut; a key that does not let in is
// taken out again.
func TestPushKilledAnywhere(t *testing.T) {
	t.Parallel()
	for n := 1; n < 200; n++ {
		h := newHostsOf(t)
		old := h.pair(h.path)
		h.give(old)
		k := h.pair(h.path + "2")
		h.kill = n
		_, err := h.fleet().Push(context.Background(), h.env.Hosts, k, PushOptions{Prove: true})
		for _, host := range h.env.Hosts {
			if !h.lets(host, old) || !strings.HasPrefix(h.files[host.Name], "# "+host.Name+"\n"+old.Public()+"\n") {
				t.Fatalf("killed before call %d: %s has\n%s", n, host.Name, h.files[host.Name])
			}
		}
		if err == nil {
			return
		}
		if !errors.Is(err, errKilled) && !fault.Is(err, fault.KeyUnproven) {
			t.Fatalf("killed before call %d: got %v", n, err)
		}
	}
	t.Fatal("a push makes more than 200 calls")
}

func TestPushTakesAnUnprovenKeyOut(t *testing.T) {
	t.Parallel()
	h := newHostsOf(t)
	old := h.pair(h.path)
	h.give(old)
	k := h.pair(h.path + "2")
	h.refused = map[string]Key{"app2": k}
	before := h.files["app2"]
	out, err := h.fleet().Push(context.Background(), h.env.Hosts, k, PushOptions{Prove: true})
	if !fault.Is(err, fault.KeyUnproven) || h.files["app2"] != before || len(fault.All(err)) != 1 {
		t.Errorf("got %v, app2 has %q", err, h.files["app2"])
	}
	for _, p := range out {
		if p.Proven != (p.Host != "app2") {
			t.Errorf("%s: proven %v", p.Host, p.Proven)
		}
	}
	if !strings.Contains(h.files["gate"], `restrict,pty,port-forwarding,permitopen="10.0.0.1:22",permitopen="10.0.0.2:2222" `+k.Public()) {
		t.Errorf("gate has %q", h.files["gate"])
	}
}

func TestRevokeRefusesTheKeyInUse(t *testing.T) {
	t.Parallel()
	h := newHostsOf(t)
	old := h.pair(h.path)
	h.give(old)
	if _, err := h.fleet().Revoke(context.Background(), h.env.Hosts, []Key{old}, false); !fault.Is(err, fault.LockoutRefused) || !strings.Contains(h.files["app1"], old.Public()) {
		t.Errorf("got %v", err)
	}
	if _, err := h.fleet().Revoke(context.Background(), h.env.Hosts[:1], []Key{old}, true); err != nil || strings.Contains(h.files["gate"], old.Public()) {
		t.Errorf("with lock-out-ok: got %v, %q", err, h.files["gate"])
	}
}

func TestPruneMakesPeopleTheTruth(t *testing.T) {
	t.Parallel()
	h := newHostsOf(t)
	me, alice, stranger := h.pair(h.path), h.pair(h.path+"a"), h.pair(h.path+"s")
	h.give(me)
	const ca = "cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZBo2m0xkzUYcHHTNBPYPS1Gg3q2nDT1XBwE9rCW2pZ ca\n"
	h.files["app1"] += stranger.Public() + "\n" + ca
	o := PushOptions{Prove: true, Prune: true, People: []Owner{{"alice", alice}}}
	if _, err := h.fleet().Push(context.Background(), h.env.Hosts, me, o); !fault.Is(err, fault.LockoutRefused) {
		t.Fatalf("without me among the people: got %v", err)
	}
	o.People = append(o.People, Owner{"me", me})
	if _, err := h.fleet().Push(context.Background(), h.env.Hosts, me, o); err != nil {
		t.Fatal(err)
	}
	got := h.files["app1"]
	if strings.Contains(got, stranger.Public()) || !strings.Contains(got, alice.Public()) || !strings.Contains(got, me.Public()) || !strings.Contains(got, ca) {
		t.Errorf("got %s", got)
	}
}
