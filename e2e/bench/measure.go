package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sample is what one run cost. Times are seconds, sizes bytes.
type sample struct {
	Wall      float64 `json:"wall"`
	ClientCPU float64 `json:"client_cpu"`
	ServerCPU float64 `json:"server_cpu"`
	Sent      int64   `json:"sent"`
	Received  int64   `json:"received"`
}

// memory is the most memory one process had at each end.
type memory struct {
	Client int64 `json:"client"`
	Server int64 `json:"server"`
}

// prepare brings a side to where each of its runs begins: the connection that ssh holds, the helper on
// the host, a standing destination filled over the fast link, and one run as they will be measured.
func (t *trial) prepare(ctx context.Context) error {
	if t.side.Mux {
		if err := t.holdOpen(ctx); err != nil {
			return err
		}
	}
	if t.side.Dest == fresh {
		return t.greet(ctx)
	}
	if !t.side.NoCopy {
		through := *t
		through.link, through.side.Mux = linkFast, false
		if err := through.run(ctx); err != nil {
			return err
		}
		t.runs = through.runs
	}
	if t.row.hosts() > 1 {
		return nil
	}
	return t.run(ctx)
}

// greet brings the helper to the hosts of a side whose first run is to be measured.
func (t *trial) greet(ctx context.Context) error {
	if !t.side.ours() || t.side.Config != "" || t.row.Link == linkSFTP {
		return nil
	}
	hello := *t
	hello.side.Argv, hello.link = meet, linkFast
	return hello.run(ctx)
}

func (t *trial) holdOpen(ctx context.Context) error {
	c := exec.CommandContext(ctx, "ssh", "-F", t.b.server.muxConfig(), t.stops()[0].Alias, "true")
	c.SysProcAttr = t.b.client.attr()
	if err := t.b.lab.client.do(c.Start); err != nil {
		return err
	}
	return c.Wait()
}

// letGo ends connections held open, those too that filling left; there need not be any.
func (b *bench) letGo(ctx context.Context) {
	sockets, err := filepath.Glob(filepath.Join(b.server.dir, "mux-*"))
	if err != nil {
		return // the pattern is fixed
	}
	for _, socket := range sockets {
		_ = exec.CommandContext(ctx, "ssh", "-F", "none", "-S", socket, "-O", "exit", "host").Run()
	}
}

// ready makes each run begin alike: nothing dirty, and what the row wants forgotten is.
func (t *trial) ready(ctx context.Context) error {
	if t.side.Dest == fresh || t.side.Forget {
		if err := os.RemoveAll(t.cache()); err != nil {
			return err
		}
	}
	if t.side.Newcomer {
		if err := os.RemoveAll(filepath.Join(t.b.server.home(), ".cache")); err != nil {
			return err
		}
	}
	unix.Sync()
	if t.row.Large {
		// The kernel has 4 GiB of pages at hand again. Without it the side that comes second may wait for
		// the first one's, which made threefold differences.
		if err := run(ctx, "dd", "if=/dev/zero", "of=/dev/null", "bs=4G", "count=1", "iflag=fullblock", "status=none"); err != nil {
			return err
		}
	}
	if t.row.Cold {
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	return nil
}

// measured runs the side once and says what it cost, to the end of the last process it started.
func (t *trial) measured(ctx context.Context) (sample, error) {
	if err := t.ready(ctx); err != nil {
		return sample{}, err
	}
	before, err := t.counters(ctx)
	if err != nil {
		return sample{}, err
	}
	clients, servers := len(t.b.client.processes()), len(t.b.remote.processes())
	began := time.Now()
	if err := t.run(ctx); err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	if err := errors.Join(t.b.client.settle(ctx, clients), t.b.remote.settle(ctx, servers)); err != nil {
		return sample{}, err
	}
	after, err := t.counters(ctx)
	return sample{
		Wall: took.Seconds(), ClientCPU: after.ClientCPU - before.ClientCPU, ServerCPU: after.ServerCPU - before.ServerCPU,
		Sent: after.Sent - before.Sent, Received: after.Received - before.Received,
	}, err
}

// counters reads everything that is counted from the beginning.
func (t *trial) counters(ctx context.Context) (sample, error) {
	client, err1 := t.b.client.cpu()
	server, err2 := t.b.remote.cpu()
	sent, received, err3 := t.b.lab.client.traffic(ctx, linkOf(t.link).Name)
	return sample{ClientCPU: client.Seconds(), ServerCPU: server.Seconds(), Sent: sent, Received: received}, errors.Join(err1, err2, err3)
}

// watched runs the side once more and watches its memory. The high-water mark of a process stands
// until it ends, so that looking every few milliseconds misses only its last moments.
func (t *trial) watched(ctx context.Context) (memory, error) {
	if err := t.ready(ctx); err != nil {
		return memory{}, err
	}
	word := "rsync"
	if t.side.ours() {
		word = "helper"
	}
	done := make(chan error, 1)
	go func() { done <- t.run(ctx) }()
	var most memory
	for {
		select {
		case err := <-done:
			if err != nil {
				return most, fmt.Errorf("watching memory: %w", err)
			}
			return most, nil
		case <-time.After(5 * time.Millisecond):
			most.Client = max(most.Client, t.b.client.peak(""))
			most.Server = max(most.Server, t.b.remote.peak(word))
		}
	}
}
