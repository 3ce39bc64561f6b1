package templates

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"godeploy/internal/fault"
)

func sample() Data {
	return Data{
		Host:    Host{Name: "app1", Address: "[2001:db8::1]", Weight: 10, Role: "app"},
		App:     App{Name: "swiper", Path: "/opt/swiper", Current: "/opt/swiper/current", Shared: "/opt/swiper/shared"},
		Env:     Env{Name: "prod"},
		Release: Release{Path: "/opt/swiper/releases/R"},
	}
}

func TestLineFillsIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"plain $HOME ${A} %d", "plain $HOME ${A} %d"},
		{"{{.Host.Address}}:9000", "[2001:db8::1]:9000"},
		{"{{.Host.Name}} {{.Host.Role}} {{.Host.Weight}}", "app1 app 10"},
		{"{{.App.Name}} {{.App.Path}} {{.App.Current}} {{.App.Shared}}", "swiper /opt/swiper /opt/swiper/current /opt/swiper/shared"},
		{"{{.Env.Name}}/{{.Release.Path}}", "prod//opt/swiper/releases/R"},
		{`{{.Release.ID | default "none"}}`, "none"},
		{`{{default 1 .Host.Weight}}`, "10"},
		{`{{join "," .Host.Name .Release.ID .Host.Role}}`, "app1,app"},
		{`{{quote "it's"}}`, `'it'\''s'`},
		{`{{if eq .Env.Name "prod"}}yes{{else}}no{{end}}`, "yes"},
		{`{{if and (not .Release.ID) (ne .Host.Role "db")}}a{{end}}`, "a"},
		{"{{/* a remark */}}x", "x"},
	} {
		if got, err := Line("process.bind", c.text, sample()); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.text, got, err, c.want)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, msg, at string }{
		{"x {{.Host.Adress}}", "unknown field .Host.Adress", ".Host.Adress"},
		{"{{if false}}{{.Nope}}{{end}}", "unknown field .Nope", ".Nope"},
		{"{{if .Env.Name}}{{else}}{{.Nope}}{{end}}", "unknown field .Nope", ".Nope"},
		{"{{.Host}}", "unknown field .Host", ".Host"},
		{"{{.Host.Name.Len}}", "unknown field .Host.Name.Len", ".Host.Name.Len"},
		{"{{.}}", "must not use {{.}}", "."},
		{"{{range 1000000000}}{{end}}", "must not use {{range}}", ""},
		{"{{with .Host}}{{.Name}}{{end}}", "must not use {{with}}", ""},
		{`{{define "a"}}{{template "a"}}{{end}}`, "must not", ""},
		{`{{block "a" .}}{{end}}`, "must not", ""},
		{`{{template "x"}}`, "must not use {{template", ""},
		{"{{$x := .Host.Name}}", "must not use", ""},
		{`{{printf "%1000000000d" 1}}`, `unknown function "printf"`, "printf"},
		{`{{call .Host.Name}}`, `unknown function "call"`, "call"},
		{"a {{html .Env.Name}}", `unknown function "html"`, "html"},
		{`{{env "HOME"}}`, `unknown function "env"`, "env"},
		{"{{.Host.Name", "is not a template", "{{"},
		{"{{end}}", "is not a template", "{{"},
		{"{{", "is not a template", "{{"},
		{strings.Repeat("x", MaxSize+1), "longer than", "x"},
	} {
		var e *Error
		if err := Check(c.text); !errors.As(err, &e) || !strings.Contains(e.Msg, c.msg) || !strings.HasPrefix(c.text[e.Offset:], c.at) {
			t.Errorf("%.40s: got %v at %+v, want %q at %q", c.text, err, e, c.msg, c.at)
		}
		if _, err := Render("f", c.text, sample()); !fault.Is(err, fault.ConfigValue) {
			t.Errorf("%.40s: Render gives %v, want %s", c.text, err, fault.ConfigValue)
		}
	}
}

func TestResultIsBounded(t *testing.T) {
	t.Parallel()
	data := sample()
	data.Host.Name = strings.Repeat("x", MaxSize/2)
	if _, err := Render("f", "{{.Host.Name}}{{.Host.Name}}", data); err != nil {
		t.Errorf("just %d bytes: %v", MaxSize, err)
	}
	if _, err := Render("f", "{{.Host.Name}}{{.Host.Name}}y", data); err == nil || !strings.Contains(err.Error(), "renders to more than") {
		t.Errorf("one byte more: got %v", err)
	}
}

func TestLineIsOneLine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a\nb", "a\r", `{{"x\ny"}}`} {
		if _, err := Line("health.url", text, sample()); err == nil || !strings.Contains(err.Error(), "health.url must be one line") {
			t.Errorf("%q: got %v", text, err)
		}
		if _, err := Render("health.url", text, sample()); err != nil {
			t.Errorf("%q as a text of many lines: %v", text, err)
		}
	}
	for _, text := range []string{"a\x00", `{{"\x00"}}`} {
		if _, err := Render("x", text, sample()); err == nil || !strings.Contains(err.Error(), "NUL") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestQuoteSurvivesAShell(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"", "plain", "it's", "$(id) `id` \"x\" \\ ; & | > * ~ # !", "'", "a\nb\tc", "-n", "ä ☃"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q: the shell reads %q, %v", word, out, err)
		}
	}
}

func TestFieldsNamesThemAll(t *testing.T) {
	t.Parallel()
	const want = ".Host.Name .Host.Address .Host.Weight .Host.Role .App.Name .App.Path .App.Current .App.Shared .Env.Name .Release.ID .Release.Path"
	if got := strings.Join(Fields(), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzRender holds that any text renders or is refused, in bounds and in one line, and that
// nothing renders that Check refuses.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{"{{.Host.Name}}", "{{if .Env.Name}}a{{else if .App.Name}}b{{end}}", `{{join "," "a" 1 true}}`, "{{1|quote|default 2}}", "{{(quote .Host.Name)}}", "{{- .App.Path -}}", "{{eq}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checked := Check(text)
		out, err := Line("f", text, sample())
		if len(out) > MaxSize || (checked != nil && err == nil) || strings.ContainsAny(out, "\n\r\x00") {
			t.Errorf("%q: got %q, %v, check said %v", text, out, err, checked)
		}
		var e *Error
		if errors.As(checked, &e) && e.Offset > len(text) {
			t.Errorf("%q: offset %d is outside", text, e.Offset)
		}
	})
}
