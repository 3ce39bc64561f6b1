package sshx

import (
	"context"
	"errors"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// errSeen ends a handshake whose host key is all that was wanted.
var errSeen = errors.New("host key seen")

// FetchHostKeys asks the target for its host keys, one of each type, without logging in and without
// trusting them: show the fingerprints before you add them to a known_hosts file. Jump hosts on the
// way are logged in to, so theirs have to be trusted already. The keys come in the order ed25519,
// ecdsa, rsa.
func (p *Pool) FetchHostKeys(ctx context.Context, t Target) ([]HostKey, error) {
	t, err := p.resolve(ctx, t)
	if err != nil {
		return nil, err
	}
	var keys []HostKey
	err = p.reach(ctx, t, func(hop *Conn) (err error) {
		keys, err = p.fetchOver(ctx, t, hop)
		return err
	})
	return keys, err
}

// fetchOver asks for one type after the other, each on a connection of its own: the protocol shows
// one key per handshake. The first refusal tells which types there are.
func (p *Pool) fetchOver(ctx context.Context, t Target, hop *Conn) ([]HostKey, error) {
	leave, err := p.enter(ctx, viaOf(hop)+" "+t.addr())
	if err != nil {
		return nil, err
	}
	defer leave()
	var keys []HostKey
	wanted := [][]string{
		{ssh.KeyAlgoED25519}, {ssh.KeyAlgoECDSA521}, {ssh.KeyAlgoECDSA384}, {ssh.KeyAlgoECDSA256},
		{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
	}
	var offered []string // by the host; nil until it has told
	var last error
	for _, algorithms := range wanted {
		if offered != nil && !overlap(algorithms, offered) {
			continue
		}
		key, err := p.fetchOne(ctx, t, hop, algorithms)
		var mismatch *ssh.AlgorithmNegotiationError
		var hung *hangup
		switch {
		case err == nil:
			keys = append(keys, key)
		case errors.As(err, &mismatch):
			offered, last = mismatch.RequestedAlgorithms, err
		case errors.As(err, &hung) && len(keys) > 0: // dropbear dies of a type it names and has no key of
		default:
			return nil, plain(err)
		}
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.SSHRefused, "%s has no host key of a current type", t.place(viaOf(hop))).On(t.Name).Wrap(last)
	}
	return keys, nil
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// fetchOne shakes hands until the host key is seen.
func (p *Pool) fetchOne(ctx context.Context, t Target, hop *Conn, algorithms []string) (HostKey, error) {
	var seen HostKey
	a := &attempt{pool: p, target: t, hop: hop}
	client, err := a.connect(ctx, &ssh.ClientConfig{
		User:              t.User,
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = HostKey{key}
			return errSeen
		},
	})
	if client != nil {
		_ = client.Close() // cannot happen: the callback always refuses
	}
	if seen.key != nil {
		return seen, nil
	}
	return HostKey{}, err
}
