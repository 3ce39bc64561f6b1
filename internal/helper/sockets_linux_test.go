package helper

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"godeploy/internal/wire"
)

func TestSocketsCountsWhatIsOpen(t *testing.T) {
	t.Parallel()
	c := local(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	ask := func() wire.SocketsReply {
		var r wire.SocketsReply
		if err := c.Call(t.Context(), wire.KindSockets, &wire.SocketsRequest{Ports: []int{port}}, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := ask(); len(r.Peers) != 0 {
		t.Errorf("a listener alone: %+v", r)
	}
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := ask() // not accepted yet, but a request can be in it
	if len(r.Peers) != 1 || r.Peers[0] != (wire.SocketPeer{Address: "127.0.0.1", Port: port, Count: 1, Own: true}) || r.Open() != 0 {
		t.Errorf("one connection of the host's own: %+v", r)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = far.Close(), near.Close()
	if r := ask(); len(r.Peers) != 0 {
		t.Errorf("after its end: %+v", r)
	}
}

func TestSocketTables(t *testing.T) {
	t.Parallel()
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	table := head +
		"   0: 0100000A:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n" +
		"   1: 0100000A:2328 0B00000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0\n" +
		"   2: 0100000A:2328 0B00000A:C351 03 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0\n" +
		"   3: 0100000A:2328 0B00000A:C352 06 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0\n" +
		"   4: 0100000A:2328 0100000A:C353 01 00000000:00000000 00:00000000 00000000     0        0 5 1 0 100 0 0 10 0\n" +
		"   5: 0100000A:0016 0B00000A:C354 01 00000000:00000000 00:00000000 00000000     0        0 6 1 0 100 0 0 10 0\n" +
		"   6: 0000000000000000FFFF00000100000A:2328 0000000000000000FFFF00000C00000A:C350 01 0:0\n" +
		"   7: B80D0120000000000000000001000000:2328 B80D0120000000000000000002000000:C350 01 0:0\n"
	counts := map[wire.SocketPeer]int{}
	if err := countSockets(t.Context(), strings.NewReader(table), []int{9000}, counts); err != nil {
		t.Fatal(err)
	}
	want := "[{10.0.0.11 9000 2 false} {10.0.0.1 9000 1 true} {10.0.0.12 9000 1 false} {2001:db8::2 9000 1 false}]"
	if r := summed(counts); fmt.Sprint(r.Peers) != want || r.Open() != 4 {
		t.Errorf("got %v, %d open, want %s and 4", r.Peers, r.Open(), want)
	}
	many := map[wire.SocketPeer]int{}
	for i := range wire.MaxSocketPeers + 10 {
		many[wire.SocketPeer{Address: fmt.Sprintf("10.0.%d.%d", i/200, i%200), Port: 80}] = 1
	}
	if r := summed(many); len(r.Peers) != wire.MaxSocketPeers || r.More != 10 || r.Check() != nil {
		t.Errorf("%d peers and %d more, %v", len(r.Peers), r.More, r.Check())
	}
}

// FuzzSocketLine: no line makes it panic, and what it takes is fit to be sent.
func FuzzSocketLine(f *testing.F) {
	f.Add("   1: 0100000A:2328 0B00000A:C350 01 0:0")
	f.Add("1: 00000000000000000000000001000000:1 00000000000000000000000001000000:FFFF 03")
	f.Add("1: :1 :2 01")
	f.Fuzz(func(t *testing.T, line string) {
		if peer, ok := socketLine(line); ok {
			r := summed(map[wire.SocketPeer]int{peer: 1})
			if err := r.Check(); err != nil {
				t.Errorf("%q gives %+v: %v", line, peer, err)
			}
		}
	})
}
