package main

func fleetRows() []row {
	fan := func(id, what string, hosts int) row {
		return row{ID: id, What: what, Group: groupFleet, Tree: tree10k, Hosts: hosts, Change: edit20, Sides: []side{
			{Name: "rsync, all at once", Argv: rsyncLink, Dest: chain},
			{Name: "rsync tuned, all at once", Argv: rsyncLinkT, Dest: chain},
			{Name: "godeploy", Argv: ours, Dest: standing},
			{Name: "godeploy, 1 host", Argv: ours, Dest: standing, Hosts: 1},
		}, Goals: []goal{
			{Of: ofWall, Against: []string{"rsync, all at once"}, Ratio: 0.6},
			{Of: ofCPU, Against: []string{"rsync, all at once"}, Ratio: 0.12},
		}}
	}
	few, many := fan("fan-16", "20 files edited, new release on 16 hosts", 16), fan("fan-50", "20 files edited, new release on 50 hosts", 50)
	few.Goals = append(few.Goals, goal{Of: ofCPU, Against: []string{"godeploy, 1 host"}, Ratio: 1.5})
	few.Slow, many.Slow, many.Memory = true, true, true
	return []row{few, many}
}

func bareRows() []row {
	return []row{
		{ID: "tar-10k", What: "first upload without the helper, 10,000 files", Group: groupBare, Tree: tree10k,
			Sides: []side{{Name: "rsync -a", Argv: rsyncFirst}, {Name: "godeploy, helper = false", Argv: ours, Config: "helper = false"}},
			Goals: []goal{{Of: ofWall, Against: []string{"rsync -a"}, Ratio: 1.0}}},
		{ID: "sftp-1g", What: "one file of 1 GiB to an account with SFTP only", Group: groupBare, Tree: treeBig, Link: linkSFTP, Large: true, Slow: true,
			Sides: []side{{Name: "sftp put", Argv: "sftp -q -F {config} -b {batch} {host}"}, {Name: "godeploy, helper = false", Argv: oursPlace, Config: "helper = false"}},
			Goals: []goal{{Of: ofWall, Against: []string{"sftp put"}, Ratio: 0.9}}},
	}
}

func hostRows() []row {
	known := side{Name: "godeploy, helper there", Argv: meet, Dest: standing, NoCopy: true}
	first := known
	first.Name, first.Newcomer = "godeploy, first contact", true
	return []row{{ID: "contact", What: "the helper is brought to a host, 50 ms round trip", Group: groupHost, Tree: treeTiny, Link: linkRTT50,
		Sides: []side{first, known}, Goals: []goal{{Of: ofBytes, Against: []string{known.Name}, Most: 1.5e6}}}}
}

// otherRows are run only when they are asked for.
func otherRows() []row {
	return []row{
		{ID: "memory-1m", What: "first upload of 1,000,000 files", Group: groupFirst, Tree: tree1m, Memory: true, Asked: true,
			Sides: []side{{Name: "rsync -a", Argv: rsyncFirst}, {Name: "godeploy", Argv: ours}},
			Goals: []goal{memoryGoal(ofMemory, 1_000_000), memoryGoal(ofHelper, 1_000_000)}},
		{ID: "smoke", What: "a row of the bench's own test", Group: groupHost, Tree: treeTiny, Asked: true, Change: edit20, Memory: true, Sides: []side{
			{Name: "rsync -a", Argv: rsyncFirst, Dest: standing}, {Name: "rsync again", Argv: rsyncTuned, Dest: standing},
			{Name: "rsync --link-dest", Argv: rsyncLink, Dest: chain},
		}, Goals: []goal{{Of: ofWall, Side: "rsync again", Against: []string{"rsync -a"}, Ratio: 10}}},
	}
}
