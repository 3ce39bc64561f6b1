package sshx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"godeploy/internal/event"
	"godeploy/internal/fault"
)

// jumpMemory is how long a jump host that did not answer is not asked again, so that each of a
// hundred hosts behind it does not wait for the same timeout.
const jumpMemory = 10 * time.Second

// jump is a connection to a jump host that many dials share, or the dial that will make it.
type jump struct {
	done    chan struct{} // closed when the dial has ended; conn and err are set before
	conn    *Conn
	err     error
	until   time.Time // when err is set: how long it stands
	waiters int       // guarded by Pool.mu; the dial is given up when nobody waits
	cancel  context.CancelFunc
}

// reach finds a way to the target and hands it to use: nil for a direct connection, else the last
// jump host. The next alternative is tried when a jump host cannot be had, or does not get through;
// what happens at the target itself, and a host key of a jump host that is not right, is final.
func (p *Pool) reach(ctx context.Context, t Target, use func(hop *Conn) error) error {
	if len(t.Jumps) == 0 {
		return target(use(nil))
	}
	var failed []error
	for i, chain := range t.Jumps {
		err := p.through(ctx, chain, use)
		var lost *noRoute
		var short *noJump
		switch {
		case errors.As(err, &short):
			if err = short.error; hostKeyTrouble(err) || ctx.Err() != nil {
				return err
			}
		case errors.As(err, &lost):
			err = lost.error
		default:
			return err
		}
		failed = append(failed, err)
		if i+1 < len(t.Jumps) {
			p.o.Report.Report(event.Event{Time: time.Now(), Type: event.Info, Host: t.Name,
				Msg: fmt.Sprintf("%v; going through %s", err, chainName(t.Jumps[i+1]))})
		}
	}
	return jumpFault(t, failed)
}

// noJump marks a failure to get to a chain's last jump host.
type noJump struct{ error }

func (e *noJump) Unwrap() error { return e.error }

// through uses a chain of jump hosts. A shared connection may have broken just now, unseen so far: then
// the chain is made anew, once. The error is a *noJump when no jump host was reached.
func (p *Pool) through(ctx context.Context, chain []Target, use func(hop *Conn) error) error {
	for again := false; ; again = true {
		hop, err := p.chain(ctx, chain)
		if err != nil {
			return &noJump{err}
		}
		err = use(hop)
		var lost *noRoute
		if again || !errors.As(err, &lost) || !hop.broken(err) {
			return err
		}
	}
}

// broken reports whether a target was not reached because the connection to the jump host is over. What
// that host says itself, and silence, are no sign of it; for the rest its end is waited for.
func (c *Conn) broken(err error) bool {
	var refusal *ssh.OpenChannelError
	if errors.As(err, &refusal) || isTimeout(err) {
		return c.ended()
	}
	return c.endsIn(endGrace)
}

// target takes the mark off an error about the target.
func target(err error) error {
	var lost *noRoute
	if errors.As(err, &lost) {
		return lost.error
	}
	return err
}

func hostKeyTrouble(err error) bool {
	return fault.Is(err, fault.SSHHostKeyUnknown) || fault.Is(err, fault.SSHHostKeyChanged)
}

// jumpFault says why no alternative led to the target.
func jumpFault(t Target, failed []error) error {
	if len(failed) == 1 && !fault.Is(failed[0], fault.SSHJump) && onTarget(t, failed[0]) {
		return failed[0]
	}
	e := fault.New(fault.SSHJump, "%s cannot be reached through any of its jump hosts", t.place("")).On(t.Name)
	for _, err := range failed[:min(len(failed), 5)] {
		e.Fact("%v", err)
	}
	return e
}

// onTarget reports whether the fault speaks of the target, not of its jump host.
func onTarget(t Target, err error) bool {
	var e *fault.Error
	return errors.As(err, &e) && slices.Contains(e.Hosts, t.Name)
}

// chainName is "gate,ngx1".
func chainName(chain []Target) string {
	names := make([]string, len(chain))
	for i, t := range chain {
		names[i] = t.Name
	}
	return strings.Join(names, ",")
}

// chain connects to each host of the chain over the one before. An empty chain is a direct way.
func (p *Pool) chain(ctx context.Context, chain []Target) (*Conn, error) {
	var hop *Conn
	key := ""
	for _, t := range chain {
		key += fmt.Sprintf("%s@%s %s %s\n", t.User, t.addr(), t.Alias, t.conf.command)
		over := hop
		next, err := p.shared(ctx, key, func(ctx context.Context) (*Conn, error) {
			if over == nil {
				if conn := p.mastered(ctx, t); conn != nil {
					return conn, nil
				}
			}
			return p.login(ctx, t, over)
		})
		if err != nil {
			return nil, target(err)
		}
		hop = next
	}
	return hop, nil
}

// shared gives the connection under the key, dialling it if there is none that lives. Whoever comes
// while the dial is under way waits for it; it goes on as long as one of them does.
func (p *Pool) shared(ctx context.Context, key string, dial func(context.Context) (*Conn, error)) (*Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	j := p.jumps[key]
	if j == nil || j.stale() {
		j = p.start(ctx, key, dial)
		p.jumps[key] = j
	}
	j.waiters++
	p.mu.Unlock()
	defer p.leave(key, j)
	select {
	case <-j.done:
		return j.conn, j.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// start dials in the background, because the dial outlives the caller that happened to be first.
// The Pool's lock is held.
func (p *Pool) start(ctx context.Context, key string, dial func(context.Context) (*Conn, error)) *jump {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	j := &jump{done: make(chan struct{}), cancel: cancel}
	p.work.Go(func() {
		defer cancel()
		defer close(j.done)
		j.conn, j.err = dial(ctx)
		if !hostKeyTrouble(j.err) { // which a moment later may be trusted
			j.until = time.Now().Add(jumpMemory)
		}
		p.mu.Lock()
		wanted := p.jumps[key] == j
		p.mu.Unlock()
		if !wanted && j.conn != nil {
			_ = j.conn.Close() // everybody left, or the pool was closed, while it was made
		}
	})
	return j
}

// leave counts a waiter off, and gives a dial up that nobody waits for any more.
func (p *Pool) leave(key string, j *jump) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.waiters--
	select {
	case <-j.done:
	default:
		if j.waiters == 0 {
			j.cancel()
			if p.jumps[key] == j {
				delete(p.jumps, key)
			}
		}
	}
}

// stale reports whether the jump is of no use any more.
func (j *jump) stale() bool {
	select {
	case <-j.done:
	default:
		return false
	}
	if j.err != nil {
		return time.Now().After(j.until)
	}
	select {
	case <-j.conn.done:
		return true
	default:
		return false
	}
}
