// Package sshx is how godeploy speaks SSH: it dials a host under one absolute deadline, always
// verifies the host key, logs in with the agent or key files, goes through jump hosts, and runs
// commands over one connection per host.
//
// A Pool is made once per run. It shares jump connections, asks for each passphrase once, and never
// has more than eight handshakes under way with one sshd. A Conn is one logged-in connection.
//
// There is no switch that turns the host key check off, and the agent is never forwarded.
package sshx
