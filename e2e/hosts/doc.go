// Package hosts boots a small server fleet on one Linux machine, for tests: Debian trees with
// systemd, sshd, nginx, HAProxy, gunicorn, Django and PostgreSQL, each in a network namespace of its own.
//
// The topology is the one most people have: an operator and two nginx hosts on a public bridge,
// the same two nginx hosts, four app hosts and a database host on a private one. App hosts have no
// public address; ssh reaches them through an nginx host. No namespace has a route out, so a stray
// packet goes nowhere.
//
// It needs root, debootstrap and systemd-nspawn, and no container engine. The base tree is built
// once and kept in a cache folder; a fleet on top of it stands in seconds.
//
// Everything a fleet makes carries its id, and a living fleet holds a lock: what a killed run left
// behind is found and removed by the next Start, or by Sweep.
package hosts
