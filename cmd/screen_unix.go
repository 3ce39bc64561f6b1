//go:build unix

package cmd

import (
	"os"
	"os/signal"
	"syscall"
)

// watchSize tells whenever the terminal has got another size, until stop is called.
func watchSize() (changed <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	return signals, func() { signal.Stop(signals) }
}
