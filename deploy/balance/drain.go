package balance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Kind is one kind of balancer: how the state of the app's servers is read and changed on its hosts.
type Kind interface {
	// Ready says, before anything is changed, whether the hosts can take a change.
	Ready(ctx context.Context, hosts []deploy.Host) error
	// Live gives what each host has.
	Live(ctx context.Context, hosts []deploy.Host) ([]Seen, error)
	// Push brings a state to all hosts or to none, and sees that they work by it.
	Push(ctx context.Context, hosts []deploy.Host, state State) error
	// Settled reports whether nothing is left on the hosts that works by what was before the last Push.
	Settled(ctx context.Context, hosts []deploy.Host) (bool, error)
}

// Seen is what one balancer host has of an app.
type Seen struct {
	Known  bool // it has something of the app's; the rest means nothing otherwise
	State  State
	Loaded bool // it works by it
}

// Drainer takes app hosts out of a balancer and puts them back. It implements deploy.Balancer, and is
// what `nginx drain` and `nginx undrain` use. One command uses it, one thing at a time.
type Drainer struct {
	Env    *inventory.Env
	Kind   Kind
	Report event.Reporter
	// Wait is how long the requests that are open on a drained server may take to end.
	Wait time.Duration
	// Strict makes it a fault of code drain-open when requests are still open then, and no warning.
	Strict bool

	meant   Record
	learned bool
	idle    bool // no host has anything of the app's: nothing is balanced yet
}

var _ deploy.Balancer = (*Drainer)(nil)

// lookEvery is the time between two looks at what is still open.
const lookEvery = 300 * time.Millisecond

// Ready implements deploy.Balancer.
func (d *Drainer) Ready(ctx context.Context, front []deploy.Host) error {
	live, err := d.Kind.Live(ctx, front)
	if err != nil {
		return err
	}
	var without []string
	for i, one := range live {
		if !one.Known {
			without = append(without, front[i].Inventory().Name)
		}
	}
	d.idle = len(without) == len(front)
	switch {
	case d.idle:
		d.Report.Report(event.Event{Type: event.Info, Phase: "check",
			Msg: "check: no balancer knows " + d.Env.App.Name + " yet, so nothing is drained; godeploy " + root{d.Env}.section() + " push " + d.Env.Name + " tells them"})
		return nil
	case len(without) > 0:
		return fault.New(fault.LayoutRefused, "%s knows nothing of %s, and other balancers do", strings.Join(without, ", "), d.Env.App.Name).On(without...).
			Hint("a server is drained on all of them or on none").
			Try("godeploy %s push %s", root{d.Env}.section(), d.Env.Name)
	}
	return d.Kind.Ready(ctx, front)
}

// Stands implements deploy.Balancer.
func (d *Drainer) Stands(server string) bool {
	return !d.idle && slices.ContainsFunc(d.Env.BalancedHosts(), func(h inventory.Host) bool { return h.Name == server })
}

// Drains implements deploy.Balancer: hosts that do not say the same are made equal.
func (d *Drainer) Drains(ctx context.Context, front []deploy.Host) (map[string]wire.Drained, error) {
	if d.idle {
		return nil, nil
	}
	meant, even, err := d.learn(ctx, front)
	if err != nil {
		return nil, err
	}
	if !even {
		d.Report.Report(event.Event{Type: event.Warn, Phase: "check",
			Msg: "check: a run that died has left the balancers apart; they are made equal"})
		if err := d.Kind.Push(ctx, front, d.want(meant)); err != nil {
			return nil, err
		}
	}
	d.meant, d.learned = meant, true
	return meant.Out, nil
}

// Look gives what was meant last, and what each host says, without changing anything.
func (d *Drainer) Look(ctx context.Context, front []deploy.Host) (Record, []Seen, error) {
	live, err := d.Kind.Live(ctx, front)
	if err != nil {
		return Record{}, nil, err
	}
	records, err := d.read(ctx, front)
	if err != nil {
		return Record{}, nil, err
	}
	var files []State
	for _, s := range live {
		if s.Known {
			files = append(files, s.State)
		}
	}
	return Agree(records, files), live, nil
}

// want is the state that a record asks for, of the servers that there are.
func (d *Drainer) want(r Record) State {
	s := r.state()
	maps.DeleteFunc(s.Down, func(name string, _ bool) bool { return !d.Stands(name) })
	maps.DeleteFunc(s.Warm, func(name string, _ int) bool { return !d.Stands(name) })
	return s
}

// even reports whether all hosts work by what a record asks for.
func (d *Drainer) even(r Record, live []Seen) bool {
	want := d.want(r)
	return !slices.ContainsFunc(live, func(s Seen) bool { return !s.Known || !s.Loaded || !want.equal(s.State) })
}

func (d *Drainer) learn(ctx context.Context, front []deploy.Host) (Record, bool, error) {
	meant, live, err := d.Look(ctx, front)
	return meant, d.even(meant, live), err
}

// Drain implements deploy.Balancer. It is refused when none of the servers that would be left answers.
func (d *Drainer) Drain(ctx context.Context, front, servers []deploy.Host, why wire.Drained) error {
	servers = slices.DeleteFunc(slices.Clone(servers), func(h deploy.Host) bool { return !d.Stands(h.Inventory().Name) })
	if len(servers) == 0 {
		return nil
	}
	if err := d.know(ctx, front); err != nil {
		return err
	}
	names := hostNames(servers)
	if err := d.othersAnswer(ctx, front, names); err != nil {
		return err
	}
	began := time.Now()
	if err := d.carry(ctx, front, d.meant.drains(names, why)); err != nil {
		return err
	}
	open, err := d.await(ctx, front, servers)
	if err != nil {
		return err
	}
	d.tell(names, front, began, open)
	if open != 0 && d.Strict {
		return fault.New(fault.DrainOpen, "%s still had requests open after %s", strings.Join(names, ", "), d.Wait).On(names...).
			Hint("they are out of service: no new request comes")
	}
	return nil
}

// tell says how a drain ended, for each server.
func (d *Drainer) tell(names []string, front []deploy.Host, began time.Time, open int) {
	for _, name := range names {
		e := event.Event{Type: event.Info, Host: name, Phase: "drain", MS: time.Since(began).Milliseconds(),
			Msg: fmt.Sprintf("drain: out of service on %s, no request is open", strings.Join(hostNames(front), ", "))}
		if open != 0 {
			e.Type = event.Warn
			e.Msg = fmt.Sprintf("drain: out of service on %s, but requests were still open after %s", strings.Join(hostNames(front), ", "), d.Wait)
		}
		d.Report.Report(e)
	}
}

// Undrain implements deploy.Balancer.
func (d *Drainer) Undrain(ctx context.Context, front []deploy.Host, servers []string) error {
	return d.PutBack(ctx, front, servers, 0)
}

// PutBack puts servers back, which are known to be well, with their own weight, or with another one that
// they keep until they are put back again.
func (d *Drainer) PutBack(ctx context.Context, front []deploy.Host, servers []string, weight int) error {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return !d.Stands(s) })
	if len(servers) == 0 {
		return nil
	}
	if err := d.know(ctx, front); err != nil {
		return err
	}
	if err := d.carry(ctx, front, d.meant.puts(servers, weight)); err != nil {
		return err
	}
	for _, s := range servers {
		d.Report.Report(event.Event{Type: event.Info, Host: s, Phase: "drain", Msg: "drain: in service again on " + strings.Join(hostNames(front), ", ")})
	}
	return nil
}

// know learns what is drained, once.
func (d *Drainer) know(ctx context.Context, front []deploy.Host) error {
	if d.learned {
		return nil
	}
	_, err := d.Drains(ctx, front)
	return err
}

// carry notes on all hosts what is about to be done, and does it where it is not done already.
func (d *Drainer) carry(ctx context.Context, front []deploy.Host, next Record) error {
	if err := d.write(ctx, front, next); err != nil {
		return err
	}
	d.meant = next
	live, err := d.Kind.Live(ctx, front)
	if err != nil {
		return err
	}
	if d.even(next, live) {
		return nil
	}
	return d.Kind.Push(ctx, front, d.want(next))
}

// othersAnswer refuses to take out the last servers that answer.
func (d *Drainer) othersAnswer(ctx context.Context, front []deploy.Host, names []string) error {
	balanced, err := d.Env.Servers()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, s := range balanced {
		if _, out := d.meant.Out[s.Name]; out || slices.Contains(names, s.Name) {
			continue
		}
		if c, err := front[0].Dial(ctx, "tcp", s.Endpoint()); err == nil {
			_ = c.Close() // it was only to see whether somebody is there
			return nil
		}
	}
	return fault.New(fault.MaxUnavailable, "no server of %s that answers would be left in service without %s", d.Env.Name, strings.Join(names, ", ")).
		Hint("a balancer without a server answers everybody with an error").
		Try("godeploy %s status %s", root{d.Env}.section(), d.Env.Name)
}

// await waits until no request is open on the servers, or the time is up; it gives how many connections
// are open then, below 0 when that cannot be told.
func (d *Drainer) await(ctx context.Context, front, servers []deploy.Host) (open int, err error) {
	quiet := Quiet{Deadline: time.Now().Add(d.Wait)}
	for {
		look, err := d.look(ctx, front, servers)
		if err != nil {
			return look.Open, err
		}
		ended, over := quiet.See(look)
		if ended {
			return 0, nil
		}
		if over {
			return look.Open, nil
		}
		if err := deploy.Pause(ctx, lookEvery); err != nil {
			return look.Open, err
		}
	}
}

func (d *Drainer) look(ctx context.Context, front, servers []deploy.Host) (Look, error) {
	settled, err := d.Kind.Settled(ctx, front)
	if err != nil {
		return Look{Open: -1}, err
	}
	open, err := d.open(ctx, servers)
	return Look{At: time.Now(), Open: open, Settled: settled}, err
}

// open counts the connections on the servers, -1 where a host cannot tell.
func (d *Drainer) open(ctx context.Context, servers []deploy.Host) (int, error) {
	balanced, err := d.Env.Servers()
	if err != nil {
		return -1, err
	}
	sum := 0
	for _, h := range servers {
		counter, ok := h.(deploy.SocketCounter)
		if !ok {
			return -1, nil
		}
		for _, s := range balanced {
			if s.Name != h.Inventory().Name {
				continue
			}
			reply, err := counter.Sockets(ctx, s.Port)
			if err != nil {
				return -1, fault.OnHost(s.Name, err)
			}
			sum += reply.Open()
		}
	}
	return sum, nil
}

// noteDir is where a balancer host keeps the note of an app, beside the lock.
func noteDir(h deploy.Host, app string) string {
	if f := h.Facts(); f.UID != 0 {
		return path.Join(f.Home, ".local/state/godeploy", app)
	}
	return path.Join("/var/lib/godeploy", app)
}

func (d *Drainer) read(ctx context.Context, front []deploy.Host) ([]Record, error) {
	var list []Record
	for _, h := range front {
		reply, err := h.File(ctx, wire.FileRequest{Path: noteDir(h, d.Env.App.Name) + "/drained"})
		if err != nil {
			return nil, fault.OnHost(h.Inventory().Name, err)
		}
		list = append(list, ReadRecord(reply.Content))
	}
	return list, nil
}

// write puts the note on every host before anything is done.
func (d *Drainer) write(ctx context.Context, front []deploy.Host, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fault.New(fault.Internal, "the note cannot be written").Wrap(err)
	}
	for _, h := range front {
		dir := noteDir(h, d.Env.App.Name)
		reply, err := h.Exec(ctx, wire.ExecRequest{Argv: []string{"mkdir", "-p", "--", dir}, Timeout: time.Minute}, func(string, []byte) {})
		if err == nil && reply.Exit != 0 {
			err = fault.New(fault.SudoNeeded, "%s cannot be made", dir)
		}
		if err == nil {
			_, err = h.File(ctx, wire.FileRequest{Path: dir + "/drained", Write: true, Content: text, Mode: 0o644})
		}
		if err != nil {
			return fault.OnHost(h.Inventory().Name, errors.Join(err, ctx.Err()))
		}
	}
	return nil
}

func hostNames(hosts []deploy.Host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Inventory().Name
	}
	return names
}
