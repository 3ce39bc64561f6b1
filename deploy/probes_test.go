package deploy

import (
	"slices"
	"strings"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

func TestNeedCountsWhatIsNew(t *testing.T) {
	t.Parallel()
	file := func(name string, size int64, hash byte) filesync.Entry {
		return filesync.Entry{Path: name, Kind: filesync.File, Size: size, Hash: filesync.Hash{hash}}
	}
	had := &filesync.Manifest{Entries: []filesync.Entry{file("a", 1000, 1), file("b", 1000, 2)}}
	tree := &filesync.Manifest{Entries: []filesync.Entry{file("a", 1000, 1), file("b", 2000, 3), {Path: "d", Kind: filesync.Dir}}}
	if got := needOf(tree, had); got != (need{2400, 18}) {
		t.Errorf("got %+v, want the changed file and the folder", got)
	}
	if got := needOf(tree, nil); got.bytes != 3600 {
		t.Errorf("got %+v, want the whole tree", got)
	}
}

func TestRoomIsMadeOnlyWhenShort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		free   int64 // before
		freed  int64 // by removing
		pruned bool
		code   fault.Code
	}{
		{"enough", 1 << 30, 0, false, ""},
		{"short", 10, 1 << 30, true, ""},
		{"short all the same", 10, 0, true, fault.DiskFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, clock, _ := released(t, "", "a")
			env := smallest(t, "")
			second, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, "v2")})
			if err != nil {
				t.Fatal(err)
			}
			h := w.hosts[0]
			h.state.FreeBytes = tt.free
			w.fail = func(_, step, _ string) error {
				if step == "remove" {
					h.state.FreeBytes += tt.freed
				}
				return nil
			}
			w.log = nil
			got, err := w.fleet(env, clock).Release(t.Context(), Want{Scan: source(t, strings.Repeat("v3", 100))})
			if tt.code == "" && err != nil || tt.code != "" && !fault.Is(err, tt.code) {
				t.Errorf("got %v, want code %q", err, tt.code)
			}
			before := w.log
			if i := slices.Index(w.log, "a stage"); i >= 0 {
				before = w.log[:i]
			}
			if pruned := slices.Contains(before, "a remove"); pruned != tt.pruned {
				t.Errorf("pruned before the upload %v, want %v: %v", pruned, tt.pruned, w.log)
			}
			if tt.code != "" && (got.Verdict != WholeOld || h.serving != second.Release) {
				t.Errorf("got %v, serving %s, want whole on %s", got.Verdict, h.serving, second.Release)
			}
		})
	}
}

func TestProgramsThatHooksBeginWith(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hooks []string
		want  string
	}{
		{[]string{".venv/bin/pip install -q -r requirements.txt", "python3 manage.py collectstatic"}, ".venv/bin/pip python3"},
		{[]string{"test -d .venv || python3 -m venv .venv", ".venv/bin/pip install x"}, ""},
		{[]string{"python3 -m venv .venv", ".venv/bin/pip install x"}, ""},
		{[]string{"./build.sh", "npm ci"}, "npm"},
		{[]string{"FOO=1 python3 x", "npm ci"}, ""},
		{[]string{"make", "make all"}, ""},
		{nil, ""},
	} {
		env := &inventory.Env{}
		env.Shared.Dirs = []string{".venv"}
		for _, h := range tt.hooks {
			env.Hooks.Release = append(env.Hooks.Release, inventory.Hook{Run: h})
		}
		if got := strings.Join(Programs(env), " "); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.hooks, got, tt.want)
		}
	}
}

func TestPrunableSparesWhatIsInUse(t *testing.T) {
	t.Parallel()
	got := Prunable(state(0, "b1 h2 h3 h4").Releases, 1, idOf(4), idOf(1), idOf(2))
	if !slices.Equal(got, []string{idOf(3)}) {
		t.Errorf("got %v, want only %s", got, idOf(3))
	}
}

func TestWhatIsUnfinishedGoesButTheNewest(t *testing.T) {
	t.Parallel()
	s := state(2, "s1 h2 b3 s4 s5")
	s.InUse = []string{idOf(1)}
	if got := staleUnfinished(s, idOf(9), 1); !slices.Equal(got, []string{idOf(4), idOf(3)}) {
		t.Errorf("got %v, want all but the newest and the one in use", got)
	}
}

// A bound of the user's own counts hosts that are out of reach; without one they are not part of the fleet.
func TestAHostOutOfReachTakesFromTheBound(t *testing.T) {
	t.Parallel()
	for more, code := range map[string]fault.Code{"": "", "max_unavailable = \"1\"": fault.MaxUnavailable, "max_unavailable = \"2\"": ""} {
		w, clock, _ := released(t, "", "a", "b")
		f := w.fleet(smallest(t, "[release]\n"+more), clock)
		f.Absent = []string{"c"}
		got, err := f.Release(t.Context(), Want{Scan: source(t, "v2")})
		if code != "" {
			if !fault.Is(err, code) || got.Verdict != Refused || w.count("stage") != 0 {
				t.Errorf("%q: got %v, %v, want a refusal", more, got.Verdict, err)
			}
			continue
		}
		if err != nil || got.Verdict != Done || strings.Join(got.Behind, " ") != "c" {
			t.Errorf("%q: got %v, %v, behind %v", more, got.Verdict, err, got.Behind)
		}
	}
}

// What an earlier run left out of service goes first.
func TestWhatIsOutOfServiceGoesFirst(t *testing.T) {
	t.Parallel()
	w, clock, first := released(t, "", "a", "b", "c")
	w.hosts[2].state.Journal = &wire.Journal{Step: wire.StepDone, Drained: true, From: first.Release, To: first.Release}
	if _, err := w.fleet(smallest(t, ""), clock).Release(t.Context(), Want{Scan: source(t, "v2")}); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, line := range w.log {
		if host, ok := strings.CutSuffix(line, " switch"); ok {
			order = append(order, host)
		}
	}
	if strings.Join(order, " ") != "c a b" {
		t.Errorf("switched in the order %v", order)
	}
}
