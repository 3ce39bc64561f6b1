package filesync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// into gives the options for a release in a folder.
func into(fsys FS, id, parent string) ReceiveOptions {
	return ReceiveOptions{FS: fsys, ID: id, Parent: parent, UID: -1, GID: -1}
}

// lines is a text of so many lines, no two alike.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d: %x\n", i, i*i*7919)
	}
	return b.String()
}

func TestAChangedLineCostsLittle(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 20 {
		files[fmt.Sprintf("d/f%d.py", i)] = fmt.Sprint(i) + noise(uint64(i), 40_000)
	}
	dir, app := put(t, files), t.TempDir()
	fsys := openDir(t, app)
	release(t, scanDir(t, dir), fsys, "r1", "")
	for name, old := range files {
		files[name] = old[:20_000] + "one line more\n" + old[20_000:]
	}
	putIn(t, dir, files)
	e := release(t, scanDir(t, dir), fsys, "r2", "r1")
	if both := e.sent.Sent + e.sent.Received; both > 60_000 {
		t.Errorf("a line in each of 20 files of 40 KB took %d bytes both ways", both)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(app, "releases/r2", name)); err != nil || string(got) != want {
			t.Errorf("%s is not what was sent: %v", name, err)
		}
	}
	putIn(t, dir, map[string]string{"d/f7.py": files["d/f7.py"] + "a line"})
	whole := into(fsys, "r3", "r2")
	whole.Whole = true
	if e := transfer(t, scanDir(t, dir), SendOptions{}, whole); e.sent.Sent < 40_000 {
		t.Errorf("whole files took %d bytes: %v", e.sent.Sent, errors.Join(e.sendErr, e.receiveErr))
	}
}

// An old version that is not what its release recorded makes a patch come out wrong: the file is sent
// whole then.
func TestAPatchOfWhatChangedInPlaceIsFoundWrong(t *testing.T) {
	t.Parallel()
	dir, app := put(t, map[string]string{"f": noise(1, 50_000), "stays": noise(2, 9000)}), t.TempDir()
	fsys := openDir(t, app)
	release(t, scanDir(t, dir), fsys, "r1", "")
	in := filepath.Join(app, "releases/r1/f")
	info, err := os.Stat(in)
	ok(t, err)
	putIn(t, dir, map[string]string{"f": noise(1, 50_000) + "more"})
	src := scanDir(t, dir)
	swap := func() { // after the signature was made
		ok(t, os.WriteFile(in, []byte(noise(3, 50_000)), 0o644))
		ok(t, os.Chtimes(in, info.ModTime(), info.ModTime()))
	}
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := Receive(t.Context(), into(fsys, "r2", "r1"), b)
		done <- errors.Join(err, b.Close())
	}()
	_, err = Send(t.Context(), src, &onWant{Conn: a, do: swap}, SendOptions{})
	ok(t, errors.Join(err, <-done))
	got, err := os.ReadFile(filepath.Join(app, "releases/r2/f"))
	ok(t, err)
	if string(got) != noise(1, 50_000)+"more" {
		t.Error("a patch of something else was taken")
	}
}

// onWant does something when the receiver has asked for content, before the sender answers.
type onWant struct {
	net.Conn
	do   func()
	once sync.Once
}

func (c *onWant) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && p[0] == byte(frameWant) {
		c.once.Do(c.do)
	}
	return n, err
}

func TestContentIsFoundInAnyRelease(t *testing.T) {
	t.Parallel()
	big, old := noise(1, 2<<20), noise(2, 2<<20)
	dir := put(t, map[string]string{"big": big, "old": old})
	fsys := openDir(t, t.TempDir())
	release(t, scanDir(t, dir), fsys, "r1", "")
	ok(t, os.Remove(filepath.Join(dir, "old")))
	ok(t, os.Remove(filepath.Join(dir, "big")))
	putIn(t, dir, map[string]string{"x": "1"})
	release(t, scanDir(t, dir), fsys, "r2", "r1")
	putIn(t, dir, map[string]string{"sub/again": old, "big": big[:1<<20] + "insert" + big[1<<20:]})
	e := release(t, scanDir(t, dir), fsys, "r3", "r2")
	if e.sent.Sent > 200<<10 || e.received.Linked != 2 {
		t.Errorf("what r1 has was sent again: %+v", e.sent)
	}
}

func TestAVerifiedParentIsRead(t *testing.T) {
	t.Parallel()
	dir, app := put(t, map[string]string{"a": "right", "b": "stays"}), t.TempDir()
	fsys := openDir(t, app)
	src := scanDir(t, dir)
	release(t, src, fsys, "r1", "")
	in := filepath.Join(app, "releases/r1/a")
	info, err := os.Stat(in)
	ok(t, err)
	ok(t, os.WriteFile(in, []byte("wrong"), 0o644))
	ok(t, os.Chtimes(in, info.ModTime(), info.ModTime()))
	o := into(fsys, "r2", "r1")
	o.VerifyAll, o.SkipUnchanged = true, true
	e := transfer(t, src, SendOptions{}, o)
	ok(t, errors.Join(e.sendErr, e.receiveErr))
	if got, err := os.ReadFile(filepath.Join(app, "releases/r2/a")); string(got) != "right" || e.received.Linked != 1 {
		t.Errorf("got %q and %+v: %v", got, e.received, err)
	}
}

// What came before a cut is not sent again, whatever the next release is called, and is not trusted.
func TestWhatCameBeforeACutIsUsed(t *testing.T) {
	t.Parallel()
	files := map[string]string{"big": noise(1, 6<<20)}
	for i := range 40 {
		files[fmt.Sprintf("d/f%02d", i)] = noise(uint64(100+i), 200_000)
	}
	dir, app := put(t, files), t.TempDir()
	fsys := openDir(t, app)
	src := scanDir(t, dir)
	for _, name := range []string{"r1", "r1"} {
		a, b := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := Receive(t.Context(), into(fsys, name, ""), b)
			if err == nil {
				t.Error("a stream that was cut passed")
			}
			_ = b.Close()
		}()
		_, _ = Send(t.Context(), src, &breaking{Conn: a, left: 5 << 20}, SendOptions{})
		_ = a.Close()
		<-done
	}
	// A file that came was spoiled and hides it.
	come, err := filepath.Glob(filepath.Join(app, "releases/.*.partial/d/f*"))
	ok(t, err)
	if len(come) < 5 {
		t.Fatalf("only %d files came", len(come))
	}
	info, err := os.Stat(come[0])
	ok(t, err)
	ok(t, os.WriteFile(come[0], make([]byte, info.Size()), 0o644))
	ok(t, os.Chtimes(come[0], info.ModTime(), info.ModTime()))
	e := release(t, src, fsys, "r3", "")
	if e.sent.Sent > 5<<20 {
		t.Errorf("%d bytes were sent again of 14 MB", e.sent.Sent)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(app, "releases/r3", name)); err != nil || string(got) != want {
			t.Errorf("%s is not what was sent: %v", name, err)
		}
	}
	for _, d := range []string{"releases", ".godeploy/manifests"} {
		left, err := os.ReadDir(filepath.Join(app, d))
		if err != nil || len(left) != 1 {
			t.Errorf("%s holds %v: %v", d, left, err)
		}
	}
}

// breaking breaks the connection after so many bytes.
type breaking struct {
	net.Conn
	left int
}

func (c *breaking) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		_ = c.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// delayed is one end of a connection on which everything takes half a round trip.
type delayed struct {
	net.Conn
	half time.Duration
	out  chan sentAt
	rest chan struct{}
}

type sentAt struct {
	data []byte
	due  time.Time
}

func delay(conn net.Conn, half time.Duration) *delayed {
	d := &delayed{Conn: conn, half: half, out: make(chan sentAt, 10_000), rest: make(chan struct{})}
	go func() {
		defer close(d.rest)
		for s := range d.out {
			time.Sleep(time.Until(s.due))
			_, _ = d.Conn.Write(s.data) // the other end hears of a broken pipe itself
		}
	}()
	return d
}

func (d *delayed) Write(p []byte) (int, error) {
	d.out <- sentAt{bytes.Clone(p), time.Now().Add(d.half)}
	return len(p), nil
}

// Round trips are counted by a clock that stands still unless everybody waits.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%9, i)] = lines(20 + i)
	}
	dir, cache, app := put(t, files), t.TempDir(), t.TempDir()
	source := func() *Source {
		src, err := Scan(context.Background(), dir, ScanOptions{Cache: cache})
		ok(t, err)
		return src
	}
	src := source()
	release(t, src, openDir(t, app), "r1", "")
	root := src.Manifest.Root()
	ok(t, noteSent(cache, "known", root))
	ok(t, src.Close())
	ask := func(id string, o SendOptions, skip bool) (trips int) {
		synctest.Test(t, func(t *testing.T) {
			src, fsys := source(), openDir(t, app)
			const trip = 50 * time.Millisecond
			a, b := net.Pipe()
			from, to := delay(a, trip/2), delay(b, trip/2)
			done := make(chan error, 1)
			begun := time.Now()
			go func() {
				ro := into(fsys, id, "r1")
				ro.SkipUnchanged = skip
				_, err := Receive(t.Context(), ro, struct{ io.ReadWriter }{to})
				done <- err
			}()
			_, err := Send(t.Context(), src, struct{ io.ReadWriter }{from}, o)
			trips = int(time.Since(begun) / (trip / 2))
			ok(t, errors.Join(err, <-done, src.Close()))
			close(from.out)
			close(to.out)
			<-from.rest
			<-to.rest
			_, _ = a.Close(), b.Close()
		})
		return trips
	}
	// Half trips from the moment both ends begin: Hello takes one, an answer to it two more.
	if n := ask("s1", SendOptions{}, true); n != 3 {
		t.Errorf("nothing changed: %d half trips", n)
	}
	if n := ask("s2", SendOptions{Expect: root}, true); n != 2 {
		t.Errorf("nothing changed, as expected: %d half trips", n)
	}
	putIn(t, dir, map[string]string{"d3/f3": "changed"})
	for id, tt := range map[string]struct {
		o    SendOptions
		want int
	}{
		"asked for":               {SendOptions{}, 5},
		"told at once":            {SendOptions{Expect: root}, 4},
		"sent at once":            {SendOptions{Expect: root, RoundTrip: 50 * time.Millisecond}, 2},
		"sent as to a known peer": {SendOptions{Peer: "known", RoundTrip: 50 * time.Millisecond}, 2},
		"sent after Hello":        {SendOptions{RoundTrip: 50 * time.Millisecond}, 3},
		"told of another tree":    {SendOptions{Expect: Hash{1}, RoundTrip: 50 * time.Millisecond}, 3},
	} {
		if n := ask(strings.ReplaceAll(id, " ", "-"), tt.o, false); n != tt.want {
			t.Errorf("%s: %d half trips, want %d", id, n, tt.want)
		}
	}
}

func TestManyHostsShareWhatIsCompressed(t *testing.T) {
	t.Parallel()
	files := map[string]string{"big": noise(9, 30<<20)} // more than stays in memory
	for i := range 50 {
		files[fmt.Sprintf("d/f%d", i)] = lines(900 + i)
	}
	src := scanDir(t, put(t, files))
	const hosts = 6
	block := make(chan struct{})
	var wg, fast sync.WaitGroup
	fast.Add(hosts - 1)
	for i := range hosts {
		app := t.TempDir()
		fsys := openDir(t, app)
		wg.Go(func() {
			a, b := net.Pipe()
			var conn net.Conn = a
			if i == 0 {
				conn = &held{Conn: a, until: block}
			} else {
				defer fast.Done()
			}
			done := make(chan error, 1)
			go func() {
				_, err := Receive(t.Context(), into(fsys, "r1", ""), b)
				done <- errors.Join(err, b.Close())
			}()
			_, err := Send(t.Context(), src, conn, SendOptions{Hosts: hosts, Spool: t.TempDir()})
			if err := errors.Join(err, <-done); err != nil {
				t.Error(err)
			}
			got, err := os.ReadFile(filepath.Join(app, "releases/r1/big"))
			if err != nil || string(got) != files["big"] {
				t.Errorf("host %d has another content: %v", i, err)
			}
		})
	}
	fast.Wait() // though one host takes nothing
	close(block)
	wg.Wait()
	if n := len(src.memo.contents); n != 1 {
		t.Errorf("compressed %d times", n)
	}
}

// held writes nothing more after the first MiB until it may.
type held struct {
	net.Conn
	n     int
	until <-chan struct{}
}

func (c *held) Write(p []byte) (int, error) {
	if c.n += len(p); c.n > 1<<20 {
		<-c.until
	}
	return c.Conn.Write(p)
}

func TestSpoolReadersWaitAndHearTheEnd(t *testing.T) {
	t.Parallel()
	s := newSpool(t.TempDir())
	var want bytes.Buffer
	var wg sync.WaitGroup
	got := make([][]byte, 4)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = io.ReadAll(&spoolReader{s: s, ctx: t.Context()}); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 40 {
		p := []byte(noise(uint64(i), 1<<20))
		want.Write(p)
		ok(t, s.append(p))
	}
	s.end(nil)
	wg.Wait()
	for i := range got {
		if !bytes.Equal(got[i], want.Bytes()) {
			t.Errorf("reader %d got something else", i)
		}
	}
	ok(t, s.close())
	broken := newSpool("")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&spoolReader{s: broken, ctx: ctx}).Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	broken.end(io.ErrUnexpectedEOF)
	if _, err := (&spoolReader{s: broken, ctx: t.Context()}).Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v", err)
	}
}

func FuzzWant(f *testing.F) {
	var b bytes.Buffer
	set := newUnitSet(9)
	set.add(3)
	_ = encodeWant(&b, set, []signedUnit{{3, []byte{1}}}) // a Buffer takes everything
	f.Add(b.Bytes(), 9)
	f.Fuzz(func(t *testing.T, data []byte, units int) {
		units &= 0xffff
		w, err := decodeWant(bytes.NewReader(data), units)
		if err != nil {
			return
		}
		for _, s := range w.signed {
			if s.unit < 0 || s.unit >= units {
				t.Errorf("signature of unit %d of %d", s.unit, units)
			}
			_ = makePatch(s.signature, data)
		}
	})
}

func FuzzBatches(f *testing.F) {
	var frames bytes.Buffer
	b, err := newBatcher("zstd", 100, func(frame []byte, _ load) error { frames.Write(frame); return nil }, nil)
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(b.add([]byte("content"), false, load{7, 1}, small), b.flush()); err != nil {
		f.Fatal(err)
	}
	f.Add(frames.Bytes(), 7)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		r := &batchReader{in: &frameReader{r: bytes.NewReader(data)}}
		defer r.close()
		size &= 0xfffff
		for {
			p, patch, err := r.record(size, ChunkedFrom)
			if err != nil {
				return
			}
			if !patch && len(p) != size || len(p) > maxBatch {
				t.Fatalf("a record of %d bytes where %d were due", len(p), size)
			}
			if size == 0 && len(p) == 0 && !patch {
				return
			}
		}
	})
}

// In place a time counts though the tree is the one that was sent last.
func TestATimeAloneIsToldToAPlace(t *testing.T) {
	t.Parallel()
	dir, cache, target := put(t, map[string]string{"a": "1", "d/b": "2", "d/c": "3"}), t.TempDir(), t.TempDir()
	for _, when := range []time.Time{time.Unix(1_000_000_000, 5), time.Unix(1_100_000_000, 7), time.Unix(1_100_000_000, 7)} {
		ok(t, os.Chtimes(filepath.Join(dir, "d/b"), when, when))
		src, err := Scan(t.Context(), dir, ScanOptions{Cache: cache})
		ok(t, err)
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := Place(t.Context(), PlaceOptions{FS: openDir(t, target), UID: -1, GID: -1}, b)
			done <- errors.Join(err, b.Close())
		}()
		_, err = Send(t.Context(), src, a, SendOptions{Peer: "p", Times: true})
		ok(t, errors.Join(err, <-done, src.Close()))
		info, err := os.Stat(filepath.Join(target, "d/b"))
		ok(t, err)
		if !info.ModTime().Equal(when) {
			t.Errorf("got %v, want %v", info.ModTime(), when)
		}
	}
}
