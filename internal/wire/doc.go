// Package wire is the protocol between godeploy and the small helper it starts on a host: a
// preface, frames, the requests that travel in them, and both ends of the conversation.
// docs/wire.md is the specification.
//
// The package opens nothing: it speaks over any io.ReadWriteCloser, so the same code serves a
// session of SSH, a pipe and a test.
package wire
