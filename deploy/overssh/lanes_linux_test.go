package overssh

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// longWay is a relay to a port of loopback that lets each byte arrive half a round trip later, however
// many are under way. It counts round trips: what goes up is one further than what had come down before.
type longWay struct {
	port int

	mu       sync.Mutex
	up, down int // how far what has gone up, and come down, is
}

// trips is how many round trips have been waited for so far, after that of TCP.
func (w *longWay) trips() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

func startLongWay(t testing.TB, to int, rtt time.Duration) *longWay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	w := &longWay{port: l.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
			if err != nil {
				_ = near.Close()
				return
			}
			go carry(far, near, rtt/2, func() int { return w.down + 1 }, &w.up, &w.mu)
			go carry(near, far, rtt/2, func() int { return w.up }, &w.down, &w.mu)
		}
	}()
	return w
}

type late struct {
	due time.Time
	far int
	p   []byte
}

func carry(to, from net.Conn, delay time.Duration, far func() int, arrived *int, mu *sync.Mutex) {
	queue := make(chan late, 1<<16)
	go func() {
		for one := range queue {
			if delay > 0 {
				time.Sleep(time.Until(one.due)) // it is what the relay is for
			}
			mu.Lock()
			*arrived = max(*arrived, one.far)
			mu.Unlock()
			if _, err := to.Write(one.p); err != nil {
				break
			}
		}
		_ = to.Close()
	}()
	defer close(queue)
	for {
		p := make([]byte, 64<<10)
		n, err := from.Read(p)
		if err != nil {
			return
		}
		mu.Lock()
		queue <- late{time.Now().Add(delay), far(), p[:n]}
		mu.Unlock()
	}
}

// helperAt connects a helper on a real sshd over a port that leads to it, for an app below dir.
func helperAt(t testing.TB, s *openSSH, port, lanes int, dir string) *helped {
	t.Helper()
	return helperOf(t, s, port, lanes, dir, small(t))
}

func helperOf(t testing.TB, s *openSSH, port, lanes int, dir string, helpers *Binaries) *helped {
	t.Helper()
	pool := sshx.NewPool(sshx.Options{Keys: []string{s.dir + "/id"}})
	env, host := laneEnv(t, dir)
	c := &Connector{Env: env, Helpers: helpers, Parallel: 1, Report: event.Discard{}, Lanes: lanes,
		Dial: func(ctx context.Context, h inventory.Host) (*sshx.Conn, error) {
			return pool.Dial(ctx, sshx.Target{Name: h.Name, Address: "127.0.0.1", Port: port, User: me(t), HostKey: s.host})
		}}
	h, err := c.open(context.Background(), host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(); _ = pool.Close() })
	return h.(*helped)
}

// small is the helper that hosts get from a release build.
func small(t testing.TB) *Binaries {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "godeploy/cmd/godeploy-helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzipped(content)
	if err != nil {
		t.Fatal(err)
	}
	xz := exec.Command("xz", "-0c", path)
	smaller, err := xz.Output()
	if err != nil {
		t.Fatal(err)
	}
	list := builtIn([]blob{{"linux", runtime.GOARCH, packed, smaller, hashOf(content)}})
	return &Binaries{func() ([]Binary, error) { return list, nil }}
}

func laneEnv(t testing.TB, dir string) (*inventory.Env, inventory.Host) {
	t.Helper()
	file, err := inventory.Parse("godeploy.toml", []byte("version = 1\n[app]\nname = \""+lonelyName(t, dir)+"\"\npath = \""+dir+"/shop\"\n"+
		"[process]\nmanager = \"command\"\n[hooks]\nrestart = [\"true\"]\n[env.test.hosts]\nweb1 = { role = \"app\", address = \"127.0.0.1\" }\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("test")
	if err != nil {
		t.Fatal(err)
	}
	return env, env.Hosts[0]
}

// stageNoise stages a tree of one file that no compression makes smaller.
func stageNoise(t testing.TB, h *helped, dir string, size int, id string) (wire.StageReply, time.Duration) {
	t.Helper()
	from := filepath.Join(dir, "src-"+id)
	if err := os.MkdirAll(from, 0o755); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(noise) // never fails
	if err := os.WriteFile(filepath.Join(from, "noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := filesync.Scan(context.Background(), from, filesync.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	began := time.Now()
	reply, _, err := h.Stage(context.Background(), wire.StageRequest{Site: h.site, Release: wire.Release{ID: id}}, src, filesync.SendOptions{})
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(h.site.Path, "releases", id, "noise"))
	if err != nil || string(got) != string(noise) {
		t.Fatalf("%d of %d bytes are there, or others: %v", len(got), size, err)
	}
	return reply, took
}

func lockIt(t testing.TB, h *helped) {
	t.Helper()
	if err := os.MkdirAll(h.site.Path, 0o755); err != nil { // the lock lies there
		t.Fatal(err)
	}
	if held, err := h.Lock(context.Background(), wire.Holder{Who: "test"}); err != nil || held != nil {
		t.Fatalf("lock: %v, %v", held, err)
	}
	if err := h.Prepare(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
}

// After TCP's own round trip a login takes six and a helper that is there two; its greeting comes with the
// second. The relay counts one more: both sides say their key exchange's first word unasked, but without a
// delay one of them seems to answer the other. The first request is one more.
func TestStartCostsFewRoundTrips(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startOpenSSH(t, "SetEnv HOME="+dir)
	helpers := small(t)
	first := helperOf(t, s, s.port, 1, dir, helpers) // installs it
	way := startLongWay(t, s.port, 0)
	h := helperOf(t, s, way.port, 1, dir, helpers)
	if n := way.trips(); n > 9 {
		t.Errorf("%d round trips until the helper was there, want at most 9", n)
	}
	before := way.trips()
	if _, err := h.State(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := way.trips() - before; n > 1 {
		t.Errorf("%d round trips for the first request, want 1", n)
	}
	if first.Facts().Hash != h.Facts().Hash || h.Facts().PID < 1 {
		t.Errorf("the greetings: %+v and %+v", first.Facts(), h.Facts())
	}
}

// A first contact pushes the helper on the session that asked for it.
func TestFirstContactIsOneSession(t *testing.T) {
	t.Parallel()
	m := newMachine(t, true)
	h := m.connect(t)
	if _, err := h.State(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := m.server.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestReleaseOverLanesOfOpenSSHIsWhole(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"MaxSessions 64", "MaxSessions 3", "MaxSessions 1"} {
		dir := t.TempDir()
		s := startOpenSSH(t, limit, "SetEnv HOME="+dir)
		h := helperAt(t, s, s.port, 4, dir)
		lockIt(t, h)
		stageNoise(t, h, dir, 24<<20, "20261123-104107-4f2c9e1")
		stageNoise(t, h, dir, 8<<20, "20261123-104108-4f2c9e1")
	}
}

// BenchmarkLongWay is what 50 ms of round trip leave of the speed, by the number of channels.
func BenchmarkLongWay(b *testing.B) {
	for _, lanes := range []int{1, 4, 8, 0} {
		b.Run(strconv.Itoa(lanes), func(b *testing.B) {
			dir, err := os.MkdirTemp("", "lanes")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(dir)
			s := startOpenSSH(b, "SetEnv HOME="+dir)
			h := helperAt(b, s, startLongWay(b, s.port, 50*time.Millisecond).port, lanes, dir)
			lockIt(b, h)
			const size = 128 << 20
			b.SetBytes(size)
			var took time.Duration
			for i := 0; b.Loop(); i++ {
				_, one := stageNoise(b, h, dir, size, "20261123-1041"+strconv.Itoa(10+i)+"-4f2c9e1")
				took += one
			}
			b.ReportMetric(float64(b.N*size)/took.Seconds()/1e6, "MB/s-sent")
		})
	}
}
