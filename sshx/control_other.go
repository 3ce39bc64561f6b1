//go:build !unix

package sshx

// ourSocket is for systems on which ssh(1) has a ControlMaster.
func ourSocket(string) bool { return false }
