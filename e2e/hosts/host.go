package hosts

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Host is one booted Debian. Exec and Dial may be used concurrently; Reboot, PowerCut, Boot and
// Reset follow one another.
type Host struct {
	Name      string
	PublicKey ssh.PublicKey // sshd's host key

	fleet   *Fleet
	spec    spec
	hostKey []byte

	mu     sync.Mutex
	nspawn *exec.Cmd     // the running one, or nil
	ended  chan struct{} // closed when nspawn is reaped
}

// Role is "nginx", "app" or "db".
func (h *Host) Role() string { return h.spec.role }

// Weight is the share of requests an app host shall get; 0 for others.
func (h *Host) Weight() int { return h.spec.weight }

// Private is the host's address on the private bridge.
func (h *Host) Private() string { return h.spec.private }

// Public is the host's address on the public bridge, "" for a host without one.
func (h *Host) Public() string { return h.spec.public }

// Addr is where ssh finds the host: its public address, or the private one seen from a jump host.
func (h *Host) Addr() string {
	if h.spec.public != "" {
		return h.spec.public
	}
	return h.spec.private
}

// Netns is the name of the host's network namespace, for ip netns exec and nft.
func (h *Host) Netns() string { return h.fleet.ID + "-" + h.Name }

func (h *Host) dir(name string) string { return filepath.Join(h.fleet.work, h.Name, name) }

// create makes the overlay, writes what tells this host from the others, and boots it.
func (h *Host) create(ctx context.Context) error {
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(h.dir(d), 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", h.fleet.base, h.dir("upper"), h.dir("work"))
	if err := unix.Mount("overlay", h.dir("root"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	if err := h.identify(); err != nil {
		return err
	}
	return h.Boot(ctx)
}

// identify writes the host's name, keys and id. The machine id must stand before the first boot:
// systemd takes its absence for a first boot and enables every unit there is.
func (h *Host) identify() error {
	root := h.dir("root")
	files := []struct {
		path, text string
		mode       os.FileMode
	}{
		{"etc/hostname", h.Name + "\n", 0o644},
		{"etc/hosts", etcHosts(h.Name), 0o644},
		{"etc/machine-id", fmt.Sprintf("%x\n", md5.Sum([]byte(h.Netns()))), 0o444},
		{"etc/ssh/ssh_host_ed25519_key", string(h.hostKey), 0o600},
		{"etc/ssh/ssh_host_ed25519_key.pub", string(ssh.MarshalAuthorizedKey(h.PublicKey)), 0o644},
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(root, f.path), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	for _, home := range []string{"root", "home/deploy", "home/swiper"} {
		if err := authorize(filepath.Join(root, home), h.fleet.authorized); err != nil {
			return err
		}
	}
	return h.enable(root)
}

// enable starts at every boot what the role is there for.
func (h *Host) enable(root string) error {
	unit, ok := map[string]string{"nginx": "nginx.service", "db": "postgresql.service"}[h.spec.role]
	if !ok {
		return nil
	}
	return os.Symlink("/lib/systemd/system/"+unit, filepath.Join(root, "etc/systemd/system/multi-user.target.wants", unit))
}

// authorize lets the operator's key log in, with the owner of the home as the owner of the file.
func authorize(home string, line []byte) error {
	var st unix.Stat_t
	if err := unix.Stat(home, &st); err != nil {
		return err
	}
	dir := filepath.Join(home, ".ssh")
	file := filepath.Join(dir, "authorized_keys")
	return errors.Join(
		os.MkdirAll(dir, 0o700), os.WriteFile(file, line, 0o600),
		os.Chown(dir, int(st.Uid), int(st.Gid)), os.Chown(file, int(st.Uid), int(st.Gid)))
}

// Boot starts a stopped host and waits until its sshd answers.
func (h *Host) Boot(ctx context.Context) error {
	if err := h.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.fleet.opts.BootTimeout)
	defer cancel()
	if err := poll(ctx, func() error { return h.answers(ctx) }); err != nil {
		console, _ := os.ReadFile(h.dir("console.log")) // evidence, if there is any
		return fmt.Errorf("sshd does not answer: %w; console: %s", err, tail(string(console), 1500))
	}
	return nil
}

// start runs nspawn in cgroups of its own and in a session of its own, so that a Ctrl-C at the
// terminal reaches the test and not the hosts.
func (h *Host) start() error {
	procs, err := makeCgroups(h.fleet.ID, h.Name)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(h.dir("console.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	script := "n=$1; shift; while [ $n -gt 0 ]; do echo $$ > $1 || exit; shift; n=$((n-1)); done; exec systemd-nspawn \"$@\""
	argv := append([]string{"-c", script, "sh", strconv.Itoa(len(procs))}, procs...)
	cmd := exec.Command("sh", append(argv, h.nspawnArgs()...)...)
	cmd.Stdout, cmd.Stderr = console, console
	// The network's sysctls are the host's own and must be writable, as on a server.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how a host ended is read from its console
		close(ended)
	}()
	h.mu.Lock()
	h.nspawn, h.ended = cmd, ended
	h.mu.Unlock()
	return nil
}

func (h *Host) nspawnArgs() []string {
	return []string{
		"--register=no", "--keep-unit", "-q", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--capability=" + capabilities(),
		"-D", h.dir("root"), "-M", h.Netns(), "--network-namespace-path=/run/netns/" + h.Netns(), "-b",
	}
}

// capabilities are those a host needs beyond nspawn's own set. CAP_SYS_RESOURCE lets root on a host
// raise limits above the hard limit, as root on a server may. Some machines (CI sandboxes) do not
// have it themselves; nspawn cannot hand on what it lacks, so there it is left out, and a host's
// limits end at this machine's hard limit (20,000 open files on the one tried).
func capabilities() string {
	const sysResource = 24
	if haveCapability(sysResource) {
		return "CAP_NET_ADMIN,CAP_SYS_RESOURCE"
	}
	return "CAP_NET_ADMIN"
}

// answers asks sshd for its greeting, from inside the host's namespace: that needs no jump.
func (h *Host) answers(ctx context.Context) error {
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	select {
	case <-ended:
		return errors.New("the host is down")
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := DialIn(ctx, h.Netns(), "tcp4", h.spec.private+":22")
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // without it the read would end with the peer
	greeting := make([]byte, 8)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return err
	}
	if !bytes.HasPrefix(greeting, []byte("SSH-2.0-")) {
		return fmt.Errorf("port 22 says %q", greeting)
	}
	return nil
}

// pid1 gives the host's PID 1 as seen from here.
func (h *Host) pid1() (int, error) {
	h.mu.Lock()
	cmd := h.nspawn
	h.mu.Unlock()
	if cmd == nil {
		return 0, fmt.Errorf("%s is down", h.Name)
	}
	if pid := initOf(cmd.Process.Pid); pid > 0 {
		return pid, nil
	}
	return 0, fmt.Errorf("%s has no PID 1", h.Name)
}

// Command gives a command that will run on the host as root, in all its namespaces, without ssh.
// The caller starts and waits for it.
func (h *Host) Command(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	pid, err := h.pid1()
	if err != nil {
		return nil, err
	}
	enter := []string{"-t", strconv.Itoa(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}

// Exec runs a command on the host as root and gives its stdout; an error carries the end of its
// stderr.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	return h.exec(ctx, nil, argv...)
}

// Sh runs a line of shell on the host as root, as Exec does.
func (h *Host) Sh(ctx context.Context, line string) (string, error) {
	return h.exec(ctx, nil, "sh", "-euc", line)
}

func (h *Host) exec(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	cmd, err := h.Command(ctx, argv...)
	if err != nil {
		return "", err
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", h.Name, strings.Join(argv, " "), err, tail(stderr.String(), 1000))
	}
	return string(out), nil
}

// WriteFile writes a file on the host, owned by root; its folder is made when it is missing.
func (h *Host) WriteFile(ctx context.Context, path string, text []byte, mode os.FileMode) error {
	line := fmt.Sprintf(`mkdir -p "$(dirname "$1")"; cat > "$1.new"; chmod %o "$1.new"; mv "$1.new" "$1"`, mode)
	_, err := h.exec(ctx, bytes.NewReader(text), "sh", "-euc", line, "sh", path)
	return err
}
