package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"godeploy/internal/wire"
)

// build is what a bug report needs to know about this binary.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Dirty    bool   `json:"dirty,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Protocol int    `json:"protocol"`
	Schema   string `json:"schema"` // of the JSON lines
}

func versionCommand() *command {
	return &command{
		Name: "version", Group: groupStart, Usage: "version, commit and protocol of this binary",
		Examples: []string{"godeploy version", "godeploy version --json", "godeploy --version"},
		Run:      func(_ context.Context, c *call) error { return c.printVersion() },
	}
}

// version reads what the Go toolchain has stamped into the binary.
func version() build {
	b := build{Version: "devel", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Protocol: wire.Protocol, Schema: schemaVersion}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

func (c *call) printVersion() error {
	b := version()
	if c.looks().mode == "json" {
		return c.document(b)
	}
	_, err := fmt.Fprintf(c.sys.Stdout, "godeploy %s\n%s%s %s/%s, protocol %d\n", b.Version, commitLine(b), b.Go, b.OS, b.Arch, b.Protocol)
	return err
}

func commitLine(b build) string {
	if b.Commit == "" {
		return ""
	}
	if b.Dirty {
		return "commit " + b.Commit + " with changes\n"
	}
	return "commit " + b.Commit + "\n"
}

// document writes the one JSON document of a query to stdout.
func (c *call) document(v any) error {
	enc := json.NewEncoder(c.sys.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
