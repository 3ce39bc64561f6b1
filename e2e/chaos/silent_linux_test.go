package chaos

import (
	"regexp"
	"strings"
)

// quiet is an operation that may fail without anybody being told.
type quiet struct {
	call *regexp.Regexp // of "OP PATH"
	why  string
}

// allowed are the operations whose failure is no news to anybody, each with the reason.
func allowed() []quiet {
	const id = `[0-9]{8}-[0-9]{6}-[0-9a-f]{7}`
	q := func(call, why string) quiet { return quiet{regexp.MustCompile("^(" + call + ")$"), why} }
	return []quiet{
		q(`[a-z]+ \.godeploy/journal(\.new)?|fsync \.godeploy/`, "a further note in an entry that is open: without it the entry "+
			"leads to the same undo. That it cannot be opened is reported, and stops the switch"),
		q(`(lstat|readlink) shared/.*`, "what cannot be looked at counts as there; a hook or the service finds out"),
		q(`(open|read|lstat) \.godeploy/releases/`+id+`\.json`, "the mark that an undo would give back is not known, and then it gives none back"),
		q(`(link|clone) releases/.*`, "what cannot be linked is written, from what is sent"),
		q(`(open|read|lstat) \.godeploy/manifests/.*|(readdir|lstat|open|read) releases/`+id+`(/.*)?`,
			"a release that cannot be read is not built from: everything is sent"),
		q(`remove .*`, "what was in nobody's way stays, and the next run removes it"),
	}
}

// silent finds a failure that nobody was told of: the run came out well, no line has named the error, and
// the operation is not one of those that may fail in silence.
func (l *lab) silent(p point, o *outcome) (f findings) {
	errno, fails := errnos()[p.Who]
	if !fails || o.Struck == "" || o.Verdict != "ok" || strings.Contains(l.told(), errno.Error()) {
		return nil
	}
	for _, q := range allowed() {
		if q.call.MatchString(o.Struck) {
			return nil
		}
	}
	f.add("silent: %s of %q was not reported", p.Who, o.Struck)
	return f
}
