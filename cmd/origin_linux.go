package cmd

import (
	"os"
	"strings"
	"syscall"

	"godeploy/internal/wire"
)

// originOf says which folder of which machine a source is, so that a host that is this very machine can
// refuse to write into it. What cannot be known stays zero.
func originOf(dir string) wire.Origin {
	var o wire.Origin
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.BootID = strings.TrimSpace(string(boot))
	}
	if info, err := os.Stat(dir); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			o.Dev, o.Ino = uint64(st.Dev), st.Ino
		}
	}
	return o
}
