package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
)

// said collects what a program says and tells when a text is among it.
type said struct {
	all  bytes.Buffer // not embedded: its ReadFrom would go past Write
	text string
	seen chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	n, err := s.all.Write(p)
	if s.seen != nil && strings.Contains(s.all.String(), s.text) {
		close(s.seen)
		s.seen = nil
	}
	return n, err
}

// interrupted releases and sends the signal when the text has been said; it gives the exit code and how
// long the end took from there.
func (o *operator) interrupted(ctx context.Context, text string, args ...string) (outcome, time.Duration) {
	o.t.Helper()
	cmd := o.start(ctx, args...)
	seen := make(chan struct{})
	var stdout bytes.Buffer
	stderr := &said{text: text, seen: seen}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	must(o.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-seen:
	case err := <-ended:
		o.t.Fatalf("it ended before it said %q: %v\n%s", text, err, stderr.all.String())
	}
	began := time.Now()
	must(o.t, cmd.Process.Signal(os.Interrupt))
	<-ended
	out := outcome{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.all.String()}
	o.t.Logf("interrupted: exit %d\n%s", out.code, out.stderr)
	return out, time.Since(began)
}

// A release that somebody stops in the middle of its switch leaves the fleet whole within seconds; it is
// resumed without being sent again, and every server's log has both runs.
func TestAStoppedReleaseIsWholeAndResumed(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "app1", "app2", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	v1 := o.release(ctx, named(t, "v1"))
	o.write(named(t, "v2"))
	out, took := o.interrupted(ctx, "app1  switch: current is", "release", "prod", "--yes")
	if out.code != 130 || took > 8*time.Second { // 6 s on a machine that has nothing else to do
		t.Errorf("exit %d after %s, want 130 soon", out.code, took)
	}
	o.wholeOn(ctx, v1)
	resumed := o.want(ctx, 0, "release", "prod", "--yes", "--resume")
	v2 := strings.TrimSpace(resumed.stdout)
	o.wholeOn(ctx, v2)
	if strings.Contains(resumed.stderr, "changed, ") && !strings.Contains(resumed.stderr, "0 changed, 0 B sent") {
		t.Errorf("it was sent again:\n%s", resumed.stderr)
	}
	var list struct {
		Releases []struct {
			ID   string
			Runs []struct {
				Command, Result string
				Hosts           map[string]struct{ Outcome string }
			}
		}
	}
	must(t, json.Unmarshal([]byte(o.want(ctx, 0, "releases", "prod", "--json").stdout), &list))
	if len(list.Releases) != 2 || list.Releases[0].ID != v2 || len(list.Releases[0].Runs) != 2 {
		t.Fatalf("the ledger has %+v", list)
	}
	first, second := list.Releases[0].Runs[0], list.Releases[0].Runs[1]
	if first.Result != "rolled_back" || first.Hosts["app1"].Outcome != "rolled_back" || second.Result != "ok" || second.Hosts["app2"].Outcome != "healthy" {
		t.Errorf("the ledger has %+v", list.Releases[0].Runs)
	}
}

// A server that is down ends a release before it changes anything, unless somebody chooses to go on without
// it. It is behind then, and the next plain release heals it.
func TestAServerThatIsDownIsLeftOutOnlyByChoice(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, site{}, "lb1", "app1", "app2", "db1")
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	v1 := o.release(ctx, named(t, "v1"))
	down := o.fleet.Host("app2")
	must(t, down.PowerCut(ctx))
	o.write(named(t, "v2"))
	out := o.want(ctx, 4, "release", "prod", "--yes")
	if !strings.Contains(out.stderr, "--quarantine app2") {
		t.Error("the way to go on is not named")
	}
	if s := o.status(ctx); len(s.Fleet[v1]) != 1 {
		t.Errorf("something was changed: %+v", s)
	}
	out = o.want(ctx, 0, "release", "prod", "--yes", "--quarantine", "app2")
	v2 := strings.TrimSpace(out.stdout)
	if !strings.Contains(out.stderr, "left out") || !strings.Contains(out.stderr, "app2") {
		t.Error("nobody is told who is behind")
	}
	must(t, down.Boot(ctx))
	if s := o.status(ctx); s.Whole || !slices.Equal(s.Fleet[v1], []string{"app2"}) || !slices.Equal(s.Fleet[v2], []string{"app1"}) {
		t.Errorf("status is %+v, want app2 behind", s)
	}
	healed := strings.TrimSpace(o.want(ctx, 0, "release", "prod", "--yes").stdout)
	o.wholeOn(ctx, healed)
	if out, err := down.Sh(ctx, "readlink "+hosts.AppPath+"/current"); err != nil || !strings.Contains(out, healed) {
		t.Errorf("app2 has %q, %v, want %s", out, err, healed)
	}
}
