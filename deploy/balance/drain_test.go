package balance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// post is a host in memory: its files, and what is open on it.
type post struct {
	deploy.Host // nil: what is not here is not used
	name        string
	uid         int
	files       map[string][]byte
	open        atomic.Int64
	dials       func(address string) error
	fail        func(path string) error
}

func (p *post) Inventory() inventory.Host { return inventory.Host{Name: p.name} }
func (p *post) Facts() wire.HelloReply    { return wire.HelloReply{UID: p.uid, Home: "/home/deploy"} }
func (p *post) Exec(_ context.Context, req wire.ExecRequest, _ func(string, []byte)) (wire.ExecReply, error) {
	return wire.ExecReply{}, nil
}
func (p *post) File(_ context.Context, req wire.FileRequest) (wire.FileReply, error) {
	if req.Write {
		if p.fail != nil {
			if err := p.fail(req.Path); err != nil {
				return wire.FileReply{}, err
			}
		}
		p.files[req.Path] = req.Content
		return wire.FileReply{}, nil
	}
	content, ok := p.files[req.Path]
	return wire.FileReply{Exists: ok, Content: content}, nil
}
func (p *post) Dial(_ context.Context, _, address string) (net.Conn, error) {
	if p.dials != nil {
		if err := p.dials(address); err != nil {
			return nil, err
		}
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}
func (p *post) Sockets(context.Context, ...int) (wire.SocketsReply, error) {
	open := int(p.open.Load())
	if open == 0 {
		return wire.SocketsReply{}, nil
	}
	return wire.SocketsReply{Peers: []wire.SocketPeer{{Address: "10.0.0.11", Port: 9000, Count: open}}}, nil
}

// shelf is a Kind in memory. push is asked for each host in turn, as if a run might die between them.
type shelf struct {
	live    map[string]*State
	push    func(host string) error
	settled atomic.Bool
	stale   bool // swapped in, and not loaded
	pushes  int
}

func (s *shelf) Ready(context.Context, []deploy.Host) error { return nil }
func (s *shelf) Live(_ context.Context, hosts []deploy.Host) ([]Seen, error) {
	list := make([]Seen, len(hosts))
	for i, h := range hosts {
		if one := s.live[h.Inventory().Name]; one != nil {
			list[i] = Seen{Known: true, State: *one, Loaded: !s.stale}
		}
	}
	return list, nil
}
func (s *shelf) Push(_ context.Context, hosts []deploy.Host, state State) error {
	s.pushes++
	s.stale = false
	for _, h := range hosts {
		if s.push != nil {
			if err := s.push(h.Inventory().Name); err != nil {
				return err
			}
		}
		c := state.Clone()
		s.live[h.Inventory().Name] = &c
	}
	return nil
}
func (s *shelf) Settled(context.Context, []deploy.Host) (bool, error) { return s.settled.Load(), nil }

// room is two balancers before three app hosts.
type room struct {
	env   *inventory.Env
	shelf *shelf
	front []deploy.Host
	apps  []deploy.Host
	told  []string
}

func newRoom(t *testing.T) *room {
	t.Helper()
	f, err := inventory.Parse("godeploy.toml", []byte(`version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
bind = "{{.Host.Address}}:9000"
[nginx]
[env.test.hosts]
lb1 = { role = "nginx", address = "192.0.2.11" }
lb2 = { role = "nginx", address = "192.0.2.12" }
app1 = { role = "app", address = "10.0.0.1", weight = 10 }
app2 = { role = "app", address = "10.0.0.2", weight = 20 }
app3 = { role = "app", address = "10.0.0.3", weight = 20 }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := f.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	r := &room{env: env, shelf: &shelf{live: map[string]*State{"lb1": {}, "lb2": {}}}}
	r.shelf.settled.Store(true)
	for _, name := range []string{"lb1", "lb2"} {
		r.front = append(r.front, &post{name: name, uid: len(r.front) * 1000, files: map[string][]byte{}})
	}
	for _, name := range []string{"app1", "app2", "app3"} {
		r.apps = append(r.apps, &post{name: name, files: map[string][]byte{}})
	}
	return r
}

// drainer is a command's own; what it knows is on the hosts.
func (r *room) drainer() *Drainer {
	return &Drainer{Env: r.env, Kind: r.shelf, Wait: 10 * time.Second,
		Report: event.Func(func(e event.Event) { r.told = append(r.told, e.Host+" "+e.Msg) })}
}

func (r *room) down() string {
	var all []string
	for _, name := range []string{"lb1", "lb2"} {
		all = append(all, name+":"+strings.Join(r.shelf.live[name].DownNames(), "+"))
	}
	return strings.Join(all, " ")
}

func why(hand bool) wire.Drained {
	return wire.Drained{By: "ops@laptop", Run: "1", Since: time.Unix(1, 0).UTC(), Reason: "disk", Hand: hand}
}

func TestDrainAndPutBack(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	if err := r.drainer().Drain(t.Context(), r.front, r.apps[2:], why(true)); err != nil {
		t.Fatal(err)
	}
	if got := r.down(); got != "lb1:app3 lb2:app3" {
		t.Errorf("down are %s", got)
	}
	later := r.drainer()
	drains, err := later.Drains(t.Context(), r.front)
	if err != nil || len(drains) != 1 || drains["app3"] != why(true) {
		t.Errorf("the next command finds %+v, %v", drains, err)
	}
	if err := later.PutBack(t.Context(), r.front, []string{"app3"}, 5); err != nil || r.down() != "lb1: lb2:" || r.shelf.live["lb2"].Warm["app3"] != 5 {
		t.Errorf("down are %s, %+v, %v", r.down(), r.shelf.live["lb2"], err)
	}
	if drains, err := r.drainer().Drains(t.Context(), r.front); err != nil || len(drains) != 0 || r.shelf.live["lb1"].Warm["app3"] != 5 {
		t.Errorf("after that: %+v, %v, %+v", drains, err, r.shelf.live["lb1"])
	}
	if err := r.drainer().Undrain(t.Context(), r.front, []string{"app3"}); err != nil || len(r.shelf.live["lb1"].warm()) != 0 {
		t.Errorf("it has weight %+v, %v", r.shelf.live["lb1"], err)
	}
	pushes := r.shelf.pushes
	if err := r.drainer().Undrain(t.Context(), r.front, []string{"app3"}); err != nil || r.shelf.pushes != pushes {
		t.Errorf("what is in service already is pushed again, or %v", err)
	}
}

// Whoever dies at whatever point of a drain or an undrain: the next command makes the balancers equal, to
// what was meant.
func TestADeathAtAnyPointIsHealed(t *testing.T) {
	t.Parallel()
	died := errors.New("killed")
	for _, verb := range []string{"drain", "undrain"} {
		for point := 0; ; point++ {
			r := newRoom(t)
			if verb == "undrain" {
				if err := r.drainer().Drain(t.Context(), r.front, r.apps[2:], why(true)); err != nil {
					t.Fatal(err)
				}
			}
			n := 0
			strike := func(string) error {
				if n++; n > point {
					return died
				}
				return nil
			}
			r.shelf.push = strike
			for _, h := range r.front {
				h.(*post).fail = strike
			}
			act := func() error { return r.drainer().Drain(t.Context(), r.front, r.apps[2:], why(true)) }
			if verb == "undrain" {
				act = func() error { return r.drainer().Undrain(t.Context(), r.front, []string{"app3"}) }
			}
			err := act()
			if err != nil && !errors.Is(err, died) {
				t.Fatal(err)
			}
			r.shelf.push = nil
			for _, h := range r.front {
				h.(*post).fail = nil
			}
			// Once one host had noted it, it was meant.
			want := map[bool]string{true: "lb1:app3 lb2:app3", false: "lb1: lb2:"}[(verb == "drain") == (point > 0)]
			if _, err := r.drainer().Drains(t.Context(), r.front); err != nil || r.down() != want {
				t.Errorf("%s, died at %d: down are %s, %v, want %s", verb, point, r.down(), err, want)
			}
			if err == nil {
				if point < 4 {
					t.Errorf("%s has %d points only", verb, point)
				}
				break
			}
		}
	}
}

func TestTheLastServerThatAnswersIsNotDrained(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.front[0].(*post).dials = func(address string) error {
		if strings.HasPrefix(address, "10.0.0.2") || strings.HasPrefix(address, "10.0.0.3") {
			return errors.New("refused")
		}
		return nil
	}
	err := r.drainer().Drain(t.Context(), r.front, r.apps[:1], why(true))
	if !fault.Is(err, fault.MaxUnavailable) || r.down() != "lb1: lb2:" || r.shelf.pushes != 0 {
		t.Errorf("got %v, down are %s", err, r.down())
	}
	if err := r.drainer().Drain(t.Context(), r.front, r.apps[1:2], why(true)); err != nil {
		t.Errorf("a server that is dead anyway: %v", err)
	}
	if err := r.drainer().Drain(t.Context(), r.front, r.apps, why(true)); !fault.Is(err, fault.MaxUnavailable) {
		t.Errorf("all of them: %v", err)
	}
}

func TestADrainWaitsForOpenRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends    time.Duration // when the last request ends, 0 for never
		settles time.Duration // when the old workers are gone, 0 for never
		wants   time.Duration // how long the drain takes at least
		warns   bool
	}{
		"nothing open":     {ends: time.Nanosecond, wants: time.Second},
		"ends":             {ends: 3 * time.Second, wants: 4 * time.Second},
		"old workers gone": {settles: 2 * time.Second, wants: 2 * time.Second},
		"never":            {wants: 10 * time.Second, warns: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(t)
			r.shelf.settled.Store(false)
			app := r.apps[0].(*post)
			app.open.Store(3)
			if c.ends > 0 {
				time.AfterFunc(c.ends, func() { app.open.Store(0) })
			}
			if c.settles > 0 {
				time.AfterFunc(c.settles, func() { r.shelf.settled.Store(true) })
			}
			began := time.Now()
			err := r.drainer().Drain(t.Context(), r.front, r.apps[:1], why(false))
			took := time.Since(began)
			if err != nil || took < c.wants || took > c.wants+time.Second {
				t.Errorf("%s: took %v, %v, want %v", name, took, err, c.wants)
			}
			if warned := strings.Contains(strings.Join(r.told, "\n"), "still open"); warned != c.warns {
				t.Errorf("%s: told %q", name, r.told)
			}
		})
	}
}

func TestBalancersThatKnowNothingYet(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.shelf.live = map[string]*State{}
	d := r.drainer()
	if err := d.Ready(t.Context(), r.front); err != nil || d.Stands("app1") {
		t.Errorf("none of them: %v", err)
	}
	if drains, err := d.Drains(t.Context(), r.front); err != nil || len(drains) != 0 {
		t.Errorf("none of them: %v, %v", drains, err)
	}
	r.shelf.live["lb1"] = &State{}
	if err := r.drainer().Ready(t.Context(), r.front); err == nil || !strings.Contains(err.Error(), "lb2") {
		t.Errorf("one of two: %v", err)
	}
	r.shelf.live["lb2"] = &State{}
	d = r.drainer()
	if err := d.Ready(t.Context(), r.front); err != nil || !d.Stands("app1") || d.Stands("lb1") || d.Stands("nobody") {
		t.Errorf("both: %v", err)
	}
}

func TestAgree(t *testing.T) {
	t.Parallel()
	down := func(names ...string) State {
		s := State{Down: map[string]bool{}}
		for _, n := range names {
			s.Down[n] = true
		}
		return s
	}
	first := Record{}.drains([]string{"a"}, why(true))
	second := first.drains([]string{"b"}, why(false))
	back := second.puts([]string{"a"}, 0)
	for name, c := range map[string]struct {
		records []Record
		files   []State
		want    string
	}{
		"nothing":                           {[]Record{{}, {}}, []State{{}, {}}, "[]"},
		"all say so":                        {[]Record{first, first}, []State{down("a"), down("a")}, "[a]"},
		"noted on one host, done on none":   {[]Record{first, {}}, []State{{}, {}}, "[a]"},
		"done on one host":                  {[]Record{first, first}, []State{down("a"), {}}, "[a]"},
		"the newer note counts":             {[]Record{first, second}, []State{down("a"), down("a")}, "[a b]"},
		"put back on one host":              {[]Record{back, back}, []State{down("b"), down("a", "b")}, "[b]"},
		"noted to be put back, on one host": {[]Record{second, back}, []State{down("a", "b"), down("a", "b")}, "[b]"},
		"nobody noted it":                   {[]Record{{}, {}}, []State{down("z"), down("z")}, "[z]"},
		"nobody noted it, on one host":      {[]Record{{}, {}}, []State{down("z"), {}}, "[z]"},
	} {
		meant := Agree(c.records, c.files)
		if got := fmt.Sprint(meant.state().DownNames()); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		for server, d := range meant.Out {
			if server == "z" && !d.Hand {
				t.Errorf("%s: a run would put back what nobody has noted", name)
			}
		}
	}
	if meant := Agree([]Record{back}, []State{down("b")}); meant.Seq != back.Seq || !slices.Equal([]string{"b"}, meant.state().DownNames()) {
		t.Errorf("got %+v", meant)
	}
}

// A file that was put in place and never loaded counts for nothing.
func TestWhatIsNotLoadedIsPushedAgain(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.shelf.stale = true
	if _, err := r.drainer().Drains(t.Context(), r.front); err != nil || r.shelf.pushes != 1 {
		t.Errorf("%d pushes, %v", r.shelf.pushes, err)
	}
}

// A server is warmed in by steps; whoever finds a run dead in the middle gives it its own weight.
func TestWarmingIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t)
		if err := r.drainer().Drain(t.Context(), r.front, r.apps[2:], why(true)); err != nil {
			t.Fatal(err)
		}
		var weights []int
		r.shelf.push = func(host string) error {
			if host == "lb2" {
				weights = append(weights, r.shelf.live["lb1"].Warm["app3"])
			}
			return nil
		}
		began := time.Now()
		if err := r.drainer().WarmIn(t.Context(), r.front, "app3", time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("took %v, %v", time.Since(began), err)
		}
		if fmt.Sprint(weights) != "[2 5 10 0]" { // of 20
			t.Errorf("weights were %v", weights)
		}
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, stop)
		if err := r.drainer().WarmIn(ctx, r.front, "app3", time.Minute); err == nil || r.shelf.live["lb1"].Warm["app3"] != 5 {
			t.Errorf("stopped in the middle: %v, %+v", err, r.shelf.live["lb1"])
		}
		if _, err := r.drainer().Drains(t.Context(), r.front); err != nil || len(r.shelf.live["lb2"].warm()) != 0 {
			t.Errorf("the next command leaves %+v, %v", r.shelf.live["lb2"], err)
		}
	})
}

// FuzzReadRecord: whatever stands in the file, it is read or is none, and what follows from it is sound.
func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"seq":3,"out":{"app3":{"by":"ops@laptop","run":"1","since":"2026-11-23T10:00:00Z","hand":true}},"back":["app1"],"warm":{"app1":5}}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r := ReadRecord(content)
		n := r.drains([]string{"x"}, why(false)).puts([]string{"y"}, 3)
		if err := r.check(); err != nil || n.Seq != r.Seq+2 || !n.state().Down["x"] || n.state().Down["y"] {
			t.Errorf("%q gives %+v, %+v, %v", content, r, n, err)
		}
	})
}
