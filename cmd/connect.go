package cmd

import (
	"context"
	"path/filepath"
	"sync"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"
)

// connect gives the pool that reaches the hosts of the environment; the caller closes it. Host keys
// come from the project's known_hosts, the user's and the machine's, in this order.
func (c *call) connect(report event.Reporter) *sshx.Pool {
	return c.pool(report, c.limit() == nil) // what a master sends cannot be held to a rate
}

// pool is connect with the ControlMasters of the user's ssh, or without: every connection is then a login of
// its own.
func (c *call) pool(report event.Reporter, masters bool) *sshx.Pool {
	return sshx.NewPool(c.sshOptions(report, masters))
}

// sshOptions say how this command connects.
func (c *call) sshOptions(report event.Reporter, masters bool) sshx.Options {
	var ask sync.Mutex // one question at a time, whatever number of keys needs one
	var config *sshx.UserConfig
	if c.env.SSH.SSHConfig {
		config = sshx.NewUserConfig(c.sys.Home, c.sys.User, c.sys.Env)
	}
	limit := c.limit()
	return sshx.Options{
		Config:       config,
		NoMaster:     !masters,
		User:         c.sys.User,
		Keys:         c.env.SSH.Keys,
		AgentSocket:  c.sys.Env("SSH_AUTH_SOCK"),
		ProjectHosts: c.projectKnownHosts(),
		KnownHosts:   c.knownHosts()[1:],
		Report:       report,
		Dialer:       limit.dialer(),
		Limit:        limit.wrapper(),
		Shell:        c.sys.Env("SHELL"),
		Passphrase: func(ctx context.Context, key string) ([]byte, error) {
			ask.Lock()
			defer ask.Unlock()
			return c.passphrase(ctx, key)
		},
	}
}

// limit is the rate of commands that send the code; the others send next to nothing.
func (c *call) limit() *rate {
	if name := c.leaf.path[0]; name != "sync" && name != "release" {
		return nil
	}
	return newRate(int64(c.env.Sync.Bandwidth))
}

func (c *call) knownHosts() []string {
	files := []string{c.projectKnownHosts()}
	if c.sys.Home != "" {
		files = append(files, filepath.Join(c.sys.Home, ".ssh", "known_hosts"))
	}
	return append(files, "/etc/ssh/ssh_known_hosts")
}

// projectKnownHosts is the file that `keys trust` writes, and that belongs into the user's repository.
func (c *call) projectKnownHosts() string {
	return filepath.Join(c.file.Dir, ".godeploy", "known_hosts")
}

// target turns a host of the file into one to log in to, its jump hosts resolved.
func (c *call) target(h inventory.Host) (sshx.Target, error) {
	t := c.bareTarget(h)
	for _, names := range h.Jump {
		var chain []sshx.Target
		for _, name := range names {
			hop, ok := c.env.Host(name)
			if !ok {
				return t, fault.New(fault.HostUnknown, "%s goes through %q, which is no host of %s", h.Name, name, c.env.Name).At(h.Pos)
			}
			chain = append(chain, c.bareTarget(hop))
		}
		t.Jumps = append(t.Jumps, chain)
	}
	return t, nil
}

func (c *call) bareTarget(h inventory.Host) sshx.Target {
	t := sshx.Target{
		Name: h.Name, Alias: c.env.Name + "/" + h.Name, Address: h.Address, Port: h.Port,
		User: h.User, HostKey: h.HostKey, Direct: h.Direct,
	}
	if h.AnyPort && c.file.Origin(c.env.Name, "ssh.port").Line == 0 {
		t.Port = 0 // nobody has named one: ssh_config may
	}
	return t
}

// targets resolves many hosts, in their order.
func (c *call) targets(hosts []inventory.Host) ([]sshx.Target, error) {
	var all []sshx.Target
	for _, h := range hosts {
		t, err := c.target(h)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}
