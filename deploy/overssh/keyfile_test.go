package overssh

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"godeploy/deploy"
	"godeploy/deploy/access"
	"godeploy/internal/wire"
)

// Eight who add keys to one file at once lose none: with the helper fifty keys each, by a shell, which starts a
// dozen programs for an edit, fewer.
func TestManyEditorsLoseNoKey(t *testing.T) {
	t.Parallel()
	both(t, "editors", func(t *testing.T, m *machine, first deploy.Host) {
		const editors = 8
		keys := 50
		if _, ok := first.(*plain); ok {
			keys = 3
		}
		file := filepath.Join(m.home, ".ssh", "authorized_keys")
		if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("# mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		hosts := []deploy.Host{first}
		for len(hosts) < editors {
			hosts = append(hosts, m.connect(t))
		}
		var group errgroup.Group
		for i, h := range hosts {
			group.Go(func() error {
				for n := range keys {
					if err := addKey(t.Context(), h.(access.Account), file, madeUp(i, n)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil || !strings.HasPrefix(string(content), "# mine\n") || strings.Count(string(content), "\n") != editors*keys+1 {
			t.Fatalf("%d lines of %d, %v", strings.Count(string(content), "\n"), editors*keys+1, err)
		}
		for i := range hosts {
			for n := range keys {
				if !strings.Contains(string(content), madeUp(i, n).Public()+"\n") {
					t.Errorf("key %d of editor %d is lost", n, i)
				}
			}
		}
	})
}

// madeUp is a key that nobody has.
func madeUp(editor, n int) access.Key {
	seed := sha256.Sum256(fmt.Appendf(nil, "%d %d", editor, n))
	blob := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), seed[:]...)
	k, err := access.ParseKey([]byte("ssh-ed25519 "+base64.StdEncoding.EncodeToString(blob)+fmt.Sprintf(" %d-%d", editor, n)), "made up")
	if err != nil {
		panic(err) // cannot happen: the line is well formed
	}
	return k
}

// addKey is what a push does with the file: read, decide, write if it is what was read, else again.
func addKey(ctx context.Context, a access.Account, file string, k access.Key) error {
	for {
		seen, err := a.KeyFile(ctx, wire.KeyFileRequest{Path: file})
		if err != nil {
			return err
		}
		content, _, err := access.Add(seen.Content, k, access.Options{})
		if err != nil {
			return err
		}
		sum := sha256.Sum256(seen.Content)
		reply, err := a.KeyFile(ctx, wire.KeyFileRequest{Path: seen.Path, Write: true, Content: content, Expect: hex.EncodeToString(sum[:])})
		if err != nil || !reply.Stale {
			return err
		}
	}
}

func TestKeyAnswersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, out := range []string{"", "hello\n", "godeploy-keys \n", "godeploy-keys 0 0\nhome /root\n", "godeploy-keys 0 0\nwhat\nend\n",
		"godeploy-keys 0 0\npath /a/../b\nend\n", "godeploy-keys 0 0\npart zz 0 0 /\nend\n", "godeploy-keys 0 0\npart 41ed 0\nend\n"} {
		if reply, err := parseKeys([]byte(out)); err == nil {
			t.Errorf("%q: got %+v", out, reply)
		}
	}
	reply, err := parseKeys([]byte("Welcome!\ngodeploy-keys 5 6\nhome /h\nlink\npath /h/k\npart 8180 5 6 /h/k\npart 41ed 0 0 /\ncontent\na\nb"))
	if err != nil || reply.UID != 5 || !reply.Link || !reply.Exists || string(reply.Content) != "a\nb" || len(reply.Way) != 2 || reply.Way[0].Path != "/" {
		t.Errorf("got %+v, %v", reply, err)
	}
}
