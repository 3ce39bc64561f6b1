package main

import (
	"path"
	"slices"
	"strings"
)

// measure is what a goal is about.
type measure string

const (
	ofWall   measure = "wall"
	ofBytes  measure = "bytes"
	ofCPU    measure = "client CPU"
	ofServer measure = "server CPU"
	ofMemory measure = "client memory"
	ofHelper measure = "helper memory"
)

// place says where a side's copy goes.
type place int

const (
	// fresh: a new destination and nothing remembered on this machine, each time.
	fresh place = iota
	// standing: one destination, filled once before anything is measured.
	standing
	// chain: a new destination beside the one before, which the command may link from.
	chain
)

// side is one command line of a row. Argv is split at spaces; its {words} are listed at trial.words.
type side struct {
	Name string
	Argv string
	Dest place
	// Forget drops what this machine remembers of the tree before each run.
	Forget bool
	// Mux runs over a connection that ssh holds open (ControlMaster).
	Mux bool
	// Config is added to the [ssh] table of godeploy.toml.
	Config string
	// Hosts limits the row's hosts; 0 is all of them.
	Hosts int
	// Newcomer removes the helper from the host before each run.
	Newcomer bool
	// NoCopy is for a command that copies nothing, so that there is nothing to compare.
	NoCopy bool
}

func (s side) ours() bool { return strings.Contains(s.Argv, "{godeploy}") }

// staged tells that the copy is a release folder and not the destination itself.
func (s side) staged() bool { return s.ours() && !strings.Contains(s.Argv, "--to") }

// goal is a promise about one side: a ratio to the best of others, or an absolute bound.
type goal struct {
	Of measure
	// Side is the side that is judged; "" is the row's first side of ours.
	Side string
	// Against are the sides it is compared with; the one with the best median counts.
	Against []string
	// Ratio and Stretch bound the quotient; 0 is no bound.
	Ratio, Stretch float64
	// Most bounds the measure itself, or with Against and no Ratio what it has more than they.
	Most float64
}

// row is one line of the table: a piece of work, the command lines that do it, and what is promised.
type row struct {
	ID, What, Group string
	Tree            string
	Link            string // "" is the fast one
	Hosts           int    // 0 is one
	Change          change // of the source, before each round
	// Cold drops the machine's page cache before each run.
	Cold bool
	// Large: files so large that the kernel's state of memory must be made the same before each run.
	Large bool
	// Wide gives TCP buffers that a long fat network needs; else it has the usual ones.
	Wide bool
	// Memory adds one run of each side, without a clock, in which memory is watched.
	Memory bool
	// Slow rows are left out of a quick run; Asked ones run only when they are named.
	Slow, Asked bool
	Sides       []side
	Goals       []goal
	// Note says what is known about a target that was missed; it is shown only where one was.
	Note string
}

func (r row) hosts() int { return max(r.Hosts, 1) }

func (r row) side(name string) (side, bool) {
	i := slices.IndexFunc(r.Sides, func(s side) bool { return s.Name == name || name == "" && s.ours() })
	if i < 0 {
		return side{}, false
	}
	return r.Sides[i], true
}

// chosen gives the rows whose id matches one of the patterns; without patterns all but Asked ones.
func chosen(all []row, patterns []string, quick bool) []row {
	return slices.DeleteFunc(slices.Clone(all), func(r row) bool {
		if len(patterns) == 0 {
			return r.Asked || quick && r.Slow
		}
		return !slices.ContainsFunc(patterns, func(p string) bool {
			ok, err := path.Match(p, r.ID)
			return err == nil && ok
		})
	})
}
