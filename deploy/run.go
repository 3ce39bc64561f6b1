package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	filesync "godeploy/sync"
)

// Fleet is what every run works with: an environment, the chosen hosts, connected, and the ways to
// act. Its methods act on the hosts; use one Fleet for one run at a time.
type Fleet struct {
	Env     *inventory.Env
	Hosts   []Host // in file order
	Service Service
	// Balancer takes hosts out of what stands before them; nil means that nothing is drained. Front are its
	// hosts, connected, some of which may be among Hosts. They are locked with those.
	Balancer Balancer
	Front    []Host
	// Gate watches the servers of the new release after each wave of a release; nil watches nothing.
	Gate     Gate
	Local    hooks.Runner // runs the local_* hooks
	Report   event.Reporter
	Parallel int // hosts worked on at once
	Holder   wire.Holder
	Now      func() time.Time
	Dir      string // folder of godeploy.toml, where local hooks run
	RunLog   string // path of the run's record, told to hooks
	// Known gives the manifest with this root if it is still known here, else nil; it may be nil, and is
	// called from several goroutines. Hosts that have the same tree are then told only what differs.
	Known func(root filesync.Hash) *filesync.Manifest
	// Again connects a host anew whose connection was lost; nil means that it cannot be done. What it
	// gives takes the place of the lost one in Hosts, whose hosts the caller closes.
	Again func(ctx context.Context, h inventory.Host) (Host, error)
	// Mask learns the secrets that a run reads, and hides them in what the run records and in the output
	// of hooks. Whoever shows events and errors hides them there by it. Nil is a mask of the run's own.
	Mask *Mask
	// AcceptSchemaAhead lets a rollback go to a release although the database's schema is another one.
	AcceptSchemaAhead bool
	// Absent names hosts that the run leaves out, since they cannot be reached and somebody chose to go
	// on without them. They stay behind, and the result says so.
	Absent []string
	// Statics brings static files to the balancer's hosts before the first switch; nil has none to bring.
	Statics Statics
	// Canary is asked after the first wave, with a way to look at the hosts, whether the release goes
	// on to the others; nil goes on. No takes everything back. It is asked for strategy canary only.
	Canary func(ctx context.Context, wave []string, look func(context.Context) ([]HostStatus, error)) (goOn bool, err error)
}

// run is one run over a fleet: its members, what it is about, and what came of it.
type run struct {
	*Fleet
	members []*member
	outside []string         // drained hosts that the run has nothing to do with
	source  *filesync.Source // what is released; nil when the run sends nothing
	secrets *Secrets         // what the release brings, nil when it was not read or has none
	release wire.Release     // what is to serve; the zero Release when the run makes none
	result  Result
	began   time.Time

	interrupted bool // waves were stopped from outside, not by a failure
	stopped     bool // and by a signal: there are seconds left
	locked      bool // every host's lock is held
	yields      bool // a freeze keeps it away
	stuck       bool // the balancer did not put a host back

	mu    sync.Mutex // guards Hosts while hosts are connected anew
	rooms struct {
		sync.Mutex
		needs map[string]func() need // by the root of the tree that is built on
	}
}

func (f *Fleet) newRun(command string) *run {
	if f.Mask == nil {
		f.Mask = &Mask{}
	}
	return &run{
		Fleet:   f,
		members: newMembers(f.Env, f.Hosts),
		began:   f.Now(),
		result:  Result{Command: command, Env: f.Env.Name, Verdict: Refused},
	}
}

// SiteOf names the app of an environment as one of its hosts knows it.
func SiteOf(env *inventory.Env, h inventory.Host) wire.Site {
	env = env.On(h)
	return wire.Site{App: env.App.Name, Path: env.App.Path, Owner: env.App.Owner}
}

// phase does something on every member and tells its beginning and end.
func (r *run) phase(ctx context.Context, name, doing string, do func(context.Context, *member) error) error {
	return r.phaseSummed(ctx, name, doing, do, func() string { return "" })
}

// phaseSummed is phase with a line about what came of it.
func (r *run) phaseSummed(ctx context.Context, name, doing string, do func(context.Context, *member) error, sum func() string) error {
	todo := r.todo()
	r.Report.Report(event.Event{Type: event.PhaseStart, Phase: name, Msg: doing, Hosts: names(todo)})
	began := time.Now()
	err := each(ctx, todo, r.Parallel, do)
	end := event.Event{Type: event.PhaseEnd, Phase: name, MS: time.Since(began).Milliseconds(), Result: "failed"}
	if err == nil {
		end.Result, end.Msg = "ok", sum()
	}
	r.Report.Report(end)
	return err
}

// note tells one line about one host.
func (r *run) note(m *member, phase, format string, args ...any) {
	r.Report.Report(event.Event{Type: event.Info, Host: m.name, Phase: phase, Msg: phase + ": " + fmt.Sprintf(format, args...)})
}

// learn reads what every host has. Under the lock, what a run that died has left there is finished or
// undone first.
func (r *run) learn(ctx context.Context) error {
	return each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		if r.locked {
			if err := r.recover(ctx, m); err != nil {
				return err
			}
		}
		return r.readState(ctx, m)
	})
}

// lock takes every host's lock, in the order of their names so that two runs cannot wait for each
// other, all or none.
func (r *run) lock(ctx context.Context) error {
	sorted := append([]*member(nil), r.members...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].name < sorted[j].name })
	holder := r.holder()
	for _, m := range sorted {
		if err := r.lockOne(ctx, m.Host, holder); err != nil {
			return err
		}
	}
	if err := r.lockFront(ctx, holder); err != nil {
		return err
	}
	r.locked = true
	r.Report.Report(event.Event{Type: event.Lock, Hosts: names(r.members)})
	return nil
}

func (r *run) lockOne(ctx context.Context, h Host, holder wire.Holder) error {
	name := h.Inventory().Name
	held, err := patiently(ctx, h, holder)
	if err != nil {
		return fault.OnHost(name, err)
	}
	if held != nil {
		return r.heldBy(name, *held)
	}
	return nil
}

// todo gives the members that still need a turn.
func (r *run) todo() []*member {
	return slices.DeleteFunc(slices.Clone(r.members), func(m *member) bool { return m.turned })
}

// holder says who takes the locks, and what for.
func (r *run) holder() wire.Holder {
	h := r.Holder
	h.Command, h.Release, h.Since = r.result.Command, r.release.ID, r.Now()
	return h
}

// lockPatience is how long a held lock is asked for again: a run that was just killed lets go within
// moments, when its helper has ended what it ran.
const lockPatience = 2 * time.Second

func patiently(ctx context.Context, h Host, holder wire.Holder) (*wire.Holder, error) {
	deadline := time.Now().Add(lockPatience)
	for {
		held, err := h.Lock(ctx, holder)
		if err != nil || held == nil || time.Now().After(deadline) {
			return held, err
		}
		if err := Pause(ctx, lockPatience/10); err != nil {
			return nil, err
		}
	}
}

func (r *run) heldBy(host string, h wire.Holder) error {
	doing := h.Command
	if h.Release != "" {
		doing += " of " + h.Release
	}
	return fault.New(fault.LockHeld, "%s is locked on %s by %s since %s (%s)", r.Env.Name, host, h.Who,
		h.Since.Local().Format("15:04:05"), doing).
		On(host).
		Hint("the lock is held by a live run and ends with it").
		Try("godeploy status %s", r.Env.Name)
}

// finish fills the result from the members.
func (r *run) finish(err error) *Result {
	for _, m := range r.members {
		if m.unproven() {
			m.outcome = Switched
		}
	}
	r.result.Took = r.Now().Sub(r.began)
	r.result.Release = r.release.ID
	r.result.Behind = r.behind()
	for _, m := range r.members {
		r.result.Hosts = append(r.result.Hosts, HostResult{
			Host: m.name, Outcome: m.outcome, Release: m.now, Previous: m.previous,
			Weight: m.Inventory().Weight, Took: m.took, Failed: m.failed, Drained: m.drained,
		})
	}
	if r.result.Verdict == Refused && r.touched() {
		r.result.judge(err != nil)
	}
	if r.result.Verdict == WholeOld {
		r.result.checkWhole()
	}
	if r.leftOut() {
		r.result.Verdict = Mixed
	}
	return &r.result
}

// behind names the hosts that a release goes to and this run does not.
func (r *run) behind() []string {
	var left []string
	for _, h := range r.Env.ReleaseHosts() {
		if !slices.Contains(names(r.members), h.Name) {
			left = append(left, h.Name)
		}
	}
	return left
}

// unproven reports whether the run has left a host alone on a release that was never proven there:
// an earlier run was killed between its switch and its proof.
func (m *member) unproven() bool {
	now, ok := find(m.state, m.now)
	return ok && !m.touched && m.outcome != Healthy && doubted(now)
}

// touched reports whether current may have moved anywhere.
func (r *run) touched() bool {
	for _, m := range r.members {
		if m.touched {
			return true
		}
	}
	return false
}

// told is what hooks are told on a host; m is nil on the operator's machine.
func (r *run) told(m *member, phase string) hooks.Told {
	var host inventory.Host
	previous := r.result.Previous
	if m != nil {
		host, previous = m.Inventory(), m.previous
	}
	t := ToldOf(r.Env, host, r.release.ID, phase)
	if m != nil && r.release.Secrets != "" {
		t.Secrets = m.envPath(r.release.ID)
	}
	t.Previous, t.RunLog, t.User = previous, r.RunLog, r.Holder.Who
	t.Commit, t.Branch, t.Message = r.release.Commit, r.release.Branch, r.release.Message
	return t
}

// ToldOf is what every hook can be told: the environment, the folders, the host (the zero Host on the
// operator's machine) and the release at hand.
func ToldOf(env *inventory.Env, h inventory.Host, release, phase string) hooks.Told {
	path := env.On(h).App.Path
	t := hooks.Told{
		Env: env.Name, App: env.App.Name, Release: release, Phase: phase,
		Path: path, Current: path + "/current", Shared: path + "/shared",
		Host: h.Name, Weight: h.Weight,
	}
	if len(h.Roles) > 0 {
		t.Role = h.Roles[0]
	}
	return t
}

// configHash tells whether the app's process would be the same: two releases of one tree differ when
// it does not.
func configHash(env *inventory.Env) string {
	text, err := json.Marshal([]any{env.Process, env.Shared, env.Hooks.Release})
	if err != nil { // plain structs always encode
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
