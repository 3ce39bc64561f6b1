package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	filesync "godeploy/sync"
)

func TestSuspectsAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	scan := func(paths ...string) []string {
		dir := t.TempDir()
		for _, p := range paths {
			full := filepath.Join(dir, p)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		src, err := filesync.Scan(t.Context(), dir, filesync.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		return Suspects(src)
	}
	if got := scan("app.py", ".env.example", "id_rsa.pub", "key.py", "environment", "node_modules.txt"); got != nil {
		t.Errorf("nothing is suspect, got %v", got)
	}
	got := scan(".env", "deploy/id_ed25519", "node_modules/a/b.js", "node_modules/a/.env", "node_modules/z.js", "node_modules-x/y", "tls/Server.KEY")
	want := ".env, deploy/id_ed25519, node_modules/ (3 files), tls/Server.KEY would be sent"
	if len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if got := scan(".env", ".env.a", ".env.b", ".env.c", ".env.d", ".netrc"); len(got) != 1 || !strings.Contains(got[0], ".env.c and 2 more would") {
		t.Errorf("many: got %v", got)
	}
}
