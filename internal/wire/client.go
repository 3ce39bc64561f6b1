package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"godeploy/internal/fault"
)

// Options bound a Client. The zero value is fit for use.
type Options struct {
	Noise        int           // bytes of login noise before the helper's magic; 0: 64 KiB
	Start        time.Duration // from the start to the helper's preface; 0: 10 s
	Heartbeat    time.Duration // between two pings; 0: 10 s
	Silence      time.Duration // without a frame from the helper the connection is lost; 0: 30 s
	CancelGrace  time.Duration // how long a cancelled call waits to learn what became of it; 0: 5 s
	Capabilities []string      // announced to the helper
	Lanes        Lanes         // further channels for the data of streams
	// Install gives the helper for a host that has none; it is sent and started at once. Nil, or an
	// error: NewClient fails with the *NeedError, or with that error.
	Install func(*NeedError) (Upload, error)
}

func (o Options) withDefaults() Options {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&o.Start, 10*time.Second)
	or(&o.Heartbeat, 10*time.Second)
	or(&o.Silence, 30*time.Second)
	or(&o.CancelGrace, 5*time.Second)
	if o.Noise == 0 {
		o.Noise = maxNoise
	}
	return o
}

// Client is the controller's end of one helper. It is safe for concurrent use: exchanges do not
// wait for each other. Close it.
type Client struct {
	*conn
	o        Options
	peer     Preface
	greeting *HelloReply   // what the helper said about itself unasked
	places   chan struct{} // a place for each request that may be under way

	order sync.Mutex // held from a request's id to its frame

	mu    sync.Mutex
	last  uint32
	calls map[uint32]*call
	lost  error // set once, when the connection has ended
	lanes laneSet

	gone chan struct{} // closed with lost
	work sync.WaitGroup
}

// NewClient meets the helper at the other end of rwc: it skips what the host printed before the
// helper's magic, compares protocols and starts the heartbeat. It takes rwc over: it is closed by
// Close, and also when NewClient fails or the connection is lost; closing must unblock its Read and
// Write.
//
// When the host answered BootstrapCommand with what it needs, the error is a *NeedError. A host
// that said anything else is a fault.Protocol with the noise as its facts; one that ended or was
// silent too, without noise.
func NewClient(ctx context.Context, rwc io.ReadWriteCloser, o Options) (*Client, error) {
	o = o.withDefaults()
	stop := context.AfterFunc(ctx, func() { _ = rwc.Close() }) // only to unblock the reading
	defer stop()
	c, err := meet(rwc, o)
	if err != nil {
		_ = rwc.Close() // err tells more
		if ctx.Err() != nil {
			return nil, fault.New(fault.Interrupted, "the start of the helper was cancelled").Wrap(context.Cause(ctx))
		}
		return nil, err
	}
	c.work.Go(c.readAll)
	c.work.Go(c.beat)
	return c, nil
}

// meet exchanges the prefaces.
func meet(rwc io.ReadWriteCloser, o Options) (*Client, error) {
	c := &Client{
		conn:   newConn(rwc, bufio.NewReaderSize(rwc, 64<<10), o.Start),
		o:      o,
		places: make(chan struct{}, maxRequests),
		calls:  map[uint32]*call{},
		gone:   make(chan struct{}),
	}
	noise, silent, err := c.prefaced()
	if need := parseNeed(noise); errors.Is(err, errNeed) && need != nil && o.Install != nil {
		up, ierr := o.Install(need)
		if ierr != nil {
			return nil, ierr
		}
		noise, silent, err = c.install(up)
	}
	if err != nil {
		return nil, notMet(noise, silent, o, err)
	}
	if c.peer.Protocol != Protocol {
		return nil, fault.New(fault.Protocol, "the helper speaks protocol %d, this godeploy speaks %d",
			c.peer.Protocol, Protocol).Hint("another version of godeploy installed it")
	}
	// The helper's end waits for this; until then it takes no request.
	if _, err := c.watched(func(func()) error {
		return WritePreface(rwc, Preface{Protocol, o.Capabilities})
	}); err != nil {
		return nil, lostErr(err)
	}
	c.limit = o.Silence
	if c.peer.Can(greets) {
		if err := c.greeted(); err != nil {
			return nil, lostErr(err)
		}
	}
	return c, nil
}

// prefaced skips the noise and reads the helper's preface.
func (c *Client) prefaced() (noise []byte, silent bool, err error) {
	silent, err = c.watched(func(func()) (err error) {
		if noise, err = skipNoise(c.r, c.o.Noise); err != nil {
			return err
		}
		c.peer, err = readPrefaceRest(c.r)
		return err
	})
	return noise, silent, err
}

// slowest is how many bytes a second an upload of the helper has to make.
const slowest = 4 << 10

// install sends the helper to a host that waits for it, and meets it.
func (c *Client) install(up Upload) (noise []byte, silent bool, err error) {
	head := fmt.Sprintf("%s %d %s\n", up.Packing, len(up.Content), up.Hash)
	c.limit = c.o.Silence
	_ = c.write(append([]byte(head), up.Content...)) // what the host says of it tells more
	// Most of it may still be under way.
	c.limit = c.o.Start + time.Duration(len(up.Content)/slowest)*time.Second
	if noise, silent, err = c.prefaced(); silent {
		err = fault.New(fault.SSHLost, "the host took too long over the installation of the helper")
	}
	return noise, silent, err
}

// greeted reads what the helper says about itself.
func (c *Client) greeted() error {
	f, _, err := c.recv()
	if err != nil {
		return err
	}
	if f.Kind != KindHello || f.ID != 0 {
		return breach("frame 0x%02x in place of a greeting", uint8(f.Kind))
	}
	c.greeting = new(HelloReply)
	if err := decode(f.Payload, c.greeting); err != nil {
		return breach("a greeting that makes no sense: %v", err)
	}
	return nil
}

// Can reports whether the helper announced the capability.
func (c *Client) Can(capability string) bool { return c.peer.Can(capability) }

// Hello gives who the helper is. It asks only a helper that has not said it by itself.
func (c *Client) Hello(ctx context.Context) (HelloReply, error) {
	if c.greeting != nil {
		return *c.greeting, nil
	}
	var r HelloReply
	err := c.Call(ctx, KindHello, &Nothing{}, &r)
	return r, err
}

// Call sends a request and waits for its reply, which it checks. reply may be nil.
//
// When ctx ends the request is cancelled on the host, and Call waits up to Options.CancelGrace to
// learn what became of it: nil still means that it was done. An error from the host is a
// *fault.Error with the code it had there; a lost connection is a fault.SSHLost, and then nobody
// knows whether the request was carried out.
func (c *Client) Call(ctx context.Context, kind Kind, req, reply Checker) error {
	k := &call{kind: kind}
	if err := c.start(ctx, k, req); err != nil {
		return err
	}
	return c.wait(ctx, k, nil).into(kind, reply)
}

// Exec runs a program. Its output is given to onOutput (stream 1 or 2, in order per stream, from
// this goroutine); the bytes may be kept. Cancelling ctx ends the program and all it started. An
// exit status other than 0 is no error.
func (c *Client) Exec(ctx context.Context, req ExecRequest, onOutput func(stream byte, p []byte)) (ExecReply, error) {
	k := &call{kind: KindExec, out: newOutputs()}
	var reply ExecReply
	if err := c.start(ctx, k, &req); err != nil {
		return reply, err
	}
	err := c.wait(ctx, k, onOutput).into(KindExec, &reply)
	return reply, err
}

// Close ends the connection: the helper stops what it runs, lets go of its locks and ends. Calls
// under way get fault.SSHLost. Close may be called more than once and waits for its goroutines.
func (c *Client) Close() error {
	c.lose(errors.New("closed"))
	c.work.Wait()
	return nil
}

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.gone }

// lose ends the connection once and tells every call.
func (c *Client) lose(cause error) {
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return
	}
	c.lost = lostErr(cause)
	calls, lanes := c.calls, c.lanes.open
	c.calls, c.lanes.open = nil, nil
	close(c.gone)
	c.mu.Unlock()
	_ = c.rwc.Close() // nothing was left unsaid
	for _, l := range lanes {
		_ = l.rwc.Close() // the same
	}
	for _, k := range calls {
		k.finish(result{err: c.lost})
	}
}

// beat pings until the connection has ended.
func (c *Client) beat() {
	tick := time.NewTicker(c.o.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-tick.C:
			// Nobody waits for the answer: any frame shows that the helper lives.
			_ = c.start(context.Background(), &call{kind: KindPing}, &Nothing{})
		}
	}
}

// start registers a call and sends its request.
func (c *Client) start(ctx context.Context, k *call, req Checker) error {
	if ctx.Err() != nil {
		return fault.New(fault.Interrupted, "the request was cancelled before it was sent").Wrap(context.Cause(ctx))
	}
	if err := req.Check(); err != nil {
		return fault.New(fault.Internal, "request 0x%02x cannot be sent", uint8(k.kind)).Wrap(err)
	}
	payload, err := json.Marshal(req)
	if err != nil {
		return fault.New(fault.Internal, "request 0x%02x cannot be encoded", uint8(k.kind)).Wrap(err)
	}
	if len(payload) > MaxFrame {
		return fault.New(fault.Protocol, "request 0x%02x has %d bytes, more than the %d that fit", uint8(k.kind), len(payload), MaxFrame)
	}
	if err := c.enter(ctx, k); err != nil {
		return err
	}
	c.order.Lock() // the helper breaks with a peer whose ids do not rise
	defer c.order.Unlock()
	if err := c.register(k); err != nil {
		k.leave()
		return err
	}
	return c.transmit(k.kind, k.id, payload)
}

// enter waits until the helper has room for one more request; a ping needs none.
func (c *Client) enter(ctx context.Context, k *call) error {
	if k.kind == KindPing {
		return nil
	}
	select {
	case c.places <- struct{}{}:
		k.place = c.places
		return nil
	case <-c.gone:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.lost
	case <-ctx.Done():
		return fault.New(fault.Interrupted, "the request was cancelled before it was sent").Wrap(context.Cause(ctx))
	}
}

// transmit sends a frame; a connection that does not take it is lost.
func (c *Client) transmit(kind Kind, id uint32, payload []byte) error {
	if err := c.send(kind, id, payload); err != nil {
		c.lose(err)
		return lostErr(err)
	}
	return nil
}

// register gives the call its id.
func (c *Client) register(k *call) error {
	k.done = make(chan result, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost
	}
	if c.last == 1<<32-1 {
		return fault.New(fault.Protocol, "the connection to the helper is used up")
	}
	c.last++
	k.id = c.last
	if k.kind.streams() {
		k.st = newStream(func(kind Kind, p []byte) error { return c.transmit(kind, k.id, p) })
		k.st.pace = c.pace(k)
	}
	c.calls[k.id] = k
	return nil
}
