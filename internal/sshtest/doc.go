// Package sshtest is an SSH server inside the process: it runs real commands, serves files and
// forwards connections on loopback, and can be told to misbehave in the ways real servers do. Tests
// use it to show what godeploy does about that, and the demo uses it as its fleet.
//
// It is not a server for anything else: whoever logs in has the rights of the process.
package sshtest
