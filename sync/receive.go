package filesync

import (
	"context"
	"errors"
	"io"
)

// Receive is the host's end of a transfer.
func Receive(ctx context.Context, o ReceiveOptions, rw io.ReadWriter) (Stats, error) {
	return Stats{}, errors.ErrUnsupported
}
