//go:build unix

package cmd

import (
	"os"
	"os/signal"
	"syscall"
)

const ttyName = "/dev/tty"

// ignoreBrokenPipes takes SIGPIPE over without ever looking at it. signal.Ignore would do it too,
// but children inherit that, and a local hook's `yes | head` would then never end.
func ignoreBrokenPipes() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
