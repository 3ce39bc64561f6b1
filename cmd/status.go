package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func statusCommand() *command {
	return &command{
		Name: "status", Group: groupServers, Usage: "what every server has and serves right now", Args: "[ENV]",
		Env: true, Story: false, Terse: true,
		Examples: []string{"godeploy status prod", "godeploy status prod --watch", "godeploy status prod --json", "godeploy status prod --exit-code"},
		About: "Changes nothing. Exit 0 whatever it finds; with --exit-code 3 when servers differ, one does not serve well, or a\n" +
			"value of [tune] does not hold. Queue is who waits at the app's listening socket, of how many may; overflows are\n" +
			"connections that found a queue full since the server's boot. Where the login cannot become root, queues and other\n" +
			"users' processes are not seen. nginx hosts that godeploy configures have a table of their own: nginx's processes, the\n" +
			"connections that other machines have open there, its queues, and limits that do not hold.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when servers differ, one does not serve well, or a limit does not hold"},
			&optionalFlag{StringFlag: &cli.StringFlag{Name: "watch", Usage: "look again every `2s`, or as often as is said, until Ctrl-C"}, Bare: "2s"},
		},
		Run: runStatus,
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
	Behind   bool         `json:"behind,omitempty"`  // another host serves a newer release
	Drained  bool         `json:"drained,omitempty"` // a run took it out of the balancer and left it there
	Journal  string       `json:"journal,omitempty"` // the step at which a run died here, until the next command puts it right
	Problems []string     `json:"problems"`
	Lock     *wire.Holder `json:"lock,omitempty"`
	Freeze   *wire.Freeze `json:"freeze,omitempty"` // who wants no changes, while that holds
	Vitals   *vitals      `json:"vitals,omitempty"` // left out when the host could not be asked
}

type statusReport struct {
	Env    string              `json:"env"`
	App    string              `json:"app"`
	Whole  bool                `json:"whole"` // one release everywhere, serving and well
	Drift  bool                `json:"drift"` // a limit or setting of [tune] does not hold somewhere
	Fleet  map[string][]string `json:"fleet"` // release to hosts; "" is none
	Hosts  []hostStatus        `json:"hosts"`
	Fronts []frontStatus       `json:"fronts,omitempty"` // nginx hosts that godeploy configures
	health bool
}

func runStatus(ctx context.Context, c *call) error {
	if every := c.flags.String("watch"); every != "" {
		return c.watchStatus(ctx, every)
	}
	v, err := c.openStatus(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	r, err := v.report(ctx)
	if err != nil {
		return err
	}
	if err := c.showStatus(r); err != nil {
		return err
	}
	if c.flags.Bool("exit-code") && (!r.Whole || r.Drift) {
		return exitWith(exitDifferences, nil)
	}
	return nil
}

func (c *call) showStatus(r statusReport) error {
	if c.looks().mode == "json" {
		return c.document(r)
	}
	if err := c.statusTable(r); err != nil {
		return err
	}
	if err := c.vitalsTable(r); err != nil {
		return err
	}
	return c.frontTable(r)
}

// unreachable stands for the state of a service whose host could not be asked.
const unreachable = "unreachable"

// statusView is a fleet that is connected to be looked at, as far as it can be reached.
type statusView struct {
	c         *call
	hosts     []inventory.Host
	connected []deploy.Host // nil where errs has why not
	errs      []error
	fronts    []inventory.Host
	front     []deploy.Host // nil where frontErrs has why not
	frontErrs []error
	close     func()
}

// openStatus connects. It fails when no host can be reached at all.
func (c *call) openStatus(ctx context.Context) (*statusView, error) {
	hosts, err := c.serviceHosts()
	if err != nil {
		return nil, err
	}
	pool := c.connect(event.Discard{})
	v := &statusView{c: c, hosts: hosts}
	v.fronts = c.fronts()
	all, errs := c.connector(pool, event.Discard{}).ConnectSome(ctx, slices.Concat(hosts, v.fronts))
	v.connected, v.front = all[:len(hosts):len(hosts)], all[len(hosts):]
	v.errs, v.frontErrs = errs[:len(hosts):len(hosts)], errs[len(hosts):]
	v.close = func() { overssh.Close(all); _ = pool.Close() } // nothing was changed over it
	if len(v.reached()) == 0 {
		v.close()
		return nil, errors.Join(v.errs...)
	}
	return v, nil
}

func (v *statusView) reached() []deploy.Host {
	return slices.DeleteFunc(slices.Clone(v.connected), func(h deploy.Host) bool { return h == nil })
}

// ask asks; it takes no lock. A host that cannot be reached is told in its line. more asks the hosts that
// could be reached further.
func (v *statusView) ask(ctx context.Context, more ...func(*deploy.Fleet) error) ([]deploy.HostStatus, error) {
	fleet := v.c.over(v.reached(), event.Discard{})
	told, err := fleet.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, ask := range more {
		if err := ask(fleet); err != nil {
			return nil, err
		}
	}
	var list []deploy.HostStatus
	for i, h := range v.hosts {
		if v.errs[i] != nil {
			list = append(list, deploy.HostStatus{Host: h.Name, Roles: h.Roles, Weight: h.Weight, Service: unreachable, Problem: v.errs[i].Error()})
			continue
		}
		list, told = append(list, told[0]), told[1:]
	}
	return list, nil
}

// askStatus connects, asks and lets go again.
func (c *call) askStatus(ctx context.Context, more ...func(*deploy.Fleet) error) ([]deploy.HostStatus, error) {
	v, err := c.openStatus(ctx)
	if err != nil {
		return nil, err
	}
	defer v.close()
	return v.ask(ctx, more...)
}

func newStatus(c *call, list []deploy.HostStatus) statusReport {
	r := statusReport{Env: c.env.Name, App: c.env.App.Name, Whole: true, Fleet: map[string][]string{}, health: c.env.Health.URL != ""}
	newest := 0
	for _, s := range list {
		newest = max(newest, seqOf(s))
	}
	for _, s := range list {
		h := hostStatus{Host: s.Host, Roles: s.Roles, Weight: s.Weight, Release: s.Release, Mark: string(s.Mark), By: s.By,
			Service: s.Service, Serving: s.Serving, Health: s.Health, Problems: []string{}, Lock: s.Holder}
		h.Released, h.Drained, h.Behind = when(s.Created), s.Drained(), s.Service != unreachable && seqOf(s) < newest
		if s.Freeze != nil && s.Freeze.Holds(c.sys.Now()) {
			h.Freeze = s.Freeze
		}
		if s.Journal.Open() {
			h.Journal = string(s.Journal.Step)
		}
		for _, problem := range append(drift(s), s.Proof, s.Problem) {
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

// seqOf is the number of the release that a server has, 0 when it has none.
func seqOf(s deploy.HostStatus) int {
	for _, one := range s.Releases {
		if one.ID == s.Release {
			return one.Seq
		}
	}
	return 0
}

// drift says what a run that died, or one that was stopped, has left on a server.
func drift(s deploy.HostStatus) []string {
	var found []string
	if s.Dangling {
		found = append(found, "current leads to "+s.Release+", which is not there")
	}
	switch {
	case s.Out != nil && s.Out.Hand:
		found = append(found, joined(": ", "drained by "+s.Out.By, s.Out.Reason)+"; godeploy nginx undrain puts it back")
	case s.Drained():
		found = append(found, "drained; the next command that changes something takes it back into service")
	}
	if j := s.Journal; j.Open() {
		found = append(found, fmt.Sprintf("%s of %s ended in the middle (%s); the next release, rollback or restart finishes or undoes it",
			j.Holder.Command, j.Holder.Who, j.Step))
	}
	return found
}

// behind names the servers with an older release than another one.
func (r statusReport) behind() []string {
	var list []string
	for _, h := range r.Hosts {
		if h.Behind {
			list = append(list, h.Host)
		}
	}
	return list
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
		} else if h.Freeze != nil {
			lock = "frozen by " + h.Freeze.By
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
	if behind := r.behind(); len(behind) > 0 {
		c.conclude("%s behind: %s; the next release brings every server to one release", c.mark(false), strings.Join(behind, ", "))
	}
	if len(r.Fleet) > 1 {
		c.conclude("%s servers differ: %s on %s", c.mark(false), plural(len(r.Hosts), "server"), plural(len(r.Fleet), "release"))
	}
	return err
}
