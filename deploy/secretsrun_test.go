package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// secretive is an environment whose secrets are what a file holds; write changes them.
func secretive(t *testing.T, more string) (env *inventory.Env, write func(text string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secrets")
	write = func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("TOKEN=hunter22\n")
	return smallest(t, fmt.Sprintf("[secrets]\ncommand = \"echo run >> %s.log; cat %s\"\n%s", file, file, more)), write
}

func TestSecretsGoWithTheReleaseAndComeBackWithIt(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "")
	w, clock, src := newWorld("a", "b"), time.Now(), source(t, "v1")
	first, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil {
		t.Fatal(err)
	}
	same, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil || same.Verdict != Nothing {
		t.Errorf("the same secrets: got %v, %v, want nothing new", same.Verdict, err)
	}
	write("TOKEN='hunter33 !'\n")
	second, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src})
	if err != nil || second.Verdict != Done {
		t.Fatalf("other secrets: got %v, %v, want a release", second.Verdict, err)
	}
	back, err := w.fleet(env, &clock).Rollback(t.Context(), "", "")
	if err != nil || back.Release != first.Release {
		t.Fatalf("got %s, %v, want %s", back.Release, err, first.Release)
	}
	for _, h := range w.hosts {
		for id, want := range map[string]string{first.Release: "TOKEN=hunter22\n", second.Release: "TOKEN='hunter33 !'\n"} {
			if got := string(h.secrets[id]); got != want {
				t.Errorf("%s: %s has %q, want %q", h.name, id, got, want)
			}
		}
		for _, r := range h.state.Releases {
			if text := fmt.Sprintf("%+v", r); r.Secrets == "" || strings.Contains(text, "hunter") {
				t.Errorf("the record %s: want a hash and no secret", text)
			}
		}
	}
	if got := len(strings.Fields(string(mustRead(t, env.Secrets.Command)))); got != 3 {
		t.Errorf("the command ran %d times in three releases and a rollback", got)
	}
}

// mustRead reads what the command of secretive has written about itself.
func mustRead(t *testing.T, command string) []byte {
	t.Helper()
	b, err := os.ReadFile(command[strings.LastIndexByte(command, ' ')+1:] + ".log")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSecretsThatFailChangeNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, command, says string }{
		{"exit", "echo TOKEN=hunter22; echo no key for hunter22 >&2; exit 3", "exited with 3"},
		{"prose", "echo TOKEN=hunter22; echo hunter22 is it", "line 2"},
		{"nothing", "true", "no variable"},
		{"without end", "echo TOKEN=hunter22; yes hunter22", "prints more than 1 MiB"},
		{"signal", "echo TOKEN=hunter22; kill -9 $$", "ended by signal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := smallest(t, "[secrets]\ncommand = '"+tt.command+"'")
			w, clock, told := newWorld("a"), time.Now(), &ledger{}
			f := w.fleet(env, &clock)
			f.Report = told
			got, err := f.Release(t.Context(), Want{Scan: source(t, "v1")})
			if !fault.Is(err, fault.SecretsFailed) || got.Verdict != Refused || len(w.log) != 0 {
				t.Fatalf("got %v, %v, %v", got.Verdict, err, w.log)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
			all := fault.All(err)[0]
			for _, e := range told.events {
				if e.Type == event.CmdOutput || len(e.Facts) > 0 {
					t.Errorf("output was reported: %+v", e)
				}
			}
			for _, fact := range all.Facts[1:] {
				if strings.Contains(fact, "hunter22") {
					t.Errorf("the error shows %q", fact)
				}
			}
		})
	}
}

func TestShortSecretsAreNamedNotShown(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "")
	write("PIN=xyz\nNONE=\nTOKEN=hunter22\n")
	w, clock, told := newWorld("a"), time.Now(), &ledger{}
	f := w.fleet(env, &clock)
	f.Report = told
	if _, err := f.Release(t.Context(), Want{Scan: source(t, "v1")}); err != nil {
		t.Fatal(err)
	}
	if !told.said("the values of PIN are shorter") || told.said("xyz") {
		t.Errorf("want a warning about PIN alone: %+v", told.events)
	}
}

func TestSecretsBelongToTheOwner(t *testing.T) {
	t.Parallel()
	const hash = "0123456789012345678901234567890123456789012345678901234567890123"
	for _, tt := range []struct {
		name, more string
		facts      wire.HelloReply
		want       string // what is run; "refused"
	}{
		{"helper as root", "", wire.HelloReply{User: "root", Hash: hash}, ""},
		{"SFTP as root", "", wire.HelloReply{User: "root"}, "chown -h -- swiper:www"},
		{"sudo", "[ssh]\nsudo = true", wire.HelloReply{User: "deploy", UID: 1000, Hash: hash}, "sudo -n -l chown -h -- swiper:www; sudo -n chown -h -- swiper:www"},
		{"sudo that does not", "[ssh]\nsudo = true", wire.HelloReply{User: "liar", UID: 1000, Hash: hash}, "refused"},
		{"owner", "", wire.HelloReply{User: "swiper", UID: 1000, Hash: hash}, ""},
		{"neither", "", wire.HelloReply{User: "deploy", UID: 1000, Hash: hash}, "refused"},
		{"files only", "[ssh]\nsudo = true", wire.HelloReply{User: "deploy", UID: -1}, "refused"},
	} {
		env, _ := secretive(t, tt.more)
		env.App.Owner = "swiper:www"
		w, clock := newWorld("a"), time.Now()
		h := w.hosts[0]
		h.facts = &tt.facts
		w.answers(func(shell string, _ map[string]string) (int, string) {
			return map[string]int{"liar": 1}[tt.facts.User], ""
		})
		got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
		if tt.want == "refused" {
			if !fault.Is(err, fault.SudoNeeded) || got.Verdict != Refused || w.times("stage") > 0 {
				t.Errorf("%s: got %v, %v", tt.name, got.Verdict, err)
			}
			continue
		}
		var list []string
		for _, ask := range h.asks {
			list = append(list, strings.TrimSuffix(strings.Join(ask.Argv, " "), " /opt/swiper/.godeploy/env/"+got.Release))
		}
		if ran := strings.Join(list, "; "); err != nil || ran != tt.want {
			t.Errorf("%s: ran %q, %v, want %q", tt.name, ran, err, tt.want)
		}
	}
}

// Hooks are told where the secrets are, and what they print of them is hidden. No argument of a program
// and no variable holds one.
func TestHooksKnowWhereTheSecretsAre(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "[hooks]\nrelease = \"build\"\nafter = \"look\"")
	write("TOKEN=hunter22\n")
	w, clock, told := newWorld("a"), time.Now(), &ledger{}
	w.answers(func(shell string, _ map[string]string) (int, string) {
		return map[string]int{"look": 1}[shell], "TOKEN is hunter22, is it?"
	})
	f := w.fleet(env, &clock)
	f.Report = told
	got, err := f.Release(t.Context(), Want{Scan: source(t, "v1"), Message: "for hunter22"})
	if !fault.Is(err, fault.HookFailed) {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v %+v %+v", told.events, fault.All(err), w.hosts[0].state.Releases); strings.Contains(text, "hunter22") || !told.hears("TOKEN is ***, is it?") {
		t.Errorf("a secret was told, or more was hidden: %s", text)
	}
	for _, ask := range w.hosts[0].asks {
		if at := ask.Env["GODEPLOY_SECRETS"]; at != "/opt/swiper/.godeploy/env/"+got.Release || strings.Contains(fmt.Sprint(ask.Argv, ask.Env), "hunter22") {
			t.Errorf("%v is told %q", ask.Argv, at)
		}
	}
}

// hears reports whether a line of output was told.
func (l *ledger) hears(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Type == event.CmdOutput && e.Text == text {
			return true
		}
	}
	return false
}

// A rollback reads no secrets here, but hides those that the hosts have.
func TestRollbackHidesWhatTheHostsHave(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "")
	w, clock := newWorld("a"), time.Now()
	for i, text := range []string{"TOKEN=hunter22\n", "TOKEN=hunter33\n"} {
		write(text)
		if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	f := w.fleet(env, &clock)
	if _, err := f.Rollback(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	if got := f.Mask.Hide("hunter22 hunter33"); got != "*** ***" {
		t.Errorf("got %q", got)
	}
}

func TestRollbackRefusesAReleaseThatLostItsSecrets(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "")
	w, clock := newWorld("a", "b"), time.Now()
	first, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v1")})
	if err != nil {
		t.Fatal(err)
	}
	write("TOKEN=hunter33\n")
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: source(t, "v2")}); err != nil {
		t.Fatal(err)
	}
	delete(w.hosts[1].secrets, first.Release)
	w.log = nil
	got, err := w.fleet(env, &clock).Rollback(t.Context(), "", "")
	if !fault.Is(err, fault.RollbackNone) || got.Verdict != Refused || w.times("switch") > 0 {
		t.Errorf("got %v, %v, %v", got.Verdict, err, w.log)
	}
}

// A release that a run has begun is gone on with only with the secrets it was made with.
func TestResumeWantsTheSameSecrets(t *testing.T) {
	t.Parallel()
	env, write := secretive(t, "")
	w, clock, src := newWorld("a", "b"), time.Now(), source(t, "v1")
	w.fail = func(host, step, _ string) error {
		if host == "b" && step == "stage" {
			return fault.New(fault.SyncVerify, "no")
		}
		return nil
	}
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src}); err == nil {
		t.Fatal("no failure")
	}
	w.fail = nil
	begun := w.hosts[0].state.Releases[0].ID
	write("TOKEN=hunter33\n")
	got, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Resume: begun})
	if !fault.Is(err, fault.SyncSourceChanged) || got.Verdict != Refused {
		t.Fatalf("other secrets: got %v, %v", got.Verdict, err)
	}
	write("TOKEN=hunter22\n")
	got, err = w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Resume: begun})
	if err != nil || got.Release != begun || string(w.hosts[1].secrets[begun]) != "TOKEN=hunter22\n" {
		t.Errorf("the same: got %v of %s, %v, %q", got.Verdict, got.Release, err, w.hosts[1].secrets[begun])
	}
	w.hosts[0].state.Releases[0].Secrets = ""
	w.hosts[1].state.Releases[0].Secrets = ""
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src, Resume: begun}); !fault.Is(err, fault.ReleaseUnknown) {
		t.Errorf("one that was staged without them: got %v", err)
	}
}

func TestDryRunReadsNoSecrets(t *testing.T) {
	t.Parallel()
	env, _ := secretive(t, "")
	w, clock, src := newWorld("a"), time.Now(), source(t, "v1")
	plan, err := w.fleet(env, &clock).DryRun(t.Context(), Want{Scan: src})
	if err != nil || plan.Nothing || !strings.Contains(fmt.Sprint(plan.Steps), "{secrets here ") || plan.Hosts[0].Restart != "on a, graceful true" {
		t.Errorf("got %+v, %v", plan, err)
	}
	if _, err := os.Stat(env.Secrets.Command[strings.LastIndexByte(env.Secrets.Command, ' ')+1:] + ".log"); err == nil {
		t.Error("the command ran")
	}
	if _, err := w.fleet(env, &clock).Release(t.Context(), Want{Scan: src}); err != nil {
		t.Fatal(err)
	}
	if plan, err = w.fleet(env, &clock).DryRun(t.Context(), Want{Scan: src}); err != nil || !plan.Nothing {
		t.Errorf("the same tree: got %+v, %v", plan, err)
	}
}
