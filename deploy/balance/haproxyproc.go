package balance

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"godeploy/internal/fault"
)

// haproxySources gives the files and folders that a command line of HAProxy's names to be read.
func haproxySources(title string) []string {
	var list []string
	words := strings.Fields(title)
	for i := 0; i < len(words); i++ {
		if words[i] != "-f" {
			continue
		}
		for i++; i < len(words) && !strings.HasPrefix(words[i], "-"); i++ {
			list = append(list, words[i])
		}
		i--
	}
	return list
}

// haproxyReads reports whether HAProxy reads a file when it is given these: itself, or its folder, of which
// HAProxy takes what ends in ".cfg".
func haproxyReads(sources []string, file string) bool {
	return slices.ContainsFunc(sources, func(s string) bool {
		return s == file || path.Clean(s) == path.Dir(file) && strings.HasSuffix(file, ".cfg") && !strings.HasPrefix(path.Base(file), ".")
	})
}

// haproxyMaster gives the one master that reads a file. Workers have its command line; their parent is one
// of the processes too.
func haproxyMaster(all []process, file string) (process, error) {
	var masters, others []process
	for _, p := range all {
		words := strings.Fields(p.title)
		switch {
		case slices.ContainsFunc(all, func(o process) bool { return o.pid == p.parent }):
		case !slices.Contains(words, "-W") && !slices.Contains(words, "-Ws") || !haproxyReads(haproxySources(p.title), file):
			others = append(others, p)
		default:
			masters = append(masters, p)
		}
	}
	if len(masters) == 1 {
		return masters[0], nil
	}
	f := fault.New(fault.HaproxyStopped, "HAProxy does not run with %s as a master with workers", file).
		Hint("start it: systemctl start haproxy; the file is [balancer] file")
	told := others
	if len(masters) > 1 {
		told = masters
		f = fault.New(fault.HaproxyStopped, "%d masters of HAProxy read %s, and only one of them can be the right one", len(masters), file).
			Hint("end those that the system did not start")
	}
	for _, m := range told[:min(len(told), 4)] {
		f.Fact("process %d: %s", m.pid, m.title)
	}
	return process{}, f
}

// haproxyWorkers gives a master's worker that takes connections, the youngest, and those that only finish
// what they have. A reload that fails leaves the worker that there was.
func haproxyWorkers(all []process, master process) (current, leaving []process) {
	for _, p := range all {
		if p.parent == master.pid {
			leaving = append(leaving, p)
		}
	}
	slices.SortFunc(leaving, func(a, b process) int {
		return cmp.Or(cmp.Compare(ticks(b), ticks(a)), cmp.Compare(b.pid, a.pid))
	})
	if len(leaving) == 0 {
		return nil, nil
	}
	return leaving[:1:1], leaving[1:]
}

func ticks(p process) int64 {
	n, _ := strconv.ParseInt(p.start, 10, 64) // the kernel's; 0 when it makes no sense
	return n
}
