package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyring holds the key files of a run. Each is read once, when it is first needed.
type keyring struct {
	mu     sync.Mutex
	loaded map[string]*loadedKey
	worked map[string]bool // public keys that some host has taken
}

// loadedKey is a key file, or why it is none.
type loadedKey struct {
	key *keyFile
	err error
}

// load reads a key file.
func (r *keyring) load(path string) (*keyFile, error) {
	path = expand(path)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded[path] == nil {
		if r.loaded == nil {
			r.loaded = make(map[string]*loadedKey)
		}
		key, err := loadKey(path)
		r.loaded[path] = &loadedKey{key, err}
	}
	return r.loaded[path].key, r.loaded[path].err
}

// praise remembers a key that a host has taken, so that the others are offered it first.
func (r *keyring) praise(pub ssh.PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.worked == nil {
		r.worked = make(map[string]bool)
	}
	r.worked[string(pub.Marshal())] = true
}

func (r *keyring) praised(s *identity) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.worked[string(s.pub.Marshal())]
}

// files loads the key files for a target. A file that godeploy.toml names and that cannot be used is a
// fault; one that ssh_config names, or a usual one, is left out, with a note when it is there.
func (p *Pool) files(t Target) (keys []*keyFile, notes []string, err error) {
	paths := p.o.Keys
	switch {
	case len(paths) > 0:
	case t.conf.keysSaid:
		paths = t.conf.keys
	default:
		paths = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa", "~/.ssh/id_ed25519_sk", "~/.ssh/id_ecdsa_sk"}
	}
	for _, path := range paths {
		key, err := p.keys.load(path)
		switch {
		case err == nil:
			keys = append(keys, key)
		case len(p.o.Keys) > 0:
			return nil, nil, err
		case !errors.Is(err, fs.ErrNotExist):
			notes = append(notes, err.Error())
		}
	}
	return keys, notes, nil
}

// onlyFiles reports whether those keys of the agent stay unused that match no key file.
func (p *Pool) onlyFiles(t Target) bool { return len(p.o.Keys) > 0 || t.conf.keysOnly }

// agentLimit bounds the first answer of an agent; its signatures may wait for a person (askLimit).
const agentLimit = 5 * time.Second

// maxAgentKeys bounds what an agent may offer us; sshd closes after six attempts anyway.
const maxAgentKeys = 64

// identities lists what to log in with, in order: what has worked on another host of this run, agent
// identities that match a key file, the agent's others unless only files count, then the key files. Each
// public key stands once, a certificate before the key it is for. The closer ends the talk with the agent.
func (a *attempt) identities(ctx context.Context) ([]*identity, io.Closer, error) {
	files, notes, err := a.pool.files(a.target)
	if err != nil {
		return nil, nil, err
	}
	a.notes = notes
	certs := a.certificates()
	held, closer := a.fromAgent(ctx)
	var list []*identity
	listed := make(map[string]bool)
	add := func(s *identity) {
		for _, s := range append(s.certified(certs), s) {
			if blob := string(s.pub.Marshal()); !listed[blob] && !a.leftOut(blob) {
				listed[blob] = true
				list = append(list, s)
			}
		}
	}
	for _, s := range held {
		if matches(files, certs, s.pub) {
			add(s)
		}
	}
	for _, s := range held {
		if !a.pool.onlyFiles(a.target) {
			add(s)
		}
	}
	for _, file := range files {
		for _, s := range a.fromFile(ctx, file) {
			add(s)
		}
	}
	slices.SortStableFunc(list, func(x, y *identity) int {
		return rank(a.pool.keys.praised(x)) - rank(a.pool.keys.praised(y))
	})
	return list, closer, nil
}

// leftOut reports whether the pool is to go without an identity.
func (a *attempt) leftOut(blob string) bool {
	return a.pool.o.Without != nil && a.pool.o.Without([]byte(blob))
}

// rank puts what is so before what is not.
func rank(is bool) int {
	if is {
		return 0
	}
	return 1
}

// certificates reads those that ssh_config names.
func (a *attempt) certificates() []*ssh.Certificate {
	var all []*ssh.Certificate
	for _, path := range a.target.conf.certs {
		if cert, ok := readPublic(path).(*ssh.Certificate); ok {
			all = append(all, cert)
		} else {
			a.notes = append(a.notes, path+" is no certificate")
		}
	}
	return all
}

// certified gives the identity with each certificate that is for its key.
func (s *identity) certified(certs []*ssh.Certificate) []*identity {
	var all []*identity
	for _, cert := range certs {
		if same(HostKey{cert.Key}, HostKey{s.pub}) {
			all = append(all, &identity{attempt: s.attempt, name: "certificate for " + s.name, pub: cert, open: s.open})
		}
	}
	return all
}

// matches reports whether the agent's key, or the key its certificate is for, is one of the
// files' or of the certificates'.
func matches(files []*keyFile, certs []*ssh.Certificate, pub ssh.PublicKey) bool {
	if cert, ok := pub.(*ssh.Certificate); ok {
		pub = cert.Key
	}
	return slices.ContainsFunc(files, func(f *keyFile) bool {
		return f.pub != nil && same(HostKey{f.pub}, HostKey{pub})
	}) || slices.ContainsFunc(certs, func(c *ssh.Certificate) bool { return same(HostKey{c.Key}, HostKey{pub}) })
}

// fromFile gives a file's certificate and key. A key whose public half is nowhere to be seen has to
// be opened before it can be offered.
func (a *attempt) fromFile(ctx context.Context, file *keyFile) []*identity {
	if file.pem == nil {
		return nil
	}
	open := func() (ssh.Signer, error) { return file.open(ctx, a.pool.o.Passphrase) }
	pub := file.pub
	if pub == nil {
		signer, err := open()
		if err != nil {
			a.notes = append(a.notes, err.Error())
			return nil
		}
		pub = signer.PublicKey()
	}
	plain := &identity{attempt: a, name: "key " + file.path, pub: pub, open: open}
	if file.cert == nil {
		return []*identity{plain}
	}
	return []*identity{{attempt: a, name: "certificate " + file.path, pub: file.cert, open: open}, plain}
}

// fromAgent asks the agent for its identities. An agent that is not there is a note, not a failure.
func (a *attempt) fromAgent(ctx context.Context) ([]*identity, io.Closer) {
	none := io.NopCloser(nil)
	socket := a.agent()
	if socket == "" {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		a.notes = append(a.notes, "the agent does not answer: "+err.Error())
		return nil, none
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // wakes List
	client := agent.NewClient(conn)
	keys, err := client.List()
	if !stop() || err != nil {
		a.notes = append(a.notes, fmt.Sprintf("the agent does not list its keys: %v", err))
		_ = conn.Close()
		return nil, none
	}
	var held []*identity
	for _, key := range keys[:min(len(keys), maxAgentKeys)] {
		pub, err := ssh.ParsePublicKey(key.Blob)
		if err != nil {
			continue // a type only newer software knows
		}
		signer := &agentSigner{client: client, conn: conn, pub: pub}
		held = append(held, &identity{attempt: a, name: "agent's " + clip(key.Comment, 60), pub: pub,
			open: func() (ssh.Signer, error) { return signer, nil }})
	}
	return held, conn
}

// agent is the socket of the agent to ask; "" is none.
func (a *attempt) agent() string {
	switch own := a.target.conf.agent; own {
	case "":
		return a.pool.o.AgentSocket
	case "none":
		return ""
	default:
		return own
	}
}

// agentSigner signs with a key that stays in the agent.
type agentSigner struct {
	client agent.ExtendedAgent
	conn   net.Conn
	pub    ssh.PublicKey
}

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.pub }

func (s *agentSigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, "")
}

// SignWithAlgorithm waits for the agent, and through it for a person, no longer than askLimit.
func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	if err := s.conn.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return nil, err
	}
	return s.client.SignWithFlags(s.pub, data, flags)
}

// identity is a public key to offer, and the way to its private half once the server wants it.
type identity struct {
	attempt *attempt
	name    string
	pub     ssh.PublicKey
	open    func() (ssh.Signer, error)
}

// PublicKey is what is offered.
func (s *identity) PublicKey() ssh.PublicKey { return s.pub }

// Algorithms keeps RSA to SHA-2, unless ssh_config asks for the old way for this host.
func (s *identity) Algorithms() []string {
	kind := s.pub.Type()
	if cert, ok := s.pub.(*ssh.Certificate); ok {
		kind = cert.Key.Type()
	}
	if kind == ssh.KeyAlgoRSA {
		if s.attempt.target.conf.allows(ssh.KeyAlgoRSA, "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes") {
			return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
		}
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// Sign signs with the first algorithm.
func (s *identity) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, s.Algorithms()[0])
}

// SignWithAlgorithm opens the key and signs. The deadline of the login rests meanwhile: it is meant
// for hosts, not for people. After a key that cannot sign the login goes on with the next.
func (s *identity) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	resume := s.attempt.pause()
	defer resume()
	signer, err := s.open()
	if err == nil {
		var signature *ssh.Signature
		if signature, err = signWith(signer, random, data, algorithm); err == nil {
			s.attempt.signed(s)
			return signature, nil
		}
	}
	s.attempt.note(s.name + ": " + err.Error())
	return nil, err
}

func signWith(signer ssh.Signer, random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if able, ok := signer.(ssh.AlgorithmSigner); ok {
		return able.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}
