package sshx

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"godeploy/internal/fault"
)

// configTime bounds the talk with ssh(1), whose configuration may run programs ("Match exec").
const configTime = 15 * time.Second

// UserConfig is what ssh_config says on this machine: the user's ~/.ssh/config and the system's file.
// Where ssh(1) is installed it is asked (`ssh -G`), so that godeploy goes where `ssh HOST` goes; elsewhere
// a reader of our own does it. docs/ssh.md lists what is read. It is safe for concurrent use, and asks
// about each host only once. Nil says nothing about any host.
type UserConfig struct {
	home   string
	user   string
	getenv func(string) string
	// program is ssh(1) with what stands before its other arguments; empty where there is none.
	program []string
	files   []string // the user's file and the system's

	speaks func() bool // whether the files say anything that matters here

	mu      sync.Mutex
	answers map[string]*answer
}

// answer is what is known of one host. Whoever holds its turn may look and ask.
type answer struct {
	turn chan struct{} // capacity 1
	said *settings
	err  error
}

// NewUserConfig makes a UserConfig. Home is the user's home folder, user the name on this machine, getenv
// reads the environment. Nothing is read or run yet.
func NewUserConfig(home, user string, getenv func(string) string) *UserConfig {
	c := &UserConfig{home: home, user: user, getenv: getenv, files: []string{"", "/etc/ssh/ssh_config"}}
	if home != "" {
		c.files[0] = filepath.Join(home, ".ssh", "config")
	}
	if _, err := exec.LookPath("ssh"); err == nil {
		c.program = []string{"ssh"}
	}
	return c.ready()
}

// ready makes a UserConfig usable.
func (c *UserConfig) ready() *UserConfig {
	c.answers = make(map[string]*answer)
	c.speaks = sync.OnceValue(func() bool { return c.reader("", 0, "").matters() })
	return c
}

// of says what the configuration has for a host. Port 0 and user "" are those the configuration may name;
// others are given to ssh on its command line, so that they win.
func (c *UserConfig) of(ctx context.Context, host string, port int, user string) (settings, error) {
	if c == nil || !c.speaks() {
		return settings{hostName: host, port: port, user: user}, nil
	}
	key := strconv.Itoa(port) + " " + user + "@" + host
	c.mu.Lock()
	a := c.answers[key]
	if a == nil {
		a = &answer{turn: make(chan struct{}, 1)}
		c.answers[key] = a
	}
	c.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return settings{}, context.Cause(ctx)
	}
	if a.said == nil && a.err == nil {
		said, err := c.ask(ctx, host, port, user)
		if ctx.Err() != nil { // the next caller asks for itself
			return settings{}, context.Cause(ctx)
		}
		a.said, a.err = &said, err
	}
	return *a.said, a.err
}

// ask reads the values and makes settings of them.
func (c *UserConfig) ask(ctx context.Context, host string, port int, user string) (settings, error) {
	values, err := c.values(ctx, host, port, user)
	if err != nil {
		return settings{}, err
	}
	s, err := c.settings(host, values)
	if err != nil {
		return s, configFault(host, err.Error())
	}
	if len(s.old) > 0 {
		s.old = c.chosen(ctx, host, s.old)
	}
	return s, nil
}

// values asks ssh, or our own reader.
func (c *UserConfig) values(ctx context.Context, host string, port int, user string) (values, error) {
	if len(c.program) > 0 {
		said, err := c.run(ctx, host, port, user)
		var none *noSSH
		if !errors.As(err, &none) {
			return said, err
		}
	}
	said, err := c.reader(host, port, user).read()
	if err != nil {
		return nil, configFault(host, err.Error())
	}
	return said, nil
}

// noSSH says that ssh(1) cannot work here at all.
type noSSH struct{ error }

// run asks ssh -G.
func (c *UserConfig) run(ctx context.Context, host string, port int, user string) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, configTime)
	defer cancel()
	args := append(c.program[1:len(c.program):len(c.program)], "-G", "-T")
	if user != "" {
		args = append(args, "-l", user)
	}
	if port != 0 {
		args = append(args, "-p", strconv.Itoa(port))
	}
	cmd := exec.CommandContext(ctx, c.program[0], append(args, "--", host)...)
	cmd.WaitDelay = time.Second // a child of "Match exec" may hold the output open
	var out, complaint prefix
	out.limit, complaint.limit = maxConfig, 4<<10
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return parseValues(out.text()), nil
	case ctx.Err() != nil:
		return nil, configFault(host, "ssh -G did not end within "+configTime.String())
	case !errors.As(err, &exit), strings.Contains(complaint.text(), "No user exists for uid"):
		return nil, &noSSH{err} // a user without an account entry, as in containers
	}
	return nil, configFault(host, clip(strings.TrimSpace(complaint.text()), 400))
}

// configFault says why the configuration of a host is of no use.
func configFault(host, why string) error {
	return fault.New(fault.SSHRefused, "ssh_config has no usable answer for %s", host).Fact("%s", why).
		Hint("what ssh itself refuses is not dialled; [ssh] ssh_config = false leaves these files out").
		Try("ssh -G %s", host)
}

// values are raw values by keyword, in lower case, as ssh -G prints them.
type values map[string][]string

// parseValues reads the output of ssh -G.
func parseValues(text string) values {
	v := make(values)
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		v[strings.ToLower(key)] = append(v[strings.ToLower(key)], value)
	}
	return v
}

// first is the value of a keyword that has one; "none" is "".
func (v values) first(key string) string {
	if all := v[key]; len(all) > 0 && !strings.EqualFold(all[0], "none") {
		return all[0]
	}
	return ""
}

// prefix keeps the first bytes that are written to it, up to its limit, and takes the rest in silence.
type prefix struct {
	limit int
	kept  bytes.Buffer
}

func (t *prefix) Write(p []byte) (int, error) {
	if room := t.limit - t.kept.Len(); room > 0 {
		t.kept.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func (t *prefix) text() string { return t.kept.String() }
