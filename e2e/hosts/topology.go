package hosts

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	operatorName = "op"
	// OperatorAddr is where the operator stands on the public bridge.
	OperatorAddr = "203.0.113.100"
)

// spec is one host of the topology; an empty address means it is not on that bridge.
type spec struct {
	name, role, public, private string
	weight                      int
}

// topology is the fleet: what the mission's picture shows, with the addresses of hosts.md.
func topology() []spec {
	return []spec{
		{name: "lb1", role: "nginx", public: "203.0.113.11", private: "10.0.0.11"},
		{name: "lb2", role: "nginx", public: "203.0.113.12", private: "10.0.0.12"},
		{name: "app1", role: "app", private: "10.0.0.1", weight: 10},
		{name: "app2", role: "app", private: "10.0.0.2", weight: 20},
		{name: "app3", role: "app", private: "10.0.0.3", weight: 20},
		{name: "app4", role: "app", private: "10.0.0.4", weight: 20},
		{name: "db1", role: "db", private: "10.0.0.21"},
	}
}

// makeNetworks lays the two bridges, in a namespace of their own, and a namespace per host with its
// cables plugged in. Nothing gets a route: what is not on a bridge cannot be reached.
func (f *Fleet) makeNetworks(ctx context.Context) error {
	var script strings.Builder
	do := func(format string, args ...any) { fmt.Fprintf(&script, format+"\n", args...) }
	do("set -eu")
	do("ip netns add %s-net", f.ID)
	for _, bridge := range []string{"public", "private"} {
		do("ip -n %s-net link add %s type bridge", f.ID, bridge)
		do("ip -n %s-net link set %s up", f.ID, bridge)
	}
	all := append(topology(), spec{name: operatorName, public: OperatorAddr})
	for _, s := range all {
		do("ip netns add %s-%s", f.ID, s.name)
		do("ip -n %s-%s link set lo up", f.ID, s.name)
		do("ip netns exec %s-%s sysctl -qw net.ipv6.conf.all.disable_ipv6=1", f.ID, s.name)
		for bridge, addr := range map[string]string{"public": s.public, "private": s.private} {
			if addr == "" {
				continue
			}
			port := s.name + "-" + bridge[:3]
			do("ip -n %s-%s link add %s type veth peer name %s netns %s-net", f.ID, s.name, bridge, port, f.ID)
			do("ip -n %s-net link set %s master %s up", f.ID, port, bridge)
			do("ip -n %s-%s addr add %s/24 dev %s", f.ID, s.name, addr, bridge)
			do("ip -n %s-%s link set %s up", f.ID, s.name, bridge)
		}
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lay the networks: %w: %s", err, tail(string(out), 500))
	}
	return nil
}

// etcHosts names everybody, as a name server would.
func etcHosts(self string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "127.0.0.1 localhost %s\n", self)
	for _, s := range topology() {
		if s.name != self {
			fmt.Fprintf(&b, "%s %s\n", s.private, s.name)
		}
	}
	return b.String()
}

// newKey makes an ed25519 key: the private half as an OpenSSH file, the public half for known_hosts.
func newKey(comment string) ([]byte, ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewPublicKey(public)
	return pem.EncodeToMemory(block), key, err
}
