package sshx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/sshtest"
)

func TestRunPassesStreamsAndStatus(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	var out, errs strings.Builder
	err := c.Run(context.Background(), "cat; echo oops >&2; exit 3", strings.NewReader("hello"), &out, &errs)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 3 || exit.Signal != "" {
		t.Errorf("got error %v, want exit status 3", err)
	}
	if out.String() != "hello" || errs.String() != "oops\n" {
		t.Errorf("got stdout %q and stderr %q", out.String(), errs.String())
	}
	if c.Via() != "127.0.0.1" {
		t.Errorf("Via is %q", c.Via())
	}
}

func TestRunNamesTheSignal(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	err := c.Run(context.Background(), "kill -9 $$", nil, nil, nil)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Signal != "KILL" || exit.Status != 137 {
		t.Errorf("got error %#v, want SIGKILL and status 137", err)
	}
}

func TestRunReturnsWhileStdinBlocks(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	r, w := io.Pipe()
	defer w.Close()
	endsWithin(t, 5*time.Second, func() {
		if err := c.Run(context.Background(), "true", r, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestCancelEndsRunAndItsCommandButNotTheConnection(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	ready := filepath.Join(t.TempDir(), "ready")
	gone := filepath.Join(t.TempDir(), "gone")
	time.AfterFunc(0, func() {
		eventually(t, "command runs", func() bool { _, err := os.Stat(ready); return err == nil })
		cancel(stop)
	})
	endsWithin(t, 8*time.Second, func() {
		err := c.Run(ctx, "exec >/dev/null 2>&1; trap 'touch "+gone+"; exit' TERM; touch "+ready+"; while :; do sleep 0.05; done", nil, nil, nil)
		if !errors.Is(err, stop) {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
	eventually(t, "command met SIGTERM", func() bool { _, err := os.Stat(gone); return err == nil })
	if got := output(t, c, "echo still"); got != "still\n" {
		t.Errorf("got %q on the same connection", got)
	}
}

// tardy is a connection whose answers take a while to come.
type tardy struct {
	net.Conn
	by time.Duration
}

func (c tardy) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	<-time.After(c.by)
	return n, err
}

// A command may run already when its start was not confirmed yet; it must hear of the end as well.
func TestCancelDuringTheStartEndsTheCommand(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	c := connect(t, pool(t, key, func(o *Options) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return tardy{conn, 300 * time.Millisecond}, err
		}
	}), targetOf(server, "app1"))
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	there := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }
	}
	go func() {
		eventually(t, "command runs", there("ready"))
		cancel()
	}()
	err := c.Run(ctx, "exec >/dev/null 2>&1; cd "+dir+"; trap 'touch gone; exit' TERM; touch ready; while :; do sleep 0.05; done", nil, nil, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	eventually(t, "command met SIGTERM", there("gone"))
}

func TestFrozenHostIsNoticedByKeepalive(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	p := pool(t, key, func(o *Options) { o.KeepAlive = 100 * time.Millisecond })
	c := connect(t, p, targetOf(server, "app1"))
	process, err := c.Start(context.Background(), "cat")
	if err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	defer server.Thaw()
	endsWithin(t, 5*time.Second, func() {
		if _, err := process.Read(make([]byte, 1)); err == nil {
			t.Error("read from a frozen host")
		}
		e := wantCode(t, process.Wait(), fault.SSHLost)
		if !strings.Contains(e.Error(), "stopped answering") {
			t.Errorf("got %q", e.Error())
		}
		wantCode(t, c.Run(context.Background(), "true", nil, nil, nil), fault.SSHLost)
		<-c.Done()
		wantCode(t, c.Err(), fault.SSHLost)
	})
}

func TestDeafServerIsNoticedByKeepalive(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{DeafToKeepAlive: true}})
	p := pool(t, key, func(o *Options) { o.KeepAlive = 50 * time.Millisecond })
	c := connect(t, p, targetOf(server, "app1"))
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("connection to a deaf server lives on")
	}
}

func TestKeepaliveLeavesAQuietHostAlone(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	p := pool(t, key, func(o *Options) { o.KeepAlive = 200 * time.Millisecond })
	c := connect(t, p, targetOf(server, "app1"))
	if got := output(t, c, "sleep 1; echo awake"); got != "awake\n" {
		t.Errorf("got %q", got)
	}
}

func TestLostConnectionIsAFaultForEveryOperation(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	process, err := c.Start(context.Background(), "cat")
	if err != nil {
		t.Fatal(err)
	}
	server.Drop()
	wantCode(t, process.Wait(), fault.SSHLost)
	wantCode(t, c.Run(context.Background(), "true", nil, nil, nil), fault.SSHLost)
	_, err = c.SFTP(context.Background())
	wantCode(t, err, fault.SSHLost)
	if _, err = c.DialContext(context.Background(), "tcp", "127.0.0.1:1"); !fault.Is(err, fault.SSHLost) {
		t.Errorf("got %v, want ssh-lost", err)
	}
}

func TestSessionWithoutExitStatusIsLost(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{NoExitStatus: true}})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	wantCode(t, c.Run(context.Background(), "true", nil, nil, nil), fault.SSHLost)
}

func TestConnectionCutInMidStreamIsLost(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{Faults: sshtest.Faults{DropAfter: 100_000}})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	var out bytes.Buffer
	err := c.Run(context.Background(), "head -c 10000000 /dev/zero", nil, &out, nil)
	wantCode(t, err, fault.SSHLost)
	if out.Len() == 0 || out.Len() > 100_000 {
		t.Errorf("got %d bytes before the cut", out.Len())
	}
}

func TestMoreSessionsThanTheServerAllowsTakeTurns(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 1, 2, 10} {
		key := newKey(t)
		server := serve(t, key, sshtest.Options{MaxSessions: limit})
		c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := c.Run(context.Background(), "sleep 0.02", nil, nil, nil); err != nil {
					t.Errorf("MaxSessions %d: %v", limit, err)
				}
			})
		}
		all.Wait()
		if seen := server.Stats().Sessions; seen != 20 {
			t.Errorf("MaxSessions %d: %d sessions opened, want 20", limit, seen)
		}
	}
}

func TestWaitingForASessionHeedsTheContext(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	for range maxSessions {
		process, err := c.Start(context.Background(), "cat")
		if err != nil {
			t.Fatal(err)
		}
		defer process.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx, "true", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
	if seen := server.Stats().Sessions; seen != maxSessions {
		t.Errorf("%d sessions on one connection, want %d", seen, maxSessions)
	}
}

func TestProcessTalksAndEnds(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	p, err := c.Start(context.Background(), "head -c 40000 /dev/zero | tr '\\0' a >&2; echo END >&2; cat; exit 4")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, word := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(p, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(p, got); err != nil || string(got) != word {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if err := p.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(p); err != nil || len(rest) != 0 {
		t.Errorf("after the end of input: %q, %v", rest, err)
	}
	var exit *ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Status != 4 {
		t.Errorf("got %v, want exit status 4", err)
	}
	if kept := p.Stderr(); len(kept) != stderrKept || !strings.HasSuffix(kept, "aEND\n") {
		t.Errorf("kept %d bytes of stderr, ending in %q", len(kept), kept[max(0, len(kept)-5):])
	}
}

func TestCloseWakesAReader(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	p, err := c.Start(context.Background(), "sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := p.Read(make([]byte, 1))
		read <- err
	}()
	endsWithin(t, 5*time.Second, func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-read; err == nil {
			t.Error("read something from a closed process")
		}
		if err := p.Wait(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("Wait gives %v", err)
		}
		if _, err := p.Write([]byte("x")); err == nil {
			t.Error("wrote to a closed process")
		}
	})
	if got := output(t, c, "echo on"); got != "on\n" {
		t.Errorf("got %q", got)
	}
}

func TestCloseWakesAWriterWhoseProcessDoesNotRead(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	p, err := c.Start(context.Background(), "sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := p.Write(make([]byte, 16<<20)) // far more than the window and the pipes take
		wrote <- err
	}()
	select {
	case err := <-wrote:
		t.Fatalf("16 MiB were taken: %v", err)
	case <-time.After(300 * time.Millisecond): // blocked, as far as that can be seen
	}
	endsWithin(t, 2*time.Second, func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-wrote; err == nil {
			t.Error("the write succeeded")
		}
	})
}

func TestHTTPThroughTheHost(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "healthy")
	}))
	t.Cleanup(web.Close)
	key := newKey(t)
	server := serve(t, key, sshtest.Options{})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	transport := &http.Transport{DialContext: c.DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	answer, err := client.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || string(body) != "healthy" {
		t.Errorf("got %q, %v", body, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	endsWithin(t, 5*time.Second, func() {
		if _, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
	if server.Stats().Forwards == 0 {
		t.Error("the request did not go through the host")
	}
}

func TestDialThroughTheHostToAClosedPort(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{}), "app1"))
	_, err := c.DialContext(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", "1"))
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("got %v, want a *net.OpError", err)
	}
}

func TestSFTPCarriesFilesAndGivesItsSessionBack(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	home := t.TempDir()
	server := serve(t, key, sshtest.Options{Home: home, MaxSessions: 1})
	c := connect(t, pool(t, key, nil), targetOf(server, "app1"))
	for range 3 {
		files, err := c.SFTP(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		f, err := files.Create("note")
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write([]byte("text"))
		if err = errors.Join(err, f.Close(), files.Close()); err != nil {
			t.Fatal(err)
		}
		if got := output(t, c, "cat note"); got != "text" {
			t.Errorf("got %q", got)
		}
	}
}

func TestSFTPMissingIsAFault(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	c := connect(t, pool(t, key, nil), targetOf(serve(t, key, sshtest.Options{NoSFTP: true}), "app1"))
	_, err := c.SFTP(context.Background())
	wantCode(t, err, fault.RemoteToolMissing)
	if got := output(t, c, "echo on"); got != "on\n" {
		t.Errorf("got %q", got)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	kept := new(tail)
	all := ""
	for i := range 3000 {
		piece := strings.Repeat(string(rune('a'+i%26)), i%97)
		all += piece
		if n, err := kept.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write gives %d, %v", n, err)
		}
	}
	if want := all[len(all)-stderrKept:]; kept.String() != want {
		t.Errorf("kept %d bytes, not the last %d", len(kept.String()), stderrKept)
	}
	if _, err := kept.Write(bytes.Repeat([]byte("x"), stderrKept*2)); err != nil || kept.String() != strings.Repeat("x", stderrKept) {
		t.Error("one large write is not kept by its end")
	}
}
