package cmd

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// maxCollected is how much of one host's output --collect keeps.
const maxCollected = 4 << 20

// collected keeps the output of each host, to show equal ones once.
type collected struct {
	mu    sync.Mutex
	hosts map[string]*answer
}

// answer is what a command has printed on one host, both streams as they came.
type answer struct {
	mu   sync.Mutex
	text bytes.Buffer
	cut  bool
}

func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	room := min(len(p), maxCollected-a.text.Len())
	a.text.Write(p[:room])
	a.cut = a.cut || room < len(p)
	return len(p), nil
}

func (s *collected) of(host string) (io.Writer, io.Writer, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts = map[string]*answer{}
	}
	a := &answer{}
	s.hosts[host] = a
	return a, a, func() {}
}

// group is hosts on which the same came out.
type group struct {
	hosts  []string
	text   string
	cut    bool
	status int
	failed error
}

// groups puts hosts together whose output and status are equal: the largest group first, else in the
// order of the file.
func (s *collected) groups(results []remote) []group {
	var all []group
next:
	for _, r := range results {
		g := group{hosts: []string{r.target.Name}, status: r.status, failed: r.err}
		if a := s.hosts[r.target.Name]; a != nil {
			g.text, g.cut = a.text.String(), a.cut
		}
		for i := range all {
			if all[i].failed == nil && g.failed == nil && all[i].status == g.status && all[i].text == g.text {
				all[i].hosts = append(all[i].hosts, g.hosts...)
				continue next
			}
		}
		all = append(all, g)
	}
	slices.SortStableFunc(all, func(a, b group) int { return len(b.hosts) - len(a.hosts) })
	return all
}

// show writes the groups: who, then what.
func (s *collected) show(w io.Writer, results []remote) error {
	var b strings.Builder
	for _, g := range s.groups(results) {
		fmt.Fprintf(&b, "== %s%s\n", strings.Join(g.hosts, ", "), g.remark())
		text := strings.TrimRight(clean(strings.ReplaceAll(g.text, "\r\n", "\n")), "\n")
		if text != "" {
			b.WriteString(text + "\n")
		}
		if g.cut {
			fmt.Fprintf(&b, "(the rest after %d MiB is left out)\n", maxCollected>>20)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// remark tells how it ended, when it did not end well, and how many there are.
func (g group) remark() string {
	var notes []string
	if len(g.hosts) > 1 {
		notes = append(notes, plural(len(g.hosts), "host"))
	}
	switch {
	case g.failed != nil:
		notes = append(notes, "no connection")
	case g.status != 0:
		notes = append(notes, fmt.Sprintf("status %d", g.status))
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, ", ") + ")"
}
