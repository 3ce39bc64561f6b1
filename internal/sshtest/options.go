package sshtest

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// Options says what kind of server to start. The zero value lets nobody in.
type Options struct {
	Addr     string       // where to listen; default "127.0.0.1:0"
	HostKeys []ssh.Signer // default: one new ed25519 key
	// Authorized are the public keys that may log in, as any user.
	Authorized []ssh.PublicKey
	NoAuth     bool // let everybody in without a key

	Dir string   // where commands start and relative sftp paths begin; default Home, else the current folder
	Env []string // the environment of commands, "NAME=value"; default PATH of this process. HOME is added from Home
	// Home is the home folder of whoever logs in; default: this process's own.
	Home string
	// KillOnDisconnect kills a command's process group when its session ends. The default is what
	// OpenSSH does without a terminal: the command finds its stdin ended and lives on.
	KillOnDisconnect bool

	MaxSessions int // sessions at once on one connection; 0 is no limit
	MaxStartups int // connections at once before login; those above are closed unheard; 0 is no limit
	// MaxAuthTries is how many keys a login may offer; 0 is six.
	MaxAuthTries int
	Penalties    bool // after a failed login nobody is let in any more, as by PerSourcePenalties
	NoForward    bool
	NoSFTP       bool
	// SFTPServer is a program to run for sftp, such as OpenSSH's sftp-server; default: pkg/sftp's,
	// which makes the texts of relative links absolute.
	SFTPServer string

	Faults Faults // how to misbehave from the start
}

// Faults are the ways to misbehave. The zero value is a healthy server. Those about a connection
// count for connections made after SetFaults.
type Faults struct {
	Silent          bool          // accept, then say nothing
	HangUp          int           // close that many connections right after they were accepted
	SlowHandshake   time.Duration // wait before the first byte
	DropAfter       int64         // cut the connection after that many bytes sent; 0 is never
	RefuseAuth      bool          // take no key
	Noise           string        // written to stdout before each command, as by an rc file's echo
	EndlessBanner   bool          // send lines before the version for ever
	EndlessLine     bool          // send one line before the version, for ever
	HugePacket      bool          // say that the first packet has 4 GiB
	AuthBanners     bool          // send banners during the login for ever
	RekeyEvery      uint64        // exchange keys anew after that many bytes; 0 is the usual 1 GiB, 256 the least
	NoExitStatus    bool          // end commands without saying how
	DeafToKeepAlive bool          // never answer global requests
}

// Stats counts what a server has seen. All counts only grow, but for Open.
type Stats struct {
	Conns      int // connections accepted
	Open       int // connections open now
	PeakLogins int // most connections at once between accept and login
	Dropped    int // connections closed by MaxStartups or HangUp
	Logins     int // logins that succeeded
	AuthTries  int // keys offered, accepted or not; one offered twice on a connection counts once
	Sessions   int // sessions opened
	Refused    int // sessions refused by MaxSessions
	Forwards   int // connections forwarded
	AgentAsks  int // requests to forward an agent, always refused
	Commands   []string
}
