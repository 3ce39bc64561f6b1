package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// at is "FILE:LINE".
func (k KnownKey) at() string { return k.File + ":" + strconv.Itoa(k.Line) }

// trust adds the command that accepts the target's key, when its environment is known.
func trust(e *fault.Error, t Target) *fault.Error {
	if env := t.env(); env != "" {
		return e.Try("godeploy keys trust %s -l %s", env, t.Name)
	}
	return e
}

func unknownFault(t Target, via string, key HostKey) error {
	e := fault.New(fault.SSHHostKeyUnknown, "%s shows a host key that is not known", t.place(via)).On(t.Name).
		Fact("got:  %s %s", key.Type(), key.Fingerprint()).
		Hint("compare the fingerprint with one from the host itself before you accept it")
	return trust(e, t)
}

func changedFault(t Target, via, had string, key HostKey) error {
	e := fault.New(fault.SSHHostKeyChanged, "%s shows another host key than before", t.place(via)).On(t.Name).
		Fact("had:  %s", had).Fact("got:  %s %s", key.Type(), key.Fingerprint()).
		Hint("reinstalled server, or somebody in between; ask before you accept")
	if t.HostKey != "" {
		return e.Hint("reinstalled server, or somebody in between; the fingerprint is pinned by host_key")
	}
	return trust(e, t)
}

func revokedFault(t Target, via string, line KnownKey) error {
	return fault.New(fault.SSHHostKeyChanged, "%s shows a host key that was revoked", t.place(via)).On(t.Name).
		Fact("got:  %s %s", line.Type(), line.Fingerprint()).Fact("revoked in %s", line.at()).
		Hint("the key is known to be in wrong hands; the host needs a new one")
}

func timeoutFault(t Target, via, what string) *fault.Error {
	return fault.New(fault.SSHTimeout, "%s %s", t.place(via), what).On(t.Name)
}

// unreachableFault says why no connection came about, before a word of SSH was spoken.
func (p *Pool) unreachableFault(t Target, hop *Conn, err error) error {
	via := viaOf(hop)
	var dns *net.DNSError
	var refusal *ssh.OpenChannelError
	switch {
	case errors.As(err, &refusal) && refusal.Reason == ssh.Prohibited:
		return fault.New(fault.SSHJump, "jump host %s does not let connections through to %s", via, t.addr()).
			On(t.Name).Hint("sshd on the jump host needs AllowTcpForwarding and a PermitOpen that covers it").Wrap(err)
	case errors.As(err, &refusal):
		return fault.New(fault.SSHRefused, "%s cannot be reached from its jump host", t.place(via)).On(t.Name).
			Fact("%s says: %s", via, clip(refusal.Message, 200)).Wrap(err)
	case isTimeout(err):
		return timeoutFault(t, via, fmt.Sprintf("does not answer within %s", p.limit(t))).Wrap(err)
	case errors.As(err, &dns):
		return fault.New(fault.SSHRefused, "%s has no address: no such host name", t.place(via)).On(t.Name).Wrap(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.SSHRefused, "%s refuses connections on port %d", t.place(via), t.port()).On(t.Name).
			Hint("is sshd running there, on this port?").Wrap(err)
	}
	return fault.New(fault.SSHRefused, "%s cannot be reached", t.place(via)).On(t.Name).Wrap(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		(errors.As(err, &timeout) && timeout.Timeout())
}

// isHangup reports whether the peer just closed the connection.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// endsWith reports whether a request failed since its connection was about to end. The library gives io.EOF, or, for
// a channel that was being opened, the type of the answer that never came.
func endsWith(err error) bool {
	return errors.Is(err, io.EOF) || strings.HasSuffix(err.Error(), "in response to channel open: <nil>")
}

// handshakeFault names the failure of a connection that was made.
func (a *attempt) handshakeFault(err error) error {
	t, via := a.target, viaOf(a.hop)
	var mismatch *ssh.AlgorithmNegotiationError
	var command *commandError
	switch {
	case a.firstNo != nil:
		return a.firstNo // a later try only says that the host has no other key
	case isTimeout(err) && !a.verified:
		return timeoutFault(t, via, fmt.Sprintf("accepts connections but says nothing for %s", a.pool.limit(t))).
			Hint("sshd is overloaded or hangs, or something else listens on port %d", t.port()).Wrap(err)
	case isTimeout(err):
		return timeoutFault(t, via, fmt.Sprintf("does not finish the login within %s", a.pool.o.Timeout)).Wrap(err)
	case errors.As(err, &mismatch):
		return outdatedFault(t, via, mismatch)
	case a.verified && !isHangup(err):
		return a.authFault(err)
	case a.verified:
		return a.authFault(errors.New("the connection was closed during the login"))
	case errors.As(err, &command):
		return fault.New(fault.SSHRefused, "%s cannot be reached by the ProxyCommand of ssh_config", t.place(via)).On(t.Name).
			Fact("it says: %s", clip(command.said, 300)).Wrap(err)
	case isHangup(err):
		return a.hangupFault(err)
	}
	return fault.New(fault.SSHRefused, "%s does not speak SSH as expected", t.place(via)).On(t.Name).Wrap(err)
}

// hangupFault says that a host has closed a connection before the login, and what it has said.
func (a *attempt) hangupFault(err error) error {
	e := fault.New(fault.SSHRefused, "%s closes connections before the login", a.target.place(viaOf(a.hop))).On(a.target.Name).Wrap(err).
		Hint("sshd's MaxStartups or PerSourcePenalties may be at work, or a firewall")
	switch said := a.raw.refusal(); {
	case strings.Contains(said, "Not allowed at this time"):
		return e.Fact("it says: %s", said).
			Hint("PerSourcePenalties of its sshd keeps this address out for a while, most often after failed logins; wait, and use the right key")
	case strings.Contains(said, "Exceeded MaxStartups"):
		return e.Fact("it says: %s", said).Hint("too many logins are under way there: MaxStartups of its sshd")
	case said != "":
		return e.Fact("it says: %s", said)
	}
	return e
}

// outdatedFault names what the host would need, and how to allow it for this host alone.
func outdatedFault(t Target, via string, mismatch *ssh.AlgorithmNegotiationError) error {
	keyword, could := keywordFor(mismatch)
	e := fault.New(fault.SSHRefused, "%s speaks only outdated algorithms", t.place(via)).On(t.Name).
		Fact("no common %s", mismatch.What).Fact("it offers: %s", clip(strings.Join(mismatch.RequestedAlgorithms, " "), 200)).Wrap(mismatch)
	if len(could) == 0 {
		return e.Hint("the host needs a newer SSH server, or others of its algorithms switched on")
	}
	return e.Hint(`better renew the host; to allow it for this one, put "%s +%s" under "Host %s" in ~/.ssh/config`, keyword, could[0], t.Address)
}
