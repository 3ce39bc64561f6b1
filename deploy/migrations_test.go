package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const migrating = "[release]\nmigrations = \"heads\"\n[hooks]\nonce = [\"migrate\"]"

// database answers once hooks and the question for its heads.
type database struct{ heads, next []string }

func (d *database) says(shell string, _ map[string]string) (int, string) {
	switch shell {
	case "migrate":
		d.heads = d.next
	case "heads":
		return 0, strings.Join(d.heads, "\n") + "\n\n"
	}
	return 0, ""
}

// migrated releases twice; the second release moves the schema from one list of heads to the other.
func migrated(t *testing.T, before, after []string) (w *world, first, second string, roll func(accept bool) (*Result, error)) {
	t.Helper()
	w, env, clock := newWorld("a", "b"), smallest(t, migrating), time.Now()
	db := &database{}
	w.answers(db.says)
	for i, next := range [][]string{before, after} {
		db.next = next
		got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, fmt.Sprint("v", i))})
		if err != nil {
			t.Fatal(err)
		}
		first, second = second, got.Release
	}
	return w, first, second, func(accept bool) (*Result, error) {
		w.log = nil
		f := w.fleet(env, &clock)
		f.AcceptSchemaAhead = accept
		return f.Rollback(t.Context(), "", "")
	}
}

func TestRollbackRefusesAReleaseOlderThanTheDatabase(t *testing.T) {
	t.Parallel()
	w, first, _, roll := migrated(t, []string{"shop 0002", "auth 0012"}, []string{"shop 0003", "auth 0012"})
	got, err := roll(false)
	if !fault.Is(err, fault.SchemaAhead) || got.Verdict != Refused || w.times("switch") > 0 {
		t.Fatalf("got %v, %v, %v", got.Verdict, err, w.log)
	}
	f := fault.All(err)[0]
	for _, want := range []string{"release " + first + " is older than the database", "auth 0012, shop 0002", "auth 0012, shop 0003",
		"only in the database: shop 0003", "only in " + first + ": shop 0002", "--accept-schema-ahead"} {
		if !strings.Contains(f.Msg+strings.Join(f.Facts, "\n")+strings.Join(f.Next, "\n"), want) {
			t.Errorf("%+v does not say %q", f, want)
		}
	}
	got, err = roll(true)
	if err != nil || got.Release != first || w.times("heads") > 0 {
		t.Errorf("accepted: got %s, %v, %v", got.Release, err, w.log)
	}
}

func TestRollbackOverTheSameSchema(t *testing.T) {
	t.Parallel()
	_, first, _, roll := migrated(t, []string{"b", "a", "a"}, []string{"a", "b"})
	if got, err := roll(false); err != nil || got.Release != first {
		t.Errorf("got %v, %v", got.Verdict, err)
	}
}

func TestHeadsAreRecordedOnEveryHost(t *testing.T) {
	t.Parallel()
	w, first, second, _ := migrated(t, nil, []string{"shop 0003"})
	for _, h := range w.hosts {
		for id, want := range map[string][]string{first: {}, second: {"shop 0003"}} {
			if r, _ := find(h.state, id); r.Heads == nil || !slices.Equal(*r.Heads, want) {
				t.Errorf("%s on %s: got %v, want %v", id, h.name, r.Heads, want)
			}
		}
	}
}

func TestRollbackThatCannotAskIsRefused(t *testing.T) {
	t.Parallel()
	w, first, _, roll := migrated(t, []string{"1"}, []string{"1"})
	w.answers(func(shell string, _ map[string]string) (int, string) {
		return map[string]int{"heads": 2}[shell], "no database"
	})
	_, err := roll(false)
	if !fault.Is(err, fault.SchemaAhead) || !strings.Contains(strings.Join(fault.All(err)[0].Facts, " "), "no database") {
		t.Errorf("got %v", err)
	}
	if got, err := roll(true); err != nil || got.Release != first {
		t.Errorf("accepted: got %s, %v", got.Release, err)
	}
}

func TestReleaseWithoutRecordedHeadsIsWarnedOf(t *testing.T) {
	t.Parallel()
	w, first, _, roll := migrated(t, []string{"1"}, []string{"2"})
	for _, h := range w.hosts {
		for i := range h.state.Releases {
			h.state.Releases[i].Heads = nil
		}
	}
	if got, err := roll(false); err != nil || got.Release != first {
		t.Errorf("got %v, %v", got.Verdict, err)
	}
}

func TestRollForwardBeforeItsMigrationSaysSo(t *testing.T) {
	t.Parallel()
	w, first, second, roll := migrated(t, []string{"1"}, []string{"2"})
	if _, err := roll(true); err != nil {
		t.Fatal(err)
	}
	w.answers((&database{heads: []string{"1"}}).says)
	env, clock := smallest(t, migrating), time.Now()
	_, err := w.fleet(env, &clock).Rollback(t.Context(), second, "")
	if !fault.Is(err, fault.SchemaAhead) || !strings.Contains(err.Error(), second+" is newer than the database") {
		t.Errorf("from %s: got %v", first, err)
	}
}

// What a once hook did is known on every host, whoever ran it; a run that resumes does not repeat it.
func TestOnceIsRecordedAndNotRepeated(t *testing.T) {
	t.Parallel()
	w, env, clock, src := newWorld("a", "b"), smallest(t, "[hooks]\nonce = [\"migrate\"]"), time.Now(), source(t, "v1")
	w.fail = func(host, step, id string) error {
		if host == "a" && step == "restart" {
			return fault.New(fault.RestartFailed, "no")
		}
		return nil
	}
	env.Release.OnFailure = "stop"
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src}); err == nil {
		t.Fatal("no failure")
	}
	w.fail = nil
	begun := w.hosts[0].state.Releases[0].ID
	for _, h := range w.hosts {
		r, _ := find(h.state, begun)
		if o := r.Once; !o.Done() || o.Host != "a" || o.By != "ops@laptop" || o.Exit != 0 || o.Began.IsZero() {
			t.Errorf("%s has recorded %+v", h.name, o)
		}
	}
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Resume: begun})
	if err != nil || !got.Once || w.times("exec migrate") != 1 {
		t.Errorf("got %v, %v, ran %d times", got.Verdict, err, w.times("exec migrate"))
	}
}

func TestOnceThatFailedRunsAgainAndIsToldSo(t *testing.T) {
	t.Parallel()
	w, env, clock, src := newWorld("a", "b"), smallest(t, "[hooks]\nonce = [\"first\", \"migrate\", \"last\"]"), time.Now(), source(t, "v1")
	exit := 3
	w.answers(func(shell string, _ map[string]string) (int, string) {
		return map[string]int{"migrate": exit}[shell], ""
	})
	if got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src}); err == nil || got.Once || w.times("exec last") > 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	begun := w.hosts[0].state.Releases[0].ID
	if r, _ := find(w.hosts[1].state, begun); r.Once.Done() || !r.Once.Ended || r.Once.Exit != 3 {
		t.Errorf("recorded: %+v", r.Once)
	}
	exit, w.hosts[0].asks = 0, nil
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Resume: begun}); err != nil {
		t.Fatal(err)
	}
	for _, ask := range w.hosts[0].asks {
		if ask.Env["GODEPLOY_RETRY"] != "1" {
			t.Errorf("%v was not told that it runs again", ask.Argv)
		}
	}
}

// A hook that is for some hosts runs on the first of those.
func TestOnceHooksRunWhereTheyAreFor(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, `[hooks]
once = [{ run = "here", on = "b" }, "anywhere", { run = "nowhere", on = "c" }]`), time.Now()
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	if w.times("b exec here") != 1 || w.times("a exec anywhere") != 1 || w.times("exec nowhere") != 0 || w.times("exec ") != 2 {
		t.Errorf("got %v", w.log)
	}
	if r := w.hosts[0].state.Releases[0]; r.Once.Host != "b" {
		t.Errorf("recorded: %+v", r.Once)
	}
}

// A run that dies in the middle of its once hooks leaves a record of having begun.
func TestOnceIsRecordedBeforeItRuns(t *testing.T) {
	t.Parallel()
	w, env, clock := newWorld("a", "b"), smallest(t, "[hooks]\nonce = [\"migrate\"]"), time.Now()
	w.answers(func(string, map[string]string) (int, string) {
		for _, h := range w.hosts {
			if o := h.state.Releases[0].Once; o == nil || o.Ended || o.Host != "a" {
				t.Errorf("%s has recorded %+v", h.name, o)
			}
		}
		return 0, ""
	})
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
}

func TestHeadsThatCannotBeRecordedFailBeforeAnySwitch(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"many": strings.Repeat("x\ny\n", 1) + lines300(), "long": strings.Repeat("x", wire.MaxHead+1), "control": "a\x01b", "endless": strings.Repeat("x\n", 100_000),
	} {
		w, env, clock := newWorld("a"), smallest(t, "[release]\nmigrations = \"heads\""), time.Now()
		w.answers(func(string, map[string]string) (int, string) { return 0, text })
		_, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
		if !fault.Is(err, fault.HookFailed) || w.times("switch") > 0 {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func lines300() string {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}
