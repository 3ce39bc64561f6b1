//go:build !unix

package cmd

// ttyName is the console of Windows for reading.
const ttyName = "CONIN$"

// ignoreBrokenPipes has nothing to do where there is no SIGPIPE.
func ignoreBrokenPipes() {}
