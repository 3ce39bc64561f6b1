// Package chaos kills, cuts and starves releases at every place where that can be done, and looks
// afterwards whether anything was broken that a release has promised (docs/reliability.md). The controller
// is the real one, in this process; the helpers are real processes at the other ends of pipes; the service
// is a server that serves what its restart has read through current. It is all tests; `make chaos` runs
// every point, and writes what it saw into the page.
package chaos
