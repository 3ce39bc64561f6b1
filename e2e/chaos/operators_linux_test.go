package chaos

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// TestManyOperatorsTakeTurns lets eight of them release and roll back at once, each as soon as it can. One
// at a time gets through, the others are told who has the lock, and at the end the fleet is whole.
func TestManyOperatorsTakeTurns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if err := l.stand(scenarioOf("rollback")); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v3", "v4", "v5", "v6"} {
		l.version(v, "") // made before they are scanned by many
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var done, held, none int
	var mu sync.Mutex
	var work sync.WaitGroup
	for i, r := range []run{
		{command: "release", version: "v3"}, {command: "rollback"}, {command: "release", version: "v4"}, {command: "rollback"},
		{command: "release", version: "v5"}, {command: "rollback"}, {command: "release", version: "v6"}, {command: "rollback"},
	} {
		work.Go(func() {
			for range operatorRuns() {
				err := l.operate(ctx, i, r)
				mu.Lock()
				switch {
				case err == nil:
					done++
				case fault.Is(err, fault.LockHeld):
					held++
				case fault.Is(err, fault.RollbackNone): // a release is not yet on every host, or none is left
					none++
				default:
					t.Errorf("operator %d: %v", i, err)
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("%d runs went through, %d found the lock held, %d had nothing to go back to", done, held, none)
	if ctx.Err() != nil || done == 0 {
		t.Errorf("no run came through in time: %v", context.Cause(ctx))
	}
	var f findings
	current := map[string]bool{}
	for _, h := range hostNames() {
		s, err := l.look(h)
		if err != nil {
			t.Fatal(err)
		}
		current[s.current] = true
		f = append(append(f, l.settled(h, s)...), l.turns(h)...)
		if !l.freeSoon(h) {
			f.add("I6: %s: the lock is still held", h)
		}
	}
	if len(current) != 1 {
		f.add("the fleet is on %v", current)
	}
	if f = append(f, l.next()...); len(f) > 0 {
		t.Errorf("%s\n%s", strings.Join(f, "\n"), l.told())
	}
}

// operatorRuns is how often each of the eight tries.
func operatorRuns() int {
	if os.Getenv(allEnv) != "" {
		return 10
	}
	return 2
}

// operate is one operator's command from the connection to its end.
func (l *lab) operate(ctx context.Context, i int, r run) error {
	l.tick()
	c := &crew{l: l, tap: newTap(0)}
	f, err := l.fleet(ctx, c, "operator"+string(rune('1'+i)), nil, wire.Options{})
	if err != nil {
		return err
	}
	result, err := l.do(ctx, f, r)
	overssh.Close(f.Hosts)
	if _, aerr := c.await(time.Minute); aerr != nil {
		return aerr
	}
	if r.command == "release" {
		l.learned(result.Release, r.version)
	}
	if len(c.tap.wrong) > 0 {
		return errors.New(strings.Join(c.tap.wrong, "; "))
	}
	if err == nil && result.Verdict != deploy.Done && result.Verdict != deploy.Nothing {
		return errors.New("the run is told as " + string(result.Verdict) + " without an error")
	}
	return err
}

// turns reads what the hooks of a host have noted: between the begin and the end of one of them no other
// release's may begin, unless the first was killed and never ends (I6).
func (l *lab) turns(h string) (f findings) {
	b, err := os.ReadFile(filepath.Join(l.host(h), "run/log"))
	if err != nil {
		return nil // no hook has run
	}
	begun := "" // the last one
	for line := range strings.Lines(string(b)) {
		w := words(line)
		if len(w) != 3 {
			continue
		}
		what, who := w[0], w[1]+" "+w[2]
		switch {
		case what == "begin":
			begun = who
		case who != begun:
			f.add("I6: on %s a hook (%s) of another run was still there when one (%s) began", h, who, begun)
		}
	}
	return f
}
