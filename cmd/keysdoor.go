package cmd

import (
	"cmp"
	"context"
	"errors"
	"os"
	"sync"

	"godeploy/deploy/access"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/sshx"
)

// keysDoor logs in to hosts for the commands that look after keys. It implements access.Door. No connection
// of ssh(1) is shared: which key let it in would not be known.
type keysDoor struct {
	c      *call
	report event.Reporter
	root   bool // log in as root, not as the hosts' own users
	secret *passwordOnce
	pass   *passphrases
	keys   map[string]string // paths of private keys by the blob of their public halves

	mu    sync.Mutex
	any   *sshx.Pool
	only  map[string]*sshx.Pool // by the key's blob
	ended bool
}

func (c *call) newKeysDoor(report event.Reporter, password func(context.Context) ([]byte, error)) *keysDoor {
	d := &keysDoor{c: c, report: report, pass: &passphrases{ask: c.passphrase, told: map[string][]byte{}},
		keys: map[string]string{}, only: map[string]*sshx.Pool{}}
	if password != nil {
		d.secret = &passwordOnce{ask: password}
	}
	return d
}

// pool makes one; the caller closes it.
func (d *keysDoor) pool(change func(*sshx.Options)) *sshx.Pool {
	o := d.c.sshOptions(d.report, false)
	o.Passphrase = d.pass.get
	change(&o)
	return sshx.NewPool(o)
}

// close ends what is shared. Accounts that are still open and go through a jump host end with it.
func (d *keysDoor) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.only {
		_ = p.Close() // its connections have served
	}
	if d.any != nil {
		_ = d.any.Close() // the same
	}
	d.ended = true
	d.secret.forget()
	d.pass.forget()
}

// Any logs in with whatever works.
func (d *keysDoor) Any(ctx context.Context, h inventory.Host) (access.Account, error) {
	d.mu.Lock()
	if d.any == nil {
		d.any = d.pool(func(o *sshx.Options) {
			if d.secret != nil {
				o.Password = d.secret.get
			}
		})
	}
	pool := d.any
	d.mu.Unlock()
	return d.open(ctx, pool, h)
}

// Without logs in with none of some keys.
func (d *keysDoor) Without(ctx context.Context, h inventory.Host, gone func([]byte) bool) (access.Account, error) {
	pool := d.pool(func(o *sshx.Options) { o.Without = gone })
	a, err := d.open(ctx, pool, h)
	if err != nil {
		_ = pool.Close() // err tells more
		return nil, err
	}
	return ownPool{a, pool}, nil
}

// ownPool is an account with a pool of its own.
type ownPool struct {
	access.Account
	pool *sshx.Pool
}

func (o ownPool) Close() error { return errors.Join(o.Account.Close(), o.pool.Close()) }

// Only logs in with one key.
func (d *keysDoor) Only(ctx context.Context, h inventory.Host, k access.Key) error {
	t, err := d.target(h, false)
	if err != nil {
		return err
	}
	conn, err := d.onlyPool(k).Dial(ctx, t)
	if err != nil {
		return err
	}
	defer conn.Close() // it was to show that the login works
	return conn.Run(ctx, "exit 0", nil, nil, nil)
}

func (d *keysDoor) onlyPool(k access.Key) *sshx.Pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	blob := string(k.Blob)
	if d.only[blob] == nil {
		d.only[blob] = d.pool(func(o *sshx.Options) {
			o.Keys = []string{d.keys[blob]}
			// Not even a certificate of the key: it would let in without the line that is to be proven.
			o.Without = func(other []byte) bool { return string(other) != blob }
		})
	}
	return d.only[blob]
}

// open connects a host, with the helper where it can run.
func (d *keysDoor) open(ctx context.Context, pool *sshx.Pool, h inventory.Host) (access.Account, error) {
	connector := d.c.connector(pool, d.report)
	connector.Sudo = nil // the keys are those of the account itself
	connector.Dial = func(ctx context.Context, h inventory.Host) (*sshx.Conn, error) {
		t, err := d.target(h, d.root)
		if err != nil {
			return nil, err
		}
		return pool.Dial(ctx, t)
	}
	hosts, errs := connector.ConnectSome(ctx, []inventory.Host{h})
	if errs[0] != nil {
		return nil, errs[0]
	}
	a, ok := hosts[0].(access.Account)
	if !ok {
		overssh.Close(hosts)
		return nil, fault.New(fault.Internal, "%s is a host whose keys cannot be asked for", h.Name)
	}
	return a, nil
}

// target is the host with the users that --user and --as-root ask for, on the whole way.
func (d *keysDoor) target(h inventory.Host, root bool) (sshx.Target, error) {
	t, err := d.c.target(h)
	t.User = d.user(t.User, root)
	for _, chain := range t.Jumps {
		for i := range chain {
			chain[i].User = d.user(chain[i].User, root)
		}
	}
	return t, err
}

func (d *keysDoor) user(own string, root bool) string {
	if root {
		return "root"
	}
	return cmp.Or(d.c.flags.String("user"), own)
}

// passwordOnce asks for the password at the first host that takes no key, once for the whole run.
type passwordOnce struct {
	ask    func(context.Context) ([]byte, error)
	mu     sync.Mutex
	asked  bool
	secret []byte
	err    error
}

func (p *passwordOnce) get(ctx context.Context, _ sshx.Target) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		p.asked = true
		p.secret, p.err = p.ask(ctx)
	}
	return append([]byte(nil), p.secret...), p.err
}

func (p *passwordOnce) forget() {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		clear(p.secret)
	}
}

// passphrases asks for each key's passphrase once, however many pools open it. An answer that was wrong is
// asked for again.
type passphrases struct {
	ask  func(context.Context, string) ([]byte, error)
	mu   sync.Mutex
	told map[string][]byte
}

func (p *passphrases) get(ctx context.Context, key string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known, ok := p.told[key]; ok && opens(key, known) {
		return append([]byte(nil), known...), nil
	}
	secret, err := p.ask(ctx, key)
	if err == nil {
		p.told[key] = append([]byte(nil), secret...)
	}
	return secret, err
}

func (p *passphrases) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, secret := range p.told {
		clear(secret)
	}
}

// opens reports whether a passphrase is the right one.
func opens(key string, secret []byte) bool {
	pem, err := os.ReadFile(key)
	return err == nil && access.Opens(pem, secret)
}
