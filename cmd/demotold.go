package cmd

import (
	"fmt"
	"path/filepath"
	"time"
)

// say begins a paragraph of the story, more goes on with it. It stands on stderr, as every story.
func (d *demo) say(format string, args ...any) {
	d.more("")
	d.more(format, args...)
}

func (d *demo) more(format string, args ...any) {
	if !d.c.looks().quiet {
		fmt.Fprintf(d.c.sys.Stderr, format+"\n", args...)
	}
}

func (d *demo) opening() {
	d.more("Four servers inside this process, reached over real SSH on loopback. Their disks are")
	d.more("folders below %s/fleet, the project to release lies in", d.fleet.dir)
	d.more("%s.", d.fleet.project())
	d.more("")
	for i := range demoServers {
		d.more("  %s  ssh %s:%d  shop http://%s/  weight %d", d.fleet.name(i), d.fleet.address(i), d.fleet.ssh, d.fleet.listen(i), d.fleet.weight(i))
	}
}

func (d *demo) summary(took time.Duration) {
	answered := func(i int) int { return d.seen.Releases[d.ids[i]] }
	bad := d.seen.Requests - answered(0) - answered(1)
	d.say("%s That was it, in %s:", d.c.mark(true), brief(took))
	d.more("  2 releases, 1 that broke and undid itself, 1 rollback, on %d servers", demoServers)
	d.more("  %s meanwhile, %d failed", plural(d.seen.Requests, "request"), d.seen.Failed)
	d.more("  answered by version 1: %d, by version 2: %d, by version 3 until it was undone: %d", answered(0), answered(1), bad)
}

// playground says what can be tried while the fleet runs.
func (d *demo) playground() {
	d.say("The fleet runs until you press Ctrl-C. In another terminal:")
	d.more("")
	d.more("  cd %s && PATH=%s:$PATH", d.fleet.project(), filepath.Join(d.fleet.dir, "bin"))
	d.more("  rm broken; echo 4 > VERSION; godeploy release demo")
	d.more("  curl http://%s/", d.fleet.listen(0))
	d.more("  godeploy exec demo -- ls -l shop/releases shop/current")
	d.more("  godeploy releases demo")
}

// farewell stands below the story, when the fleet has ended.
func (d *demo) farewell(keep bool) {
	if d.c.looks().quiet {
		return
	}
	if keep {
		d.c.conclude("  The servers have ended. Their files are yours to remove: rm -r %s", d.fleet.dir)
	} else {
		d.c.conclude("  Servers, processes and files are gone again; godeploy demo --keep leaves them to play with.")
	}
	d.c.conclude("  Next: write a godeploy.toml for your own app. README.md shows one of 12 lines;")
	d.c.conclude("        godeploy check tells what is wrong with it.")
}

// document is the result for programs.
func (d *demo) document(ms int64) error {
	if d.c.looks().mode != "json" {
		return nil
	}
	return d.c.document(struct {
		MS       int64    `json:"ms"`
		Releases []string `json:"releases"`
		Load     demoSeen `json:"load"`
	}{ms, d.ids, d.seen})
}
