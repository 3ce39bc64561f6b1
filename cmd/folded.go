package cmd

import (
	"fmt"
	"strings"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

// folded is plain output in sections that GitHub's or GitLab's job log can fold, one for each phase.
type folded struct {
	*plain
	mode string
	open string // the phase whose section is open
}

func newFolded(p *plain, mode string) *folded { return &folded{plain: p, mode: mode} }

func (f *folded) show(r record) {
	if r.Type == event.PhaseStart && !f.look.quiet {
		f.end(r.Time)
		f.begin(r)
		r.Msg = "" // it is the title
	}
	f.plain.show(r)
	if r.Type == event.PhaseEnd {
		f.end(r.Time)
	}
}

func (f *folded) begin(r record) {
	f.open = r.Phase
	title := cleanLine(joined(": ", r.Phase, strings.TrimPrefix(r.Msg, r.Phase+": ")))
	if f.mode == "github" {
		f.raw("::group::" + title + "\n")
		return
	}
	state := "" // only the phases in which nothing can break for users start folded
	if r.Phase == "sync" || r.Phase == "build" {
		state = "[collapsed=true]"
	}
	f.raw(fmt.Sprintf("\x1b[0Ksection_start:%d:%s%s\r\x1b[0K%s\n", r.Time.Unix(), sectionName(r.Phase), state, title))
}

func (f *folded) end(at time.Time) {
	if f.open == "" {
		return
	}
	if f.mode == "github" {
		f.raw("::endgroup::\n")
	} else {
		f.raw(fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", at.Unix(), sectionName(f.open)))
	}
	f.open = ""
}

func (f *folded) raw(text string) {
	if f.err == nil {
		_, f.err = fmt.Fprint(f.w, text)
	}
}

func (f *folded) close() error {
	f.end(f.spoke)
	return f.plain.close()
}

// sectionName keeps the letters that GitLab allows.
func sectionName(phase string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, "godeploy_"+strings.ToLower(phase))
}

// githubAnnotation is the line that marks a fault in GitHub's summary and, when it has a place in the
// file, in the diff.
func githubAnnotation(f *fault.Error) string {
	props := []string{"title=" + githubProperty(string(f.Code))}
	if f.Pos.File != "" {
		props = append(props, "file="+githubProperty(f.Pos.File))
	}
	if f.Pos.Line > 0 {
		props = append(props, fmt.Sprintf("line=%d", f.Pos.Line))
	}
	text := headline(f)
	if f.Cause != "" {
		text += "\nhint: " + cleanLine(f.Cause)
	}
	return "::error " + strings.Join(props, ",") + "::" + githubText(text) + "\n"
}

func githubText(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func githubProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(clean(s))
}
