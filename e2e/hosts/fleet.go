package hosts

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Options say what Start boots. The zero value is the whole topology, removed by Close.
type Options struct {
	// Only names the hosts to boot; empty means all seven. The networks are there either way.
	Only []string
	// Keep lets the fleet outlive this process, for people; Remove takes it away by its id.
	Keep bool
	// Log, if set, is told in one line each what takes long. It may be called concurrently.
	Log func(format string, args ...any)
	// BootTimeout bounds the wait for one host's sshd; 0 means a minute.
	BootTimeout time.Duration
}

// Fleet is a booted topology. Its methods may be called concurrently; Close ends it.
type Fleet struct {
	// ID is the prefix, with a "-", of every name the fleet made: namespaces, machines.
	ID string
	// KeyFile is the private key that logs in as root, deploy and swiper on every host.
	KeyFile string
	// SSHConfig and KnownHosts are files for ssh -F and UserKnownHostsFile, app hosts through lb1.
	SSHConfig, KnownHosts string

	opts       Options
	work       string // overlays and files
	base       string
	authorized []byte
	hosts      []*Host
	unlock     func()
	closeOnce  sync.Once
	closeErr   error
}

// Start removes the leftovers of killed runs, builds the base tree when it is missing, and boots
// the hosts; when it returns, sshd answers on each. On an error nothing is left behind. The
// context bounds the start only. It needs root.
func Start(ctx context.Context, opts Options) (*Fleet, error) {
	if opts.Log == nil {
		opts.Log = func(string, ...any) {}
	}
	if opts.BootTimeout == 0 {
		opts.BootTimeout = time.Minute
	}
	if err := usable(); err != nil {
		return nil, err
	}
	if _, err := Sweep(); err != nil {
		return nil, err
	}
	if err := allowInotify(opts.Log); err != nil {
		return nil, err
	}
	opts.Log("base tree %s", baseName())
	base, err := Base(ctx, CacheDir())
	if err != nil {
		return nil, err
	}
	f, err := newFleet(base, opts)
	if err != nil {
		return nil, err
	}
	if err := f.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("fleet %s: %w", f.ID, err), f.remove())
	}
	return f, nil
}

// usable says what this machine lacks.
func usable() error {
	if os.Geteuid() != 0 {
		return errors.New("test hosts need root: namespaces, mounts and systemd-nspawn")
	}
	for _, tool := range []string{"debootstrap", "systemd-nspawn", "nsenter", "ip", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("test hosts need %s: apt-get install debootstrap systemd-container iproute2 openssh-client", tool)
		}
	}
	return nil
}

// newFleet gives the fleet its id, its lock and its folders.
func newFleet(base string, opts Options) (*Fleet, error) {
	var raw [3]byte
	_, _ = rand.Read(raw[:]) // never fails, by its documentation
	f := &Fleet{ID: fmt.Sprintf("gd%x", raw), opts: opts, base: base}
	f.work = filepath.Join(CacheDir(), "fleets", f.ID)
	if err := f.claim(); err != nil {
		return nil, err
	}
	for _, s := range topology() {
		if opts.wants(s.name) {
			f.hosts = append(f.hosts, &Host{Name: s.name, spec: s, fleet: f})
		}
	}
	return f, nil
}

// claim makes the state folder already locked: it is built under a name that Sweep does not read
// and then renamed, so there is no moment at which it looks abandoned.
func (f *Fleet) claim() error {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(stateDir, ".new-")
	if err != nil {
		return err
	}
	if f.unlock, err = flock(filepath.Join(draft, "lock"), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	files := map[string]string{"work": f.work}
	if f.opts.Keep {
		files["keep"] = ""
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(draft, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return os.Rename(draft, filepath.Join(stateDir, f.ID))
}

func (o Options) wants(name string) bool {
	if len(o.Only) == 0 {
		return true
	}
	for _, n := range o.Only {
		if n == name {
			return true
		}
	}
	return false
}

func (f *Fleet) build(ctx context.Context) error {
	if err := os.MkdirAll(f.work, 0o711); err != nil {
		return err
	}
	if err := f.makeKeys(); err != nil {
		return err
	}
	if err := f.makeNetworks(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := f.each(func(h *Host) error { return h.create(ctx) }); err != nil {
		return err
	}
	f.opts.Log("%d hosts answer after %v", len(f.hosts), time.Since(began).Round(time.Millisecond))
	return nil
}

// each runs something on all hosts at once and gives every host's error.
func (f *Fleet) each(do func(h *Host) error) error {
	errs := make([]error, len(f.hosts))
	var wg sync.WaitGroup
	for i, h := range f.hosts {
		wg.Go(func() {
			if err := do(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Hosts gives the booted hosts in the order of the topology: lb1, lb2, app1-4, db1.
func (f *Fleet) Hosts() []*Host { return append([]*Host(nil), f.hosts...) }

// Host gives a booted host by name. It is nil when the fleet has no such host.
func (f *Fleet) Host(name string) *Host {
	for _, h := range f.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Role gives the hosts of a role: "nginx", "app" or "db".
func (f *Fleet) Role(role string) []*Host {
	var found []*Host
	for _, h := range f.hosts {
		if h.spec.role == role {
			found = append(found, h)
		}
	}
	return found
}

// Operator gives a command that will run in the operator's namespace, with this machine's files
// and this process's user. The caller starts and waits for it.
func (f *Fleet) Operator(ctx context.Context, name string, args ...string) *exec.Cmd {
	argv := append([]string{"netns", "exec", f.ID + "-" + operatorName, name}, args...)
	return exec.CommandContext(ctx, "ip", argv...)
}

// SSH runs a command on a host as one of its users, from the operator through real ssh: an app host
// is reached by ssh -J through lb1. It gives what the command printed on stdout.
func (f *Fleet) SSH(ctx context.Context, user, host, command string) (string, error) {
	cmd := f.Operator(ctx, "ssh", "-F", f.SSHConfig, "-l", user, host, command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("ssh %s@%s %s: %w: %s", user, host, command, err, tail(stderr.String(), 500))
	}
	return string(out), nil
}

// Close stops the hosts as a power cut would and removes everything the fleet made. A fleet with
// Options.Keep goes on running; only this process's hold on it ends.
func (f *Fleet) Close() error {
	f.closeOnce.Do(func() {
		if f.opts.Keep {
			f.unlock()
			return
		}
		f.closeErr = f.remove()
	})
	return f.closeErr
}

func (f *Fleet) remove() error {
	defer f.unlock()
	done, err := cleaning()
	if err != nil {
		return err
	}
	err = tearDown(f.ID)
	done()
	for _, h := range f.hosts {
		h.reap()
	}
	return err
}

// makeKeys makes the operator's key and what ssh needs to know of the hosts.
func (f *Fleet) makeKeys() error {
	private, public, err := newKey("operator")
	if err != nil {
		return err
	}
	f.KeyFile = filepath.Join(f.work, "id_ed25519")
	f.SSHConfig = filepath.Join(f.work, "ssh_config")
	f.KnownHosts = filepath.Join(f.work, "known_hosts")
	f.authorized = ssh.MarshalAuthorizedKey(public)
	var known, config bytes.Buffer
	fmt.Fprintf(&config, "IdentityFile %s\nIdentitiesOnly yes\nUserKnownHostsFile %s\nStrictHostKeyChecking yes\nBatchMode yes\nUser deploy\n",
		f.KeyFile, f.KnownHosts)
	for _, h := range f.hosts {
		if h.hostKey, h.PublicKey, err = newKey(h.Name); err != nil {
			return err
		}
		fmt.Fprintf(&known, "%s %s", h.Addr(), ssh.MarshalAuthorizedKey(h.PublicKey))
		fmt.Fprintf(&config, "\nHost %s\n  HostName %s\n", h.Name, h.Addr())
		if h.spec.public == "" {
			fmt.Fprintf(&config, "  ProxyJump lb1\n")
		}
	}
	return errors.Join(
		os.WriteFile(f.KeyFile, private, 0o600),
		os.WriteFile(f.KnownHosts, known.Bytes(), 0o644),
		os.WriteFile(f.SSHConfig, config.Bytes(), 0o644))
}
