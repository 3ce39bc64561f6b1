package cmd

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"
)

// sshConfig gives Host blocks with which plain ssh reaches the hosts as godeploy does: the same
// addresses, users, keys, jump hosts and host keys. Jump hosts of the hosts come with them.
func (c *call) sshConfig(hosts []inventory.Host) (string, error) {
	known := sshx.ReadKnownHosts(c.projectKnownHosts())
	var b strings.Builder
	fmt.Fprintf(&b, "# hosts of %s, from %s: godeploy inventory show %s --ssh-config\n", c.env.Name, c.relative(c.file.Path), c.env.Name)
	for _, h := range c.withJumps(hosts) {
		rows, err := c.sshBlock(h, known)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\nHost %s\n", h.Name)
		for _, row := range rows {
			fmt.Fprintf(&b, "    %s %s\n", row[0], row[1])
		}
	}
	return b.String(), nil
}

// withJumps adds the jump hosts that are not among the hosts.
func (c *call) withJumps(hosts []inventory.Host) []inventory.Host {
	all := append([]inventory.Host(nil), hosts...)
	for i := 0; i < len(all); i++ { // all grows: a jump host may itself be reached through one
		for _, chain := range all[i].Jump {
			for _, name := range chain {
				if hop, ok := c.env.Host(name); ok && !hasHost(all, name) {
					all = append(all, hop)
				}
			}
		}
	}
	return all
}

// sshBlock is what stands in one block. ssh knows one way to a host: of several jump hosts the first.
func (c *call) sshBlock(h inventory.Host, known *sshx.KnownHosts) ([][2]string, error) {
	files, err := c.knownHostsWords()
	if err != nil {
		return nil, err
	}
	rows := [][2]string{{"HostName", h.Address}, {"Port", strconv.Itoa(h.Port)}}
	if h.User != "" {
		rows = append(rows, [2]string{"User", h.User})
	}
	for _, key := range c.env.SSH.Keys {
		word, err := sshWord(key)
		if err != nil {
			return nil, err
		}
		rows = append(rows, [2]string{"IdentityFile", word})
	}
	if len(c.env.SSH.Keys) > 0 {
		rows = append(rows, [2]string{"IdentitiesOnly", "yes"})
	}
	if len(h.Jump) > 0 && len(h.Jump[0]) > 0 {
		rows = append(rows, [2]string{"ProxyJump", strings.Join(h.Jump[0], ",")})
	}
	if len(known.Lookup(c.alias(h))) > 0 {
		rows = append(rows, [2]string{"HostKeyAlias", c.alias(h)})
	}
	return append(rows, [2]string{"UserKnownHostsFile", files}, [2]string{"StrictHostKeyChecking", "yes"}), nil
}

// knownHostsWords are the files in which godeploy looks host keys up, but for the machine's own, which
// ssh reads anyway.
func (c *call) knownHostsWords() (string, error) {
	files := []string{c.projectKnownHosts()}
	if c.sys.Home != "" {
		files = append(files, filepath.Join(c.sys.Home, ".ssh", "known_hosts"))
	}
	for i, name := range files {
		word, err := sshWord(name)
		if err != nil {
			return "", err
		}
		files[i] = word
	}
	return strings.Join(files, " "), nil
}

// sshWord writes a path as ssh_config takes it: a percent sign begins a token there, a dollar sign with a
// brace a variable, and a quote cannot be written.
func sshWord(path string) (string, error) {
	if strings.ContainsAny(path, "\"\n\r") || strings.Contains(path, "${") {
		return "", fault.New(fault.Usage, "%q cannot be written in ssh's configuration", path)
	}
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t'#\\=") {
		return `"` + strings.ReplaceAll(path, `\`, `\\`) + `"`, nil
	}
	return path, nil
}
