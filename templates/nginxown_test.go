package templates

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// ownText is a template that uses every field.
func ownText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "nginx", "own.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func withTemplate(t *testing.T, s NginxSite, text string) NginxSite {
	t.Helper()
	own, err := ParseNginxTemplate("own.tmpl", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, factsOf(err))
	}
	s.Template = own
	return s
}

func factsOf(err error) string {
	var all []string
	for _, f := range fault.All(err) {
		all = append(all, f.Pos.String()+" "+f.Msg+" "+f.Cause)
	}
	return strings.Join(all, "\n")
}

const minimal = "{{.Blocks.Upstream}}{{.Blocks.LogFormat}}server {\n{{range .Listen}}listen {{.}};\n{{end}}{{.Blocks.Probe}}{{.Blocks.Locations}}}\n"

func TestOwnTemplateIsWhatTheGoldenFileSays(t *testing.T) {
	t.Parallel()
	site := withTemplate(t, fullSite(), ownText(t))
	if err := site.CheckTemplate(); err != nil {
		t.Fatal(factsOf(err))
	}
	got, err := RenderNginx(site)
	if err != nil {
		t.Fatal(factsOf(err))
	}
	golden(t, "own.conf", got)
	stamp, ok := ReadStamp(got)
	if !ok || !stamp.Intact || len(stamp.Mark) != 16 || len(stamp.Down) != 1 {
		t.Errorf("the stamp is %+v", stamp)
	}
	small := withTemplate(t, smallSite(), minimal)
	small.Listen = []NginxListen{{Port: 18080}}
	file, err := RenderNginx(small)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := nginxTest(t, "", string(file)); err != nil || out != "" {
		t.Errorf("nginx -t: %v: %s\n%s", err, out, file)
	}
}

// Each of these would let a value be read as something else, or could not be told: it is refused, with the
// line where it stands.
func TestTheLintRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\n  add_header X {{(index .Headers 0).Value}};":                      "2:",
		"{{range .Headers}}\nadd_header {{.Name}} {{.Value}};{{end}}":         "2: without quote",
		"{{range .Headers}}add_header {{.Name}} \"{{.Value}}\";{{end}}":       "1: without quote",
		"{{range .Headers}}add_header {{.Name}} \"{{quote .Value}}\";{{end}}": "1: inside quotes",
		"{{range .Headers}}add_header {{.Name}} x{{quote .Value}};{{end}}":    "1: right behind another word",
		"{{range .Headers}}add_header {{.Name}} {{quote .Value}}x;{{end}}":    "1: behind a quote",
		"{{range .Headers}}{{.Name}} x;{{end}}":                               "1: name of a directive",
		"set $a \\{{.App}};":                                                  "1: behind a $ or a backslash",
		"set $a ${{.App}};":                                                   "1: behind a $",
		"set $a $http_{{.App}};":                                              "1: behind a $",
		"set $a \"$http_{{.App}}\";":                                          "1: behind a $",
		"\n\nx {{.Blocks.Probe}};":                                            "3: whole directives, within one",
		"x {{.Gzip}};":                                                        "1: no text",
		"x {{.Servers}};":                                                     "1: no text",
		"x {{.Nope}};":                                                        "1: unknown field",
		"x {{.App.Nope}};":                                                    "1: unknown field",
		"x {{template \"y\"}};":                                               "1: must not use",
		"{{define \"y\"}}{{end}}x;":                                           "1: one template",
		"{{with .App}}x;{{end}}":                                              "1: must not use",
		"{{$x := .App}}x;":                                                    "1: variables",
		"{{range $i, $x := .Names}}x;{{end}}":                                 "1: variables",
		"{{range .Names}}{{range $.Names}}{{range $.Names}}x;{{end}}{{end}}{{end}}": "1: more than two",
		"x {{printf .App}};":                             "1: writes what printf gives",
		"x {{html .App}};":                               "1: writes what html gives",
		"x {{.App | default \"a b\"}};":                  "1: as the default",
		"x {{if .Gzip}}\"{{end}} y;":                     "1: branches",
		"{{if .Gzip}}server {{\"{\"}}{{end}}":            "1:",
		"{{if .Gzip}}server { {{end}} }":                 "1: branches",
		"{{range .Names}}server { {{end}}":               "1: branches",
		"a{{if .Gzip}}b{{end}} on;":                      "1: middle of a name",
		"server {\n x;\n":                                "3: a } is missing",
		"server { } }":                                   "1: ends no block",
		"x y":                                            "1: within a directive",
		"x \"y;\n":                                       "2: within a directive",
		"server { content_by_lua_block { ngx.say(1) } }": "1: _by_lua_block",
		"x {{.BodySize}}\"y\";":                          "1: in two ways",
		"x {{if .Gzip}}y{{end}}z;":                       "1: branches of a condition end differently",
		"add_header X-Godeploy 1;":                       "1: X-Godeploy",
		"x \x01;":                                        "1: control character",
		"x {{.App":                                       "1: is not a template",
	} {
		_, err := ParseNginxTemplate("own.tmpl", text)
		where, says, _ := strings.Cut(want, ": ")
		where = strings.TrimSuffix(where, ":")
		if err == nil || !strings.HasPrefix(factsOf(err), "own.tmpl:"+where+":") || !strings.Contains(factsOf(err), says) {
			t.Errorf("%q: got %v, want line %s and %q", text, factsOf(err), where, says)
		}
	}
}

// What a file needs to be pushed and drained is missed by name, be it only once a server is out.
func TestOwnTemplateMustServeADrain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, want string }{
		"no upstream":  {"{{.Blocks.Upstream}}", "", "no upstream swiper_servers"},
		"no probe":     {"{{.Blocks.Probe}}", "", "holds {{.Blocks.Probe}}"},
		"another port": {"{{range .Listen}}listen {{.}};\n{{end}}", "listen 8089;", "listens on 80"},
		"never down": {"{{.Blocks.Upstream}}", "upstream {{.Upstream}} {\n{{range .Servers}}server {{.Address}} weight={{.Weight}};\n{{end}}}\n",
			"does not give the server app2"},
		"own weights": {"{{.Blocks.Upstream}}", "upstream {{.Upstream}} {\n{{range .Servers}}server {{.Address}}{{if .Down}} down{{end}};\n{{end}}}\n",
			"does not give the server app1"},
	} {
		site := withTemplate(t, smallSite(), strings.Replace(minimal, c.from, c.to, 1))
		if err := site.CheckTemplate(); err == nil || !strings.Contains(factsOf(err), c.want) || !strings.HasPrefix(factsOf(err), "own.tmpl:1") {
			t.Errorf("%s: got %q, want %q", name, factsOf(err), c.want)
		}
	}
}

// Every injection in every field, through a template that writes every field: refused, or the same tree.
func TestInjectionsThroughAnOwnTemplate(t *testing.T) {
	t.Parallel()
	text := ownText(t)
	plain, err := RenderNginx(withTemplate(t, fullSite(), text))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := readNginx(string(plain))
	if err != nil {
		t.Fatal(err)
	}
	refused, inert := 0, 0
	for name, set := range fields() {
		for _, value := range injections() {
			site := withTemplate(t, fullSite(), text)
			set(&site, value)
			got, err := RenderNginx(site)
			if err != nil {
				refused++
				continue
			}
			inert++
			read, err := readNginx(string(got))
			if err != nil || !sameButEmpty(value, shape(read), shape(tree)) {
				t.Errorf("%s = %q: %v: the tree is\n%s\nwant\n%s", name, value, err, shape(read), shape(tree))
			}
		}
	}
	t.Logf("%d refused, %d inert", refused, inert)
	if inert == 0 || refused < 40*len(fields())/2 {
		t.Error("the strings are not what they were")
	}
}

// FuzzNginxTemplate holds that whatever passes the lint renders, whatever a header says, to what an
// independent reader takes for as many directives as with a harmless one.
func FuzzNginxTemplate(f *testing.F) {
	f.Add(minimal, "x")
	for _, s := range injections() {
		f.Add("{{range .Headers}}add_header {{.Name}} {{quote .Value}};{{end}}", s)
		f.Add("x {{if .Gzip}}\"a\" {{end}}{{.App}}"+s, s)
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		own, err := ParseNginxTemplate("x", text)
		if err != nil {
			return
		}
		count := func(value string) (string, error) {
			s := smallSite()
			s.Template, s.Headers = own, []NginxHeader{{"X-One", value}}
			if s.Check() != nil {
				return "", fmt.Errorf("refused")
			}
			values, err := s.values("m")
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := own.tree.Execute(&out, values); err != nil {
				return "", err
			}
			read, err := readNginx(out.String())
			if err != nil {
				t.Fatalf("%q with %q: %v\n%s", text, value, err, out.String())
			}
			return shape(read), nil
		}
		plain, err1 := count("plain")
		got, err2 := count(value)
		if err1 == nil && err2 == nil && plain != got {
			t.Errorf("%q with %q is\n%s\nand not\n%s", text, value, got, plain)
		}
	})
}
