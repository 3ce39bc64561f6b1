package access

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// PushOptions say how a key is brought to the hosts.
type PushOptions struct {
	From    []string  // where the key may come from; empty is anywhere
	Expires time.Time // when it stops to let in; zero is never
	// Prove logs in with the key before it counts. False is for a key whose private half is not here.
	Prove bool
	// People are brought as well, with the same options. They are not proven: their private halves are theirs.
	People []Owner
	// Prune removes every other key once the key is proven to let in. It wants the key to be one of People.
	Prune bool
}

// Pushed is what became of one host.
type Pushed struct {
	Host   string
	User   string
	Path   string
	Change Change
	Proven bool
	Err    error // nil when the key is there, and proven if that was asked for
}

// Push brings the key to every host, jump hosts first, and proves it there by a new login with this key alone,
// at every hop of the way. A host where it does not let in gets its file back as it was. The error joins those
// of the hosts.
func (f *Fleet) Push(ctx context.Context, hosts []inventory.Host, k Key, o PushOptions) ([]Pushed, error) {
	if o.Prune && nameOf(o.People, k.Blob) == "" {
		return nil, fault.New(fault.LockoutRefused, "your own key %s is not one of [[people]]: it would be removed", k.Fingerprint()).
			Hint("add yourself to [[people]]").Fact("keys = [%q]", k.Public())
	}
	out := make([]Pushed, len(hosts))
	for i, h := range hosts {
		out[i].Host = h.Name
	}
	err := f.each(ctx, hosts, func(ctx context.Context, i int, h inventory.Host) error {
		out[i].Err = fault.OnHost(h.Name, f.pushOne(ctx, h, k, o, &out[i]))
		return out[i].Err
	})
	return out, err
}

func (f *Fleet) pushOne(ctx context.Context, h inventory.Host, k Key, o PushOptions, p *Pushed) error {
	a, err := f.Door.Any(ctx, h)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // what was done on it has been answered
	p.User = f.account(a, h)
	v := f.look(ctx, a, p.User)
	file, err := f.first(ctx, a, h, v)
	if err != nil {
		return err
	}
	options := Options{Opens: Forwards(f.Env, h), From: o.From, Expires: o.Expires}
	done, err := update(ctx, a, f.user(h), file, func(b []byte) ([]byte, Change, error) { return addAll(b, k, o.People, options) })
	p.Path, p.Change = done.seen.Path, done.change
	if err != nil {
		return err
	}
	f.tell(h, done)
	if o.Prove {
		if err := f.prove(ctx, a, h, k, v, done); err != nil {
			return err
		}
		p.Proven = true
	}
	if o.Prune {
		return f.prune(ctx, a, h, k, o, file, p)
	}
	return nil
}

// first is the file that keys are written to.
func (f *Fleet) first(ctx context.Context, a Account, h inventory.Host, v view) (string, error) {
	files, err := f.filesOf(ctx, a, h, v)
	if err == nil && len(files) == 0 {
		err = fault.New(fault.AccountRefused, "sshd reads no file of keys for %s: AuthorizedKeysFile is none", f.account(a, h)).
			Hint("it may ask a program instead, see AuthorizedKeysCommand; keys are managed there then")
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

func (f *Fleet) filesOf(ctx context.Context, a Account, h inventory.Host, v view) ([]string, error) {
	home, err := a.KeyFile(ctx, wire.KeyFileRequest{User: f.user(h)})
	return f.files(v, f.account(a, h), home.Home, home.UID), err
}

// addAll adds the key, then those of the people.
func addAll(b []byte, k Key, people []Owner, o Options) ([]byte, Change, error) {
	b, sum, err := Add(b, k, o)
	for _, p := range people {
		if err != nil || p.Key.Same(k) {
			continue
		}
		var c Change
		b, c, err = Add(b, p.Key, o)
		sum = sum.and(c)
	}
	return b, sum, err
}

func (c Change) and(other Change) Change {
	sum := Change{Added: c.Added + other.Added, Replaced: c.Replaced + other.Replaced, Removed: c.Removed + other.Removed}
	for _, n := range slices.Concat(c.Notes, other.Notes) {
		sum.note("%s", n)
	}
	return sum
}

// prove logs in with the key alone. Where that fails the file becomes what it was.
func (f *Fleet) prove(ctx context.Context, a Account, h inventory.Host, k Key, v view, done edited) error {
	err := f.Door.Only(ctx, h, k)
	if err == nil {
		return nil
	}
	e := fault.New(fault.KeyUnproven, "the key %s is in %s and does not let in", k.Fingerprint(), done.seen.Path).Wrap(err)
	for _, fact := range v.facts(done.seen) {
		e.Fact("%s", fact)
	}
	if !done.change.Any() {
		return e.Hint("it stood there before, so nothing was changed")
	}
	undo := context.WithoutCancel(ctx) // a run that is stopped leaves no unproven key behind
	undo, stop := context.WithTimeout(undo, time.Minute)
	defer stop()
	if uerr := f.restore(undo, a, h, done, k); uerr != nil {
		return e.Fact("it could not be taken out again: %v", uerr)
	}
	return e.Hint("it was taken out again: the file is as it was")
}

// restore undoes an edit; where others have written since, only what the edit did to the key.
func (f *Fleet) restore(ctx context.Context, a Account, h inventory.Host, done edited, k Key) error {
	_, err := update(ctx, a, f.user(h), done.seen.Path, func(b []byte) ([]byte, Change, error) {
		if bytes.Equal(b, done.after) {
			return done.seen.Content, Change{Replaced: 1}, nil
		}
		out := Restore(b, done.seen.Content, k)
		return out, Change{Replaced: boolInt(!bytes.Equal(out, b))}, nil
	})
	return err
}

// putBack undoes a removal.
func (f *Fleet) putBack(ctx context.Context, a Account, h inventory.Host, done edited) error {
	_, err := update(ctx, a, f.user(h), done.seen.Path, func(b []byte) ([]byte, Change, error) {
		if bytes.Equal(b, done.after) {
			return done.seen.Content, Change{Replaced: 1}, nil
		}
		out := Recover(b, done.seen.Content)
		return out, Change{Added: boolInt(!bytes.Equal(out, b))}, nil
	})
	return err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// prune removes the keys of nobody in [[people]]. The key was proven a moment ago and stays; that it still
// lets in is proven once more, while the way to put things back is open.
func (f *Fleet) prune(ctx context.Context, a Account, h inventory.Host, k Key, o PushOptions, file string, p *Pushed) error {
	done, err := update(ctx, a, f.user(h), file, func(b []byte) ([]byte, Change, error) {
		var gone [][]byte
		for _, l := range readSheet(b) {
			if l.login() && nameOf(o.People, l.blob) == "" {
				gone = append(gone, l.blob)
			}
		}
		out, c := Remove(b, gone...)
		return out, c, nil
	})
	if err != nil {
		return err
	}
	p.Change = p.Change.and(done.change)
	if !done.change.Any() {
		return nil
	}
	if err := f.Door.Only(ctx, h, k); err != nil {
		undo, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer stop()
		uerr := f.putBack(undo, a, h, done)
		return fault.New(fault.KeyUnproven, "your key does not let in any more after %d others were removed", done.change.Removed).
			Wrap(err).Hint("the file was put back: %s", orDone(uerr))
	}
	return nil
}

func orDone(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

// tell says on the way what a person should know of a host's file.
func (f *Fleet) tell(h inventory.Host, done edited) {
	for _, n := range slices.Concat(done.change.Notes, troubles(done.seen)) {
		f.Report.Report(event.Event{Type: event.Warn, Host: h.Name, Phase: "keys", Msg: fmt.Sprintf("keys: %s", n)})
	}
}
