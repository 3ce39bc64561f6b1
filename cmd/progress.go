package cmd

import (
	"fmt"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
)

// pace is how far something has come, and how fast it has been lately.
type pace struct {
	done, total    int64
	files, ofFiles int
	marks          []paceMark // about one a second, the oldest first
}

type paceMark struct {
	at   time.Time
	done int64
}

// paceWindow is over how long a rate is taken: shorter it jumps, longer it lags behind.
const paceWindow = 6

func (p *pace) learn(e event.Event) {
	p.done, p.total, p.files, p.ofFiles = e.Done, e.Total, e.Files, e.OfFiles
	if n := len(p.marks); n == 0 || e.Time.Sub(p.marks[n-1].at) >= time.Second {
		p.marks = append(p.marks, paceMark{e.Time, e.Done})
	}
	p.marks = p.marks[max(0, len(p.marks)-paceWindow):]
}

// rate is bytes a second, 0 when it is too early to say.
func (p *pace) rate(now time.Time) float64 {
	if len(p.marks) == 0 {
		return 0
	}
	first := p.marks[0]
	took := now.Sub(first.at)
	if took < 500*time.Millisecond {
		return 0
	}
	return float64(p.done-first.done) / took.Seconds()
}

// left is the time until it is all done at this rate; false when nobody can say.
func (p *pace) left(now time.Time) (time.Duration, bool) {
	rate := p.rate(now)
	if rate < 1 || p.done >= p.total {
		return 0, false
	}
	seconds := float64(p.total-p.done) / rate
	if seconds > 99*3600 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// text says it: "12.0 MB of 128.0 MB, 1,204 of 11,478 files, 14.2 MB/s, 8.2s left".
func (p *pace) text(now time.Time) string {
	left, known := p.left(now)
	return p.sum(p.rate(now), left, known)
}

func (p *pace) sum(rate float64, left time.Duration, known bool) string {
	text := fmt.Sprintf("%s of %s", deploy.Size(p.done), deploy.Size(p.total))
	if p.ofFiles > 0 {
		text += fmt.Sprintf(", %s of %s files", deploy.Count(p.files), deploy.Count(p.ofFiles))
	}
	if rate >= 1 {
		text += ", " + deploy.Size(int64(rate)) + "/s"
	}
	if known {
		text += ", " + brief(max(left, 100*time.Millisecond)) + " left"
	}
	return text
}

// pace sums the hosts: rates add up, and it takes as long as the slowest host does. "" is for a phase
// that sends nothing.
func (s *state) pace() string {
	var all pace
	var rate float64
	var left time.Duration
	known := false
	for i := range s.hosts {
		h := &s.hosts[i]
		all.done, all.total = all.done+h.pace.done, all.total+h.pace.total
		all.files, all.ofFiles = all.files+h.pace.files, all.ofFiles+h.pace.ofFiles
		if h.ended {
			continue
		}
		rate += h.pace.rate(s.now)
		if l, ok := h.pace.left(s.now); ok {
			left, known = max(left, l), true
		}
	}
	if all.total == 0 {
		return ""
	}
	return all.sum(rate, left, known)
}
