package inventory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// tier is a file with nginx before two app hosts; more stands in [nginx], and app1 is the first host's table.
func tier(more, app1 string) string {
	return "[app]\nname = \"a\"\npath = \"/opt/a\"\n[process]\nbind = \"{{.Host.Address}}:9000\"\n[nginx]\n" + more +
		"\n[env.prod.hosts]\nngx1 = { role = \"nginx\", address = \"203.0.113.1\" }\napp1 = { role = \"app\", " + app1 + " }\n" +
		"app2 = { role = \"app\", address = \"10.0.0.2\" }\n"
}

// What nginx would refuse, or would take for something else, is named with its line before anything is rendered.
func TestBadNginxInputIsNamedWithItsLine(t *testing.T) {
	t.Parallel()
	const good = "address = \"10.0.0.1\""
	for name, c := range map[string]struct{ more, app1, line, says string }{
		"weight 0":            {"", good + ", weight = 0", ":10:", "weight"},
		"weight -1":           {"", good + ", weight = -1", ":10:", "weight"},
		"listen 99999":        {"listen = \"99999\"", good, ":7:", "port"},
		"redirect 99999":      {"redirect = 99999", good, ":7:", "redirect"},
		"a name":              {"", "address = \"nowhere.invalid\"", ":10:", "no IP address"},
		"twice":               {"", "address = \"10.0.0.2\", port = 2222", ":11:", "10.0.0.2:9000 of another server"},
		"name with ;":         {"names = [\"a.com; return 301 http://evil\"]", good, ":7:", "server name"},
		"name with newline":   {"names = [\"a.com\\nreturn\"]", good, ":7:", "names"},
		"$ in a header":       {"headers = [\"X-A: $host\"]", good, ":7:", "$"},
		"newline in a header": {"headers = [\"X-A: b\\nX-C: d\"]", good, ":7:", "headers"},
		"$ in a path":         {"error_page = \"/x/$host\"", good, ":7:", "error_page"},
		"app_address a name":  {"", good + ", app_address = \"app1\"", ":10:", "app_address"},
	} {
		f, err := Parse("godeploy.toml", []byte(tier(c.more, c.app1)), nil)
		if err == nil {
			_, err = mustEnv(t, f, "prod").NginxSite()
		}
		got := ""
		for _, e := range fault.All(err) {
			got += e.Pos.String() + " " + e.Msg + "\n"
		}
		if !strings.Contains(got, "godeploy.toml"+c.line) || !strings.Contains(got, c.says) {
			t.Errorf("%s: got %q, want line %s and %q", name, got, c.line, c.says)
		}
	}
	f, err := Parse("godeploy.toml", []byte("[app]\nname = \"a\"\npath = \"/opt/a\"\n[nginx]\n[env.prod.hosts]\nngx1 = { role = \"nginx\", address = \"203.0.113.1\" }\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mustEnv(t, f, "prod").NginxSite(); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("an empty upstream: %v", err)
	}
}

func TestAppAddressIsWhereNginxReachesTheApp(t *testing.T) {
	t.Parallel()
	f, err := Parse("godeploy.toml", []byte(tier("", "address = \"app1.example.com\", app_address = \"10.9.0.1\"")), nil)
	if err != nil {
		t.Fatal(err)
	}
	site, err := mustEnv(t, f, "prod").NginxSite()
	if err != nil || site.Upstream.Servers[0].Endpoint() != "10.9.0.1:9000" {
		t.Errorf("got %+v, %v", site.Upstream.Servers, err)
	}
}

// The user's own template is read beside the file, and what is wrong with it is a finding with its place.
func TestOwnNginxTemplateIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "godeploy.toml")
	if err := os.WriteFile(path, []byte(tier("template = \"site.tmpl\"", "address = \"10.0.0.1\"")), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"missing": {"", "godeploy.toml:7:"},
		"lint":    {"\nserver { {{range .Headers}}add_header {{.Name}} {{.Value}};{{end}} }\n", "site.tmpl:2:"},
		"probe":   {"{{.Blocks.Upstream}}\nserver { listen 80; }\n", "site.tmpl:1"},
		"good":    {"{{.Blocks.Upstream}}\nserver {\nlisten 80;\n{{.Blocks.Probe}}{{.Blocks.Locations}}}\n", ""},
	} {
		if c.text != "" {
			if err := os.WriteFile(filepath.Join(dir, "site.tmpl"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = os.Remove(filepath.Join(dir, "site.tmpl")) // it may not be there
		}
		f, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, e := range f.Findings("prod") {
			got += e.Pos.String() + " " + e.Msg + "\n"
		}
		if (c.says == "") != !strings.Contains(got, "template") || !strings.Contains(got, c.says) {
			t.Errorf("%s: the findings are %q, want %q", name, got, c.says)
		}
	}
}
