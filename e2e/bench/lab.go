package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The links between the two namespaces.
const (
	linkFast   = "fast"
	linkNarrow = "20mbit"
	linkRTT10  = "rtt10"
	linkRTT50  = "rtt50"
	// linkSFTP is the fast link to a port of sshd behind which there is nothing but SFTP.
	linkSFTP = "sftp"
)

const (
	sshPort  = 22000
	sftpPort = 22001
	// fleetSize is how many further addresses the server has, as so many hosts.
	fleetSize = 50
)

// link is one network between client and server.
type link struct {
	Name string
	// Net is the third number of its addresses: 10.203.Net.1 is the client, .2 the server.
	Net   int
	Delay time.Duration // each way
	Rate  string        // for tc tbf
}

func links() []link {
	return []link{
		{Name: linkFast, Net: 0},
		{Name: linkNarrow, Net: 20, Rate: "20mbit"},
		{Name: linkRTT10, Net: 10, Delay: 5 * time.Millisecond},
		{Name: linkRTT50, Net: 50, Delay: 25 * time.Millisecond},
	}
}

// address is that of the i-th host of a link; 0 is the only one there is but on the fast link.
func (l link) address(i int) string {
	if i == 0 {
		return fmt.Sprintf("10.203.%d.2", l.Net)
	}
	return fmt.Sprintf("10.203.%d.%d", l.Net, 100+i)
}

// lab is two network namespaces, one for the client and one for the server, with links between them
// and nowhere else, so that nobody else's traffic is counted and TCP is the kernel's own.
type lab struct {
	client, server space
	relays         []*relay
}

// space is a network namespace by name.
type space string

// newLab makes the namespaces; Close removes them.
func newLab(ctx context.Context) (*lab, error) {
	sweepLabs(ctx)
	base := labPrefix + strconv.Itoa(os.Getpid())
	l := &lab{client: space(base + "c"), server: space(base + "s")}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

const labPrefix = "gdbench"

// sweepLabs removes what a killed run has left.
func sweepLabs(ctx context.Context) {
	names, err := filepath.Glob("/run/netns/" + labPrefix + "*")
	if err != nil {
		return // the pattern is fixed
	}
	for _, name := range names {
		base := filepath.Base(name)
		pid := strings.Trim(strings.TrimPrefix(base, labPrefix), "cs")
		if gone(pid) {
			_ = run(ctx, "ip", "netns", "del", base) // an old one in the way hurts nobody
		}
	}
}

func (l *lab) build(ctx context.Context) error {
	for _, s := range []space{l.client, l.server} {
		if err := runAll(ctx, "ip netns add "+string(s), s.ip("link set lo up")); err != nil {
			return err
		}
	}
	if err := l.buffers(false); err != nil {
		return err
	}
	for _, k := range links() {
		if err := l.connect(ctx, k); err != nil {
			return fmt.Errorf("link %s: %w", k.Name, err)
		}
	}
	for i := range fleetSize {
		if err := runAll(ctx, l.server.ip("address add "+links()[0].address(i+1)+"/24 dev "+linkFast)); err != nil {
			return err
		}
	}
	return nil
}

// Buffers of TCP: what Linux has when nobody has changed it, and enough for a long fat network, as
// administrators of one set it.
const (
	usualBuffers = "4096 131072 6291456"
	usualSend    = "4096 16384 4194304"
	wideBuffers  = "4096 131072 67108864"
)

// buffers sets how large the buffers of connections to come may grow, in both namespaces. Congestion
// control is the machine's: only it may say what a namespace uses.
func (l *lab) buffers(wide bool) error {
	values := map[string]string{"tcp_rmem": usualBuffers, "tcp_wmem": usualSend}
	if wide {
		values = map[string]string{"tcp_rmem": wideBuffers, "tcp_wmem": wideBuffers}
	}
	var errs []error
	for _, s := range []space{l.client, l.server} {
		for name, value := range values {
			errs = append(errs, s.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0) }))
		}
	}
	return errors.Join(errs...)
}

func (l *lab) connect(ctx context.Context, k link) error {
	if k.Delay > 0 {
		if err := l.tunnel(k); err != nil {
			return err
		}
	} else if err := runAll(ctx, l.client.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", k.Name, k.Name, l.server))); err != nil {
		return err
	}
	for i, s := range []space{l.client, l.server} {
		err := runAll(ctx, s.ip(fmt.Sprintf("address add 10.203.%d.%d/24 dev %s", k.Net, i+1, k.Name)), s.ip("link set "+k.Name+" up"))
		if err == nil && k.Rate != "" {
			err = runAll(ctx, fmt.Sprintf("ip netns exec %s tc qdisc add dev %s root tbf rate %s burst 32kb latency 50ms", s, k.Name, k.Rate))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tunnel makes a device in each namespace and a relay between them that keeps packets for a while.
func (l *lab) tunnel(k link) error {
	var ends [2]*os.File
	for i, s := range []space{l.client, l.server} {
		err := s.do(func() (err error) {
			ends[i], err = openTUN(k.Name)
			return err
		})
		if err != nil {
			if i > 0 {
				_ = ends[0].Close() // the other error tells more
			}
			return err
		}
	}
	l.relays = append(l.relays, newRelay(ends[0], ends[1], k.Delay))
	return nil
}

// Close ends the relays and removes the namespaces with all that is in them.
func (l *lab) Close() error {
	var errs []error
	for _, r := range l.relays {
		errs = append(errs, r.Close())
	}
	for _, s := range []space{l.client, l.server} {
		if _, err := os.Stat("/run/netns/" + string(s)); err == nil {
			errs = append(errs, run(context.Background(), "ip", "netns", "del", string(s)))
		}
	}
	return errors.Join(errs...)
}

// ip is an ip command line for the namespace.
func (s space) ip(line string) string { return "ip -n " + string(s) + " " + line }

// do runs f in the namespace: what it opens or starts is there. The thread is never used for anything
// else; it ends with the goroutine.
func (s space) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + string(s))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close() // the thread holds the namespace now
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// traffic gives the bytes that a device of the namespace has sent and received, headers and all.
func (s space) traffic(ctx context.Context, device string) (sent, received int64, err error) {
	out, err := exec.CommandContext(ctx, "ip", "-n", string(s), "-json", "-stats", "link", "show", "dev", device).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the traffic of %s: %w", device, err)
	}
	var devices []struct {
		Stats struct {
			RX struct{ Bytes int64 }
			TX struct{ Bytes int64 }
		} `json:"stats64"`
	}
	if err := json.Unmarshal(out, &devices); err != nil || len(devices) != 1 {
		return 0, 0, fmt.Errorf("the traffic of %s: %q: %w", device, out, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return devices[0].Stats.TX.Bytes, devices[0].Stats.RX.Bytes, nil
}

// runAll runs command lines without quoting, one after the other.
func runAll(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if err := run(ctx, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
