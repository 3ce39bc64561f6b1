package cmd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"godeploy/deploy"
	"godeploy/internal/wire"
)

func releasesCommand() *command {
	return &command{
		Name: "releases", Group: groupRelease, Usage: "the releases that the servers have", Args: "[ENV]",
		Env: true, Terse: true,
		Examples: []string{"godeploy releases prod", "godeploy releases prod --json"},
		Run:      runReleases,
	}
}

// releaseView is one release over all hosts.
type releaseView struct {
	ID      string            `json:"id"`
	Seq     int               `json:"seq"`
	Created string            `json:"created"`
	By      string            `json:"by,omitempty"`
	Branch  string            `json:"branch,omitempty"`
	Commit  string            `json:"commit,omitempty"`
	Message string            `json:"message,omitempty"`
	Marks   map[string]string `json:"marks"`   // host to healthy, bad, live or staged
	Current []string          `json:"current"` // hosts that have it as current
	Missing []string          `json:"missing,omitempty"`
	Runs    []*runView        `json:"runs"` // what was done with it, oldest first, as the servers' logs have it
}

// runView is one run as the servers' logs have it.
type runView struct {
	Run     string              `json:"run"`
	T       string              `json:"t"`
	By      string              `json:"by"`
	Command string              `json:"command"`
	Result  string              `json:"result"` // the verdict over the fleet
	Message string              `json:"message,omitempty"`
	Hosts   map[string]runOnOne `json:"hosts"`
}

type runOnOne struct {
	Outcome  string `json:"outcome"`
	Previous string `json:"previous,omitempty"`
	Release  string `json:"release,omitempty"` // what current was afterwards
	MS       int64  `json:"ms"`
}

func runReleases(ctx context.Context, c *call) error {
	var ledger map[string][]wire.AuditEntry
	list, err := c.askStatus(ctx, func(f *deploy.Fleet) (err error) {
		ledger, err = f.Ledger(ctx)
		return err
	})
	if err != nil {
		return err
	}
	list = c.answered(list)
	views := releaseViews(list)
	addRuns(views, list, ledger)
	if c.looks().mode == "json" {
		return c.document(map[string]any{"env": c.env.Name, "app": c.env.App.Name, "releases": views})
	}
	var rows [][]string
	for _, v := range views {
		current := ""
		if len(v.Current) > 0 {
			current = fmt.Sprintf("%d of %d", len(v.Current), len(list))
		}
		rows = append(rows, []string{v.ID, markText(v), v.Created, v.By, v.Branch, v.Commit[:min(len(v.Commit), 9)], current, someOf(v.Missing, 3), v.lastRun(), v.Message})
	}
	return table(c.sys.Stdout, []string{"RELEASE", "MARK", "CREATED", "BY", "BRANCH", "COMMIT", "CURRENT ON", "MISSING ON", "LAST RUN", "MESSAGE"}, rows)
}

// answered leaves out hosts that could not be asked, and says so.
func (c *call) answered(list []deploy.HostStatus) []deploy.HostStatus {
	return slices.DeleteFunc(list, func(s deploy.HostStatus) bool {
		if s.Service == unreachable {
			c.conclude("%s %s", c.mark(false), clean(s.Problem))
		}
		return s.Service == unreachable
	})
}

// releaseViews joins what each host has, newest first.
func releaseViews(list []deploy.HostStatus) []*releaseView {
	byID := map[string]*releaseView{}
	views := []*releaseView{}
	for _, s := range list {
		for _, one := range s.Releases {
			v := byID[one.ID]
			if v == nil {
				v = &releaseView{ID: one.ID, Seq: one.Seq, Created: when(one.Created), By: one.By,
					Branch: one.Branch, Commit: one.Commit, Message: one.Message, Marks: map[string]string{}, Current: []string{}}
				byID[one.ID] = v
				views = append(views, v)
			}
			v.Marks[s.Host] = string(one.Mark)
			if s.Release == one.ID {
				v.Current = append(v.Current, s.Host)
			}
		}
	}
	for _, v := range views {
		for _, s := range list {
			if _, has := v.Marks[s.Host]; !has {
				v.Missing = append(v.Missing, s.Host)
			}
		}
	}
	slices.SortStableFunc(views, func(a, b *releaseView) int { return b.Seq - a.Seq })
	return views
}

// addRuns puts to each release the runs that were about it, in the order of the first server that has them
// in its log.
func addRuns(views []*releaseView, list []deploy.HostStatus, ledger map[string][]wire.AuditEntry) {
	byID := map[string]*releaseView{}
	for _, v := range views {
		byID[v.ID], v.Runs = v, []*runView{}
	}
	for _, s := range list {
		for _, e := range ledger[s.Host] {
			if v := byID[e.Release]; v != nil {
				v.run(e).Hosts[s.Host] = runOnOne{Outcome: e.Outcome, Previous: e.Previous, Release: e.Now, MS: e.MS}
			}
		}
	}
}

// run finds the run of a log's entry, or adds it.
func (v *releaseView) run(e wire.AuditEntry) *runView {
	for _, r := range v.Runs {
		if r.Run == e.Run && r.By == e.By {
			return r
		}
	}
	r := &runView{Run: e.Run, T: when(e.Time), By: e.By, Command: e.Command, Result: e.Verdict, Message: e.Message, Hosts: map[string]runOnOne{}}
	v.Runs = append(v.Runs, r)
	return r
}

// lastRun says in a few words what was done last with a release, and how long its slowest server took.
func (v *releaseView) lastRun() string {
	if len(v.Runs) == 0 {
		return ""
	}
	r := v.Runs[len(v.Runs)-1]
	var slowest int64
	for _, h := range r.Hosts {
		slowest = max(slowest, h.MS)
	}
	return joined(" ", r.Command, r.Result, brief(time.Duration(slowest)*time.Millisecond))
}

// when is a time for programs and people alike, "" when it is not known.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// markText is one word when every host agrees.
func markText(v *releaseView) string {
	word := ""
	for _, mark := range v.Marks {
		if word != "" && word != mark {
			return "mixed"
		}
		word = mark
	}
	return word
}
