package process

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"godeploy/deploy"
	"godeploy/internal/wire"
	"godeploy/templates"
)

// trials is what trial boots have taught of the hosts. It is safe for concurrent use.
type trials struct {
	mu    sync.Mutex
	boots map[string]time.Duration
}

func (t *trials) note(host string, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.boots == nil {
		t.boots = map[string]time.Duration{}
	}
	t.boots[host] = took
}

func (t *trials) of(host string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.boots[host]
}

// boots is how long workers must have been there before they can be believed to have loaded their code: as
// long as the trial took to boot. uWSGI makes its workers after that, so for it any moment will do.
func (s *Service) boots(h deploy.Host, least time.Duration) time.Duration {
	took := s.trials.of(h.Inventory().Name)
	if s.env.Process.Server != "gunicorn" || took == 0 {
		return least
	}
	return max(least, min(took+steady, bootTime/2))
}

// stalls reports whether the app boots for longer than requests should wait, and nothing keeps them away
// from the host meanwhile.
func (s *Service) stalls(h deploy.Host) bool {
	return s.mayStall() && s.trials.of(h.Inventory().Name) > s.env.Release.StallBudget
}

// mayStall reports whether requests come to a host while it boots: nothing takes it out of its balancer.
func (s *Service) mayStall() bool {
	drain := s.env.Release.Drain
	return drain != "nginx" && drain != "haproxy" && !(drain == "auto" && s.env.Nginx != nil)
}

// expected is the number of workers that a server is configured to have: by its command line, or by the
// configuration that godeploy has written for it. What the user's own configuration says is not read; then
// it is 1.
func (s *Service) expected(ctx context.Context, h deploy.Host, command []string) int {
	n := workers(s.env.Process.Server, command)
	name, has := templates.Option(command, "--config", "-c", "--ini")
	if n > 1 || !has || !strings.HasPrefix(name, "/etc/godeploy/") {
		return n
	}
	reply, err := h.File(ctx, wire.FileRequest{Path: name})
	if err != nil || !templates.Ours(reply.Content) {
		return n
	}
	for line := range strings.Lines(string(reply.Content)) {
		key, value, _ := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); key != "workers" && key != "processes" {
			continue
		}
		if count, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && count > 0 && count < 10_000 {
			return count
		}
	}
	return n
}

// preloads reports whether a gunicorn loads the app before it makes workers: by its command line, the
// environment of its unit, or a configuration in which that can be read. New workers of such a master run
// in the new release and serve the old code, which /proc does not tell.
func (s *Service) preloads(ctx context.Context, h deploy.Host, f found) bool {
	if s.env.Process.Server != "gunicorn" {
		return false
	}
	current := s.env.App.Path + "/current"
	command := f.begun(s.env.Process, current)
	for _, pair := range f.Environ {
		if args, ok := strings.CutPrefix(pair, "GUNICORN_CMD_ARGS="); ok {
			command = append(strings.Fields(strings.Trim(args, `"'`)), command...)
		}
	}
	if slices.Contains(command, "--preload") || slices.Contains(command, "--preload-app") {
		return true
	}
	name, has := templates.Option(command, "--config", "-c")
	if !has {
		name = "gunicorn.conf.py"
	}
	if name = strings.TrimPrefix(name, "file:"); !strings.HasPrefix(name, "/") {
		name = cmp.Or(chdir(command), current) + "/" + strings.TrimPrefix(name, "./")
	}
	reply, err := h.File(ctx, wire.FileRequest{Path: name})
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(reply.Content)) {
		key, value, _ := strings.Cut(line, "=")
		value, _, _ = strings.Cut(value, "#")
		if strings.TrimSpace(key) == "preload_app" && strings.TrimSpace(value) != "False" {
			return true
		}
	}
	return false
}

// short says which processes a server lacks, "" when it has all that it needs to serve.
func (s *Service) short(f found, procs []wire.Proc) string {
	n, want := len(procs)-1, max(f.Want, 1)
	switch {
	case s.env.Process.Server == "custom" && n >= 0:
		return ""
	case n >= want, n == 0 && want == 1 && s.masterless(f.Running):
		return ""
	case n <= 0:
		return "no worker runs"
	}
	return fmt.Sprintf("%d of %d workers run", n, want)
}

// masterless reports whether a uWSGI serves by its only process. With a configuration of its own that
// cannot be told, and most have a master.
func (s *Service) masterless(command []string) bool {
	return s.env.Process.Server == "uwsgi" && isServer(command, "uwsgi") && !slices.ContainsFunc(command, func(w string) bool {
		return w == "--master" || w == "-M" || strings.HasSuffix(w, ".ini") || strings.HasPrefix(w, "--ini") || strings.HasPrefix(w, "--yaml") || strings.HasPrefix(w, "--xml") || strings.HasPrefix(w, "--json")
	})
}
