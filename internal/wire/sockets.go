package wire

import (
	"errors"
	"fmt"
	"net/netip"
)

// MaxSocketPeers is how many other ends a SocketsReply tells of.
const MaxSocketPeers = 256

// maxSocketPorts is how many ports one request may ask about.
const maxSocketPorts = 16

// SocketsRequest asks for the TCP connections that are open on ports of the host.
type SocketsRequest struct {
	Ports []int `json:"ports"`
}

// SocketsReply counts connections by the address of the other end and the port of this one, the most
// first. More counts those of the peers that are not listed.
type SocketsReply struct {
	Peers []SocketPeer `json:"peers,omitempty"`
	More  int          `json:"more,omitempty"`
}

// SocketPeer is one address with what it has open on one port.
type SocketPeer struct {
	Address string `json:"address"` // an IP, IPv4 as such
	Port    int    `json:"port"`    // of this host
	Count   int    `json:"count"`
	Own     bool   `json:"own,omitempty"` // the host itself is the other end
}

// Open sums the connections of others than the host itself.
func (r SocketsReply) Open() int {
	open := r.More
	for _, p := range r.Peers {
		if !p.Own {
			open += p.Count
		}
	}
	return open
}

// Check wants 1 to 16 ports.
func (r *SocketsRequest) Check() error {
	if len(r.Ports) == 0 || len(r.Ports) > maxSocketPorts {
		return fmt.Errorf("%d ports", len(r.Ports))
	}
	for _, p := range r.Ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("port %d", p)
		}
	}
	return nil
}

// Check wants plain addresses, ports and positive counts.
func (r *SocketsReply) Check() error {
	if len(r.Peers) > MaxSocketPeers || r.More < 0 {
		return errors.New("impossible numbers")
	}
	for _, p := range r.Peers {
		if _, err := netip.ParseAddr(p.Address); err != nil {
			return fmt.Errorf("address %.80q", p.Address)
		}
		if p.Port < 1 || p.Port > 65535 || p.Count < 1 || p.Count > 1<<30 {
			return errors.New("impossible numbers")
		}
	}
	return nil
}
