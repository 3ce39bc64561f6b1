// Package helper is what runs on a host: the release layout of an app (Site), and around it the
// small server that a controller speaks to over stdin and stdout, with the lock, the running of
// programs, processes and files. docs/wire.md is the specification of what it answers.
//
// Site works over any filesync.FS, so a controller without a helper runs the same code over SFTP.
// The server is for Linux; elsewhere Main says so.
package helper
