package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
)

// A lane is a further channel of the same connection that carries data of streams from the
// controller to the helper, so that a long way is not limited by the window of one channel. What
// goes over lanes arrives in no order; each piece says its place.

// JoinEnv is set for a helper that is started as a lane of one that runs already.
const JoinEnv = "GODEPLOY_HELPER_JOIN"

const (
	// MaxLanes is how many channels a stream may use, the first one among them.
	MaxLanes = 8
	// TokenLen is the length of the secret that a lane has to know.
	TokenLen = 32

	segmentLen = 8 // bytes of a segment before its data
	maxEarly   = 1024
	maxWindow  = MaxLanes * window
)

// LanesReply says where a helper waits for lanes.
type LanesReply struct {
	PID    int    `json:"pid"`    // of the helper
	Socket string `json:"socket"` // name of its socket, "@…" in the abstract namespace
	Token  []byte `json:"token"`  // what a lane has to say; TokenLen bytes
}

// Check bounds the fields; a name that could mean a file is refused.
func (r *LanesReply) Check() error {
	switch {
	case r.PID < 1:
		return errors.New("no process")
	case len(r.Socket) < 2 || len(r.Socket) > 100 || r.Socket[0] != '@' || !only(r.Socket[1:], lower+digit+"-"):
		return fmt.Errorf("socket %.80q", r.Socket)
	case len(r.Token) != TokenLen:
		return fmt.Errorf("token of %d bytes", len(r.Token))
	}
	return nil
}

// JoinCommand is the command that makes a session a lane of the helper with that process id: the same
// program as that one runs. What it is to join is read from its standard input (WriteJoin).
func JoinCommand(pid int) string {
	return shell(JoinEnv + "=1; export " + JoinEnv + "; exec /proc/" + strconv.Itoa(pid) + "/exe helper")
}

var joinMagic = [4]byte{0x89, 'g', 'd', 'j'}

// WriteJoin tells a lane where its helper waits, and the secret.
func WriteJoin(w io.Writer, to LanesReply) error {
	b := append(joinMagic[:], byte(len(to.Socket)))
	b = append(b, to.Socket...)
	_, err := w.Write(append(b, to.Token...))
	return err
}

// ReadJoin reads what WriteJoin wrote, and not a byte more.
func ReadJoin(r io.Reader) (to LanesReply, err error) {
	var h [5]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return to, noEOF(err)
	}
	if [4]byte(h[:4]) != joinMagic {
		return to, errNoMagic
	}
	rest := make([]byte, int(h[4])+TokenLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return to, noEOF(err)
	}
	to = LanesReply{PID: 1, Socket: string(rest[:h[4]]), Token: rest[h[4]:]}
	return to, to.Check()
}

// WriteJoined says that the lane has been joined to its helper: what comes next on its standard input
// goes there.
func WriteJoined(w io.Writer) error {
	_, err := w.Write(magic[:])
	return err
}

// segment takes a Segment frame apart.
func segment(payload []byte) (at uint64, p []byte, err error) {
	if len(payload) < segmentLen {
		return 0, nil, breach("a segment of %d bytes", len(payload))
	}
	return binary.BigEndian.Uint64(payload), payload[segmentLen:], nil
}

// early keeps what came before its turn: runs in order that do not touch each other.
type early []run

type run struct {
	at    uint64
	n     int
	parts [][]byte
}

func (r run) end() uint64 { return r.at + uint64(r.n) }

// add puts p at its place. Only whole chunks go over lanes, so a peer in order leaves few holes.
func (e *early) add(at uint64, p []byte) error {
	list := *e
	i := sort.Search(len(list), func(i int) bool { return list[i].at >= at })
	end := at + uint64(len(p))
	if i > 0 && list[i-1].end() > at || i < len(list) && list[i].at < end {
		return breach("data twice")
	}
	one := run{at, len(p), [][]byte{p}}
	if i > 0 && list[i-1].end() == at {
		one = list[i-1]
		one.parts, one.n = join(one.parts, p), one.n+len(p)
		i--
		list = append(list[:i], list[i+1:]...)
	}
	if i < len(list) && list[i].at == end {
		one.parts, one.n = append(one.parts, list[i].parts...), one.n+list[i].n
		list[i] = one
		*e = list
		return nil
	}
	if len(list) >= maxEarly {
		return breach("data with more than %d holes", maxEarly)
	}
	list = append(list, run{})
	copy(list[i+1:], list[i:])
	list[i] = one
	*e = list
	return nil
}

// take gives the run that begins there, if there is one.
func (e *early) take(at uint64) (run, bool) {
	if len(*e) == 0 || (*e)[0].at != at {
		return run{}, false
	}
	first := (*e)[0]
	*e = (*e)[1:]
	return first, true
}

// join appends a piece, a small one to the piece before it, so that a peer who sends single bytes
// cannot make each cost many times its size.
func join(parts [][]byte, p []byte) [][]byte {
	if last := len(parts) - 1; last >= 0 && len(p) < small && len(parts[last]) < maxChunk {
		parts[last] = append(parts[last], p...)
		return parts
	}
	return append(parts, p)
}
