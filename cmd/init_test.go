package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/inventory"
)

func TestInitWritesAFileThatReleases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		list  string
		names string
	}{
		{"", "app1"},
		{"web1=192.0.2.10,web2=192.0.2.11", "web1 web2"},
		{"192.0.2.10, 192.0.2.11", "app1 app2"},
		{"shop.example.com,2001:db8::1", "shop app2"},
	} {
		hosts, err := hostLines(tt.list)
		if err != nil {
			t.Fatal(err)
		}
		file, err := inventory.Parse(inventory.DefaultName, []byte("[app]\nname=\"a\"\npath=\"/opt/a\"\n[env.prod.hosts]\n"+hosts), nil)
		if err != nil {
			t.Fatalf("%q: %v", tt.list, err)
		}
		env, err := file.Env("")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(hostNames(env.Hosts), " "); got != tt.names {
			t.Errorf("%q: got hosts %q, want %q", tt.list, got, tt.names)
		}
	}
	if _, err := hostLines("a=,b=1"); err == nil {
		t.Error("an empty address was taken")
	}
}

func TestInitKeepsAFileThatIsThere(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), inventory.DefaultName)
	if err := writeNew(name, "one", false); err != nil {
		t.Fatal(err)
	}
	if err := writeNew(name, "two", false); err == nil {
		t.Error("a file that is there was written over")
	}
	if err := writeNew(name, "three", true); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(name)
	if err != nil || string(text) != "three" {
		t.Errorf("got %q, %v", text, err)
	}
	left, err := os.ReadDir(filepath.Dir(name))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAppNameOfAFolder(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{"/home/me/Swiper": "swiper", "/x/my app!": "my-app", "/": "app", "/x/--": "app"} {
		if got := appName(dir); got != want {
			t.Errorf("%s: got %q, want %q", dir, got, want)
		}
	}
}
