package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

func TestServersThatDoNotAnswerEndWithinTheTimeout(t *testing.T) {
	t.Parallel()
	faults := map[string]sshtest.Faults{
		"silent":         {Silent: true},
		"slow handshake": {SlowHandshake: time.Minute},
		"endless banner": {EndlessBanner: true},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := newKey(t)
			server := serve(t, key, sshtest.Options{Faults: f})
			p := pool(t, key, func(o *Options) { o.Timeout = 300 * time.Millisecond })
			endsWithin(t, 3*time.Second, func() {
				_, err := p.Dial(context.Background(), targetOf(server, "app1"))
				if name == "endless banner" { // x/crypto gives up by itself
					if err == nil {
						t.Error("got a connection")
					}
					return
				}
				wantCode(t, err, fault.SSHTimeout)
			})
		})
	}
}

func TestServerThatFreezesInTheLoginEndsWithinTheTimeout(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	server.Freeze()
	p := pool(t, key, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	endsWithin(t, 3*time.Second, func() {
		_, err := p.Dial(context.Background(), targetOf(server, "app1"))
		wantCode(t, err, fault.SSHTimeout)
	})
	server.Thaw()
}

func TestCancelEndsADialAtOnce(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{Silent: true}})
	gate := serve(t, key, sshtest.Options{})
	direct := targetOf(server, "app1")
	jumped := direct
	jumped.Jumps = [][]Target{{targetOf(gate, "gate")}}
	throughSilent := targetOf(gate, "app2")
	throughSilent.Jumps = [][]Target{{direct}}
	for name, to := range map[string]Target{"direct": direct, "jumped": jumped, "jump": throughSilent} {
		p := pool(t, key, func(o *Options) { o.Timeout = time.Minute })
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("interrupted by " + name)
		before := server.Stats().Conns
		go func() {
			eventually(t, "the server is dialled", func() bool { return server.Stats().Conns > before })
			cancel(why)
		}()
		endsWithin(t, 5*time.Second, func() {
			if _, err := p.Dial(ctx, to); !errors.Is(err, why) {
				t.Errorf("%s: got %v, want %v", name, err, why)
			}
		})
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	to := Target{Name: "app1", Address: "127.0.0.1", Port: sshtest.FreePort(t, "127.0.0.1"), User: "deploy"}
	e := wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHRefused)
	if !strings.Contains(e.Msg, "app1") || !strings.Contains(e.Msg, "refuses connections") {
		t.Errorf("message %q", e.Msg)
	}
	to.Address = "no-such-host.invalid"
	wantCode(t, dialError(t, pool(t, key, nil), to), fault.SSHRefused)
}

func TestConnectingIsBoundedToo(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	p := pool(t, key, func(o *Options) {
		o.Timeout = 100 * time.Millisecond
		o.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	endsWithin(t, 3*time.Second, func() {
		to := Target{Name: "app1", Address: "192.0.2.1", User: "deploy"}
		wantCode(t, dialError(t, p, to), fault.SSHTimeout)
	})
}

func dialError(t testing.TB, p *Pool, to Target) error {
	t.Helper()
	c, err := p.Dial(context.Background(), to)
	if err == nil {
		_ = c.Close()
		t.Fatalf("dial %s succeeded", to.Name)
	}
	return err
}

func TestAddressesThatCouldBeCommandsAreRefused(t *testing.T) {
	t.Parallel()
	p := pool(t, newKey(t), func(o *Options) {
		o.Dialer = func(_ context.Context, _, addr string) (net.Conn, error) {
			t.Errorf("dialled %q", addr)
			return nil, errors.New("refused")
		}
	})
	for _, bad := range []string{"", "-oProxyCommand=x", "a;b", "a\nb", "a b", "$(x)", "a|b", "`x`"} {
		wantCode(t, dialError(t, p, Target{Name: "app1", Address: bad, User: "deploy"}), fault.SSHRefused)
		wantCode(t, dialError(t, p, Target{Name: "app1", Address: "127.0.0.1", User: bad}), fault.SSHRefused)
	}
}

func TestHangUpBeforeTheLoginIsTriedAgain(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{HangUp: 2}})
	seen := new(recorder)
	p := pool(t, key, func(o *Options) { o.Report = seen })
	connect(t, p, targetOf(server, "app1"))
	if got := server.Stats(); got.Conns != 3 || got.Logins != 1 {
		t.Errorf("got %+v, want 3 connections and 1 login", got)
	}
	if seen.count(event.Retry) != 2 || seen.count(event.Connect) != 1 {
		t.Errorf("got %d retry and %d connect events", seen.count(event.Retry), seen.count(event.Connect))
	}
}

func TestHangUpForEverIsAFaultThatNamesMaxStartups(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{HangUp: 1000}})
	e := wantCode(t, dialError(t, pool(t, key, nil), targetOf(server, "app1")), fault.SSHRefused)
	if !strings.Contains(e.Cause, "MaxStartups") {
		t.Errorf("hint %q", e.Cause)
	}
	if got := server.Stats().Conns; got != dialTries {
		t.Errorf("%d connections, want %d", got, dialTries)
	}
}

func TestRefusedLoginIsNeverTriedAgainAndNamesTheKeys(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	server := serve(t, other, sshtest.Options{})
	e := wantCode(t, dialError(t, pool(t, key, nil), targetOf(server, "app1")), fault.SSHAuth)
	if got := server.Stats(); got.Conns != 1 || got.AuthTries != 1 {
		t.Errorf("got %d connections and %d key attempts, want one each", got.Conns, got.AuthTries)
	}
	if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, key.path) || !strings.Contains(text, "SHA256:") {
		t.Errorf("facts %q do not name the key", text)
	}
	if !strings.Contains(e.Msg, `"deploy"`) || len(e.Next) == 0 || e.Hosts[0] != "app1" {
		t.Errorf("got %+v", e)
	}
}

func TestManyHostsBehindOneSSHDStayBelowItsLimit(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{MaxStartups: maxHandshakes + 1})
	p := pool(t, key, nil)
	dialMany(t, p, 40, func(int) Target { return targetOf(server, "app1") })
	got := server.Stats()
	if got.Logins != 40 || got.Dropped != 0 || got.PeakLogins > maxHandshakes+1 {
		t.Errorf("got %+v, want 40 logins, none dropped, at most %d at once", got, maxHandshakes)
	}
}

// dialMany dials n targets at once and checks that each connection works.
func dialMany(t *testing.T, p *Pool, n int, to func(i int) Target) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			c, err := p.Dial(context.Background(), to(i))
			if err != nil {
				t.Errorf("host %d: %v", i, err)
				return
			}
			if err := c.Run(context.Background(), "true", nil, nil, nil); err != nil {
				t.Errorf("host %d: %v", i, err)
			}
			_ = c.Close()
		})
	}
	all.Wait()
}

func TestPassphraseIsAskedOnceForManyHosts(t *testing.T) {
	t.Parallel()
	key := lockedKey(t, "open sesame")
	var servers []*sshtest.Server
	for range 5 {
		servers = append(servers, serve(t, key, sshtest.Options{}))
	}
	var asked atomic.Int32
	p := pool(t, key, func(o *Options) {
		o.Timeout = 2 * time.Second
		o.Passphrase = func(_ context.Context, path string) ([]byte, error) {
			if path != key.path {
				t.Errorf("asked for %q", path)
			}
			asked.Add(1)
			return []byte("open sesame"), nil
		}
	})
	dialMany(t, p, 20, func(i int) Target { return targetOf(servers[i%5], fmt.Sprint("app", i)) })
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestPassphraseIsNotAskedForARefusedKey(t *testing.T) {
	t.Parallel()
	key, other := lockedKey(t, "secret"), newKey(t)
	server := serve(t, other, sshtest.Options{})
	p := pool(t, key, func(o *Options) {
		o.Passphrase = func(context.Context, string) ([]byte, error) {
			t.Error("asked for the passphrase of a key the server does not take")
			return nil, errors.New("no")
		}
	})
	wantCode(t, dialError(t, p, targetOf(server, "app1")), fault.SSHAuth)
}

func TestASlowTypistMayTakeLongerThanTheTimeout(t *testing.T) {
	t.Parallel()
	key := lockedKey(t, "secret")
	server := serve(t, key, sshtest.Options{})
	p := pool(t, key, func(o *Options) {
		o.Timeout = time.Second
		o.Passphrase = func(context.Context, string) ([]byte, error) {
			time.Sleep(1500 * time.Millisecond) // the very thing tested: a person outlasts the limit
			return []byte("secret"), nil
		}
	})
	connect(t, p, targetOf(server, "app1"))
}

func TestWrongPassphraseIsAskedThreeTimesAndThenTheNextKeyTried(t *testing.T) {
	t.Parallel()
	locked, plain := lockedKey(t, "secret"), newKey(t)
	server := serve(t, locked, sshtest.Options{})
	both := serve(t, plain, sshtest.Options{Authorized: append(server.HostKeys()[:0], locked.pub)})
	var asked atomic.Int32
	p := pool(t, locked, func(o *Options) {
		o.Keys = append(o.Keys, plain.path)
		o.Passphrase = func(context.Context, string) ([]byte, error) {
			asked.Add(1)
			return []byte("guess"), nil
		}
	})
	e := wantCode(t, dialError(t, p, targetOf(server, "app1")), fault.SSHAuth)
	if asked.Load() != 3 {
		t.Errorf("asked %d times, want 3", asked.Load())
	}
	if text := strings.Join(e.Facts, "\n"); !strings.Contains(text, "not the right one") {
		t.Errorf("facts %q", text)
	}
	connect(t, p, targetOf(both, "app2"))
	if asked.Load() != 3 {
		t.Errorf("asked again: %d times", asked.Load())
	}
}

func TestKeyFilesThatCannotBeUsedAreFaults(t *testing.T) {
	t.Parallel()
	server := serve(t, clientKey{}, sshtest.Options{NoAuth: true})
	open := newKey(t)
	if err := os.Chmod(open.path, 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := newKey(t)
	if err := os.WriteFile(garbage.path, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"readable by others": open.path, "garbage": garbage.path,
		"missing": open.path + ".none", "a folder": t.TempDir()} {
		e := wantCode(t, dialError(t, pool(t, clientKey{path: path}, nil), targetOf(server, "app1")), fault.SSHAuth)
		if !strings.Contains(e.Msg, path) {
			t.Errorf("%s: message %q does not name the file", name, e.Msg)
		}
	}
	if got := server.Stats().Conns; got != 0 {
		t.Errorf("%d connections were made before the keys were looked at", got)
	}
}

func TestPoolThatIsClosedDialsNoMore(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	p := NewPool(Options{Keys: []string{key.path}})
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Dial(context.Background(), targetOf(server, "app1")); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
}
