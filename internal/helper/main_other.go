//go:build !linux

package helper

import (
	"context"
	"fmt"
	"io"
	"runtime"
)

// Main says on stderr that hosts of this system are not supported, and returns 1.
func Main(_ context.Context, _ io.Reader, _ io.Writer, stderr io.Writer) int {
	_, _ = fmt.Fprintf(stderr, "godeploy-helper is not supported on %s; set helper = false for this host\n", runtime.GOOS)
	return 1
}
