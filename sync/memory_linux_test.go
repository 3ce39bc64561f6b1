package filesync

import (
	"os"
	"syscall"
)

// peakMemory is the most memory that a process that has ended had, in bytes.
func peakMemory(p *os.ProcessState) (n int64, known bool) {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, false
	}
	return usage.Maxrss << 10, true
}
