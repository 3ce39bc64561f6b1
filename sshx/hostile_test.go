package sshx

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/crypto/ssh"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

// hurried is a pool that does not pause between its tries.
func hurried(t testing.TB, key clientKey, limit time.Duration) *Pool {
	p := pool(t, key, func(o *Options) { o.Timeout = limit })
	p.pauses = func() backoff.BackOff { return &backoff.ZeroBackOff{} }
	return p
}

// Each of the hostile servers costs its own time at most, and the others of the fleet nothing.
func TestHostileServersHoldNobodyUp(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	const limit = 2 * time.Second
	p := hurried(t, key, limit)
	hostile := map[string]sshtest.Faults{
		"silent": {Silent: true}, "banner": {EndlessBanner: true}, "line": {EndlessLine: true}, "huge": {HugePacket: true},
		"chatter": {AuthBanners: true}, "hang up": {HangUp: 1000}, "slow": {SlowHandshake: time.Hour}, "cut": {DropAfter: 700},
	}
	var all sync.WaitGroup
	for name, faults := range hostile {
		server := serve(t, key, sshtest.Options{Faults: faults})
		all.Go(func() {
			start := time.Now()
			_, err := p.Dial(context.Background(), targetOf(server, name))
			if fault.All(err) == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got %v", name, err)
			}
			if took := time.Since(start); took > dialTries*limit+20*time.Second {
				t.Errorf("%s: took %v", name, took)
			}
		})
	}
	for i := range 4 {
		name := fmt.Sprint("good", i)
		server := serve(t, key, sshtest.Options{})
		all.Go(func() {
			c, err := p.Dial(context.Background(), targetOf(server, name))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer c.Close()
			if err := c.Run(context.Background(), "true", nil, nil, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
}

// What a server floods is not read for long, and not kept.
func TestFloodsAreReadAndKeptWithinBounds(t *testing.T) {
	t.Parallel()
	for name, bound := range map[string]struct {
		faults sshtest.Faults
		bytes  int64
	}{
		"banner": {sshtest.Faults{EndlessBanner: true}, 1 << 20},
		"line":   {sshtest.Faults{EndlessLine: true}, 1 << 20},
		"huge":   {sshtest.Faults{HugePacket: true}, 1 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := newKey(t)
			server := serve(t, key, sshtest.Options{Faults: bound.faults})
			p := hurried(t, key, 20*time.Second)
			to := targetOf(server, "app1")
			to.conf = settings{hostName: to.Address, port: to.Port, user: to.User}
			a := &attempt{pool: p, target: to}
			endsWithin(t, 15*time.Second, func() {
				if _, err := a.run(context.Background()); err == nil {
					t.Error("got a connection")
				}
			})
			if got := a.raw.heard.Load(); got > bound.bytes {
				t.Errorf("%d bytes were read, want at most %d", got, bound.bytes)
			}
			if kept := len(a.raw.first); kept > maxFirst {
				t.Errorf("%d bytes were kept", kept)
			}
		})
	}
}

func TestRekeyStormIsWeathered(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{RekeyEvery: 1}})
	c := connect(t, hurried(t, key, 60*time.Second), targetOf(server, "app1"))
	var out strings.Builder
	payload := strings.Repeat("storm ", 4000)
	endsWithin(t, 60*time.Second, func() {
		if err := c.Run(context.Background(), "cat", strings.NewReader(payload), &out, nil); err != nil || out.String() != payload {
			t.Errorf("%d of %d bytes came back, %v", out.Len(), len(payload), err)
		}
	})
}

// dropSample is how many places of a cut CI tries; GODEPLOY_SSH_SWEEP=0 is every one.
const dropSample = 120

// A connection that is cut after any number of bytes ends the dial, or what follows it, with a fault.
func TestServerThatDropsAfterAnyNumberOfBytes(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	p := hurried(t, key, 30*time.Second)
	server := serve(t, key, sshtest.Options{})
	whole := talkedBytes(t, p, server)
	places := make(chan int64, whole)
	sample := sweep(t, dropSample)
	for n := int64(1); n <= whole; n++ {
		if sample == 0 || rand.Int64N(whole) < int64(sample) {
			places <- n
		}
	}
	close(places)
	var all sync.WaitGroup
	for range 4 {
		cut := serve(t, key, sshtest.Options{})
		all.Go(func() {
			for n := range places {
				cut.SetFaults(sshtest.Faults{DropAfter: n})
				if err := talk(p, cut); fault.All(err) == nil && err != nil {
					t.Errorf("cut after %d of %d bytes: %v is no fault", n, whole, err)
				}
			}
		})
	}
	all.Wait()
}

// talk logs in and runs one command.
func talk(p *Pool, s *sshtest.Server) error {
	c, err := p.Dial(context.Background(), targetOf(s, "app1"))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Run(context.Background(), "echo some text", nil, nil, nil)
}

// talkedBytes is what the server sends for that.
func talkedBytes(t *testing.T, p *Pool, s *sshtest.Server) int64 {
	t.Helper()
	c := connect(t, p, targetOf(s, "app1"))
	if err := c.Run(context.Background(), "echo some text", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	return c.raw.heard.Load()
}

// After a failed login an sshd with PerSourcePenalties lets nobody in for a while: it is not asked again and
// again, and the error says what is going on.
func TestPenaltiesAreNotRunInto(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, newKey(t), sshtest.Options{Penalties: true})
	p := pool(t, key, nil)
	wantCode(t, dialError(t, p, targetOf(server, "app1")), fault.SSHAuth)
	eventually(t, "the penalty is in force", func() bool {
		conn, err := net.Dial("tcp", server.Addr())
		if err != nil {
			return false
		}
		defer conn.Close()
		b := make([]byte, 3)
		_, err = conn.Read(b)
		return err == nil && string(b) == "Not"
	})
	before := server.Stats().Conns
	e := wantCode(t, dialError(t, p, targetOf(server, "app1")), fault.SSHRefused)
	if !strings.Contains(e.Cause, "PerSourcePenalties") || !strings.Contains(strings.Join(e.Facts, "\n"), "Not allowed at this time") {
		t.Errorf("got %v, facts %q, hint %q", e, e.Facts, e.Cause)
	}
	if got := server.Stats().Conns - before; got != 1 {
		t.Errorf("%d connections were made, want one", got)
	}
}

func TestPostQuantumKeyExchangeWhereBothHaveIt(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	got := c.client.Conn.(ssh.AlgorithmsConnMetadata).Algorithms()
	if got.KeyExchange != ssh.KeyExchangeMLKEM768X25519 {
		t.Errorf("key exchange %s", got.KeyExchange)
	}
	want := ssh.CipherChaCha20Poly1305
	if fastAES() {
		want = ssh.CipherAES128GCM
	}
	if got.Write.Cipher != want || got.Read.Cipher != want {
		t.Errorf("ciphers %s and %s, want %s", got.Write.Cipher, got.Read.Cipher, want)
	}
}

func TestOnlyCurrentAlgorithmsAreOfferedByThemselves(t *testing.T) {
	t.Parallel()
	bad := ssh.InsecureAlgorithms()
	outdated := append(append(append(bad.Ciphers, bad.KeyExchanges...), bad.MACs...), bad.HostKeys...)
	offered := func(s settings) string {
		all := able(s)
		return " " + strings.Join(append(append(append(all.Ciphers, all.KeyExchanges...), all.MACs...), all.HostKeys...), " ") + " "
	}
	for _, name := range outdated {
		if strings.Contains(offered(settings{}), " "+name+" ") {
			t.Errorf("%s is offered", name)
		}
	}
	asked := settings{old: []string{"kexalgorithms diffie-hellman-group14-sha1", "hostkeyalgorithms ssh-rsa", "macs hmac-sha1-96", "ciphers aes128-cbc"}}
	got := offered(asked)
	for _, name := range []string{"diffie-hellman-group14-sha1", "ssh-rsa", "hmac-sha1-96", "aes128-cbc"} {
		if !strings.Contains(got, " "+name+" ") {
			t.Errorf("%s is not offered", name)
		}
	}
	if ciphers := chachaFirst(ssh.SupportedAlgorithms().Ciphers); ciphers[0] != ssh.CipherChaCha20Poly1305 || len(ciphers) != len(ssh.SupportedAlgorithms().Ciphers) {
		t.Errorf("without hardware for AES: %q", ciphers)
	}
}
