package sshx

import (
	"context"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keysBeforePassword is how many keys are offered in a login that a password may end: sshd's MaxAuthTries is
// six by default, and the password has to come before that.
const keysBeforePassword = 3

// nextOrPassword gives the next key to offer, and when there is none the ways by password.
func (a *attempt) nextOrPassword(ctx context.Context, c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if a.pool.o.Password != nil && a.perLogin == 0 {
		a.perLogin = keysBeforePassword
	}
	method, err := a.next(c)
	if err == nil || a.pool.o.Password == nil {
		return method, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.login
	if len(l.queue) > 0 && slices.Contains(c.AllowedMethods, "publickey") {
		return nil, err // another login goes on with the keys
	}
	ask := func() (string, error) { return a.password(ctx) }
	ways := map[string]ssh.AuthMethod{
		"keyboard-interactive": ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			return answers(questions, echos, ask)
		}),
		"password": ssh.PasswordCallback(ask),
	}
	for _, name := range []string{"keyboard-interactive", "password"} {
		if slices.Contains(c.AllowedMethods, name) && !slices.Contains(l.asked, name) {
			l.asked = append(l.asked, name)
			return ways[name], nil
		}
	}
	return nil, err
}

// password asks a person, for whom the deadline of the login rests.
func (a *attempt) password(ctx context.Context) (string, error) {
	resume := a.pause()
	defer resume()
	secret, err := a.pool.o.Password(ctx, a.target)
	if err == nil {
		a.mu.Lock()
		a.tried = append(a.tried, "a password")
		a.mu.Unlock()
	}
	defer clear(secret)
	return string(secret), err
}

// answers gives the password to the questions whose answer is not shown; what else a host may ask, such as a
// code from a phone, gets nothing and so fails the login.
func answers(questions []string, echos []bool, ask func() (string, error)) ([]string, error) {
	out := make([]string, len(questions))
	if !slices.Contains(echos, false) {
		return out, nil
	}
	secret, err := ask()
	for i, shown := range echos {
		if !shown {
			out[i] = secret
		}
	}
	return out, err
}

// AgentHolds reports whether the agent at the socket holds the private half of a key, given in SSH's wire
// format. An agent that does not answer holds nothing.
func AgentHolds(ctx context.Context, socket string, blob []byte) bool {
	if socket == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	defer conn.Close() // it was only asked
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	keys, _ := agent.NewClient(conn).List() // an agent that fails lists none
	return slices.ContainsFunc(keys, func(k *agent.Key) bool { return string(k.Blob) == string(blob) })
}
