package cmd

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

const demoWidth = 78 // columns of a paragraph, at most

// say tells a paragraph of the story. It stands on stderr, as every story.
func (d *demo) say(format string, args ...any) {
	cols := demoWidth
	if d.c.sys.StderrTTY && d.c.sys.Size != nil {
		wide, _ := d.c.sys.Size()
		cols = min(cols, wide-1)
	}
	d.line("")
	for _, l := range wrap(fmt.Sprintf(format, args...), cols) {
		d.line("%s", l)
	}
}

// line tells one line as it is.
func (d *demo) line(format string, args ...any) {
	if !d.c.looks().quiet {
		fmt.Fprintf(d.c.sys.Stderr, format+"\n", args...)
	}
}

// wrap parts text into lines of at most so many columns; a longer word has a line of its own.
func wrap(text string, cols int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && displayWidth(line)+1+displayWidth(word) > cols {
			lines, line = append(lines, line), ""
		}
		line = joined(" ", line, word)
	}
	return append(lines, line)
}

func (d *demo) opening() {
	d.say("Four servers inside this process, reached over real SSH on loopback. Their disks are folders:")
	d.line("")
	for i := range demoServers {
		d.line("  %s  ssh %s:%d  shop http://%s/  weight %d", d.fleet.name(i), d.fleet.address(i), d.fleet.ssh, d.fleet.listen(i), d.fleet.weight(i))
	}
	d.line("")
	d.line("  disks    %s/fleet", d.fleet.dir)
	d.line("  project  %s", d.fleet.project())
}

func (d *demo) summary(took time.Duration) {
	answered := func(i int) int { return d.seen.Releases[d.ids[i]] }
	bad := d.seen.Requests - answered(0) - answered(1)
	d.line("")
	d.line("%s That was it, in %s:", d.c.mark(true), brief(took))
	d.line("  2 releases, 1 that broke and undid itself, 1 rollback, on %d servers", demoServers)
	d.line("  %s meanwhile, %d failed", plural(d.seen.Requests, "request"), d.seen.Failed)
	d.line("  version 1 answered %d, version 2 %d, the broken one %d before it was undone", answered(0), answered(1), bad)
}

// playground says what can be tried while the fleet runs.
func (d *demo) playground() {
	d.say("The fleet runs until you press Ctrl-C. In another terminal:")
	d.line("")
	d.line("  cd %s", d.fleet.project())
	d.line("  export PATH=%s:$PATH", filepath.Join(d.fleet.dir, "bin"))
	d.line("  rm broken; echo 4 > VERSION; godeploy release demo")
	d.line("  curl http://%s/", d.fleet.listen(0))
	d.line("  godeploy exec demo -- ls -l shop/releases shop/current")
	d.line("  godeploy releases demo")
}

// farewell stands below the story, when the fleet has ended.
func (d *demo) farewell(keep bool) {
	if d.c.looks().quiet {
		return
	}
	if keep {
		d.c.conclude("  The servers have ended. Their files stay: rm -r %s", d.fleet.dir)
	} else {
		d.c.conclude("  All of it is gone again; with --keep it stays, to look at and to play with.")
	}
	d.c.conclude("  Next: write a godeploy.toml for your own app; README.md shows a short one,")
	d.c.conclude("        and godeploy check says what is wrong with it.")
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
