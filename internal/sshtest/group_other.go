//go:build !unix

package sshtest

import (
	"os"
	"os/exec"
)

// ownGroup does nothing: there are no process groups here.
func ownGroup(*exec.Cmd) {}

// signalGroup kills the one process, whatever the signal.
func signalGroup(group int, _ string) {
	if process, err := os.FindProcess(group); err == nil {
		_ = process.Kill() // it may have ended meanwhile
	}
}

// endingSignal knows none.
func endingSignal(*os.ProcessState) (name string, core bool) { return "", false }
