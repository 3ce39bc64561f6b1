package cmd

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"godeploy/inventory"
)

const graphFile = `[app]
name = "swiper"
path = "/opt/swiper"
[process]
bind = "{{.Host.Address}}:9000"
[nginx]
names = ["www.example.com"]
[env.prod.role.app]
jump = ["ngx1", "ngx2"]
[env.prod.hosts]
ngx1 = { role = "nginx", address = "203.0.113.11" }
ngx2 = { role = "nginx", address = "203.0.113.12" }
app1 = { role = "app", address = "10.0.0.1", weight = 10 }
app2 = { role = "app", address = "10.0.0.2", weight = 30 }
app3 = { role = "app", address = "10.0.0.3", backup = true }
db1  = { role = "db", address = "10.0.0.21" }
`

func graphFrom(t *testing.T, text string) graph {
	t.Helper()
	file, err := inventory.Parse("godeploy.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	return graphOf(env)
}

func TestGraphDrawsTheWayOfARequest(t *testing.T) {
	t.Parallel()
	const want = `www.example.com
├─ ngx1  203.0.113.11  nginx
└─ ngx2  203.0.113.12  nginx
   └─ swiper_servers  rr
      ├─ app1  10.0.0.1:9000  weight 10  25.0%
      ├─ app2  10.0.0.2:9000  weight 30  75.0%
      └─ app3  10.0.0.3:9000  weight 1  backup

beside
└─ db1  10.0.0.21  db

reached through
├─ app1  by ngx1 | ngx2
├─ app2  by ngx1 | ngx2
└─ app3  by ngx1 | ngx2
`
	g := graphFrom(t, graphFile)
	if got := g.tree(false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := g.tree(true); strings.ContainsAny(got, "├└│") || strings.Count(got, "\n") != strings.Count(want, "\n") {
		t.Errorf("in ASCII:\n%s", got)
	}
	for name, text := range map[string]string{"mermaid": g.mermaid(), "dot": g.dot()} {
		if n := strings.Count(text, "->"); n != 14 {
			t.Errorf("%s has %d edges, want 2 from the names, 6 to the servers and 6 jumps:\n%s", name, n, text)
		}
	}
	if text, err := json.Marshal(g); err != nil || !strings.Contains(string(text), `"through":[["ngx1"],["ngx2"]]`) {
		t.Errorf("json: %s, %v", text, err)
	}
}

func TestGraphIsAPicture(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"full": graphFile,
		"one":  "[app]\nname = \"a\"\npath = \"/opt/a\"\n[env.prod.hosts]\nbox = { roles = [\"nginx\", \"app\"], address = \"192.0.2.1\" }\n",
		"none": "[app]\nname = \"a\"\npath = \"/opt/a\"\n[env.prod]\n",
	} {
		g := graphFrom(t, text)
		svg := g.svg("a <b> & c")
		boxes := 0
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v:\n%s", name, err, svg)
			}
			if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "rect" {
				boxes++
			}
		}
		if want := 1 + len(g.Front) + len(g.Servers) + len(g.Others); boxes != want {
			t.Errorf("%s: %d boxes, want %d", name, boxes, want)
		}
		if g.tree(false) == "" {
			t.Errorf("%s: no tree", name)
		}
	}
}
