package balance

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/templates"
)

// listener is a socket that listens on a host.
type listener struct {
	at    netip.AddrPort
	inode string
}

// parsePorts reads portsScript's output: who listens, and which sockets are the balancer's own.
func parsePorts(text string) (all []listener, own map[string]bool) {
	own = map[string]bool{}
	mine := false
	for scan := bufio.NewScanner(strings.NewReader(text)); scan.Scan(); {
		words := strings.Fields(scan.Text())
		switch {
		case len(words) == 1 && words[0] == "--":
			mine = true
		case mine && len(words) == 1:
			own[words[0]] = true
		case !mine && len(words) > 9:
			if at, ok := parseEndpoint(words[1]); ok {
				all = append(all, listener{at, words[9]})
			}
		}
	}
	return all, own
}

// parseEndpoint reads an address as /proc/net/tcp has it: words of 32 bits in the host's own order.
func parseEndpoint(s string) (netip.AddrPort, bool) {
	address, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(address)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	ip, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), true
}

// conflict finds a listener that the balancer cannot stand beside. nginx -t does not notice it, and a reload
// would end well and change nothing.
func conflict(wanted []templates.NginxListen, all []listener, own map[string]bool) (listener, bool) {
	for _, w := range wanted {
		for _, l := range all {
			if int(l.at.Port()) != w.Port || own[l.inode] {
				continue
			}
			if clash(w.Address, l.at.Addr()) {
				return l, true
			}
		}
	}
	return listener{}, false
}

// clash reports whether two sockets of one port exclude each other. nginx's own on IPv6 are for IPv6 only;
// of another program's on :: it is taken that they are for both.
func clash(wanted, taken netip.Addr) bool {
	if !wanted.IsValid() {
		wanted = netip.IPv4Unspecified()
	}
	if wanted.Is6() != taken.Is6() {
		return wanted.Is4() && taken.IsUnspecified()
	}
	return wanted == taken || wanted.IsUnspecified() || taken.IsUnspecified()
}

// portsFree sees to it that nobody else listens where nginx is to listen.
func (r root) portsFree(ctx context.Context, h deploy.Host, owner process, wanted []templates.NginxListen) error {
	s, err := r.sh(ctx, h, nil, portsScript, strconv.Itoa(owner.pid))
	if err != nil {
		return err
	}
	all, own := parsePorts(s.out)
	taken, found := conflict(wanted, all, own)
	if !found {
		return nil
	}
	who, err := r.sh(ctx, h, nil, ownerScript, taken.inode)
	if err != nil {
		return err
	}
	f := fault.New(r.code(fault.NginxPort), "port %d is taken by another program", taken.at.Port()).
		Hint("%s would keep its old configuration", r.env.BalancerTitle())
	if name := strings.TrimSpace(who.out); name != "" {
		f.Fact("%s listens on %s", name, taken.at)
	}
	return f
}
