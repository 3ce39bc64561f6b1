package cmd

import (
	"context"
	"fmt"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/tune"

	"golang.org/x/sync/errgroup"
)

// vitals is what a host's machine and the app's processes do right now.
type vitals struct {
	Master    int            `json:"master,omitempty"` // pid; left out when none runs
	Age       int64          `json:"age_s"`            // of the master, in seconds; -1 when unknown
	Workers   []workerVitals `json:"workers"`
	Limits    []tune.Finding `json:"drift"` // values of [tune] that do not hold
	Queues    []queueVitals  `json:"queues"`
	Overflows uint64         `json:"overflows"` // connections that found a full queue, since boot
	Drops     uint64         `json:"drops"`     // connections that were dropped at a queue, for this and other reasons
	Load      string         `json:"load"`
	CPUs      int            `json:"cpus"`
	Memory    room           `json:"memory"`
	Disk      room           `json:"disk"` // where the app lies
}

type workerVitals struct {
	PID int   `json:"pid"`
	Age int64 `json:"age_s"`
}

type queueVitals struct {
	Address string `json:"address"`
	Waiting int    `json:"waiting"`
	Max     int    `json:"max"`
}

// room is bytes.
type room struct {
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
}

// used is the share of a room that is taken, "?" when that is not known.
func (r room) used() string {
	if r.Total == 0 {
		return "?"
	}
	return fmt.Sprintf("%d%%", 100*(r.Total-min(r.Free, r.Total))/r.Total)
}

// vitalsOf tells of one host from what it said: of the app's processes there, or of nginx's.
func vitalsOf(w tune.Want, h tune.Have, nginx bool) *vitals {
	v := &vitals{Age: -1, Workers: []workerVitals{}, Limits: []tune.Finding{}, Queues: []queueVitals{}, Overflows: h.Overflows, Drops: h.Drops,
		Load: h.Load, CPUs: h.CPUs, Memory: room{h.MemTotal, h.MemFree}, Disk: room{h.Disk.Total, h.Disk.Free}}
	mine := map[int]bool{}
	for _, p := range h.Processes {
		switch {
		case (p.Unit == tune.NginxUnit) != nginx:
			continue
		case p.Parent == 0:
			v.Master, v.Age = p.PID, p.Age
		default:
			v.Workers = append(v.Workers, workerVitals{p.PID, p.Age})
		}
		mine[p.PID] = true
	}
	for _, q := range h.Queues {
		for _, pid := range q.PIDs {
			if mine[pid] {
				v.Queues = append(v.Queues, queueVitals{q.Address, q.Waiting, q.Max})
				break
			}
		}
	}
	for _, f := range tune.Verify(w, h) {
		if !f.OK {
			v.Limits = append(v.Limits, f)
		}
	}
	return v
}

// report asks all there is to know. A host whose vitals cannot be had is told without them.
func (v *statusView) report(ctx context.Context) (statusReport, error) {
	found := make(map[string]*vitals)
	list, err := v.ask(ctx, func(f *deploy.Fleet) error {
		all := make([]*vitals, len(f.Hosts))
		var group errgroup.Group
		group.SetLimit(v.c.opt.Parallel)
		for i, h := range f.Hosts {
			group.Go(func() error {
				env := v.c.env.On(h.Inventory())
				w := tune.WantOf(env, h.Inventory())
				if have, err := tune.Glance(ctx, v.c.root(h), env.App.Path, w); err == nil {
					all[i] = vitalsOf(w, have, false)
				}
				return nil
			})
		}
		_ = group.Wait() // always nil
		for i, h := range f.Hosts {
			found[h.Inventory().Name] = all[i]
		}
		return nil
	})
	if err != nil {
		return statusReport{}, err
	}
	r := newStatus(v.c, list)
	r.Fronts = v.askFronts(ctx)
	for _, f := range r.Fronts {
		r.Drift = r.Drift || f.Vitals != nil && len(f.Vitals.Limits) > 0
	}
	for i := range r.Hosts {
		r.Hosts[i].Vitals = found[r.Hosts[i].Host]
		r.Drift = r.Drift || r.Hosts[i].Vitals != nil && len(r.Hosts[i].Vitals.Limits) > 0
	}
	return r, nil
}

// vitalsTable shows the vitals below the table of releases.
func (c *call) vitalsTable(r statusReport) error {
	var rows [][]string
	for _, h := range r.Hosts {
		v := h.Vitals
		if v == nil {
			continue
		}
		master := "none"
		if v.Master > 0 {
			master = fmt.Sprint(v.Master)
		}
		rows = append(rows, []string{h.Host, master, fmt.Sprint(len(v.Workers)), ageText(v.Age), queueText(v.Queues), fmt.Sprint(v.Overflows),
			v.Load, fmt.Sprint(v.CPUs), v.Memory.used(), v.Disk.used(), c.limitsText(h.Host, v)})
	}
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(c.sys.Stdout); err != nil {
		return err
	}
	return table(c.sys.Stdout, []string{"HOST", "MASTER", "WORKERS", "AGE", "QUEUE", "OVERFLOWS", "LOAD", "CPUS", "MEMORY", "DISK", "LIMITS"}, rows)
}

// limitsText counts the limits that do not hold on a host, and says which below the tables.
func (c *call) limitsText(host string, v *vitals) string {
	if len(v.Limits) == 0 {
		return ""
	}
	c.conclude("%s %s: %s; look: godeploy tune %s --dry-run -l %s", c.mark(false), host, driftText(v.Limits), c.env.Name, host)
	return fmt.Sprintf("%d do not hold", len(v.Limits))
}

func driftText(list []tune.Finding) string {
	var texts []string
	for _, f := range list {
		texts = append(texts, fmt.Sprintf("%s is %s, not %s", clean(f.What), orElse(clean(f.Live), "unknown"), f.Want))
	}
	return someOf(texts, 3)
}

func queueText(queues []queueVitals) string {
	var texts []string
	for _, q := range queues {
		texts = append(texts, fmt.Sprintf("%d/%d", q.Waiting, q.Max))
	}
	return joined(" ", texts...)
}

// ageText is a time since something began, in its two largest units.
func ageText(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case seconds < 0:
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%ds", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), seconds%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// watchStatus looks again and again until somebody ends it, which is no failure. A connection that was lost
// is made anew with the next look.
func (c *call) watchStatus(ctx context.Context, every string) error {
	pause, err := time.ParseDuration(every)
	if err != nil || pause < 100*time.Millisecond || pause > time.Hour {
		return badFlag("watch", `a time from 100ms to 1h, such as "2s"`)
	}
	v, err := c.openStatus(ctx)
	if err != nil {
		return err
	}
	defer func() { v.close() }()
	for {
		r, err := v.report(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // what it saw last is cut off somewhere
		case err == nil:
			if err := c.showWatched(r); err != nil {
				return err
			}
		default:
			v.close()
			again, problem := c.openStatus(ctx)
			if problem != nil {
				v.close = func() {} // it is closed already
				return problem
			}
			v = again
		}
		if deploy.Pause(ctx, pause) != nil {
			return nil
		}
	}
}

// showWatched draws over what was shown before on a terminal; elsewhere a line with the time stands between.
func (c *call) showWatched(r statusReport) error {
	if c.looks().mode == "json" {
		return c.showStatus(r)
	}
	head := fmt.Sprintf("\n%s %s\n", c.env.Name, c.sys.Now().Format(time.TimeOnly))
	if c.sys.StdoutTTY {
		head = "\x1b[H\x1b[2J" + head[1:]
	}
	if _, err := fmt.Fprint(c.sys.Stdout, head); err != nil {
		return err
	}
	err := c.showStatus(r)
	c.mu.Lock()
	said := c.closing
	c.closing = nil
	c.mu.Unlock()
	for _, line := range said {
		if err == nil {
			_, err = fmt.Fprintln(c.sys.Stdout, c.mask.Hide(line))
		}
	}
	return err
}
