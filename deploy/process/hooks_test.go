package process

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"godeploy/internal/wire"
	"godeploy/inventory"
)

// recorded is a host that has releases on record.
type recorded struct {
	local
	state wire.State
}

func (h recorded) State(context.Context, []string) (wire.State, error) { return h.state, nil }

// The user's own start, stop and restart know what release they are for, as release hooks do.
func TestHooksOfTheServiceAreToldOfTheRelease(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := os.MkdirAll(path+"/current", 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("version = 1\n[app]\nname = \"shop\"\npath = %q\n[process]\nmanager = \"command\"\n[hooks]\nstart = [\"env >start\"]\nstop = [\"env >stop\"]\nrestart = [\"env >restart\"]\n"+
		"[env.test.hosts]\nhere = { role = \"app\", address = \"127.0.0.1\" }\n", path)
	f, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	h := recorded{state: wire.State{Current: "one", Holder: &wire.Holder{Who: "kim@desk"}, Releases: []wire.Release{
		{ID: "one", Commit: "1111111", Branch: "main", Message: "the first"}, {ID: "two", Previous: "one", Commit: "2222222", Branch: "next", Message: "faster search"}}}}
	s := New(env, &heard{})
	for name, act := range map[string]func() error{
		"start":   func() error { return s.Start(t.Context(), h, "two") },
		"stop":    func() error { return s.Stop(t.Context(), h) },
		"restart": func() error { return s.Restart(t.Context(), h, "two", true) },
	} {
		if err := act(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		told, err := os.ReadFile(path + "/current/" + name)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"GODEPLOY_RELEASE=two", "GODEPLOY_PREVIOUS=one", "GODEPLOY_COMMIT=2222222", "GODEPLOY_BRANCH=next", "GODEPLOY_MESSAGE=faster search", "GODEPLOY_USER=kim@desk"}
		if name == "stop" { // of what is live
			want = []string{"GODEPLOY_RELEASE=one", "GODEPLOY_COMMIT=1111111", "GODEPLOY_BRANCH=main", "GODEPLOY_MESSAGE=the first"}
		}
		if name == "restart" {
			want = append(want, "GODEPLOY_GRACEFUL=1")
		}
		for _, line := range want {
			if !strings.Contains("\n"+string(told), "\n"+line+"\n") {
				t.Errorf("%s is not told %s:\n%s", name, line, told)
			}
		}
	}
}
