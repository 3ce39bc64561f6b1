//go:build !unix

package hooks

import (
	"os"
	"os/exec"
)

// ownGroup does nothing here: only the shell itself is ended with the run, not what it started.
func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}

func signalOf(*os.ProcessState) string { return "" }
