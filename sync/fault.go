package filesync

import (
	"encoding/binary"
	"errors"

	"godeploy/internal/fault"
)

// peerError marks a fault that the other end told.
type peerError struct{ told *fault.Error }

func (e peerError) Error() string { return e.told.Error() }
func (e peerError) Unwrap() error { return e.told }

func isFault(err error) bool {
	_, ok := errors.AsType[*fault.Error](err)
	return ok
}

// encodeFault makes the payload of an Error frame: code, message and hint, each after its length.
func encodeFault(err error) []byte {
	e := fault.All(err)[0]
	var buf []byte
	for _, s := range []string{string(e.Code), e.Error(), e.Cause} {
		s = s[:min(len(s), 4096)]
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	return buf
}

func decodeFault(payload []byte) error {
	var parts [3]string
	for i := range parts {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return errors.New("error message that cannot be read")
		}
		parts[i], payload = string(payload[used:used+int(n)]), payload[used+int(n):]
	}
	code := fault.Code(parts[0])
	switch code {
	case fault.SyncSource, fault.SyncSourceChanged, fault.SyncVerify, fault.DiskFull, fault.InodeFull,
		fault.Interrupted, fault.Protocol, fault.LayoutRefused, fault.ReleaseUnknown,
		fault.DeleteRefused, fault.ConfigValue, fault.SudoNeeded:
	default:
		code = fault.Internal
	}
	e := fault.New(code, "%s", parts[1])
	if parts[2] != "" {
		e.Hint("%s", parts[2])
	}
	return peerError{e}
}
