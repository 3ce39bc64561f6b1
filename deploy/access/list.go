package access

import (
	"context"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Entry is one key that may log in to an account of a host.
type Entry struct {
	Host    string
	User    string
	Key     Key
	Owner   string // a name of [[people]], or of those that the caller knows; "" when it is nobody's
	Options string // as in the file
	File    string
	Line    int
	Dead    string // why sshd takes nothing from the line; "" when it does
	CA      bool   // it lets in whoever has a certificate by this key
}

// Listed is what one host has.
type Listed struct {
	Host    string
	User    string
	Entries []Entry
	Notes   []string
	Err     error
}

// List gives every key that may log in, host by host, from all the files that sshd reads. owners are whose
// keys are known. It changes nothing.
func (f *Fleet) List(ctx context.Context, hosts []inventory.Host, owners []Owner) ([]Listed, error) {
	out := make([]Listed, len(hosts))
	err := f.each(ctx, hosts, func(ctx context.Context, i int, h inventory.Host) error {
		out[i] = Listed{Host: h.Name}
		out[i].Err = fault.OnHost(h.Name, f.listOne(ctx, h, owners, &out[i]))
		return out[i].Err
	})
	return out, err
}

func (f *Fleet) listOne(ctx context.Context, h inventory.Host, owners []Owner, l *Listed) error {
	a, err := f.Door.Any(ctx, h)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // it was only read from
	l.User = f.account(a, h)
	files, err := f.filesOf(ctx, a, h, f.look(ctx, a, l.User))
	if err != nil {
		return err
	}
	for _, file := range files {
		seen, err := a.KeyFile(ctx, wire.KeyFileRequest{User: f.user(h), Path: file})
		if err != nil {
			return err
		}
		if seen.Denied {
			l.Notes = append(l.Notes, seen.Path+" may not be read by the account")
		}
		l.take(seen, owners)
	}
	return nil
}

// take adds what stands in one file.
func (l *Listed) take(seen wire.KeyFileReply, owners []Owner) {
	s, c := readSheet(seen.Content), Change{}
	s.look(&c)
	l.Notes = append(append(l.Notes, troubles(seen)...), c.Notes...)
	for i, one := range s {
		if one.blob == nil {
			continue
		}
		k := Key{Type: one.kind, Blob: one.blob, Comment: oneWord(one.comment)}
		l.Entries = append(l.Entries, Entry{Host: l.Host, User: l.User, Key: k, Owner: nameOf(owners, one.blob),
			Options: strings.ToValidUTF8(one.options, "?"), File: seen.Path, Line: i + 1, Dead: one.dead, CA: one.has("cert-authority")})
	}
}

// Named finds what a person calls a key among those of the fleet: a fingerprint, a name of [[people]], or a
// comment that only one key has. The error is a fault of code usage.
func Named(word string, all []Listed, owners []Owner) ([]Key, error) {
	found := map[string]Key{}
	take := func(fits func(k Key, owner string) bool) bool {
		for _, o := range owners {
			if fits(o.Key, o.Name) {
				found[string(o.Key.Blob)] = o.Key
			}
		}
		for _, l := range all {
			for _, e := range l.Entries {
				if fits(e.Key, e.Owner) {
					found[string(e.Key.Blob)] = e.Key
				}
			}
		}
		return len(found) > 0
	}
	switch {
	case strings.HasPrefix(word, "SHA256:"):
		take(func(k Key, _ string) bool { return k.Fingerprint() == word })
	case take(func(_ Key, owner string) bool { return owner == word }):
	default:
		take(func(k Key, _ string) bool { return k.Comment == word })
		if len(found) > 1 {
			return nil, fault.New(fault.Usage, "%d keys have the comment %q", len(found), word).Hint("name the one by its fingerprint")
		}
	}
	var keys []Key
	for _, k := range found {
		keys = append(keys, k)
	}
	return keys, nil
}
