package filesync

import (
	"context"
	"errors"
	"io"
)

// Send is the controller's end of a transfer.
func Send(ctx context.Context, src *Source, rw io.ReadWriter, o SendOptions) (Stats, error) {
	return Stats{}, errors.ErrUnsupported
}
