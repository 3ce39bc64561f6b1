package filesync

import (
	"encoding/binary"
	"errors"
)

// encodeStats makes the payload of Done.
func encodeStats(s Stats) []byte {
	var buf []byte
	for _, n := range []int64{int64(s.Files), int64(s.Linked), int64(s.Written), s.Bytes} {
		buf = binary.AppendUvarint(buf, uint64(n))
	}
	if s.Unchanged {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func decodeStats(payload []byte) (*Stats, error) {
	var n [4]uint64
	for i := range n {
		v, used := binary.Uvarint(payload)
		if used <= 0 || v > 1<<63-1 || i < 3 && v > MaxEntries {
			return nil, errors.New("counters that cannot be")
		}
		n[i], payload = v, payload[used:]
	}
	if len(payload) != 1 || payload[0] > 1 {
		return nil, errors.New("counters that cannot be")
	}
	return &Stats{
		Files: int(n[0]), Linked: int(n[1]), Written: int(n[2]), Bytes: int64(n[3]), Unchanged: payload[0] == 1,
	}, nil
}
