package filesync

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"godeploy/sync/delta"
)

// Old contents are only worth a signature when there is something to save, and only so many of them.
const (
	signFrom    = 512      // bytes of the old content
	maxSigned   = 4096     // files
	maxSignRead = 64 << 20 // bytes of old contents
	maxWant     = 32 << 20 // bytes of a Want message
)

// signedUnit is a unit whose old content the receiver tells of.
type signedUnit struct {
	unit      int
	signature []byte // as delta.Signature appends it
}

// sign makes signatures of the old versions of files that are lacking and changed.
func (r *receiver) sign(lacking *unitSet) []signedUnit {
	if r.o.Whole {
		return nil
	}
	var signed []signedUnit
	var items []int32
	room := int64(maxSignRead)
	r.eachFile(func(i int32, first int) {
		e := r.file(i)
		if r.items[i].source < 0 || r.items[i].from != fromWire || len(e.Chunks) > 0 || !lacking.has(first) {
			return
		}
		old := r.bases[0].manifest.Entries[r.items[i].source].Size
		if old < signFrom || old >= ChunkedFrom || len(items) == maxSigned || room < old {
			return
		}
		room -= old
		signed, items = append(signed, signedUnit{unit: first}), append(items, i)
	})
	_ = parallel(context.Background(), r.o.workers(), len(items), func(n int) error { // the function never fails
		if old, err := r.oldVersion(&r.items[items[n]]); err == nil {
			signed[n].signature = delta.Sign(old).Append(nil)
		}
		return nil
	})
	return signed
}

// encodeWant writes the units that are lacking, then for some of them the signature of the old
// content: the distance from the unit before, a length, the signature.
func encodeWant(w io.Writer, lacking *unitSet, signed []signedUnit) error {
	if err := lacking.encode(w); err != nil {
		return err
	}
	var buf []byte
	last := -1
	for _, s := range signed {
		if len(s.signature) == 0 {
			continue
		}
		buf = binary.AppendUvarint(buf[:0], uint64(s.unit-last))
		buf = binary.AppendUvarint(buf, uint64(len(s.signature)))
		if _, err := w.Write(append(buf, s.signature...)); err != nil {
			return err
		}
		last = s.unit
	}
	return nil
}

// wanted is what a receiver asked for.
type wanted struct {
	units  *unitSet
	signed []signedUnit
	key    Hash // of the message: hosts that ask for the same get the same
}

// decodeWant reads what encodeWant wrote about a tree of so many units.
func decodeWant(in io.Reader, units int) (*wanted, error) {
	raw, err := io.ReadAll(io.LimitReader(in, maxWant+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxWant {
		return nil, errors.New("asks for too much at once")
	}
	r := bytes.NewReader(raw)
	w := &wanted{key: sum(raw)}
	if w.units, err = readUnits(r, units); err != nil {
		return nil, err
	}
	unit := -1
	for r.Len() > 0 {
		step, err := binary.ReadUvarint(r)
		if err != nil || step == 0 || step > uint64(units-1-unit) || len(w.signed) == maxSigned {
			return nil, errors.New("signature of no unit")
		}
		unit += int(step)
		n, err := binary.ReadUvarint(r)
		if err != nil || n > uint64(r.Len()) {
			return nil, errors.New("signature is cut off")
		}
		at := len(raw) - r.Len()
		w.signed = append(w.signed, signedUnit{unit, raw[at : at+int(n)]})
		_, _ = r.Seek(int64(n), io.SeekCurrent) // within what is there
	}
	return w, nil
}
