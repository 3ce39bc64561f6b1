package overssh

import (
	"os"
	"path/filepath"
	"testing"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

func TestFreezeOnAHost(t *testing.T) {
	t.Parallel()
	both(t, "freeze", func(t *testing.T, m *machine, h deploy.Host) {
		if err := os.Mkdir(m.path, 0o755); err != nil {
			t.Fatal(err)
		}
		if held, err := h.Lock(t.Context(), wire.Holder{Who: "ops@laptop", Command: "lock acquire"}); held != nil || err != nil {
			t.Fatal(held, err)
		}
		is := func(want *wire.Freeze) {
			t.Helper()
			state, err := h.State(t.Context(), nil)
			if err != nil || (state.Freeze == nil) != (want == nil) || want != nil && *state.Freeze != *want {
				t.Errorf("State tells %+v, %v, want %+v", state.Freeze, err, want)
			}
		}
		is(nil)
		why := &wire.Freeze{By: "kim@desk", Message: "audit"}
		if err := h.(deploy.Freezer).Freeze(t.Context(), why); err != nil {
			t.Fatal(err)
		}
		is(why)
		file := filepath.Join(m.path, wire.FreezeFile)
		if err := os.WriteFile(file, []byte("by hand\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		is(&wire.Freeze{By: "somebody", Message: "by hand"})
		if err := h.(deploy.Freezer).Freeze(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		is(nil)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/hostname", file); err != nil {
			t.Fatal(err)
		}
		is(&wire.Freeze{By: "somebody", Message: ".godeploy/freeze is no plain file"})
	})
}
