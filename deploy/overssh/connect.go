// Package overssh is the controller's end of a host: it dials, starts the helper there, pushing it
// first where it is missing, and falls back to SFTP and a plain shell where no helper can run.
package overssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
)

// Connector connects hosts of one environment.
type Connector struct {
	Env      *inventory.Env
	Dial     func(ctx context.Context, h inventory.Host) (*sshx.Conn, error)
	Helpers  *Binaries
	Parallel int
	Report   event.Reporter
	Sudo     *Sudo // not nil: the helper runs as root, started by sudo, where the login is not root
	Lanes    int   // channels for one long stream: 0 is by the round trip, 1 is one; see wire.Lanes
}

// Connect connects every host, in the order given, or none: when one fails, the others are closed
// and the error joins what went wrong on each. The caller closes the hosts.
func (c *Connector) Connect(ctx context.Context, hosts []inventory.Host) ([]deploy.Host, error) {
	connected, errs := c.ConnectSome(ctx, hosts)
	if err := errors.Join(errs...); err != nil {
		Close(connected)
		return nil, err
	}
	return connected, nil
}

// ConnectSome connects as many hosts as it can. Each host has its place in both lists: a nil Host where
// there is an error. The caller closes the hosts.
func (c *Connector) ConnectSome(ctx context.Context, hosts []inventory.Host) ([]deploy.Host, []error) {
	connected := make([]deploy.Host, len(hosts))
	errs := make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(max(c.Parallel, 1))
	for i, h := range hosts {
		group.Go(func() error {
			connected[i], errs[i] = c.open(ctx, h)
			return nil // every host's error counts, not the first
		})
	}
	_ = group.Wait() // always nil
	return connected, errs
}

// Close closes hosts, all at once: each may take a moment to end what still runs there.
func Close(hosts []deploy.Host) {
	var group errgroup.Group
	for _, h := range hosts {
		if h != nil {
			group.Go(h.Close)
		}
	}
	_ = group.Wait() // nothing is to be done about a connection that does not close
}

// Again connects a host anew whose connection was lost, so that what became of it can be asked. It tries
// once, and holds no lock; the caller closes the host.
func (c *Connector) Again(ctx context.Context, h inventory.Host) (deploy.Host, error) {
	return c.open(ctx, h)
}

// open connects one host, with the helper where it can run.
func (c *Connector) open(ctx context.Context, h inventory.Host) (deploy.Host, error) {
	conn, err := c.Dial(ctx, h)
	if err != nil {
		return nil, err
	}
	host, err := c.start(ctx, h, conn)
	if err != nil {
		_ = conn.Close() // the first error is the one that tells
		return nil, fault.OnHost(h.Name, err)
	}
	return host, nil
}

func (c *Connector) start(ctx context.Context, h inventory.Host, conn *sshx.Conn) (deploy.Host, error) {
	if c.Sudo != nil && h.User != "root" {
		return c.startAsRoot(ctx, h, conn)
	}
	if !c.Env.SSH.Helper {
		c.weaker(h, "helper = false")
		return newPlain(ctx, c.Env, h, conn)
	}
	client, facts, err := c.helper(ctx, conn)
	var no *cannotHelp
	switch {
	case errors.As(err, &no):
		c.weaker(h, no.Error())
		return newPlain(ctx, c.Env, h, conn)
	case err != nil:
		return nil, err
	}
	return &helped{site: deploy.SiteOf(c.Env, h), host: h, conn: conn, client: client, facts: facts}, nil
}

// weaker says, once per host, what is lost without the helper.
func (c *Connector) weaker(h inventory.Host, why string) {
	c.Report.Report(event.Event{Type: event.Warn, Host: h.Name, Phase: "check", Code: string(fault.HelperArch),
		Msg: "check: no helper (" + why + "): by SFTP and sh; the lock may outlive its run, see godeploy lock"})
}

// cannotHelp says why no helper can run on a host.
type cannotHelp struct{ why string }

func (e *cannotHelp) Error() string { return e.why }

// helper starts the helper, pushing it on the same session where it is missing.
func (c *Connector) helper(ctx context.Context, conn *sshx.Conn) (*wire.Client, wire.HelloReply, error) {
	client, err := c.meet(ctx, conn)
	if err != nil {
		return nil, wire.HelloReply{}, err
	}
	facts, err := c.known(ctx, client)
	return client, facts, err
}

// known asks the helper who it is. One that was not asked for is closed, and an error.
func (c *Connector) known(ctx context.Context, client *wire.Client) (wire.HelloReply, error) {
	facts, err := client.Hello(ctx)
	if err == nil && !c.ours(facts.Hash) {
		err = fault.New(fault.Protocol, "the helper that answered is not the one that was asked for").
			Fact("its SHA-256 is %s", facts.Hash)
	}
	if err != nil {
		_ = client.Close() // err tells more
	}
	return facts, err
}

func (c *Connector) meet(ctx context.Context, conn *sshx.Conn) (*wire.Client, error) {
	hashes, err := c.hashes()
	if err != nil {
		return nil, err
	}
	process, err := conn.Start(ctx, wire.BootstrapCommand(hashes...))
	if err != nil {
		return nil, err
	}
	return wire.NewClient(ctx, process, wire.Options{Install: c.install, Lanes: c.lanes(conn)})
}

func (c *Connector) hashes() ([]string, error) {
	list, err := c.Helpers.All()
	hashes := make([]string, len(list))
	for i, b := range list {
		hashes[i] = b.Hash
	}
	return hashes, err
}

func (c *Connector) ours(hash string) bool {
	list, _ := c.Helpers.All() // it succeeded in meet
	return slices.ContainsFunc(list, func(b Binary) bool { return b.Hash == hash })
}

// install gives the helper for the host's kind.
func (c *Connector) install(need *wire.NeedError) (wire.Upload, error) {
	if need.Dir == "" {
		return wire.Upload{}, &cannotHelp{"no folder there can keep and run one"}
	}
	b, ok := c.Helpers.For(need.OS, need.Arch)
	if !ok {
		return wire.Upload{}, &cannotHelp{fmt.Sprintf("none is built in for %s %s", need.OS, need.Arch)}
	}
	return b.upload(need.Unpack)
}

// bounded keeps the first 4 KiB of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(4096-b.Len(), 0))])
	return len(p), nil
}
