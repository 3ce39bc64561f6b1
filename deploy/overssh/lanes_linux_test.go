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
	"sync/atomic"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// longWay is a relay to a port of loopback that lets each byte arrive half a round trip later, however
// many are under way, and counts how often the direction turns.
type longWay struct {
	port int
	turn atomic.Int32 // 1: last was up, 2: last was down
	ups  atomic.Int32 // how often up followed down: the round trips that were waited for
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
			go w.carry(far, near, rtt/2, 1)
			go w.carry(near, far, rtt/2, 2)
		}
	}()
	return w
}

type late struct {
	due time.Time
	p   []byte
}

func (w *longWay) carry(to, from net.Conn, delay time.Duration, way int32) {
	queue := make(chan late, 1<<16)
	go func() {
		for one := range queue {
			time.Sleep(time.Until(one.due)) // it is what the relay is for
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
		if w.turn.Swap(way) == 2 && way == 1 {
			w.ups.Add(1)
		}
		queue <- late{time.Now().Add(delay), p[:n]}
	}
}

// helperAt connects a helper on a real sshd over a port that leads to it, for an app below dir.
func helperAt(t testing.TB, s *openSSH, port, lanes int, dir string) *helped {
	t.Helper()
	pool := sshx.NewPool(sshx.Options{Keys: []string{s.dir + "/id"}})
	env, host := laneEnv(t, dir)
	c := &Connector{Env: env, Helpers: small(t), Parallel: 1, Report: event.Discard{}, Lanes: lanes,
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
	list := builtIn([]blob{{"linux", runtime.GOARCH, packed, hashOf(content)}})
	return &Binaries{func() ([]Binary, error) { return list, nil }}
}

func laneEnv(t testing.TB, dir string) (*inventory.Env, inventory.Host) {
	t.Helper()
	file, err := inventory.Parse("godeploy.toml", []byte("version = 1\n[app]\nname = \"shop\"\npath = \""+dir+"/shop\"\n"+
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
