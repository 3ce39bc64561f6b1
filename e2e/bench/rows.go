package main

const (
	groupFirst = "First upload"
	groupAgain = "Again"
	groupLinks = "Links with latency and narrow links"
	groupFleet = "Many hosts"
	groupBare  = "Without the helper"
	groupHost  = "First contact"
)

// Command lines that stand in many rows.
const (
	rsyncFirst   = "rsync -a {ssh} {durable} {src}/ {host}:{dst}/"
	rsyncFirstZ  = "rsync -az {ssh} {durable} {src}/ {host}:{dst}/"
	rsyncTuned   = "rsync -a {tuned} {durable} {src}/ {host}:{dst}/"
	rsyncTunedZ  = "rsync -az {tuned} {durable} {src}/ {host}:{dst}/"
	rsyncLink    = "rsync -a {ssh} {durable} --link-dest={prev} {src}/ {host}:{dst}/"
	rsyncLinkT   = "rsync -a {tuned} {durable} --link-dest={prev} {src}/ {host}:{dst}/"
	rsyncNothing = "rsync -a {ssh} {src}/ {host}:{dst}/"
	rsyncNoTuned = "rsync -a {tuned} {src}/ {host}:{dst}/"
	rsyncHash    = "rsync -ac {ssh} {src}/ {host}:{dst}/"
	rsyncMux     = "rsync -a {mux} {src}/ {host}:{dst}/"
	rsyncMuxW    = "rsync -a {mux} {durable} {src}/ {host}:{dst}/"

	meet      = "{godeploy} lock status bench" // needs the helper, and copies nothing
	ours      = "{godeploy} sync bench"
	oursPlace = "{godeploy} sync bench --to {dst}"
)

// rows is the table. Its goals are the project's promises and are not moved to fit what was measured.
func rows() []row {
	var all []row
	for _, part := range [][]row{firstRows(), againRows(), editRows(), linkRows(), fleetRows(), bareRows(), hostRows(), otherRows()} {
		all = append(all, part...)
	}
	return all
}

func firstRows() []row {
	full := func(id, what, tree string) row {
		return row{ID: id, What: what, Group: groupFirst, Tree: tree, Memory: true, Sides: []side{
			{Name: "rsync -a", Argv: rsyncFirst}, {Name: "rsync -az", Argv: rsyncFirstZ},
			{Name: "rsync -az tuned", Argv: rsyncTunedZ}, {Name: "godeploy", Argv: ours},
		}}
	}
	code, many := full("first-11k", "Go source tree", treeGo), full("first-100k", "100,000 small files", tree100k)
	code.Goals = []goal{
		{Of: ofWall, Against: []string{"rsync -a", "rsync -az"}, Ratio: 0.70, Stretch: 0.60},
		{Of: ofBytes, Against: []string{"rsync -az"}, Ratio: 1.0},
	}
	many.Slow = true
	many.Goals = []goal{
		{Of: ofWall, Against: []string{"rsync -a", "rsync -az"}, Ratio: 0.75, Stretch: 0.60},
		{Of: ofBytes, Against: []string{"rsync -az"}, Ratio: 1.0},
		memoryGoal(ofMemory, 100_000), memoryGoal(ofHelper, 100_000),
	}
	large := row{ID: "first-1g", What: "one file of 1 GiB", Group: groupFirst, Tree: treeBig, Large: true, Memory: true,
		Sides: []side{{Name: "rsync -a", Argv: rsyncFirst}, {Name: "rsync -a tuned", Argv: rsyncTuned}, {Name: "godeploy", Argv: ours}},
		Goals: []goal{
			{Of: ofWall, Against: []string{"rsync -a"}, Ratio: 0.75},
			{Of: ofWall, Against: []string{"rsync -a tuned"}, Ratio: 1.05, Stretch: 1.0},
			memoryGoal(ofMemory, 1), memoryGoal(ofHelper, 1),
		}}
	return []row{code, many, large}
}

// memoryGoal: 64 MB and 350 bytes a file.
func memoryGoal(of measure, files float64) goal { return goal{Of: of, Most: 64e6 + 350*files} }

func againRows() []row {
	noop := func(id, what, tree string, ratio, stretch float64) row {
		return row{ID: id, What: what, Group: groupAgain, Tree: tree, Sides: []side{
			{Name: "rsync -a", Argv: rsyncNothing, Dest: standing}, {Name: "rsync -a tuned", Argv: rsyncNoTuned, Dest: standing},
			{Name: "godeploy", Argv: ours, Dest: standing},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync -a"}, Ratio: ratio, Stretch: stretch},
			{Of: ofBytes, Most: 10_000},
		}}
	}
	cold := noop("noop-100k-cold", "nothing changed, 100,000 files, cold page cache", tree100k, 0.6, 0)
	cold.Cold, cold.Slow = true, true
	many := noop("noop-100k", "nothing changed, 100,000 files", tree100k, 0.45, 0)
	many.Memory, many.Slow = true, true
	many.Goals = append(many.Goals, memoryGoal(ofMemory, 100_000), memoryGoal(ofHelper, 100_000))
	return []row{
		noop("noop-11k", "nothing changed, Go source tree", treeGo, 0.30, 0.20), many, cold,
		{ID: "touched-11k", What: "nothing changed, every mtime new (CI checkout)", Group: groupAgain, Tree: treeGo, Change: touchAll, Sides: []side{
			{Name: "rsync -a", Argv: rsyncNothing, Dest: standing}, {Name: "rsync -ac", Argv: rsyncHash, Dest: standing},
			{Name: "godeploy", Argv: ours, Dest: standing},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync -a"}, Ratio: 0.12},
			{Of: ofWall, Against: []string{"rsync -ac"}, Ratio: 0.45},
		}},
		{ID: "verify-11k", What: "everything hashed again on both sides", Group: groupAgain, Tree: treeGo, Sides: []side{
			{Name: "rsync -ac", Argv: rsyncHash, Dest: standing},
			{Name: "godeploy --verify all", Argv: ours + " --verify all", Dest: standing, Forget: true},
		}, Goals: []goal{{Of: ofWall, Against: []string{"rsync -ac"}, Ratio: 0.75}}},
	}
}

func editRows() []row {
	release := func(id, what, tree string, ratio, stretch float64) row {
		return row{ID: id, What: what, Group: groupAgain, Tree: tree, Change: edit20, Sides: []side{
			{Name: "rsync --link-dest", Argv: rsyncLink, Dest: chain}, {Name: "rsync --link-dest tuned", Argv: rsyncLinkT, Dest: chain},
			{Name: "godeploy", Argv: ours, Dest: standing},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync --link-dest"}, Ratio: ratio, Stretch: stretch},
			{Of: ofBytes, Against: []string{"rsync --link-dest"}, Ratio: 0.1},
		}}
	}
	inPlace := func(id, what, tree string, ratio, stretch float64) row {
		return row{ID: id, What: what, Group: groupAgain, Tree: tree, Change: edit20, Sides: []side{
			{Name: "rsync -a", Argv: rsyncFirst, Dest: standing}, {Name: "rsync -a tuned", Argv: rsyncTuned, Dest: standing},
			{Name: "godeploy --to", Argv: oursPlace, Dest: standing},
		}, Goals: []goal{{Of: ofWall, Against: []string{"rsync -a"}, Ratio: ratio, Stretch: stretch}}}
	}
	many, manyIn := release("edit-100k", "20 files edited, new release, 100,000 files", tree100k, 0.25, 0.12), inPlace("place-100k", "20 files edited, in place, 100,000 files", tree100k, 0.8, 0.6)
	many.Slow, manyIn.Slow = true, true
	return []row{
		release("edit-11k", "20 files edited, new release, Go source tree", treeGo, 0.25, 0.15), many,
		inPlace("place-11k", "20 files edited, in place, Go source tree", treeGo, 0.45, 0), manyIn,
		{ID: "rename", What: "a folder of 1,000 files renamed", Group: groupAgain, Tree: tree10k, Change: renameFolder, Sides: []side{
			{Name: "rsync -a --delete --fuzzy", Argv: "rsync -a --delete --fuzzy {ssh} {durable} {src}/ {host}:{dst}/", Dest: standing},
			{Name: "godeploy --to", Argv: oursPlace + " --delete", Dest: standing},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync -a --delete --fuzzy"}, Ratio: 0.3},
			{Of: ofBytes, Most: 100_000},
		}},
		{ID: "insert-1g", What: "1 KiB inserted into a file of 1 GiB", Group: groupAgain, Tree: treeBig, Change: insertKiB, Large: true, Memory: true, Sides: []side{
			{Name: "rsync -a", Argv: rsyncFirst, Dest: standing}, {Name: "rsync -az tuned", Argv: rsyncTunedZ, Dest: standing},
			{Name: "godeploy --to", Argv: oursPlace, Dest: standing},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync -a"}, Ratio: 0.55, Stretch: 0.4},
			{Of: ofBytes, Against: []string{"rsync -a"}, Ratio: 0.2},
			memoryGoal(ofMemory, 1), memoryGoal(ofHelper, 1),
		}},
	}
}

func linkRows() []row {
	var all []row
	for _, l := range []struct{ link, what string }{{linkRTT10, "10 ms"}, {linkRTT50, "50 ms"}} {
		all = append(all,
			row{ID: "noop-" + l.link, What: "nothing changed, " + l.what + " round trip", Group: groupLinks, Tree: treeGo, Link: l.link, Sides: []side{
				{Name: "rsync -a --no-i-r", Argv: rsyncNothing + " --no-inc-recursive", Dest: standing},
				{Name: "rsync, ControlMaster", Argv: rsyncMux, Dest: standing, Mux: true},
				{Name: "godeploy", Argv: ours, Dest: standing},
				{Name: "godeploy, ControlMaster", Argv: ours, Dest: standing, Mux: true},
			}, Goals: latencyGoals()},
			row{ID: "place-" + l.link, What: "20 files edited, in place, " + l.what + " round trip", Group: groupLinks, Tree: treeGo, Link: l.link, Change: edit20, Sides: []side{
				{Name: "rsync -a --no-i-r", Argv: rsyncFirst + " --no-inc-recursive", Dest: standing},
				{Name: "rsync, ControlMaster", Argv: rsyncMuxW, Dest: standing, Mux: true},
				{Name: "godeploy", Argv: oursPlace, Dest: standing},
				{Name: "godeploy, ControlMaster", Argv: oursPlace, Dest: standing, Mux: true},
			}, Goals: latencyGoals()})
	}
	random := row{ID: "random-rtt50", What: "256 MiB that cannot be compressed, 50 ms, usual TCP buffers", Group: groupLinks, Tree: treeRandom, Link: linkRTT50, Slow: true, Large: true,
		Sides: []side{{Name: "rsync -a", Argv: rsyncFirst}, {Name: "rsync -a tuned", Argv: rsyncTuned}, {Name: "godeploy", Argv: ours}},
		Goals: []goal{{Of: ofWall, Against: []string{"rsync -a"}, Ratio: 1. / 3, Stretch: 1. / 7}}}
	wide := random
	wide.ID, wide.What, wide.Wide = "random-rtt50-wide", "256 MiB that cannot be compressed, 50 ms, large TCP buffers", true
	return append(all,
		row{ID: "first-rtt50", What: "first upload, Go source tree, 50 ms round trip", Group: groupLinks, Tree: treeGo, Link: linkRTT50, Slow: true,
			Sides: []side{{Name: "rsync -az", Argv: rsyncFirstZ}, {Name: "rsync -az tuned", Argv: rsyncTunedZ}, {Name: "godeploy", Argv: ours}},
			Goals: []goal{{Of: ofWall, Against: []string{"rsync -az"}, Ratio: 0.75}}},
		random, wide,
		row{ID: "first-20mbit", What: "first upload, Go source tree, 20 Mbit/s", Group: groupLinks, Tree: treeGo, Link: linkNarrow, Slow: true,
			Sides: []side{{Name: "rsync -a", Argv: rsyncFirst}, {Name: "rsync -az", Argv: rsyncFirstZ}, {Name: "godeploy", Argv: ours}},
			Goals: []goal{{Of: ofWall, Against: []string{"rsync -a", "rsync -az"}, Ratio: 1.0}}},
		row{ID: "edit-20mbit", What: "20 files edited, new release, 20 Mbit/s", Group: groupLinks, Tree: treeGo, Link: linkNarrow, Change: edit20, Sides: []side{
			{Name: "rsync --link-dest", Argv: rsyncLink, Dest: chain},
			{Name: "rsync -z --link-dest", Argv: "rsync -az {ssh} {durable} --link-dest={prev} {src}/ {host}:{dst}/", Dest: chain},
			{Name: "godeploy", Argv: ours, Dest: standing},
		}, Goals: []goal{{Of: ofWall, Against: []string{"rsync --link-dest", "rsync -z --link-dest"}, Ratio: 0.5}}},
	)
}

func latencyGoals() []goal {
	return []goal{
		{Of: ofWall, Side: "godeploy", Against: []string{"rsync -a --no-i-r"}, Ratio: 0.6},
		{Of: ofWall, Side: "godeploy, ControlMaster", Against: []string{"rsync, ControlMaster"}, Ratio: 0.4},
	}
}
