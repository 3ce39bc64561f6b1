package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Revoked is what became of one host.
type Revoked struct {
	Host    string
	User    string
	Removed int
	Notes   []string
	Err     error
}

// Revoke removes the keys from every file that sshd reads. A host is only touched after a login that uses
// none of them, and a file is put back when a second such login fails: so neither the key that this run uses
// nor the last one that lets in goes. lockOut does it all the same. A key that is not there is no error.
func (f *Fleet) Revoke(ctx context.Context, hosts []inventory.Host, keys []Key, lockOut bool) ([]Revoked, error) {
	out := make([]Revoked, len(hosts))
	err := f.each(ctx, hosts, func(ctx context.Context, i int, h inventory.Host) error {
		out[i] = Revoked{Host: h.Name}
		out[i].Err = fault.OnHost(h.Name, f.revokeOne(ctx, h, keys, lockOut, &out[i]))
		return out[i].Err
	})
	return out, err
}

func (f *Fleet) revokeOne(ctx context.Context, h inventory.Host, keys []Key, lockOut bool, r *Revoked) error {
	gone := func(blob []byte) bool {
		return slices.ContainsFunc(keys, func(k Key) bool { return k.Same(Key{Blob: blob}) })
	}
	a, err := f.enter(ctx, h, gone, lockOut)
	if err != nil || a == nil {
		return err
	}
	defer func() { _ = a.Close() }() // what was done on it has been answered
	r.User = f.account(a, h)
	files, err := f.filesOf(ctx, a, h, f.look(ctx, a, r.User))
	if err != nil {
		return err
	}
	if err := f.survivors(ctx, a, h, files, keys, lockOut); err != nil {
		return err
	}
	for i, file := range files {
		done, err := update(ctx, a, f.user(h), file, func(b []byte) ([]byte, Change, error) {
			out, c := Remove(b, blobsOf(keys)...)
			return out, c, nil
		})
		if err != nil {
			return err
		}
		if r.Removed += done.change.Removed; done.change.Any() && i > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%d of them stood in %s", done.change.Removed, done.seen.Path))
		}
		if err := f.stillIn(ctx, a, h, gone, lockOut, done); err != nil {
			return err
		}
	}
	return nil
}

// enter logs in without the keys. Where only they let in, that is the answer; a host on which the keys are
// not, and that lets in by them nowhere, is not to be told from it, so both are refused.
func (f *Fleet) enter(ctx context.Context, h inventory.Host, gone func([]byte) bool, lockOut bool) (Account, error) {
	if lockOut {
		return f.Door.Any(ctx, h)
	}
	a, err := f.Door.Without(ctx, h, gone)
	if !fault.Is(err, fault.SSHAuth) {
		return a, err
	}
	with, werr := f.Door.Any(ctx, h)
	if werr != nil {
		return nil, werr // no key of ours lets in at all: that is what is to be said
	}
	_ = with.Close() // it was to show that the login works
	return nil, fault.New(fault.LockoutRefused, "no other key of yours lets in to %s: it would be out of reach", h.Name).
		Hint("bring another key first").Try("godeploy keys push %s -l %s --key FILE", f.Env.Name, h.Name)
}

// survivors counts who could still log in. Where the login is by a password or a certificate, the last key
// could go unnoticed.
func (f *Fleet) survivors(ctx context.Context, a Account, h inventory.Host, files []string, keys []Key, lockOut bool) error {
	there, left := 0, 0
	for _, file := range files {
		seen, err := a.KeyFile(ctx, wire.KeyFileRequest{User: f.user(h), Path: file})
		if err != nil {
			return err
		}
		for _, l := range readSheet(seen.Content) {
			switch {
			case l.login() && slices.ContainsFunc(keys, func(k Key) bool { return k.Same(Key{Blob: l.blob}) }):
				there++
			case l.lets() || l.has("cert-authority"):
				left++
			}
		}
	}
	if there == 0 || left > 0 || lockOut {
		return nil
	}
	return fault.New(fault.LockoutRefused, "it is the last key: nobody could log in any more").Hint("bring another key first")
}

// stillIn proves that a login without the removed keys works, else the file is put back.
func (f *Fleet) stillIn(ctx context.Context, a Account, h inventory.Host, gone func([]byte) bool, lockOut bool, done edited) error {
	if lockOut || !done.change.Any() {
		return nil
	}
	again, err := f.Door.Without(ctx, h, gone)
	if err == nil {
		_ = again.Close() // it was to show that the login works
		return nil
	}
	undo, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer stop()
	uerr := f.putBack(undo, a, h, done)
	return fault.New(fault.LockoutRefused, "after the removal no login works").Wrap(err).Hint("the file was put back: %s", orDone(uerr))
}

func blobsOf(keys []Key) [][]byte {
	blobs := make([][]byte, len(keys))
	for i, k := range keys {
		blobs[i] = k.Blob
	}
	return blobs
}
