package deploy

import (
	"context"
	"errors"
	"slices"
	"strings"

	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Noter is a Host that adds to the record of a release what became known after it was staged.
type Noter interface {
	// Note is durable when it returns.
	Note(ctx context.Context, id string, note wire.Note) error
}

// once runs the once hooks, each on the first host that it is for, in the staged release. The lock is
// held and no host has switched. What became of them is recorded on all hosts, so that a run that resumes
// the release does not run them again; then the heads of the database schema are asked for and recorded.
func (r *run) once(ctx context.Context) error {
	ran := r.onceRan()
	switch {
	case len(r.Env.Hooks.Once) == 0:
		return r.recordHeads(ctx)
	case ran.Done():
		r.result.Once = true
		r.Report.Report(event.Event{Type: event.Info, Phase: "once", Msg: "once: " + ran.By + " ran it on " + ran.Host + "; not again"})
		return r.recordHeads(ctx)
	}
	began := r.Now()
	on := r.firstFor(r.Env.Hooks.Once[:1])
	r.Report.Report(event.Event{Type: event.PhaseStart, Phase: "once", Msg: "once: on " + on.name, Hosts: []string{on.name}})
	record := wire.OnceRun{Host: on.name, By: r.Holder.Who, Run: r.Holder.Run, Began: began.UTC()}
	if err := r.recordAll(ctx, wire.Note{Once: &record}); err != nil { // or a run that dies here leaves no trace
		return err
	}
	exit, err := r.runOnce(ctx, ran != nil)
	record.Ended, record.Exit, record.MS = true, exit, r.Now().Sub(began).Milliseconds()
	end := event.Event{Type: event.PhaseEnd, Phase: "once", Result: "ok", MS: record.MS}
	if err != nil {
		end.Result = "failed"
	}
	r.Report.Report(end)
	if noted := r.recordEnd(ctx, wire.Note{Once: &record}); err != nil || noted != nil {
		return errors.Join(err, noted)
	}
	r.result.Once = true
	return r.recordHeads(ctx)
}

// runOnce runs the hooks one after another, and gives the exit status of the last that ran, -1 when it
// had none. again tells them that they were begun before.
func (r *run) runOnce(ctx context.Context, again bool) (exit int, err error) {
	for _, h := range r.Env.Hooks.Once {
		m := r.firstFor([]inventory.Hook{h})
		if !r.wanted(h, m) {
			continue
		}
		told := r.told(m, "once")
		told.Retry = again
		place := hooks.Place{Host: m.name, Phase: "once", Dir: m.releaseDir(r.release.ID), Env: told.Environ()}
		last := &lastExit{Runner: HostRunner{m.Host, r.Env.SSH.Sudo}}
		if err := hooks.Run(ctx, HookOf(m.env, "once", h), place, maskedRunner{last, r.Mask}, r.Report); err != nil {
			return last.exit, fault.OnHost(m.name, err)
		}
	}
	return 0, nil
}

// lastExit remembers the exit status of what it ran, -1 for what has none.
type lastExit struct {
	hooks.Runner
	exit int
}

// Run runs the command; see hooks.Runner.
func (l *lastExit) Run(ctx context.Context, c hooks.Command, output func(stream string, p []byte)) (hooks.Ended, error) {
	ended, err := l.Runner.Run(ctx, c, output)
	if l.exit = ended.Exit; err != nil || ended.TimedOut || ended.Signal != "" || ended.Exit < 0 || ended.Exit > 255 {
		l.exit = -1
	}
	return ended, err
}

// recordEnd is recordAll for what has happened and must be known, also when the run was stopped
// meanwhile.
func (r *run) recordEnd(ctx context.Context, note wire.Note) error {
	ctx, cancel := r.cleanup(ctx)
	defer cancel()
	return r.recordAll(ctx, note)
}

// firstFor gives the first member that one of the hooks is for, any when there is none.
func (r *run) firstFor(list []inventory.Hook) *member {
	todo := r.todo()
	for _, m := range todo {
		if slices.ContainsFunc(list, func(h inventory.Hook) bool { return r.wanted(h, m) }) {
			return m
		}
	}
	return todo[0]
}

// onceRan is what any host has recorded of the once hooks of this release; nil when they were not begun.
func (r *run) onceRan() *wire.OnceRun {
	var last *wire.OnceRun
	for _, m := range r.members {
		one, ok := find(m.state, r.release.ID)
		if ok && one.Once != nil && (last == nil || !last.Done()) {
			last = one.Once
		}
	}
	return last
}

// recordAll adds to the record of the release on every host.
func (r *run) recordAll(ctx context.Context, note wire.Note) error {
	return each(ctx, r.members, r.Parallel, func(ctx context.Context, m *member) error {
		n, ok := m.Host.(Noter)
		if !ok || m.outcome == Unknown {
			return nil
		}
		return n.Note(ctx, r.release.ID, note)
	})
}

// recordHeads asks the staged release for the heads of the database schema and records them. Nothing has
// switched yet, so an answer that cannot be had fails the run.
func (r *run) recordHeads(ctx context.Context) error {
	if r.Env.Release.Migrations == "" {
		return nil
	}
	m := r.todo()[0]
	heads, err := r.heads(ctx, m, m.releaseDir(r.release.ID), "once")
	if err != nil {
		return fault.OnHost(m.name, err)
	}
	r.release.Heads = &heads
	return r.recordAll(ctx, wire.Note{Heads: &heads})
}

// heads runs [release] migrations on a host, as the app's owner, and gives what it prints: its lines,
// sorted, each once.
func (r *run) heads(ctx context.Context, m *member, dir, phase string) ([]string, error) {
	hook := HookOf(m.env, "migrations", inventory.Hook{Run: r.Env.Release.Migrations, As: "owner"})
	out := &capturing{Runner: HostRunner{m.Host, r.Env.SSH.Sudo}}
	place := hooks.Place{Host: m.name, Phase: phase, Dir: dir, Env: r.told(m, phase).Environ()}
	if err := hooks.Run(ctx, hook, place, maskedRunner{out, r.Mask}, r.Report); err != nil {
		return nil, err
	}
	heads := []string{}
	for line := range strings.Lines(string(out.kept)) {
		if line = strings.TrimSpace(line); line != "" {
			heads = append(heads, r.Mask.Hide(line))
		}
	}
	slices.Sort(heads)
	heads = slices.Compact(heads)
	if err := wire.CheckHeads(&heads); err != nil || out.more {
		return nil, fault.New(fault.HookFailed, "what [release] migrations prints cannot be recorded").Wrap(err).
			Hint("it should print the heads of the schema, one a line: at most %d lines of %d bytes", wire.MaxHeads, wire.MaxHead)
	}
	return heads, nil
}

// capturing keeps the standard output of what it runs.
type capturing struct {
	hooks.Runner
	kept []byte
	more bool // there was more than is kept
}

// Run runs the command; see hooks.Runner.
func (c *capturing) Run(ctx context.Context, command hooks.Command, output func(stream string, p []byte)) (hooks.Ended, error) {
	const most = 128 << 10
	return c.Runner.Run(ctx, command, func(stream string, p []byte) {
		if stream == "stdout" {
			n := min(len(p), most-len(c.kept))
			c.kept, c.more = append(c.kept, p[:n]...), c.more || n < len(p)
		}
		output(stream, p)
	})
}

// schemaFits refuses to go to a release that the database has been changed for since: its schema is not
// the one that was recorded with it. With AcceptSchemaAhead nothing is asked.
func (r *run) schemaFits(ctx context.Context) error {
	if r.Env.Release.Migrations == "" || r.AcceptSchemaAhead {
		return nil
	}
	wanted := r.recordedHeads()
	if wanted == nil {
		r.Report.Report(event.Event{Type: event.Warn, Phase: "check",
			Msg: "check: the schema of " + r.release.ID + " was not recorded, so it is not compared with the database's"})
		return nil
	}
	on := slices.IndexFunc(r.members, func(m *member) bool { return m.state.Current != "" && !m.state.Dangling })
	if on < 0 {
		return nil // nothing serves that could be asked, and nothing is taken away
	}
	m := r.members[on]
	now, err := r.heads(ctx, m, m.env.App.Path+"/current", "check")
	if err != nil {
		return r.unaskable(fault.OnHost(m.name, err))
	}
	if slices.Equal(now, *wanted) {
		return nil
	}
	return r.schemaAhead(now, *wanted)
}

// recordedHeads is what the hosts have recorded of the schema of the release to go to, nil for nothing.
func (r *run) recordedHeads() *[]string {
	for _, m := range r.members {
		if one, ok := find(m.state, r.release.ID); ok && one.Heads != nil {
			return one.Heads
		}
	}
	return nil
}

func (r *run) unaskable(err error) error {
	f := fault.New(fault.SchemaAhead, "it is not known whether the database's schema fits release %s", r.release.ID).Wrap(err)
	for _, inside := range fault.All(err) {
		f.On(inside.Hosts...)
		f.Facts = append(f.Facts, inside.Facts...)
	}
	return r.acceptance(f)
}

// schemaAhead names what differs.
func (r *run) schemaAhead(now, wanted []string) error {
	f := fault.New(fault.SchemaAhead, "release %s is older than the database: its schema is %s, the database's is %s",
		r.release.ID, headsText(wanted), headsText(now))
	if isPart(now, wanted) || r.wasBefore(now) {
		f = fault.New(fault.SchemaAhead, "release %s is newer than the database: its schema is %s, the database's is %s",
			r.release.ID, headsText(wanted), headsText(now))
	}
	for _, h := range except(now, func(h string) bool { return slices.Contains(wanted, h) }) {
		f.Fact("only in the database: %s", h)
	}
	for _, h := range except(wanted, func(h string) bool { return slices.Contains(now, h) }) {
		f.Fact("only in %s: %s", r.release.ID, h)
	}
	return r.acceptance(f.Hint("a rollback changes no database; its code may fail on this schema"))
}

func (r *run) acceptance(f *fault.Error) error {
	return f.Try("godeploy rollback %s %s --accept-schema-ahead", r.Env.Name, r.release.ID)
}

// wasBefore reports whether these heads are those of a release that came before the one to go to.
func (r *run) wasBefore(heads []string) bool {
	for _, m := range r.members {
		for _, one := range m.state.Releases {
			if one.Seq < r.release.Seq && one.Heads != nil && slices.Equal(*one.Heads, heads) {
				return true
			}
		}
	}
	return false
}

// isPart reports whether all of part stand in whole, which has more.
func isPart(part, whole []string) bool {
	return len(part) < len(whole) && len(except(part, func(h string) bool { return slices.Contains(whole, h) })) == 0
}

// headsText names a few heads.
func headsText(heads []string) string {
	switch n := len(heads); {
	case n == 0:
		return "empty"
	case n > 3:
		return strings.Join(heads[:3], ", ") + " and " + plural(n-3, "more head")
	}
	return strings.Join(heads, ", ")
}
