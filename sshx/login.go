package sshx

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
)

// maxLogins bounds how often a host that ends logins after a few keys is logged in to for the others.
const maxLogins = 3

// login is one login under way: keys are offered one by one, so that it is known what became of each.
type login struct {
	queue   []*identity
	offered []*identity
	signer  *identity // the last that has signed
	begun   bool
	allowed []string // methods that the host takes, when it last said
	partial bool     // it has accepted something and wants more
	asked   []string // the ways by password that were tried
}

// errLogin ends a login in which there is nothing left to offer; the facts are in login.
var errLogin = errors.New("nothing left to log in with")

// next gives the next key to offer.
func (a *attempt) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.login
	l.begun, l.allowed, l.partial = true, c.AllowedMethods, len(c.PartialSuccessMethods) > 0
	full := a.perLogin > 0 && len(l.offered) >= a.perLogin
	if len(l.queue) == 0 || full || !slices.Contains(c.AllowedMethods, "publickey") {
		return nil, errLogin
	}
	s := l.queue[0]
	l.queue, l.offered = l.queue[1:], append(l.offered, s)
	a.tried = append(a.tried, s.name+" "+ssh.FingerprintSHA256(s.pub))
	return ssh.PublicKeys(s), nil
}

// signed remembers which key has signed.
func (a *attempt) signed(s *identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.login.signer = s
}

// note keeps a remark for the error.
func (a *attempt) note(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.notes = append(a.notes, text)
}

// moreKeys prepares another login with the keys that the last had no room for, if there are any. From then
// on no login comes near the number of keys after which the host has ended one.
func (a *attempt) moreKeys() bool {
	l := &a.login
	if len(l.queue) == 0 || l.signer != nil || !l.begun || len(l.offered) == 0 || !slices.Contains(l.allowed, "publickey") {
		return false
	}
	if a.refusals == nil {
		a.refusals = make(map[string]bool)
	}
	for _, s := range l.offered {
		a.refusals[string(s.pub.Marshal())] = true
	}
	if a.perLogin == 0 {
		a.perLogin = max(1, len(l.offered)-1)
	}
	a.logins++
	return a.logins < maxLogins
}

// authFault says why the host did not let us in.
func (a *attempt) authFault(err error) error {
	t, l := a.target, &a.login
	e := fault.New(fault.SSHAuth, "%s refuses the login of user %q", t.place(viaOf(a.hop)), t.User).On(t.Name)
	a.triedFacts(e)
	switch text := err.Error(); {
	case l.partial && !slices.Contains(l.allowed, "publickey"):
		return e.Fact("the key was accepted, and then it wants: %s", clip(strings.Join(l.allowed, ", "), 100)).
			Hint("godeploy logs in with keys alone; AuthenticationMethods of its sshd asks for more")
	case l.begun && !slices.Contains(l.allowed, "publickey") && errors.Is(err, errLogin):
		return e.Fact("it takes no keys; it offers: %s", clip(orElse(strings.Join(l.allowed, ", "), "nothing"), 100)).
			Hint("PubkeyAuthentication or AuthenticationMethods of its sshd leaves keys out")
	case strings.Contains(text, "Too many authentication failures") || len(l.queue) > 0 && a.logins > 0:
		return e.Fact("the host ends a login after a few keys (MaxAuthTries); %d were not tried", len(l.queue)).
			Hint("name the one key for it with keys in [env.NAME.ssh], or IdentityFile and IdentitiesOnly in ssh_config")
	case !errors.Is(err, errLogin) && !strings.Contains(text, "unable to authenticate"):
		e.Fact("%s", clip(strings.TrimPrefix(text, "ssh: handshake failed: "), 200))
	}
	e.Try("ssh-copy-id %s@%s", t.User, t.Address)
	return e.Hint("the public key has to stand in ~%s/.ssh/authorized_keys on the host", t.User)
}

// triedFacts lists what was offered, and why other keys were not.
func (a *attempt) triedFacts(e *fault.Error) {
	for i, tried := range a.tried {
		if i == 3 && len(a.tried) > 4 {
			e.Fact("and %d keys more", len(a.tried)-i)
			break
		}
		e.Fact("tried %s", tried)
	}
	switch {
	case len(a.tried) == 0 && a.login.begun && !slices.Contains(a.login.allowed, "publickey"):
	case len(a.tried) == 0:
		e.Fact("no key to try: %s", strings.Join(append(a.notes, "neither an agent nor a key file has one"), "; "))
	case len(a.notes) > 0:
		e.Fact("%s", strings.Join(a.notes, "; "))
	}
}
