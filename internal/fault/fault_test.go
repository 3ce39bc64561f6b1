package fault

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestAllFindsEveryFault(t *testing.T) {
	t.Parallel()
	a, b := New(LockHeld, "a"), New(SSHAuth, "b").Wrap(errors.New("cause"))
	for _, tt := range []struct {
		name string
		err  error
		want []string
	}{
		{"nothing", nil, nil},
		{"one", a, []string{"lock-held: a"}},
		{"wrapped", fmt.Errorf("web1: %w", a), []string{"lock-held: a"}},
		{"joined", errors.Join(a, b), []string{"lock-held: a", "ssh-auth: b: cause"}},
		{"joined below a wrap", fmt.Errorf("run: %w", errors.Join(a, fmt.Errorf("x: %w", b))), []string{"lock-held: a", "ssh-auth: b: cause"}},
		{"a fault hides what it wraps", New(Usage, "c").Wrap(a), []string{"usage: c: a"}},
		{"no fault in it", errors.New("plain"), []string{"internal: plain"}},
		{"some without", errors.Join(errors.New("plain"), a), []string{"internal: plain", "lock-held: a"}},
	} {
		var got []string
		for _, f := range All(tt.err) {
			got = append(got, string(f.Code)+": "+f.Error())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if !Is(fmt.Errorf("run: %w", errors.Join(a, b)), SSHAuth) || Is(a, SSHAuth) {
		t.Error("Is does not look where All does")
	}
}

func TestErrorNamesThePlace(t *testing.T) {
	t.Parallel()
	e := New(ConfigValue, "port is 0").At(Pos{File: "godeploy.toml", Line: 3, Col: 8, Key: "[env.prod.hosts] app1"})
	if got, want := e.Error(), "godeploy.toml:3: port is 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := e.Pos.String(), "godeploy.toml:3:8  [env.prod.hosts] app1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOnHostNamesAHostAndChangesNothing(t *testing.T) {
	t.Parallel()
	shared, named, stop := New(SSHJump, "a"), New(LockHeld, "b").On("app9"), New(Interrupted, "stopped")
	all := All(errors.Join(OnHost("app1", shared), OnHost("app2", fmt.Errorf("dial: %w", shared)), OnHost("app3", named),
		OnHost("app4", errors.New("plain")), OnHost("app5", stop)))
	var got []string
	for _, f := range all {
		got = append(got, fmt.Sprint(f.Code, f.Hosts))
	}
	want := []string{"ssh-jump[app1]", "ssh-jump[app2]", "lock-held[app9]", "internal[app4]", "interrupted[]"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(shared.Hosts) != 0 {
		t.Errorf("the shared fault now names %v", shared.Hosts)
	}
	if OnHost("app1", nil) != nil {
		t.Error("nil is no error on any host")
	}
}
