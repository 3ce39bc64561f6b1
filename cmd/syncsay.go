package cmd

import (
	"fmt"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/wire"
)

// saySynced gives the last lines for a person, and the id for a script.
func (c *call) saySynced(r *deploy.SyncResult, err error) {
	if err != nil {
		c.sayNotSynced(r)
		return
	}
	dot := " · "
	if c.looks().ascii {
		dot = ", "
	}
	sum := r.Sum()
	parts := append([]string{c.syncTitle(r)}, sum.Parts()...)
	c.conclude("%s %s", c.mark(true), strings.Join(append(parts, took(r.Took)), dot))
	switch id := r.Staged(); {
	case r.DryRun && r.Differs():
		c.conclude("  do it:  the same without --dry-run")
	case r.DryRun || id == "":
	default:
		if r.Verdict == deploy.Done {
			c.conclude("  bring it out:  godeploy release %s", r.Env)
		}
		_ = c.print("%s\n", id) // a closed stdout is no reason to fail
	}
}

// syncTitle says what was done to how many servers.
func (c *call) syncTitle(r *deploy.SyncResult) string {
	hosts := plural(len(r.Hosts), "host")
	switch {
	case r.DryRun && !r.Differs():
		return "nothing to sync: " + hosts
	case r.DryRun:
		return "would sync " + hosts
	case r.Verdict == deploy.Nothing:
		return "nothing to sync: " + hosts
	}
	return "sync " + hosts
}

func (c *call) sayNotSynced(r *deploy.SyncResult) {
	switch {
	case r.DryRun:
	case r.Verdict == deploy.Mixed:
		c.conclude("%s Not every server of %s has %s as it is here", c.mark(false), r.Env, c.env.App.Path)
		for _, h := range r.Hosts {
			c.conclude("    %-12s %s", h.Host, map[deploy.Outcome]string{
				deploy.Healthy: "done", deploy.Unknown: "begun, not finished: every file is whole, old or new",
			}[h.Outcome])
		}
		c.conclude("  forward:  the same command again sends only what is still missing")
	case r.Verdict == deploy.WholeOld:
		c.conclude("%s Not on every server; what serves was not changed on %s", c.mark(false), r.Env)
	default:
		c.conclude("%s Not sent; nothing was changed on %s", c.mark(false), r.Env)
	}
}

// listChanges prints every change with its reason: data, so it goes to stdout. Hosts with the same
// changes are listed once.
func (c *call) listChanges(r *deploy.SyncResult) {
	if !c.flags.Bool("list") && !c.opt.DryRun {
		return
	}
	if c.looks().mode == "json" {
		c.changeEvents(r)
		return
	}
	var b strings.Builder
	for _, g := range sameChanges(r.Hosts) {
		c.listGroup(&b, g, len(r.Hosts))
	}
	_ = c.print("%s", b.String()) // as above
}

func (c *call) changeEvents(r *deploy.SyncResult) {
	for _, h := range r.Hosts {
		for _, change := range h.Changes {
			c.told().Report(event.Event{Type: event.PlanFile, Host: h.Host, Op: change.Op.String(), Path: change.Path, Why: change.Why.String(), Bytes: change.Size})
		}
	}
}

// changeGroup is hosts that have the same changes.
type changeGroup struct {
	hosts []string
	first *deploy.Synced
}

func sameChanges(hosts []deploy.Synced) []*changeGroup {
	var groups []*changeGroup
	at := map[string]*changeGroup{}
	for i := range hosts {
		h := &hosts[i]
		var key strings.Builder
		fmt.Fprint(&key, h.Listed)
		for _, change := range h.Changes {
			fmt.Fprintf(&key, "\x00%s\x00%d\x00%d\x00%d", change.Path, change.Op, change.Kind, change.Why)
		}
		g := at[key.String()]
		if g == nil {
			g = &changeGroup{first: h}
			at[key.String()] = g
			groups = append(groups, g)
		}
		g.hosts = append(g.hosts, h.Host)
	}
	return groups
}

// mostListed is how many changes of a host a dry run without --list prints.
const mostListed = 20

func (c *call) listGroup(b *strings.Builder, g *changeGroup, hosts int) {
	changes := g.first.Changes
	if hosts > 1 && (len(changes) > 0 || !g.first.Listed) {
		fmt.Fprintf(b, "%s\n", strings.Join(g.hosts, " "))
	}
	if !g.first.Listed {
		b.WriteString("  what differs cannot be listed: this host's manifest cannot be had\n")
		return
	}
	l := c.looks()
	l.colour = l.colour && c.sys.StdoutTTY
	for i, change := range changes {
		if i == mostListed && !c.flags.Bool("list") && c.opt.Verbose == 0 {
			fmt.Fprintf(b, "  and %d more (--list has them)\n", len(changes)-mostListed)
			return
		}
		b.WriteString(changeLine(l, &change) + "\n")
	}
}

// changeLine is one change: the eleven letters of rsync -i, the path, and the reason in words.
func changeLine(l look, change *wire.PlaceChange) string {
	colour := yellow
	switch change.Op {
	case wire.PlaceCreate:
		colour = green
	case wire.PlaceDelete:
		colour = red
	}
	path := cleanLine(change.Path)
	if change.Kind == wire.PlaceDir {
		path += "/"
	}
	return fmt.Sprintf("%s %s  (%s)", l.paint(colour, itemised(change)), path, change.Why)
}

// itemised is a change in the letters of rsync --itemize-changes.
func itemised(change *wire.PlaceChange) string {
	switch change.Op {
	case wire.PlaceDelete:
		return "*deleting  "
	case wire.PlaceKept:
		return "*protected "
	}
	kind := map[wire.PlaceKind]byte{wire.PlaceDir: 'd', wire.PlaceFile: 'f', wire.PlaceLink: 'L', wire.PlaceSpecial: 'S'}[change.Kind]
	first := byte('.')
	switch {
	case change.Op == wire.PlaceMeta:
	case change.Kind == wire.PlaceFile:
		first = '<'
	default:
		first = 'c'
	}
	if change.Op == wire.PlaceCreate {
		return string([]byte{first, kind}) + "+++++++++"
	}
	letters := []byte{first, kind, '.', '.', '.', '.', '.', '.', '.', '.', '.'}
	for why, at := range map[wire.PlaceWhy]int{wire.WhyContent: 2, wire.WhySize: 3, wire.WhyTime: 4, wire.WhyMode: 5, wire.WhyOwner: 6} {
		if change.Why&why != 0 {
			letters[at] = "..cstpo"[at]
		}
	}
	if change.Why&wire.WhySize != 0 {
		letters[2] = 'c' // another size is another content
	}
	return string(letters)
}
