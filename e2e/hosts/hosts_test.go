package hosts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const helperEnv = "GODEPLOY_E2E_HELPER"

// TestMain lets the test binary stand in for a run that is killed: started with helperEnv it boots a
// host, says so, and waits for its end.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	f, err := Start(context.Background(), Options{Only: []string{"lb1"}})
	if err != nil {
		_, _ = os.Stdout.WriteString("error " + err.Error() + "\n") // the reader is gone if this fails
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("up " + f.ID + "\n") // the reader is gone if this fails
	_, _ = io.Copy(io.Discard, os.Stdin)              // until the test closes it or kills us
	os.Exit(0)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv("GODEPLOY_TEST_MUST_RUN") == "" {
		t.Skip("booting test hosts needs root")
	}
}

func TestSweepRemovesWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd, id := startHelper(ctx, t)
	if gone, err := Sweep(); err != nil || slices.Contains(gone, id) {
		t.Fatalf("Sweep with the run alive: removed %v, %v", gone, err)
	}
	if n := len(traces(t, id)); n == 0 {
		t.Fatal("a living fleet left no trace to look for, so this test shows nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	// Another test's Start may be the one that sweeps; what counts is that nothing stays.
	err := poll(ctx, func() error {
		if _, err := Sweep(); err != nil {
			return err
		}
		if left := traces(t, id); len(left) > 0 {
			return errors.New(strings.Join(left, ", "))
		}
		return nil
	})
	if err != nil {
		t.Errorf("a killed run's fleet is still there: %v", err)
	}
}

func startHelper(ctx context.Context, t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() }) // ends the helper if the test has not
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := stdout.Read(buf)
	id, ok := bytes.CutPrefix(bytes.TrimSpace(buf[:n]), []byte("up "))
	if err != nil || !ok {
		t.Fatalf("the helper says %q, %v", buf[:n], err)
	}
	return cmd, string(id)
}

// traces lists everything of a fleet that this machine still has.
func traces(t *testing.T, id string) []string {
	t.Helper()
	found := mountsUnder(filepath.Join(CacheDir(), "fleets", id))
	patterns := []string{filepath.Join(stateDir, id), "/run/netns/" + id + "-*", filepath.Join(CacheDir(), "fleets", id)}
	for _, root := range cgroupRoots() {
		patterns = append(patterns, filepath.Join(root, "godeploy-e2e", id))
	}
	for _, p := range patterns {
		m, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, m...)
	}
	for range nspawnPIDs(func(name string) bool { return strings.HasPrefix(name, id+"-") }) {
		found = append(found, "an nspawn process")
	}
	return found
}

func TestStartWithAFailingHostLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var id string
	f, err := Start(ctx, Options{Only: []string{"app1"}, BootTimeout: time.Nanosecond, Log: func(format string, args ...any) {}})
	if err == nil {
		_ = f.Close() // the test has failed
		t.Fatal("a host that cannot answer in time was taken for booted")
	}
	if !strings.Contains(err.Error(), "app1: sshd does not answer") {
		t.Errorf("got %q, want it to name the host", err)
	}
	_, id, _ = strings.Cut(err.Error(), "fleet ")
	id, _, _ = strings.Cut(id, ":")
	if left := traces(t, id); id == "" || len(left) > 0 {
		t.Errorf("fleet %q left %v", id, left)
	}
}

func TestDebianURL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"deb http://deb.debian.org/debian bookworm main\n":                                       "http://deb.debian.org/debian",
		"Types: deb\n# http://snapshot.debian.org/archive/debian\nURIs: http://m.test/debian/\n": "http://m.test/debian",
		"deb https://packages.cloud.google.com/apt cloud-sdk-bookworm main\n":                    "",
		"URIs: http://deb.debian.org/debian-security\n":                                          "",
	} {
		if got := debianURL(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestRemoveTreeKeepsWhatIsBehindAMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	outside, tree := t.TempDir(), t.TempDir()
	for _, dir := range []string{"a", "a b"} {
		if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a", "a b"} {
		if out, err := exec.Command("mount", "--bind", outside, filepath.Join(tree, dir)).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, out)
		}
	}
	if err := removeTree(tree); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("the mounted folder lost its file: %v", err)
	}
	if _, err := os.Stat(tree); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
}

func TestSweepAndRemoveTouchAKeptFleetOnlyByItsName(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	f, err := Start(ctx, Options{Only: []string{"lb1"}, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Remove(f.ID) }) // only if the test failed before its own Remove
	if err := Remove(f.ID); err == nil {
		t.Error("a fleet was removed under the process that uses it")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if gone, err := Sweep(); err != nil || slices.Contains(gone, f.ID) {
		t.Errorf("Sweep removed %v, %v, with a kept fleet among them", gone, err)
	}
	if ids, err := Kept(); err != nil || !slices.Contains(ids, f.ID) {
		t.Errorf("Kept gives %v, %v, want %s in it", ids, err, f.ID)
	}
	if err := Remove("gd000000"); err == nil {
		t.Error("Remove of a fleet that is not there says nothing")
	}
	if err := Remove(f.ID); err != nil {
		t.Error(err)
	}
	if left := traces(t, f.ID); len(left) > 0 {
		t.Errorf("Remove left %v", left)
	}
}

// A sweeper of another process has listed a fleet that its owner removes in that moment.
func TestASweepMakesNoRemovedFleetAnew(t *testing.T) {
	t.Parallel()
	needRoot(t)
	stop, swept := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				swept <- nil
				return
			default:
			}
			if _, err := Sweep(); err != nil {
				swept <- err
				return
			}
		}
	}()
	for range 300 {
		f, err := newFleet("", Options{Only: []string{"none"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if left := traces(t, f.ID); len(left) > 0 {
			t.Fatalf("Close left %v", left)
		}
	}
	close(stop)
	if err := <-swept; err != nil {
		t.Error(err)
	}
}
