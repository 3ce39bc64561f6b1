package balance

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
)

// process is one nginx process of a host.
type process struct {
	pid, parent int
	start       string // clock ticks since boot: with pid an identity
	title       string
}

func (p process) master() bool { return strings.HasPrefix(p.title, "nginx: master process") }

// leaving reports whether a worker takes no new connections any more.
func (p process) leaving() bool { return strings.Contains(p.title, "is shutting down") }

// reads reports whether a master was started with a main file: by -c, or with the one that is built in.
func (p process) reads(conf string) bool {
	words := strings.Fields(p.title)
	for i, w := range words {
		if w == "-c" && i+1 < len(words) {
			return words[i+1] == conf
		}
		if rest, ok := strings.CutPrefix(w, "-c/"); ok {
			return "/"+rest == conf
		}
	}
	return conf == "/etc/nginx/nginx.conf"
}

// processes gives those of one program.
func (r root) processes(ctx context.Context, h deploy.Host, name string) ([]process, error) {
	s, err := r.sh(ctx, h, nil, procsScript, name)
	if err != nil {
		return nil, err
	}
	return parseProcesses(s.out), nil
}

// parseProcesses reads procsScript's lines; one that makes no sense is left out.
func parseProcesses(text string) []process {
	var all []process
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(words) < 4 {
			continue
		}
		pid, err1 := strconv.Atoi(words[0])
		parent, err2 := strconv.Atoi(words[1])
		if err1 == nil && err2 == nil && pid > 1 {
			all = append(all, process{pid, parent, words[2], words[3]})
		}
	}
	return all
}

// masterIn looks for the master. A worker that was just forked has its master's name for a moment: several
// are looked at again before they are believed. problem is why there is no one master.
func (r root) masterIn(ctx context.Context, h deploy.Host) (all []process, master process, problem, err error) {
	for try := 0; ; try++ {
		if all, err = r.processes(ctx, h, "nginx"); err != nil {
			return all, master, nil, err
		}
		master, problem = masterOf(all, r.env.Nginx.Conf)
		masters := slices.DeleteFunc(slices.Clone(all), func(p process) bool { return !p.master() })
		if problem == nil || len(masters) < 2 || try == 10 {
			return all, master, problem, nil
		}
		if err := deploy.Pause(ctx, pollTime); err != nil {
			return all, master, problem, err
		}
	}
}

// masterOf gives the one master that reads a main file.
func masterOf(all []process, conf string) (process, error) {
	var masters, others []process
	for _, p := range all {
		switch {
		case p.master() && p.reads(conf):
			masters = append(masters, p)
		case p.master():
			others = append(others, p)
		}
	}
	switch {
	case len(masters) == 1:
		return masters[0], nil
	case len(masters) > 1:
		f := fault.New(fault.NginxStopped, "%d nginx masters read %s, and only one of them can be the right one", len(masters), conf)
		for _, m := range masters[:min(len(masters), 4)] {
			f.Fact("process %d: %s", m.pid, m.title)
		}
		return process{}, f.Hint("end those that the system did not start")
	}
	f := fault.New(fault.NginxStopped, "nginx does not run with %s", conf).Hint("start it: systemctl start nginx")
	for _, m := range others[:min(len(others), 4)] {
		f.Fact("process %d: %s", m.pid, m.title)
	}
	return process{}, f
}

// workersOf gives a master's workers that take connections, and those that only finish what they have.
func workersOf(all []process, master process) (serving, leaving []process) {
	for _, p := range all {
		switch {
		case p.parent != master.pid || !strings.HasPrefix(p.title, "nginx: worker process"):
		case p.leaving():
			leaving = append(leaving, p)
		default:
			serving = append(serving, p)
		}
	}
	return serving, leaving
}

// renewed reports whether a master has workers, and none that were there before.
func renewed(serving, before []process) bool {
	return len(serving) > 0 && !slices.ContainsFunc(serving, func(p process) bool {
		return slices.ContainsFunc(before, func(b process) bool { return b.pid == p.pid && b.start == p.start })
	})
}

// testFault says what nginx -t has against a configuration.
func testFault(code fault.Code, s said, format string, args ...any) *fault.Error {
	f := fault.New(code, format, args...)
	for _, line := range s.lines(4) {
		f.Fact("| %s", line)
	}
	text := s.out + s.err
	switch {
	case strings.Contains(text, "Too many open files"):
		f.Hint("an include leads back to itself")
	case strings.Contains(text, "host not found"):
		f.Hint("a name in it does not resolve, and nginx would refuse every later reload for it")
	}
	return f
}
