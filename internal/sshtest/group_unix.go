//go:build unix

package sshtest

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup lets a command lead a process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// signals are those the protocol has names for.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
		"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
		"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
}

// signalGroup signals every process of a group, which may have ended meanwhile.
func signalGroup(group int, name string) {
	if sig, known := signals()[name]; known {
		_ = syscall.Kill(-group, sig)
	}
}

// endingSignal names the signal that ended a process; "" when it exited, or was ended by one the
// protocol has no name for.
func endingSignal(state *os.ProcessState) (name string, core bool) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return "", false
	}
	for name, sig := range signals() {
		if sig == status.Signal() {
			return name, status.CoreDump()
		}
	}
	return "", false
}
