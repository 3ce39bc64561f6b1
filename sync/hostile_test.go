package filesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a peer that means harm may cost: the time until a transfer has ended, whatever comes, and the
// memory of the whole process.
const (
	hostileTime   = 30 * time.Second
	hostileMemory = 256 << 20
)

// TestHostilePeers lets each attack loose on a process of its own, so that what they cost shows.
func TestHostilePeers(t *testing.T) {
	if os.Getenv("GODEPLOY_TEST_HOSTILE") != "" {
		t.Run("senders", hostileSenders)
		t.Run("receivers", hostileReceivers)
		return
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHostilePeers$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEPLOY_TEST_HOSTILE=1", "GOCOVERDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if used, known := peakMemory(cmd.ProcessState); known && used > hostileMemory*raceFactor {
		t.Errorf("took %d MiB", used>>20)
	} else {
		t.Logf("took %d MiB", used>>20)
	}
}

func hostileSenders(t *testing.T) {
	for _, a := range senders() {
		app := t.TempDir()
		fsys := noSync{openDir(t, filepath.Join(app))}
		err := against(t, a, func(ctx context.Context, conn net.Conn) error {
			_, err := Receive(ctx, into(fsys, "r1", ""), conn)
			return err
		})
		if err == nil {
			t.Errorf("%s: made a release", a.name)
		}
		onlyStages(t, a.name, app)
		target := t.TempDir()
		err = against(t, a, func(ctx context.Context, conn net.Conn) error {
			_, err := Place(ctx, placeOptions(noSync{openDir(t, target)}), conn)
			return err
		})
		if left := portrait(t, target); err == nil || len(left) > 0 {
			t.Errorf("%s, in place: %v, and left %q", a.name, err, left)
		}
	}
}

// onlyStages fails the test when an app's folder has more than what a broken transfer may leave.
func onlyStages(t *testing.T, name, app string) {
	t.Helper()
	for _, path := range listTree(app) {
		if path != "releases" && path != ".godeploy" && path != manifestsDir && !strings.HasPrefix(path, "releases/.r1.partial") && !strings.HasPrefix(path, manifestsDir+"/.r1.partial") {
			t.Errorf("%s: left %q", name, path)
		}
	}
}

func hostileReceivers(t *testing.T) {
	files := map[string]string{"big": noise(1, 2<<20)}
	for i := range 200 {
		files[fmt.Sprintf("d/f%d", i)] = noise(uint64(i), 20_000)
	}
	src := scanDir(t, put(t, files))
	for i, a := range receivers(src.units()) {
		err := against(t, a, func(ctx context.Context, conn net.Conn) error {
			_, err := Send(ctx, src, conn, SendOptions{Hosts: 1 + i%2})
			return err
		})
		if err == nil && a.name != "done at once" {
			t.Errorf("%s: was no error", a.name)
		}
	}
}

// stubborn is a peer that sends a byte a second, for ever, and takes what it is told only when it listens.
func stubborn(conn net.Conn, first []byte, listens bool) {
	if listens {
		go func() { _, _ = io.Copy(io.Discard, conn) }() // ends with the connection
	}
	_, err := conn.Write(first)
	for err == nil {
		time.Sleep(time.Second)
		_, err = conn.Write([]byte{0})
	}
}

// TestNobodyWaitsLongForAPeerThatDoesNotHear: an end that has given up tells the other one and goes.
func TestNobodyWaitsLongForAPeerThatDoesNotHear(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"f": "abcde"})
	src := scanDir(t, dir)
	ok(t, os.Remove(filepath.Join(dir, "f")))
	fsys := noSync{openDir(t, t.TempDir())}
	hello := frame(frameHello, append([]byte(streamMagic), make([]byte, len(Hash{}))...))
	for name, run := range map[string]func(ctx context.Context, conn, peer net.Conn) error{
		"receive": func(ctx context.Context, conn, peer net.Conn) error {
			go stubborn(peer, append(startOf(formWhole, 0), frame(frameBatch, make([]byte, 100))...), true)
			_, err := Receive(ctx, into(fsys, "r1", ""), conn)
			return err
		},
		"send": func(ctx context.Context, conn, peer net.Conn) error {
			go stubborn(peer, append(hello, packed(frameWant, []byte{0, 1})...), true)
			_, err := Send(ctx, src, conn, SendOptions{})
			return err
		},
		"send to the deaf": func(ctx context.Context, conn, peer net.Conn) error {
			go stubborn(peer, frame(frameHello, []byte("what?")), false)
			_, err := Send(ctx, src, conn, SendOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, peer := net.Pipe()
				began := time.Now()
				if err := run(t.Context(), conn, peer); err == nil {
					t.Error("was no error")
				}
				if took := time.Since(began); took > hostileTime {
					t.Errorf("ended after %v", took)
				}
				_ = errors.Join(conn.Close(), peer.Close())
				time.Sleep(2 * time.Second) // of the bubble's: the peer wakes once more
				synctest.Wait()
			})
		})
	}
}

// against runs one end against an attack and says how it ended; it fails the test when that took too long.
func against(t *testing.T, a attack, run func(ctx context.Context, conn net.Conn) error) error {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(io.Discard, near); ended <- struct{}{} }() // what it is told does not matter
	go func() {
		if a.write(near) == nil {
			_ = near.Close() // who has no more to say hangs up
		}
		ended <- struct{}{}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- errors.Join(run(ctx, far), far.Close()) }()
	err := <-done
	_ = near.Close()
	<-ended
	<-ended
	if ctx.Err() != nil {
		t.Errorf("%s: did not end by itself in %v", a.name, hostileTime)
	}
	if took := time.Since(began); took > time.Second {
		t.Logf("%s: %v (%v)", a.name, took.Round(time.Millisecond), err)
	}
	return err
}
