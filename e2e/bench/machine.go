package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is where figures come from; without it they mean nothing.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryGiB  int    `json:"memory_gib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	TCP        string `json:"tcp"` // congestion control
	Go         string `json:"go"`
	Rsync      string `json:"rsync"`
	OpenSSH    string `json:"openssh"`
	Godeploy   string `json:"godeploy"`
}

// thisMachine collects the facts; what cannot be told is left empty.
func thisMachine(ctx context.Context, dir, godeploy string) machine {
	m := machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Go: runtime.Version()}
	var kib int
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kib); err == nil {
		m.MemoryGiB = (kib + 1<<19) >> 20
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	tcp, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control") // left empty when it cannot be told
	m.TCP = strings.TrimSpace(string(tcp))
	m.FileSystem = firstLine(ctx, "findmnt", "-n", "-o", "FSTYPE", "-T", dir)
	if words := strings.Fields(firstLine(ctx, "rsync", "--version")); len(words) > 2 {
		m.Rsync = words[2]
	}
	m.OpenSSH, _, _ = strings.Cut(firstLine(ctx, "ssh", "-V"), ",")
	if godeploy != "" {
		m.Godeploy = firstLine(ctx, godeploy, "version")
	}
	return m
}

// field gives the first value of a name in a file of "name : value" lines.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
