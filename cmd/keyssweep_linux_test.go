package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What `make keys-sweep` says through the environment.
const (
	keysSweepEnv = "GODEPLOY_KEYS_SWEEP" // "all": every point and 50 keys for each editor; else a sample
	keysSeedEnv  = "GODEPLOY_KEYS_SEED"  // of the sample
)

// strikeCalls are the calls by which a program changes a disk or speaks.
const strikeCalls = "write,mkdir,mkdirat,fchmod,fchmodat,chmod,fchown,fsync,flock,link,linkat,rename,renameat,renameat2,unlink,unlinkat"

// strike is one place where SIGKILL comes.
type strike struct {
	who     string // "host": a program of the host's session; "here": godeploy at a call; "wire": godeploy at a piece of the connection
	session int    // for "host": counted from 1
	call    string // for "host" and "here"
	n       int    // counted from 1, in one thread
}

func (s strike) String() string {
	return fmt.Sprintf("%s session %d %s %d", s.who, s.session, s.call, s.n)
}

// sweepLab is a lab in which everything can be struck.
type sweepLab struct {
	*keysLab
	tap   *keysTap
	saved string // copy of the old pair
	hits  int    // strikes that have killed something
}

func newSweepLab(t *testing.T) *sweepLab {
	t.Helper()
	l := &sweepLab{keysLab: newKeysLab(t, true)}
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal(err)
		}
		t.Skip("strace is not installed")
	}
	l.saved = filepath.Join(l.dir, "saved")
	l.copyPair(t, l.old, l.saved)
	l.tap = newKeysTap(t, "127.0.0.1:"+strconv.Itoa(l.port))
	l.write(t, "godeploy.toml", strings.Replace(l.toml(true), fmt.Sprintf("port = %d", l.port), fmt.Sprintf("port = %d", l.tap.port), 1))
	const shell = `#!/bin/sh
cd %[3]s || exit 1
echo x >>sessions; k=$(wc -l <sessions)
s= c= n=; { read -r s c n <strike; } 2>/dev/null
cd; case "$s" in
"$((k))") exec strace -f -q -o %[1]s/trace-$((k)) -e trace=%[2]s -e inject="$c:signal=KILL:when=$n" /bin/sh "$@";;
all) exec strace -f -q -o %[1]s/trace-$((k)) -e trace=%[2]s /bin/sh "$@";;
esac
exec /bin/sh "$@"
`
	l.put(t, "shell", fmt.Sprintf(shell, filepath.Join(l.dir, "traces"), strikeCalls, l.dir))
	l.must(t, os.Chmod(filepath.Join(l.dir, "shell"), 0o755))
	passwd, err := os.ReadFile(filepath.Join(l.dir, "passwd"))
	l.must(t, err)
	l.put(t, "passwd", strings.Replace(string(passwd), "/alice:/bin/sh", "/alice:"+filepath.Join(l.dir, "shell"), 1))
	return l
}

func (l *sweepLab) copyPair(t *testing.T, from, to string) {
	for end, mode := range map[string]os.FileMode{"": 0o600, ".pub": 0o644} {
		b, err := os.ReadFile(from + end)
		l.must(t, err)
		l.must(t, os.WriteFile(to+end, b, mode))
	}
}

// stand brings everything to where a run begins.
func (l *sweepLab) stand(t *testing.T, strikes string) {
	t.Helper()
	for _, end := range []string{".new", ".new.pub", ".old", ".old.pub", ".pub", ""} {
		_ = os.Remove(l.old + end) // it may not be there
	}
	_ = os.Remove(filepath.Join(l.Dir, ".godeploy", "rotate-prod.json")) // the same
	l.copyPair(t, l.saved, l.old)
	l.reset(t)
	l.strikeAt(t, strikes)
}

func (l *sweepLab) strikeAt(t *testing.T, text string) {
	t.Helper()
	l.must(t, os.RemoveAll(filepath.Join(l.dir, "traces")))
	l.must(t, os.Mkdir(filepath.Join(l.dir, "traces"), 0o777))
	l.must(t, os.Chmod(filepath.Join(l.dir, "traces"), 0o777))
	l.put(t, "strike", text+"\n")
	l.put(t, "sessions", "")
	l.must(t, os.Chmod(filepath.Join(l.dir, "sessions"), 0o666))
}

// godeploy runs the binary as a process of its own, below strace where it is to be struck at a call.
func (l *sweepLab) godeploy(s strike, args ...string) ([]byte, error) {
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	argv := append([]string{os.Args[0], "keys"}, args...)
	if s.who == "here" {
		front := []string{"strace", "-f", "-q", "-o", filepath.Join(l.dir, "traces", "here"), "-e", "trace=" + strikeCalls}
		if s.call != "" {
			front = append(front, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", s.call, s.n))
		}
		argv = append(front, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = l.Dir
	cmd.Env = []string{"HOME=" + l.Home, "PATH=" + os.Getenv("PATH"), asGodeployEnv + "=1", "GOMAXPROCS=2"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	at := 0
	if s.who == "wire" {
		at = s.n
	}
	l.tap.arm(at, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	return out.Bytes(), err
}

var traced = regexp.MustCompile(`(?m)^(\d+) +([a-z0-9]+)\(`)

// counted is how often each call is made, by the thread that makes it most often.
func counted(trace []byte) map[string]int {
	byThread, most := map[string]int{}, map[string]int{}
	for _, m := range traced.FindAllSubmatch(trace, -1) {
		key := string(m[1]) + " " + string(m[2])
		byThread[key]++
		most[string(m[2])] = max(most[string(m[2])], byThread[key])
	}
	return most
}

// points runs the command once without a strike and says where there could have been one.
func (l *sweepLab) points(t *testing.T, args ...string) []strike {
	t.Helper()
	for _, strikes := range []string{"", "all 0 0"} { // the first brings the helper
		l.stand(t, strikes)
		if out, err := l.godeploy(strike{who: "here"}, args...); err != nil {
			t.Fatalf("without a strike: %v\n%s", err, out)
		}
	}
	var all []strike
	add := func(who string, session int, file string) bool {
		b, err := os.ReadFile(filepath.Join(l.dir, "traces", file))
		for call, most := range counted(b) {
			for n := range most {
				all = append(all, strike{who, session, call, n + 1})
			}
		}
		return err == nil
	}
	add("here", 0, "here")
	for k := 1; add("host", k, "trace-"+strconv.Itoa(k)); k++ {
	}
	for n := range l.tap.count() {
		all = append(all, strike{who: "wire", n: n + 1})
	}
	return all
}

// sample chooses a few of each kind, unless all are asked for.
func sample(t *testing.T, all []strike, each int) []strike {
	if os.Getenv(keysSweepEnv) == "all" {
		return all
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(keysSeedEnv); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d, of %d points", keysSeedEnv, seed, len(all))
	r := rand.New(rand.NewPCG(seed, 1))
	took := map[string]int{}
	var some []strike
	for _, i := range r.Perm(len(all)) {
		if took[all[i].who]++; took[all[i].who] <= each {
			some = append(some, all[i])
		}
	}
	return some
}

// whole wants the file to be lines that belong there, each of them whole.
func (l *sweepLab) whole(t *testing.T, at strike) {
	t.Helper()
	got := l.content(t)
	for line := range strings.Lines(got) {
		fields := strings.Fields(strings.TrimPrefix(line, restricted))
		if !strings.HasSuffix(line, "\n") || len(fields) != 3 || fields[0] != "ssh-ed25519" || len(fields[1]) != 68 || !strings.HasSuffix(fields[2], "@lab") {
			t.Errorf("%s: the file is cut: %q", at, got)
		}
	}
}

// struck tries one point of a command: whatever was killed, the key at its path lets in, no file is cut, and the
// same command, given again, does all of its work.
func (l *sweepLab) struck(t *testing.T, s strike, end func(), args ...string) {
	t.Helper()
	text := ""
	if s.who == "host" {
		text = fmt.Sprintf("%d %s %d", s.session, s.call, s.n)
	}
	l.stand(t, text)
	first, ferr := l.godeploy(s, args...)
	l.hits += l.hit(ferr)
	l.strikeAt(t, "")
	l.whole(t, s)
	if err := l.ssh(l.old, "alice"); err != nil {
		t.Errorf("%s: locked out: %v\nfile: %q\n%s", s, err, l.there(), first)
	}
	if out, err := l.godeploy(strike{}, args...); err != nil {
		// A rotation that was over and not told of is one more from the start; both are done.
		t.Errorf("%s: %v, then %v\n%s\nthen\n%s", s, ferr, err, first, out)
	}
	l.whole(t, s)
	end()
	if t.Failed() {
		t.Fatalf("struck at %s", s)
	}
}

// hit is 1 when the strike has killed something.
func (l *sweepLab) hit(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && !exit.Exited() {
		return 1
	}
	traces, _ := filepath.Glob(filepath.Join(l.dir, "traces", "*"))
	for _, file := range traces {
		if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte("killed by SIGKILL")) {
			return 1
		}
	}
	return 0
}

// Whatever dies by SIGKILL, and when, while a key is pushed or rotated: the helper and the shell that starts it at
// any call that writes, godeploy at any such call and at any piece that it sends or gets. OpenSSH's own client gets
// in with the key at its path, the file of keys is whole, and the same command heals what is left.
func TestKeysSurviveKills(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"push", "rotate"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newSweepLab(t)
			args := []string{"push", "prod", "--key", l.key}
			end := func() {
				if got, want := l.content(t), l.public(l.old)+added(l.keysLab); got != want {
					t.Errorf("in the end the file is %q, want %q", got, want)
				}
			}
			if kind == "rotate" {
				args = []string{"rotate", "prod", "--no-passphrase"}
				end = func() {
					if got, want := l.content(t), restricted+l.public(l.old); got != want || l.blob(l.old) == l.blob(l.saved) {
						t.Errorf("in the end the file is %q, want %q", got, want)
					}
				}
			}
			all := l.points(t, args...)
			chosen := sample(t, all, 2)
			for _, s := range chosen {
				l.struck(t, s, end, args...)
			}
			t.Logf("%d of %d points, %d strikes killed", len(chosen), len(all), l.hits)
			if 2*l.hits < len(chosen) {
				t.Errorf("only %d of %d strikes have killed anything", l.hits, len(chosen))
			}
		})
	}
}

// keysTap stands between godeploy and sshd, and counts the pieces that go either way.
type keysTap struct {
	port int

	mu   sync.Mutex
	seen int
	at   int
	kill func()
}

func newKeysTap(t *testing.T, to string) *keysTap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &keysTap{port: ln.Addr().(*net.TCPAddr).Port, kill: func() {}}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", to)
			if err != nil {
				_ = from.Close() // the run says that nobody answers
				continue
			}
			work.Go(func() { p.pass(there, from) })
			work.Go(func() { p.pass(from, there) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // nothing is written to it
		work.Wait()
	})
	return p
}

// pass copies one direction; where the strike is due the piece is not passed on.
func (p *keysTap) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }() // the other direction ends too
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.piece() {
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *keysTap) piece() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen++; p.seen != p.at {
		return true
	}
	p.kill()
	return false
}

func (p *keysTap) arm(at int, kill func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.at, p.kill = 0, at, kill
}

func (p *keysTap) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// Eight people push at once, each key by a run of its own: no key is lost.
func TestManyPushesLoseNoKey(t *testing.T) {
	t.Parallel()
	l := newKeysLab(t, true)
	l.tapless(t)
	const editors = 8
	each := 2
	if os.Getenv(keysSweepEnv) == "all" {
		each = 50
	}
	first, err := l.process("push", "prod", "--key", l.newKey(t, "zero"))
	if err != nil {
		t.Fatalf("the first: %v\n%s", err, first) // it brings the helper too
	}
	var keys [editors][]string
	for i := range keys {
		for n := range each {
			keys[i] = append(keys[i], l.newKey(t, fmt.Sprintf("p%dn%d", i, n)))
		}
	}
	var group sync.WaitGroup
	for i := range editors {
		group.Go(func() {
			for _, key := range keys[i] {
				if out, err := l.process("push", "prod", "--key", key); err != nil {
					t.Errorf("%s: %v\n%s", filepath.Base(key), err, out)
				}
			}
		})
	}
	group.Wait()
	got := l.content(t)
	for i := range keys {
		for _, key := range keys[i] {
			if !strings.Contains(got, restricted+l.public(key)) {
				t.Errorf("%s is lost", filepath.Base(key))
			}
		}
	}
	if lines := strings.Count(got, "\n"); lines != editors*each+2 {
		t.Errorf("%d lines, want %d", lines, editors*each+2)
	}
}

// tapless lets as many log in at once as sshd's own default does not.
func (l *keysLab) tapless(t *testing.T) {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(l.dir, "sshd_config"))
	l.must(t, err)
	l.put(t, "sshd_config", "MaxStartups 100:1:200\n"+string(config))
	l.must(t, syscall.Kill(l.pid, syscall.SIGHUP))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if l.ssh(l.old, "alice") == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("sshd does not come back")
		}
	}
}

// process runs godeploy keys as a process of its own.
func (l *keysLab) process(args ...string) ([]byte, error) {
	cmd := exec.Command(os.Args[0], append([]string{"keys"}, args...)...)
	cmd.Dir, cmd.Stdin = l.Dir, io.Reader(nil)
	cmd.Env = []string{"HOME=" + l.Home, "PATH=" + os.Getenv("PATH"), asGodeployEnv + "=1", "GOMAXPROCS=2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.CombinedOutput()
}
