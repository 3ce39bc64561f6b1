package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyring holds the key files of a run. They are read once, at the first login.
type keyring struct {
	named []string
	once  sync.Once
	keys  []*keyFile
	notes []string
	err   error
}

func (r *keyring) load() ([]*keyFile, []string, error) {
	r.once.Do(func() { r.keys, r.notes, r.err = loadKeys(r.named) })
	return r.keys, r.notes, r.err
}

// agentLimit bounds the first answer of an agent; its signatures may wait for a person (askLimit).
const agentLimit = 5 * time.Second

// maxAgentKeys bounds what an agent may offer us; sshd closes after six attempts anyway.
const maxAgentKeys = 64

// identities lists what to log in with, in order: agent identities that match a key file, the
// agent's others when no files were named, then the key files. Each public key stands once. The
// closer ends the talk with the agent.
func (a *attempt) identities(ctx context.Context) ([]ssh.Signer, io.Closer, error) {
	files, notes, err := a.pool.keys.load()
	if err != nil {
		return nil, nil, err
	}
	a.notes = slices.Concat(notes, a.barredWhy)
	held, closer := a.fromAgent(ctx)
	var signers []ssh.Signer
	offered := make(map[string]bool)
	offer := func(s *identity) {
		if blob := string(s.pub.Marshal()); !offered[blob] && !a.barred[blob] {
			offered[blob] = true
			signers = append(signers, s)
			a.tried = append(a.tried, s.name+" "+ssh.FingerprintSHA256(s.pub))
		}
	}
	for _, s := range held {
		if matches(files, s.pub) {
			offer(s)
		}
	}
	for _, s := range held {
		if len(a.pool.o.Keys) == 0 {
			offer(s)
		}
	}
	for _, file := range files {
		for _, s := range a.fromFile(ctx, file) {
			offer(s)
		}
	}
	return signers, closer, nil
}

// matches reports whether the agent's key, or the key its certificate is for, is one of the files'.
func matches(files []*keyFile, pub ssh.PublicKey) bool {
	if cert, ok := pub.(*ssh.Certificate); ok {
		pub = cert.Key
	}
	return slices.ContainsFunc(files, func(f *keyFile) bool {
		return f.pub != nil && same(HostKey{f.pub}, HostKey{pub})
	})
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
	if a.pool.o.AgentSocket == "" {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", a.pool.o.AgentSocket)
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

// Algorithms keeps RSA to SHA-2.
func (s *identity) Algorithms() []string {
	kind := s.pub.Type()
	if cert, ok := s.pub.(*ssh.Certificate); ok {
		kind = cert.Key.Type()
	}
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// Sign signs with the first algorithm.
func (s *identity) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(random, data, s.Algorithms()[0])
}

// SignWithAlgorithm opens the key and signs. The deadline of the login rests meanwhile: it is meant
// for hosts, not for people. A key that cannot sign is barred, so that the next try goes on without.
func (s *identity) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	resume := s.attempt.pause()
	defer resume()
	signer, err := s.open()
	if err == nil {
		var signature *ssh.Signature
		if signature, err = signWith(signer, random, data, algorithm); err == nil {
			return signature, nil
		}
	}
	s.attempt.bar(s, err)
	return nil, err
}

func signWith(signer ssh.Signer, random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if able, ok := signer.(ssh.AlgorithmSigner); ok {
		return able.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}

// errBarred asks for another try without the key that could not sign.
var errBarred = errors.New("a key could not sign")
