package helper

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// The states of a connection that may bring a request or carry one, as the kernel numbers them.
const (
	tcpEstablished = "01"
	tcpSynReceived = "03"
)

// maxSocketLines bounds what is read of one table: a host has no more than this many ports to one peer
// and a few peers.
const maxSocketLines = 4 << 20

// sockets counts the connections that are open on some ports.
func sockets(ctx context.Context, req wire.SocketsRequest) (any, error) {
	counts := map[wire.SocketPeer]int{} // with Count 0
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		err := countIn(ctx, table, req.Ports, counts)
		if err != nil && !(table == "/proc/self/net/tcp6" && errors.Is(err, fs.ErrNotExist)) {
			return nil, explain(err, "read %s", table)
		}
	}
	return summed(counts), nil
}

func countIn(ctx context.Context, table string, ports []int, counts map[wire.SocketPeer]int) error {
	f, err := os.Open(table)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	return countSockets(ctx, f, ports, counts)
}

// countSockets reads a table line by line: it may have many times as many lines as are of interest.
func countSockets(ctx context.Context, table io.Reader, ports []int, counts map[wire.SocketPeer]int) error {
	lines := bufio.NewScanner(table)
	for n := 0; lines.Scan(); n++ {
		if n == maxSocketLines {
			return fault.New(fault.Protocol, "more than %d connections", maxSocketLines)
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		peer, ok := socketLine(lines.Text())
		if ok && slices.Contains(ports, peer.Port) {
			counts[peer]++
		}
	}
	return lines.Err()
}

// socketLine reads "  0: 0100007F:1F90 0100007F:C350 01 …": number, this end, the other end, state.
func socketLine(line string) (wire.SocketPeer, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != tcpEstablished && f[3] != tcpSynReceived {
		return wire.SocketPeer{}, false
	}
	local, ok1 := socketEnd(f[1])
	remote, ok2 := socketEnd(f[2])
	if !ok1 || !ok2 || local.Port() == 0 {
		return wire.SocketPeer{}, false
	}
	own := remote.Addr() == local.Addr() || remote.Addr().IsLoopback()
	return wire.SocketPeer{Address: remote.Addr().String(), Port: int(local.Port()), Own: own}, true
}

// socketEnd reads an address of 4 or 16 bytes in words of the machine's own order, ":" and a port.
func socketEnd(text string) (netip.AddrPort, bool) {
	address, port, ok := strings.Cut(text, ":")
	raw, err1 := hex.DecodeString(address)
	number, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err1 != nil || err2 != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	ip, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), true
}

// summed is the reply: the largest counts first, and a sum for what does not fit.
func summed(counts map[wire.SocketPeer]int) wire.SocketsReply {
	var reply wire.SocketsReply
	for peer, n := range counts {
		peer.Count = n
		reply.Peers = append(reply.Peers, peer)
	}
	slices.SortFunc(reply.Peers, func(a, b wire.SocketPeer) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	for len(reply.Peers) > wire.MaxSocketPeers {
		last := len(reply.Peers) - 1
		if !reply.Peers[last].Own {
			reply.More += reply.Peers[last].Count
		}
		reply.Peers = reply.Peers[:last]
	}
	return reply
}
