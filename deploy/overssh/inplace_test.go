package overssh

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// placeSource makes a folder to send: a path ending in "/" is a folder.
func placeSource(t *testing.T, files map[string]string) (string, *filesync.Source) {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, rescan(t, dir)
}

func rescan(t *testing.T, dir string) *filesync.Source {
	t.Helper()
	src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	return src
}

func ruleTexts(t *testing.T, filter ...string) [][]byte {
	t.Helper()
	rules, err := filesync.ParseRules(nil, nil, filter)
	if err != nil {
		t.Fatal(err)
	}
	folders, err := rules.Folders(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return folders.Texts()
}

// inPlace locks the host and makes its folder what the source is.
func inPlace(t *testing.T, h deploy.Host, req wire.PlaceRequest, src *filesync.Source) (wire.PlaceReply, error) {
	t.Helper()
	if held, err := h.Lock(t.Context(), wire.Holder{Who: "me", Command: "sync"}); err != nil || held != nil {
		t.Fatal(held, err)
	}
	reply, _, err := h.(deploy.Placer).Place(t.Context(), req, src, filesync.SendOptions{})
	return reply, err
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestPlaceOnAHost(t *testing.T) {
	t.Parallel()
	both(t, "place", func(t *testing.T, m *machine, h deploy.Host) {
		dir, src := placeSource(t, map[string]string{"a": "one", "d/b": "two", "odd\n\xffname": "x", "big": strings.Repeat("0123456789", 50_000)})
		reply, err := inPlace(t, h, wire.PlaceRequest{List: true}, src)
		if err != nil || reply.Written != 4 || reply.Made != 1 || len(reply.Changes) != 5 {
			t.Fatalf("first: got %+v, %v", reply, err)
		}
		if content(t, m.path+"/d/b") != "two" || content(t, m.path+"/odd\n\xffname") != "x" {
			t.Error("first: contents are not the source's")
		}
		if err := errors.Join(os.WriteFile(m.path+"/extra", nil, 0o644), os.MkdirAll(m.path+"/logs/x", 0o755),
			os.WriteFile(dir+"/a", []byte("changed"), 0o644), os.RemoveAll(dir+"/d")); err != nil {
			t.Fatal(err)
		}
		req := wire.PlaceRequest{Delete: true, List: true, DryRun: true, Rules: ruleTexts(t, "- logs/")}
		src = rescan(t, dir)
		for _, req.DryRun = range []bool{true, false} {
			reply, err = inPlace(t, h, req, src)
			if err != nil || reply.Written != 1 || reply.Same != 2 || reply.Deleted != 3 || reply.Kept != 1 {
				t.Fatalf("dry run %t: got %+v, %v", req.DryRun, reply, err)
			}
			var got []string
			for _, c := range reply.Changes {
				got = append(got, c.Op.String()+" "+c.Kind.String()+" "+c.Path+" "+c.Why.String())
			}
			want := []string{"update file a size,time", "delete dir d deleted", "delete file d/b deleted", "delete file extra deleted", "kept dir logs protected"}
			if got[0] == "update file a size" { // within one second, for those who know no more
				want[0] = got[0]
			}
			if !slices.Equal(got, want) {
				t.Errorf("dry run %t: got\n%q, want\n%q", req.DryRun, got, want)
			}
			if _, err := os.Stat(m.path + "/extra"); (err == nil) != req.DryRun {
				t.Errorf("dry run %t: extra: %v", req.DryRun, err)
			}
		}
		if content(t, m.path+"/a") != "changed" {
			t.Error("a is not what it should be")
		}
		reply, err = inPlace(t, h, wire.PlaceRequest{Verify: "all"}, src)
		if err != nil || reply.Written+reply.Touched+reply.Made != 0 || reply.Hashed != 3 {
			t.Errorf("verify all: got %+v, %v", reply, err)
		}
	})
}

func TestPlaceRefusals(t *testing.T) {
	t.Parallel()
	both(t, "refuse", func(t *testing.T, m *machine, h deploy.Host) {
		dir, src := placeSource(t, map[string]string{"a": "one", "b": "two"})
		if _, err := inPlace(t, h, wire.PlaceRequest{}, src); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
			if err := os.WriteFile(m.path+"/x"+name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		app := filepath.Join(filepath.Dir(m.path), "app")
		if err := errors.Join(os.Symlink(m.path, m.path+"-link"), os.MkdirAll(app+"/releases/r1/x", 0o755), os.Symlink("releases/r1", app+"/current")); err != nil {
			t.Fatal(err)
		}
		_, err := inPlace(t, h, wire.PlaceRequest{Delete: true}, src)
		if !fault.Is(err, fault.DeleteRefused) || !strings.Contains(err.Error(), "26 of the 28") {
			t.Errorf("too many deletions: got %v", err)
		}
		if _, err := inPlace(t, h, wire.PlaceRequest{Delete: true, Limit: wire.Share{N: 26}, DryRun: true}, src); err != nil {
			t.Errorf("as many deletions as are allowed: got %v", err)
		}
		for name, path := range map[string]string{
			"link": m.path + "-link", "home": m.home, "releases": app, "release": app + "/releases/r1/x", "state": m.path + "/.godeploy/x",
			"not there in a release": app + "/releases/r1/new/er", "file": m.path + "/a",
		} {
			_, err := inPlace(t, h, wire.PlaceRequest{Site: wire.Site{App: m.env.App.Name, Path: path}, DryRun: true}, src)
			if path == m.home && m.home != os.Getenv("HOME") && err == nil {
				continue // a helper in this process's own account has another home than the test's
			}
			if !fault.Is(err, fault.LayoutRefused) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if _, err := inPlace(t, h, wire.PlaceRequest{DryRun: true, Rules: [][]byte{[]byte("nonsense")}}, src); !fault.Is(err, fault.Protocol) {
			t.Errorf("rule that is none: got %v", err)
		}
		refuseSource(t, h, dir)
	})
}

// refuseSource: a target in the source, or that has it inside, is refused when both are on one machine.
func refuseSource(t *testing.T, h deploy.Host, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	boot, berr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err := errors.Join(err, berr, os.MkdirAll(dir+"/in/side", 0o755)); err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	origin := wire.Origin{BootID: strings.TrimSpace(string(boot)), Dev: uint64(st.Dev), Ino: st.Ino}
	for name, path := range map[string]string{"itself": dir, "inside": dir + "/in/side", "not there yet": dir + "/new/er", "around": filepath.Dir(dir)} {
		_, err := inPlace(t, h, wire.PlaceRequest{Site: wire.Site{App: "shop", Path: path}, Source: origin, DryRun: true}, rescan(t, dir))
		if !fault.Is(err, fault.LayoutRefused) || !strings.Contains(err.Error(), "source") {
			t.Errorf("target %s: got %v", name, err)
		}
	}
}

// TestPlaceOfAPathThatIsNotThere: a dry run says what would come and makes nothing.
func TestPlaceOfAPathThatIsNotThere(t *testing.T) {
	t.Parallel()
	both(t, "absent", func(t *testing.T, m *machine, h deploy.Host) {
		_, src := placeSource(t, map[string]string{"a": "one"})
		reply, _, err := h.(deploy.Placer).Place(t.Context(), wire.PlaceRequest{DryRun: true, List: true}, src, filesync.SendOptions{})
		if err != nil || len(reply.Changes) != 1 || reply.Changes[0].Why != wire.WhyNew {
			t.Errorf("got %+v, %v", reply, err)
		}
		if _, err := os.Stat(m.path); err == nil {
			t.Error("a dry run made the path")
		}
		if h, ok := h.(*helped); ok {
			if _, _, err := h.Place(t.Context(), wire.PlaceRequest{}, src, filesync.SendOptions{}); !fault.Is(err, fault.LockLost) {
				t.Errorf("without the lock: got %v", err)
			}
			if _, _, err := h.Place(t.Context(), wire.PlaceRequest{Holder: &wire.Holder{Who: "me"}}, src, filesync.SendOptions{}); err != nil {
				t.Errorf("with the lock in the request: got %v", err)
			}
		}
	})
}
