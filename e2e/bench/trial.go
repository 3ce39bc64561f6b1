package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// trial is one side of a row at work: its own destination, its own home, its own memory of the tree.
type trial struct {
	b     *bench
	row   row
	side  side
	index int
	src   string
	link  string // the one in use
	runs  int    // destinations used so far
}

// stop is one host as a trial reaches it.
type stop struct {
	Name    string // in godeploy.toml, and of its folder
	Alias   string // in ssh_config
	Address string
	Port    int
}

// stops lists the trial's hosts. The only host of a row has the same name whatever link leads to it.
func (t *trial) stops() []stop {
	if t.row.hosts() == 1 {
		k, port := linkOf(t.link), sshPort
		if t.link == linkSFTP {
			port = sftpPort
		}
		return []stop{{"app", t.link, k.address(0), port}}
	}
	count := t.row.hosts()
	if t.side.Hosts > 0 {
		count = t.side.Hosts
	}
	stops := make([]stop, count)
	for i := range stops {
		name := fleetName(i + 1)
		stops[i] = stop{name, name, links()[0].address(i + 1), sshPort}
	}
	return stops
}

// linkOf is the link by name; SFTP's port is on the fast one.
func linkOf(name string) link {
	for _, k := range links() {
		if k.Name == name {
			return k
		}
	}
	return links()[0]
}

// home is what the trial's command finds as its home; the cache in it is what godeploy remembers.
func (t *trial) home() string  { return filepath.Join(t.b.dir, "homes", t.row.ID, fmt.Sprint(t.index)) }
func (t *trial) cache() string { return filepath.Join(t.home(), ".cache") }

// at is the destination of run n on a host.
func (t *trial) at(host string, n int) string {
	if t.side.Dest == standing {
		n = 0
	}
	return filepath.Join(t.b.dir, "hosts", t.row.ID, fmt.Sprint(t.index), host, fmt.Sprintf("r%d", n))
}

// words splits the side's Argv and fills in, for hosts under that name and alias:
//
//	{src} {dst} {prev}  the source; this destination; the one before it
//	{host}              the host's name in ssh_config
//	{ssh} {tuned} {mux} rsync's -e: ssh as it is; with the fastest cipher and key exchange, and the
//	                    list of files sent at once; over a connection held open, the list at once too
//	{durable}           makes rsync's server sync the file system before it ends, as godeploy does
//	{config} {batch}    ssh_config; sftp's commands
//	{godeploy}          the binary with this side's godeploy.toml
func (t *trial) words(name, alias string) []string {
	dst, ssh := t.at(name, t.runs), "ssh -F "+t.b.server.config()
	several := map[string][]string{
		"{ssh}":      {"-e", ssh},
		"{tuned}":    {"-e", ssh + " -c aes128-gcm@openssh.com -o KexAlgorithms=curve25519-sha256", "--no-inc-recursive"},
		"{mux}":      {"-e", "ssh -F " + t.b.server.muxConfig(), "--no-inc-recursive"},
		"{durable}":  {`--rsync-path=f(){ rsync "$@"; r=$?; sync -f ` + filepath.Dir(dst) + ` || r=1; return $r; }; f`},
		"{godeploy}": {t.b.godeploy, "-c", filepath.Join(t.home(), "godeploy.toml")},
	}
	one := strings.NewReplacer("{src}", t.src, "{dst}", dst, "{prev}", t.at(name, t.runs-1), "{host}", alias,
		"{config}", t.b.server.config(), "{batch}", filepath.Join(t.home(), "batch"))
	var words []string
	for _, w := range strings.Fields(t.side.Argv) {
		if found, ok := several[w]; ok {
			words = append(words, found...)
		} else {
			words = append(words, one.Replace(w))
		}
	}
	return words
}

// command is the command line for all hosts: godeploy has them in its file, the others get xargs.
func (t *trial) command(ctx context.Context) *exec.Cmd {
	stops := t.stops()
	words := t.words(stops[0].Name, stops[0].Alias)
	if t.row.hosts() > 1 && !t.side.ours() {
		words = append([]string{"xargs", "-a", filepath.Join(t.home(), "hosts"), "-P", fmt.Sprint(len(stops)), "-I%"}, t.words("%", "%")...)
	}
	c := exec.CommandContext(ctx, words[0], words[1:]...)
	c.Dir, c.Env = t.home(), t.environ()
	c.SysProcAttr = t.b.client.attr()
	c.WaitDelay = 5 * time.Second
	return c
}

func (t *trial) environ() []string {
	path := os.Getenv("PATH")
	if t.side.Mux && t.side.ours() {
		path = filepath.Join(t.home(), "bin") + ":" + path
	}
	return []string{"HOME=" + t.home(), "XDG_CACHE_HOME=" + t.cache(), "PATH=" + path, "USER=root", "TERM=dumb", "LANG=C.UTF-8"}
}

// run runs the command once over the trial's link, to a new destination if the side wants one.
func (t *trial) run(ctx context.Context) error {
	if err := t.settings(); err != nil {
		return err
	}
	var said tail
	c := t.command(ctx)
	c.Stdout, c.Stderr = &said, &said
	err := t.b.lab.client.do(c.Start)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", t.side.Name, err, said.last())
	}
	t.runs++
	return nil
}

// settings writes what the command reads, for the link in use and the destination to come.
func (t *trial) settings() error {
	known, err := os.ReadFile(t.b.server.knownHosts())
	if err != nil {
		return err
	}
	var hosts strings.Builder
	for _, s := range t.stops() {
		fmt.Fprintln(&hosts, s.Alias)
		// An app's folder is there before its first release; without it the lock would lie in a place that
		// all hosts share here.
		dst, app := t.at(s.Name, t.runs), t.app(s.Name)
		if !t.side.ours() {
			app = filepath.Dir(dst)
		}
		if err := os.MkdirAll(app, 0o755); err != nil {
			return err
		}
	}
	wrapper := "#!/bin/sh\nexec /usr/bin/ssh -F " + t.b.server.muxConfig() + ` "$@"` + "\n"
	dst := t.at("app", t.runs)
	if strings.HasPrefix(t.side.Argv, "sftp ") {
		err = os.MkdirAll(dst, 0o755)
	}
	files := map[string]string{
		".ssh/known_hosts": string(known), "hosts": hosts.String(), "godeploy.toml": t.toml(), "bin/ssh": wrapper,
		"batch": fmt.Sprintf("put -f %s/%s %s/%s\n", t.src, bigFile, dst, bigFile),
	}
	if t.side.Mux && t.side.ours() {
		mux, muxErr := os.ReadFile(t.b.server.muxConfig())
		err = errors.Join(err, muxErr)
		files[".ssh/config"] = string(mux) // without one ssh is not asked what it has for a host
	}
	for name, text := range files {
		path := filepath.Join(t.home(), name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700))
	}
	return err
}

// app is the app's folder on a host: the destination, or beside it where the command names one.
func (t *trial) app(host string) string {
	path := t.at(host, t.runs)
	if t.side.staged() {
		return path
	}
	return path + "-app"
}

// toml is the side's godeploy.toml.
func (t *trial) toml() string {
	name := "app"
	if t.row.hosts() > 1 {
		name = "{{.Host.Name}}"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version = 1\n[app]\nname = \"bench\"\npath = %q\n[sync]\nfrom = %q\n[ssh]\nuser = \"root\"\nkeys = [%q]\n%s\n[env.bench.hosts]\n",
		t.app(name), t.src, t.b.server.key(), t.side.Config)
	for _, s := range t.stops() {
		fmt.Fprintf(&b, "%s = { role = \"app\", address = %q, port = %d }\n", s.Name, s.Address, s.Port)
	}
	return b.String()
}

// compare sees that the copy on the first and the last host is what the source is.
func (t *trial) compare(ctx context.Context) error {
	if t.side.NoCopy {
		return nil
	}
	stops := t.stops()
	for _, s := range []stop{stops[0], stops[len(stops)-1]} {
		dst, err := t.copy(s.Name)
		if err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "rsync", "-rlpcn", "--delete", "--itemize-changes", "--exclude=/.godeploy", t.src+"/", dst+"/").CombinedOutput()
		if err != nil || len(out) > 0 {
			return fmt.Errorf("%s: the copy on %s is not the source: %w\n%.600s", t.side.Name, s.Name, errors.Join(err, errDiffers), out)
		}
	}
	return nil
}

var errDiffers = errors.New("they differ")

// copy is the folder on a host that holds the last run's outcome: of releases, the newest.
func (t *trial) copy(host string) (string, error) {
	dst := t.at(host, t.runs-1)
	if !t.side.staged() {
		return dst, nil
	}
	found, err := filepath.Glob(filepath.Join(dst, "releases", "[0-9]*"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("%s: there is no release below %s", t.side.Name, dst)
	}
	return found[len(found)-1], nil // ids begin with their time
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(p), nil
}

// last is the last lines, on one.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " / ")
}
