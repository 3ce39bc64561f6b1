package inventory

import (
	"strings"

	"godeploy/internal/fault"
)

// Env is one environment with the overlays applied and the hosts resolved. It is read-only and safe
// for concurrent use.
type Env struct {
	Name    string `toml:"-"`
	Branch  string `toml:"branch" rule:"line" doc:"only this branch may be released; --any-branch overrides"`
	Confirm bool   `toml:"confirm" doc:"ask before anything is changed; --yes answers"`
	Hosts   []Host `toml:"-"` // in the order of the file
	// OwnNginx is the file that [nginx] template names, as Load found it; nil without one.
	OwnNginx *OwnNginx `toml:"-"`
	Config
}

// Host is one host with everything it takes from its roles and from [ssh] filled in.
type Host struct {
	Name    string
	Address string // lower case; IPv6 without brackets
	Roles   []string
	Weight  int // 1-65535
	Tags    []string
	Port    int
	AnyPort bool       // neither the host nor a role names its port: Port is that of [ssh]
	User    string     // "" = the operator's own name
	Jump    [][]string // alternatives, in the order to try; each a chain of host names, outermost first
	Direct  bool       // jump = [] was written: no jump host, whatever ssh_config says
	Backup  bool
	HostKey string // "SHA256:…" or ""
	// AppAddress is the IP address at which a balancer reaches the app, where that is not Address; or "".
	AppAddress string
	Pos        fault.Pos
}

// HasRole reports whether the host has the role.
func (h Host) HasRole(role string) bool { return contains(h.Roles, role) }

// hostEntry is a host as it stands in the file.
type hostEntry struct {
	Address    string   `toml:"address" rule:"address" doc:"IP address or DNS name; empty = the host's name"`
	Role       string   `toml:"role" rule:"word" doc:"its one role"`
	Roles      []string `toml:"roles" rule:"word" doc:"its roles, instead of role"`
	Weight     int      `toml:"weight" min:"1" max:"65535" default:"1" doc:"share of the traffic, as in nginx"`
	Tags       []string `toml:"tags" rule:"word" doc:"free words for --limit tag:WORD"`
	Port       int      `toml:"port" min:"1" max:"65535" doc:"port of sshd; default: the role's, else [ssh] port"`
	User       string   `toml:"user" rule:"user" doc:"login user; default: the role's, else [ssh] user"`
	Jump       []Chain  `toml:"jump" doc:"hosts to go through; default: the role's; [] = none"`
	Backup     bool     `toml:"backup" doc:"gets traffic only when the others are down"`
	AppAddress string   `toml:"app_address" rule:"ipaddress" doc:"IP address at which the balancer reaches the app, where address is a name or another network's; empty = address"`
	HostKey    string   `toml:"host_key" rule:"fingerprint" doc:"SHA256 fingerprint its host key must have"`

	pos fault.Pos
}

// Host finds a host by its exact name.
func (e *Env) Host(name string) (Host, bool) {
	for _, h := range e.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return Host{}, false
}

// hostInPath is the one template that app.path may hold.
const hostInPath = "{{.Host.Name}}"

// checkAppPathText is CheckAppPath for a path that may name the host.
func checkAppPathText(s string) error {
	return CheckAppPath(strings.ReplaceAll(s, hostInPath, "host"))
}

// On gives the environment as one host sees it: with the host's name in app.path. Everything that
// acts on a host works with this one.
func (e *Env) On(h Host) *Env {
	if !strings.Contains(e.App.Path, hostInPath) {
		return e
	}
	own := *e
	own.App.Path = strings.ReplaceAll(e.App.Path, hostInPath, h.Name)
	return &own
}

// ReleaseHosts gives the hosts that a release goes to: those with one of [release] roles, in the
// order of the file; with strategy canary the canary stands first.
func (e *Env) ReleaseHosts() []Host {
	var first, rest []Host
	for _, h := range e.Hosts {
		switch {
		case !containsAny(h.Roles, e.Release.Roles):
		case e.Release.Strategy == "canary" && h.Name == e.Release.Canary:
			first = append(first, h)
		default:
			rest = append(rest, h)
		}
	}
	return append(first, rest...)
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

func containsAny(list, want []string) bool {
	for _, s := range want {
		if contains(list, s) {
			return true
		}
	}
	return false
}
