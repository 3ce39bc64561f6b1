package balance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// logged is a balancer host on this machine with an access log.
type logged struct {
	post
	path string
	mu   sync.Mutex
}

func (l *logged) Exec(ctx context.Context, req wire.ExecRequest, output func(string, []byte)) (wire.ExecReply, error) {
	argv := append([]string(nil), req.Argv...)
	for i, a := range argv {
		argv[i] = strings.Replace(a, "/var/log/nginx/godeploy-swiper.log", l.path, 1)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	output("stdout", out.Bytes())
	output("stderr", errs.Bytes())
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return wire.ExecReply{Exit: exit.ExitCode()}, nil
	}
	return wire.ExecReply{}, err
}

// answers writes lines of n requests that a server answered so.
func (l *logged) answers(t *testing.T, n int, server string, status int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	for range n {
		fmt.Fprintf(f, `1.2.3.4 - - [x] "GET / HTTP/1.1" %d 1 "-" "-" upstream="%s:9000" upstream_status="%d" upstream_time="0.010" time=0.011 at=%d.000`+"\n",
			status, server, status, time.Now().Unix())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func newLogged(t *testing.T) *logged {
	t.Helper()
	return &logged{post: post{name: "lb1", uid: os.Geteuid(), files: map[string][]byte{}}, path: filepath.Join(t.TempDir(), "access.log")}
}

func watcher(t *testing.T, gate string, told func(string)) *Watcher {
	t.Helper()
	goals, err := inventory.ParseGate(gate)
	if err != nil {
		t.Fatal(err)
	}
	return &Watcher{Env: newRoom(t).env, Goals: goals, Bake: 1500 * time.Millisecond,
		Report: event.Func(func(e event.Event) { told(e.Msg) })}
}

func TestTheGateReadsWhatIsLoggedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fresh, bad int
		fails      bool
		says       string
	}{
		"well":       {fresh: 400, says: "gate: 5xx < 0.5% holds: 0.00% of 400 requests"},
		"flaky":      {fresh: 392, bad: 8, fails: true, says: "watched"},
		"no request": {says: "was not judged: no request came"},
	} {
		l := newLogged(t)
		l.answers(t, 100, "10.0.0.1", 500) // before the watch: not counted
		begun := make(chan struct{})
		var once sync.Once
		var all []string
		w := watcher(t, "5xx < 0.5%", func(s string) {
			all = append(all, s)
			once.Do(func() { close(begun) })
		})
		done := make(chan error, 1)
		go func() { done <- w.Watch(t.Context(), []deploy.Host{l}, []string{"app1"}, []string{"app2"}) }()
		<-begun
		l.answers(t, c.fresh, "10.0.0.1", 200)
		l.answers(t, c.bad, "10.0.0.1", 502)
		l.answers(t, 100, "10.0.0.2", 200)
		err := <-done
		if fault.Is(err, fault.GateFailed) != c.fails || !c.fails && err != nil || !strings.Contains(strings.Join(all, "\n"), c.says) {
			t.Errorf("%s: got %v, told %q", name, err, all)
		}
	}
}

// A log that is put aside and begun anew is read on from its beginning.
func TestALogThatIsRotated(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	env := newRoom(t).env
	l.answers(t, 10, "10.0.0.1", 200)
	tails, err := tailsOf(t.Context(), env, []deploy.Host{l}, "/var/log/nginx/godeploy-swiper.log", 0)
	if err != nil {
		t.Fatal(err)
	}
	read := func() int {
		n := 0
		if err := readAll(t.Context(), env, tails, func(Request) { n++ }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := read(); n != 0 {
		t.Errorf("%d requests of before", n)
	}
	l.answers(t, 5, "10.0.0.1", 200)
	if n := read(); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		t.Fatal(err)
	}
	if n := read(); n != 0 {
		t.Errorf("%d requests without a log", n)
	}
	l.answers(t, 3, "10.0.0.1", 200)
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("half a line")
		err = errors.Join(err, f.Close())
	}
	if n := read(); n != 3 || err != nil {
		t.Errorf("%d requests of the new log, want 3, %v", n, err)
	}
}

func TestStatusOfServers(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	l := newLogged(t)
	l.answers(t, 7, "10.0.0.1", 200)
	l.answers(t, 3, "10.0.0.1", 500)
	d := r.drainer()
	if err := d.Drain(t.Context(), r.front, r.apps[2:], why(true)); err != nil {
		t.Fatal(err)
	}
	if err := d.PutBack(t.Context(), r.front, []string{"app2"}, 5); err != nil {
		t.Fatal(err)
	}
	r.shelf.live["lb2"].Down["app1"] = true
	l.files = r.front[0].(*post).files
	two := newLogged(t)
	two.name = "lb2"
	list, sum, err := d.Status(t.Context(), []deploy.Host{l, two})
	if err != nil || len(list) != 3 || sum.Requests != 10 {
		t.Fatalf("got %+v, %+v, %v", list, sum, err)
	}
	if one := list[0]; len(one.Up) != 1 || len(one.Down) != 1 || one.Count.Requests != 10 || one.Count.Failed != 3 || one.Why == "" {
		t.Errorf("app1 is %+v", one)
	}
	if one := list[1]; len(one.Down) != 0 || one.Now != 5 || one.Weight != 20 || !strings.Contains(one.Why, "weight") {
		t.Errorf("app2 is %+v", one)
	}
	if one := list[2]; len(one.Up) != 0 || !strings.Contains(one.Why, "ops@laptop") || !strings.Contains(one.Why, "disk") {
		t.Errorf("app3 is %+v", one)
	}
}
