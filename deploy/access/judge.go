package access

import (
	"fmt"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// The parts of st_mode that are looked at, on every system the same.
const (
	modeType    = 0o170000
	modeFolder  = 0o040000
	modeRegular = 0o100000
	modeFIFO    = 0o010000
	byOthers    = 0o022
)

// judge says why the file of keys cannot be edited, nil when it can. It decides by what the host has told,
// before anything is changed there.
func judge(r wire.KeyFileReply, user string) error {
	refuse := func(format string, args ...any) *fault.Error { return fault.New(fault.AccountRefused, format, args...) }
	file := lastPart(r)
	switch {
	case r.Home == "" && !file.is(modeRegular):
		return refuse("the home of %s is not there", user).Hint("sshd finds no keys without one; make it, and give it to the account")
	case r.Link && !below(r.Path, r.Home):
		e := refuse("the keys of %s are a link that leads out of the home, to %s", user, r.Path).
			Hint("put the file itself there, or name it in sshd_config: AuthorizedKeysFile")
		for _, p := range r.Way {
			if why := partTrouble(p, r); why != "" {
				e.Fact("sshd refuses it: %s", why)
			}
		}
		return e
	case !r.Exists:
		return nil
	case file.is(modeFolder):
		return refuse("%s is a folder", r.Path)
	case file.is(modeFIFO):
		return refuse("%s is a FIFO, not a plain file", r.Path)
	case !file.is(modeRegular):
		return refuse("%s is no plain file", r.Path)
	case file.UID != r.UID:
		return refuse("%s belongs to another account than %s (owner %d, mode %04o)", r.Path, user, file.UID, file.Mode&0o7777).
			Hint("whoever manages it means it so; to hand it over: chown %s %s", user, r.Path)
	case r.Denied:
		return refuse("%s may not be read by %s itself (mode %04o)", r.Path, user, file.Mode&0o7777)
	}
	return nil
}

// part is a wire.KeyPart to ask about.
type part struct{ wire.KeyPart }

func (p part) is(kind uint32) bool { return p.Mode&modeType == kind }

// lastPart is the file itself; a zero part when it is not there.
func lastPart(r wire.KeyFileReply) part {
	if n := len(r.Way); n > 0 && r.Way[n-1].Path == r.Path {
		return part{r.Way[n-1]}
	}
	return part{}
}

func below(p, dir string) bool {
	return dir != "" && strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// partTrouble says what sshd's StrictModes has against a folder on the way, or the file; "" for nothing.
// For a file within the home sshd looks no higher than the home. Debian's sshd lets a group write that has
// nobody else in it; that is not known from here, so the text does not say that it must fail.
func partTrouble(p wire.KeyPart, r wire.KeyFileReply) string {
	if below(r.Path, r.Home) && p.Path != r.Home && !below(p.Path, r.Home) {
		return ""
	}
	switch {
	case p.UID != 0 && p.UID != r.UID:
		return fmt.Sprintf("%s belongs to neither root nor the account (owner %d)", p.Path, p.UID)
	case p.Mode&0o002 != 0:
		return fmt.Sprintf("%s can be written by everybody (mode %04o)", p.Path, p.Mode&0o7777)
	case p.Mode&byOthers != 0:
		return fmt.Sprintf("%s can be written by its group (mode %04o)", p.Path, p.Mode&0o7777)
	}
	return ""
}

// troubles are the notes on a file that is edited all the same.
func troubles(r wire.KeyFileReply) []string {
	var all []string
	for _, p := range r.Way {
		if why := partTrouble(p, r); why != "" {
			all = append(all, why+": sshd may refuse it")
		}
	}
	if file := lastPart(r); file.is(modeRegular) && file.Mode&0o004 != 0 && file.Mode&byOthers == 0 {
		all = append(all, fmt.Sprintf("%s can be read by everybody (mode %04o)", r.Path, file.Mode&0o7777))
	}
	return all
}
