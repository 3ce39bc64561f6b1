package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/wire"

	"github.com/urfave/cli/v2"
)

func statusCommand() *command {
	return &command{
		Name: "status", Group: groupServers, Usage: "what every server has and serves right now", Args: "[ENV]",
		Env: true, Story: false, Terse: true,
		Examples: []string{"godeploy status prod", "godeploy status prod --json", "godeploy status prod --exit-code"},
		About:    "Changes nothing. Exit 0 whatever it finds; with --exit-code 3 when servers differ or one does not serve well.",
		Flags:    []cli.Flag{&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when servers differ or one does not serve well"}},
		Run:      runStatus,
	}
}

// hostStatus is one line of `status --json`.
type hostStatus struct {
	Host     string       `json:"host"`
	Roles    []string     `json:"roles"`
	Weight   int          `json:"weight"`
	Release  string       `json:"release"`
	Mark     string       `json:"mark"`
	Released string       `json:"released,omitempty"`
	By       string       `json:"by,omitempty"`
	Service  string       `json:"service"`
	Serving  bool         `json:"serving"`
	Health   int          `json:"health"`
	Problems []string     `json:"problems"`
	Lock     *wire.Holder `json:"lock,omitempty"`
}

type statusReport struct {
	Env    string              `json:"env"`
	App    string              `json:"app"`
	Whole  bool                `json:"whole"` // one release everywhere, serving and well
	Fleet  map[string][]string `json:"fleet"` // release to hosts; "" is none
	Hosts  []hostStatus        `json:"hosts"`
	health bool
}

func runStatus(ctx context.Context, c *call) error {
	list, err := c.askStatus(ctx)
	if err != nil {
		return err
	}
	r := newStatus(c, list)
	if c.looks().mode == "json" {
		err = c.document(r)
	} else {
		err = c.statusTable(r)
	}
	if err == nil && c.flags.Bool("exit-code") && !r.Whole {
		return exitWith(exitDifferences, nil)
	}
	return err
}

// unreachable stands for the state of a service whose host could not be asked.
const unreachable = "unreachable"

// askStatus connects and asks; it takes no lock. A host that cannot be reached is told in its line, as
// long as there is one that can.
func (c *call) askStatus(ctx context.Context) ([]deploy.HostStatus, error) {
	hosts, err := c.serviceHosts()
	if err != nil {
		return nil, err
	}
	report := event.Discard{}
	pool := c.connect(report)
	defer pool.Close() // nothing was changed over it
	connected, errs := c.connector(pool, report).ConnectSome(ctx, hosts)
	defer overssh.Close(connected)
	reached := slices.DeleteFunc(slices.Clone(connected), func(h deploy.Host) bool { return h == nil })
	if len(reached) == 0 {
		return nil, errors.Join(errs...)
	}
	told, err := c.over(reached, report).Status(ctx)
	if err != nil {
		return nil, err
	}
	var list []deploy.HostStatus
	for i, h := range hosts {
		if errs[i] != nil {
			list = append(list, deploy.HostStatus{Host: h.Name, Roles: h.Roles, Weight: h.Weight, Service: unreachable, Problem: errs[i].Error()})
			continue
		}
		list, told = append(list, told[0]), told[1:]
	}
	return list, nil
}

func newStatus(c *call, list []deploy.HostStatus) statusReport {
	r := statusReport{Env: c.env.Name, App: c.env.App.Name, Whole: true, Fleet: map[string][]string{}, health: c.env.Health.URL != ""}
	for _, s := range list {
		h := hostStatus{Host: s.Host, Roles: s.Roles, Weight: s.Weight, Release: s.Release, Mark: string(s.Mark), By: s.By,
			Service: s.Service, Serving: s.Serving, Health: s.Health, Problems: []string{}, Lock: s.Holder}
		h.Released = when(s.Created)
		for _, problem := range []string{s.Proof, s.Problem} {
			if problem != "" {
				h.Problems = append(h.Problems, problem)
			}
		}
		if s.Service != unreachable {
			r.Fleet[s.Release] = append(r.Fleet[s.Release], s.Host)
		}
		r.Whole = r.Whole && s.Release != "" && len(h.Problems) == 0
		r.Hosts = append(r.Hosts, h)
	}
	r.Whole = r.Whole && len(r.Fleet) == 1
	return r
}

func (c *call) statusTable(r statusReport) error {
	var rows [][]string
	for _, h := range r.Hosts {
		health := strconv.Itoa(h.Health)
		if h.Health == 0 {
			health = "none"
		}
		if !r.health {
			health = ""
		}
		serving := "yes"
		if !h.Serving {
			serving = "NO"
		}
		lock := ""
		if h.Lock != nil {
			lock = h.Lock.Who + " " + h.Lock.Command
		}
		release := orElse(h.Release, "none")
		if h.Service == unreachable {
			release, serving, health = "?", "?", "?"
		}
		rows = append(rows, []string{h.Host, release, h.Mark, h.Service, serving, health, strconv.Itoa(h.Weight), lock})
	}
	err := table(c.sys.Stdout, []string{"HOST", "RELEASE", "MARK", "SERVICE", "SERVING", "HEALTH", "WEIGHT", "LOCK"}, rows)
	for _, h := range r.Hosts {
		for _, problem := range h.Problems {
			c.conclude("%s %s: %s", c.mark(false), h.Host, clean(problem))
		}
	}
	if len(r.Fleet) > 1 {
		c.conclude("%s servers differ: %s on %s", c.mark(false), plural(len(r.Hosts), "server"), plural(len(r.Fleet), "release"))
	}
	return err
}

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
}

func runReleases(ctx context.Context, c *call) error {
	list, err := c.askStatus(ctx)
	if err != nil {
		return err
	}
	list = c.answered(list)
	views := releaseViews(list)
	if c.looks().mode == "json" {
		return c.document(map[string]any{"env": c.env.Name, "app": c.env.App.Name, "releases": views})
	}
	var rows [][]string
	for _, v := range views {
		current := ""
		if len(v.Current) > 0 {
			current = fmt.Sprintf("%d of %d", len(v.Current), len(list))
		}
		rows = append(rows, []string{v.ID, markText(v), v.Created, v.By, v.Branch, v.Commit[:min(len(v.Commit), 9)], current, someOf(v.Missing, 3), v.Message})
	}
	return table(c.sys.Stdout, []string{"RELEASE", "MARK", "CREATED", "BY", "BRANCH", "COMMIT", "CURRENT ON", "MISSING ON", "MESSAGE"}, rows)
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
