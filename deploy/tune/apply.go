package tune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// loginTime bounds the second login: a host on which it takes longer is as good as locked.
const loginTime = 30 * time.Second

// Tuner tunes hosts. It is safe for concurrent use on different hosts.
type Tuner struct {
	// Root acts on the host.
	Root func(h deploy.Host) deploy.Root
	// Again logs in to a host anew, over a connection of its own. The caller closes what it gives.
	Again func(ctx context.Context, h deploy.Host) (deploy.Host, error)
	// AppPath is the app's folder on a host.
	AppPath func(h deploy.Host) string
	// Tell is told what is done, in one line; it may be called from several goroutines.
	Tell func(h deploy.Host, format string, args ...any)
}

// Outcome is what became of one host.
type Outcome struct {
	Plan    Plan
	Found   []Finding
	Have    Have // after the change
	Changed bool
}

// Plan looks at a host and decides, and changes nothing.
func (t *Tuner) Plan(ctx context.Context, h deploy.Host, w Want) (Outcome, error) {
	have, err := t.look(ctx, h, w)
	if err != nil {
		return Outcome{}, err
	}
	plan, err := Decide(w, have)
	if err != nil {
		return Outcome{Have: have}, err
	}
	return Outcome{Plan: plan, Have: have, Found: Verify(w, have)}, nil
}

// look looks twice where our own file has settings that are not wanted any more.
func (t *Tuner) look(ctx context.Context, h deploy.Host, w Want) (Have, error) {
	have, err := Look(ctx, t.Root(h), t.AppPath(h), w)
	if err != nil {
		return have, err
	}
	for _, key := range sortedKeys(settings(have.Files[SysctlFile])) {
		if _, asked := have.Sysctl[key]; !asked {
			w.Also = append(w.Also, key)
		}
	}
	if len(w.Also) == 0 {
		return have, nil
	}
	return Look(ctx, t.Root(h), t.AppPath(h), w)
}

// Apply makes a host what it shall be, the app's lock being held. It stays so only when all of it took, and a
// second login to the host works; else everything is put back, by a process on the host that needs neither
// this connection nor a new one. The error then has code tune-undone.
func (t *Tuner) Apply(ctx context.Context, h deploy.Host, w Want) (Outcome, error) {
	out, err := t.Plan(ctx, h, w)
	if err != nil || out.Plan.Nothing() {
		return out, err
	}
	guard, err := startGuard(ctx, t.Root(h), out.Plan)
	if err != nil {
		return out, err
	}
	login, err := t.change(ctx, h, w, out.Plan)
	if err == nil {
		err = guard.confirm(ctx)
	} else {
		err = t.takeBack(ctx, guard, err)
	}
	if err != nil {
		return out, err
	}
	have, err := t.look(ctx, h, w)
	if err != nil {
		return out, err
	}
	have.Login = login
	return Outcome{Plan: out.Plan, Have: have, Found: Verify(w, have), Changed: true}, nil
}

// takeBack has the guard put everything back and says why.
func (t *Tuner) takeBack(ctx context.Context, g *guard, cause error) error {
	clean := context.WithoutCancel(ctx) // an interrupted run goes back too
	if err := g.undo(clean); err != nil {
		return errors.Join(cause, fault.New(fault.TuneUndone, "what was changed could not be seen to be put back").
			Hint("the host does it by itself within %d s, also without a connection", int(patience.Seconds())).Wrap(err))
	}
	if all := fault.All(cause); len(all) > 0 && fault.Is(cause, fault.TuneUndone) {
		return cause
	}
	f := fault.New(fault.TuneUndone, "the settings did not take and were put back").Wrap(cause)
	for _, one := range fault.All(cause) {
		f.Facts = append(f.Facts, one.Facts...)
	}
	return f
}

// change writes the files, sets the settings, looks whether they are set, and logs in once more. It gives the
// limits of that login.
func (t *Tuner) change(ctx context.Context, h deploy.Host, w Want, p Plan) (map[string]uint64, error) {
	root := t.Root(h)
	write := func(list []File) error {
		for _, f := range list {
			if err := t.write(ctx, root, f); err != nil {
				return err
			}
		}
		return nil
	}
	first, last := p.inOrder()
	if err := write(first); err != nil {
		return nil, err
	}
	if p.units() {
		if _, err := root.Must(ctx, "systemctl", "daemon-reload"); err != nil {
			return nil, err
		}
	}
	if err := t.set(ctx, root, p.Sysctl); err != nil {
		return nil, err
	}
	if err := write(last); err != nil {
		return nil, err
	}
	t.Tell(h, "written and set; a second login must confirm it")
	return t.loginAgain(ctx, h)
}

func (t *Tuner) write(ctx context.Context, root deploy.Root, f File) error {
	if f.After == "" {
		return root.Remove(ctx, f.Path)
	}
	return root.Write(ctx, f.Path, 0o644, f.After)
}

// set sets the live values, and reads each back: some settings take another value without a word.
func (t *Tuner) set(ctx context.Context, root deploy.Root, list []Set) error {
	for _, s := range list {
		if _, err := root.Must(ctx, "sysctl", "-q", "-w", s.Key+"="+s.After); err != nil {
			return err
		}
		out, err := root.Must(ctx, "sysctl", "-n", s.Key)
		if err != nil {
			return err
		}
		if live := oneBlank(out); live != s.After {
			return fault.New(fault.ExecFailed, "%s was set to %s and is %s", s.Key, s.After, live)
		}
	}
	return nil
}

// loginAgain proves that the host can still be worked with: a connection of its own, a program, and root.
func (t *Tuner) loginAgain(ctx context.Context, h deploy.Host) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loginTime, fmt.Errorf("it took longer than %s", loginTime))
	defer cancel()
	locked := func(err error) error {
		f := fault.New(fault.TuneUndone, "nobody could log in with the new settings; they were put back").Wrap(err)
		for _, one := range fault.All(err) {
			f.Facts = append(f.Facts, one.Facts...)
		}
		return f
	}
	second, err := t.Again(ctx, h)
	if err != nil {
		return nil, locked(err)
	}
	defer second.Close() // what it showed is known
	root := t.Root(second)
	out, err := root.MustAs(ctx, "", "cat", "/proc/self/limits")
	if err == nil {
		_, err = root.Must(ctx, "true")
	}
	if err != nil {
		return nil, locked(err)
	}
	limits := map[string]uint64{}
	for _, line := range splitLines(out) {
		readLimit(line, limits, nil)
	}
	return limits, nil
}

// Lock takes the app's lock on a host, for Apply. It is let go of when the host is closed.
func Lock(ctx context.Context, h deploy.Host, holder wire.Holder) error {
	held, err := h.Lock(ctx, holder)
	if err != nil || held == nil {
		return err
	}
	return fault.New(fault.LockHeld, "the host is being changed by %s (%s)", held.Who, held.Command)
}

// reloadTime bounds the wait for nginx's new workers.
const reloadTime = 30 * time.Second

// ReloadNginx gives the running nginx its limits without a connection lost: its master gets them as it runs,
// and a reload starts workers that inherit them.
func (t *Tuner) ReloadNginx(ctx context.Context, h deploy.Host, w Want, have Have) error {
	root := t.Root(h)
	for _, p := range have.Processes {
		if p.Unit != NginxUnit || p.Parent != 0 {
			continue
		}
		argv := []string{"prlimit", "--pid", fmt.Sprint(p.PID)}
		for _, name := range sortedKeys(w.Limits) {
			if l, ok := limitNamed(name); ok {
				argv = append(argv, fmt.Sprintf("--%s=%d:%d", l.prlimit, w.Limits[name]*l.factor, w.Limits[name]*l.factor))
			}
		}
		if _, err := root.Must(ctx, argv...); err != nil {
			return err
		}
	}
	if _, err := root.Must(ctx, "systemctl", "reload", NginxUnit); err != nil {
		return err
	}
	return t.await(ctx, h, w)
}

// await waits until nginx's workers have their limits: the old ones end when their requests do.
func (t *Tuner) await(ctx context.Context, h deploy.Host, w Want) error {
	for deadline := time.Now().Add(reloadTime); ; {
		have, err := t.look(ctx, h, w)
		if err != nil {
			return err
		}
		late := ""
		for _, name := range sortedKeys(w.Limits) {
			for _, f := range running(NginxUnit, name, w.Limits[name], have) {
				if !f.OK {
					late = f.What + " is " + f.Live
				}
			}
		}
		if late == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fault.New(fault.RestartFailed, "an old nginx worker still serves: %s", late).Hint("it ends with its last request")
		}
		if err := deploy.Pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}
