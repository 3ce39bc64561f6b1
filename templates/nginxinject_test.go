package templates

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// readNginx reads a file as nginx's own ngx_conf_read_token does, word by word of its source: it is what
// the emitter is held against, and shares nothing with it.
func readNginx(text string) ([]Directive, error) {
	rest := text
	list, err := readBlock(&rest, 0)
	if err == nil && rest != "" {
		err = errors.New("unexpected }")
	}
	return list, err
}

func readBlock(rest *string, depth int) ([]Directive, error) {
	var list []Directive
	for {
		args, end, err := readDirective(rest)
		switch {
		case err != nil:
			return nil, err
		case end == 0 && depth == 0 && len(args) == 0, end == '}' && depth > 0 && len(args) == 0:
			return list, nil
		case end == ';' && len(args) > 0:
			list = append(list, Directive{Args: args})
		case end == '{' && len(args) > 0:
			inner, err := readBlock(rest, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, Directive{Args: args, Block: inner, block: true})
		default:
			return nil, fmt.Errorf("unexpected %q after %q", end, args)
		}
	}
}

// readDirective reads words up to one of ; { } or the end.
func readDirective(rest *string) (args []string, end byte, err error) {
	for {
		*rest = strings.TrimLeft(*rest, " \t\r\n")
		s := *rest
		if s == "" {
			return args, 0, nil
		}
		switch s[0] {
		case ';', '{', '}':
			*rest = s[1:]
			return args, s[0], nil
		case '#':
			if _, after, ok := strings.Cut(s, "\n"); ok {
				*rest = after
			} else {
				*rest = ""
			}
			continue
		}
		word, err := readWord(rest)
		if err != nil {
			return nil, 0, err
		}
		args = append(args, word)
	}
}

func readWord(rest *string) (string, error) {
	s := *rest
	if q := s[0]; q == '"' || q == '\'' {
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == '\\':
				i++
			case s[i] == q:
				if i+1 < len(s) && !strings.ContainsRune(" \t\r\n;{)", rune(s[i+1])) {
					return "", fmt.Errorf("unexpected %q after a quoted word", s[i+1])
				}
				*rest = s[i+1:]
				return unescape(s[1:i]), nil
			}
		}
		return "", errors.New("a quote without its end")
	}
	i, variable := 0, false
	for ; i < len(s) && !(strings.ContainsRune(" \t\r\n;", rune(s[i])) || s[i] == '{' && !variable); i++ {
		variable = s[i] == '$'
		if s[i] == '\\' {
			i++
		}
	}
	i = min(i, len(s))
	*rest = s[i:]
	return unescape(s[:i]), nil
}

func unescape(s string) string {
	return strings.NewReplacer(`\"`, `"`, `\'`, `'`, `\\`, `\`, `\t`, "\t", `\r`, "\r", `\n`, "\n").Replace(s)
}

// shape is a tree without the values of its arguments.
func shape(list []Directive) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s/%d", d.Args[0], len(d.Args))
		if d.block {
			b.WriteString("{" + shape(d.Block) + "}")
		}
		b.WriteByte(';')
	}
	return b.String()
}

// injections are what could make one value two.
func injections() []string {
	return []string{
		"x;", "a.com; return 301 http://evil", "}", "{", "x }", "x { }", "};server{listen 1;", "x\n", "\nreturn 200;", "x\r\nX-Evil: 1", "\r", "\x00", "x\x00y",
		"\"", "'", "x\"", "\"; return 200; \"", "'; return 200; '", "\\", "x\\", "\\\"", "\\;", "$host", "${host}", "$nosuchvar", "x$", "# x", "x # y", "#",
		" ", "x y", "\t", "x\ty", "", "\u2028", "\u0085", "\u00a0", "\xff\xfe", "../../etc/passwd", "/x/../y", "*", "*;", "a|b", "`id`", "$(id)", "{{.Host.Name}}",
		"include /etc/passwd;", "off; include x", strings.Repeat("x", 5000), "lua_by_lua_block {", "\u202e;", "%0a", "\x1b[31m", "\x7f",
	}
}

// fields sets each text of a site.
func fields() map[string]func(*NginxSite, string) {
	return map[string]func(*NginxSite, string){
		"App":          func(s *NginxSite, v string) { s.App = v },
		"Env":          func(s *NginxSite, v string) { s.Env = v },
		"Upstream":     func(s *NginxSite, v string) { s.Upstream.Name = v },
		"Method":       func(s *NginxSite, v string) { s.Upstream.Method = v },
		"MethodKey":    func(s *NginxSite, v string) { s.Upstream.Method = "hash " + v },
		"Cookie":       func(s *NginxSite, v string) { s.Upstream.Method = "hash cookie_" + v + " consistent" },
		"Server":       func(s *NginxSite, v string) { s.Upstream.Servers[0].Name = v },
		"Zone":         func(s *NginxSite, v string) { s.Upstream.Servers[0].Address = netip.IPv6Unspecified().WithZone(v) },
		"Names":        func(s *NginxSite, v string) { s.Names[0] = v },
		"NamesEnd":     func(s *NginxSite, v string) { s.Names[0] = "a.com" + v },
		"Certificate":  func(s *NginxSite, v string) { s.Certificate = "/x" + v },
		"Key":          func(s *NginxSite, v string) { s.Key = "/x" + v },
		"BodySize":     func(s *NginxSite, v string) { s.BodySize = v },
		"BodySizeEnd":  func(s *NginxSite, v string) { s.BodySize = "1m" + v },
		"Header":       func(s *NginxSite, v string) { s.Headers[0].Name = v },
		"HeaderValue":  func(s *NginxSite, v string) { s.Headers[0].Value = v },
		"Proxy":        func(s *NginxSite, v string) { s.ProxyHeaders[0].Name = "X" + v },
		"ProxyValue":   func(s *NginxSite, v string) { s.ProxyHeaders[0].Value = v },
		"ErrorPage":    func(s *NginxSite, v string) { s.ErrorPage = "/x/y" + v },
		"Maintenance":  func(s *NginxSite, v string) { s.Maintenance = "/x/y" + v },
		"AccessLog":    func(s *NginxSite, v string) { s.AccessLog = "/x/y" + v },
		"LocationPath": func(s *NginxSite, v string) { s.Locations[3].Path = "/" + v },
		"LocationKind": func(s *NginxSite, v string) { s.Locations[3].Path = v },
		"Alias":        func(s *NginxSite, v string) { s.Locations[0].Alias = "/x" + v },
		"Root":         func(s *NginxSite, v string) { s.Locations[1].Root = "/x" + v },
		"Expires":      func(s *NginxSite, v string) { s.Locations[0].Expires = v },
		"ExpiresEnd":   func(s *NginxSite, v string) { s.Locations[0].Expires = "30d" + v },
	}
}

// texts gives every text of a site by where it stands, without the numbers of elements.
func texts(v reflect.Value, at string, all map[string][]string) {
	switch {
	case v.Type() == reflect.TypeFor[netip.Addr]():
		all[at] = append(all[at], v.Interface().(netip.Addr).String())
	case v.Kind() == reflect.String:
		all[at] = append(all[at], v.String())
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			texts(v.Index(i), at, all)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			texts(v.Field(i), at+"."+v.Type().Field(i).Name, all)
		}
	}
}

// A text that is new in a site has to be tried too: each of them is set by one of fields.
func TestEveryTextOfASiteIsTried(t *testing.T) {
	t.Parallel()
	tried := map[string]bool{}
	before := map[string][]string{}
	texts(reflect.ValueOf(fullSite()), "", before)
	for _, set := range fields() {
		site, after := fullSite(), map[string][]string{}
		set(&site, "sentinel")
		texts(reflect.ValueOf(site), "", after)
		for at := range after {
			tried[at] = tried[at] || !slices.Equal(before[at], after[at])
		}
	}
	for at := range before {
		if !tried[at] && at != ".Listen.Address" { // an address without a zone is no text: it has no characters to choose
			t.Errorf("no injection is tried in %s", at)
		}
	}
	if len(before) < 20 {
		t.Errorf("a site has only %d texts: %v", len(before), before)
	}
}

// Every such string in every field is refused, or is one word of the same tree.
func TestInjectionsAreRefusedOrInert(t *testing.T) {
	t.Parallel()
	plain, err := RenderNginx(fullSite())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := readNginx(string(plain))
	if err != nil {
		t.Fatal(err)
	}
	refused, inert := 0, 0
	for name, set := range fields() {
		for _, text := range injections() {
			site := fullSite()
			set(&site, text)
			got, err := RenderNginx(site)
			if err != nil {
				refused++
				continue
			}
			inert++
			read, err := readNginx(string(got))
			if err != nil || !sameButEmpty(text, shape(read), shape(tree)) {
				t.Errorf("%s = %q: %v: the tree is\n%s\nwant\n%s", name, text, err, shape(read), shape(tree))
			}
			if strings.HasSuffix(name, "Value") && !holds(read, text) {
				t.Errorf("%s = %q is not a word of\n%s", name, text, got)
			}
		}
	}
	t.Logf("%d refused, %d inert", refused, inert)
	if inert == 0 || refused < 40*len(fields())/2 {
		t.Error("the strings are not what they were")
	}
}

// sameButEmpty compares shapes; an empty value is "not set" for some fields, which leaves directives out.
func sameButEmpty(text, got, want string) bool { return text == "" || got == want }

func holds(list []Directive, word string) bool {
	for _, d := range list {
		for _, a := range d.Args {
			if a == word {
				return true
			}
		}
		if holds(d.Block, word) {
			return true
		}
	}
	return false
}

// FuzzEmit holds that what is emitted is read back as it was meant, or refused.
func FuzzEmit(f *testing.F) {
	for _, s := range injections() {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, note string) {
		var b strings.Builder
		inner := simple("one", a)
		inner.note = note
		if err := emit(&b, []Directive{block([]string{"outer", a}, inner, simple("two"))}, 0); err != nil {
			return
		}
		read, err := readNginx(b.String())
		if err != nil || shape(read) != "outer/2{one/2;two/1;};" || read[0].Args[1] != a || read[0].Block[0].Args[1] != a {
			t.Errorf("%q is read as %+v, %v, from\n%s", a, read, err, b.String())
		}
		if !utf8.ValidString(a) || strings.ContainsAny(a, "\n\r\x00$") {
			t.Errorf("%q was emitted", a)
		}
	})
}

// FuzzRenderNginx holds that a site that passes Check renders to what is read back with as many directives
// whatever its header says, and that nginx takes it.
func FuzzRenderNginx(f *testing.F) {
	for i, s := range injections() {
		f.Add(s, s, s, uint16(i), i%3 == 0)
	}
	base := smallSite()
	plain, _ := RenderNginx(base)
	want, _ := readNginx(string(plain))
	f.Fuzz(func(t *testing.T, value, name, path string, port uint16, down bool) {
		s := smallSite()
		s.Listen = []NginxListen{{Address: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Port: 1024 + int(port)%60000}}
		s.Headers = []NginxHeader{{"X-One", value}}
		s.Names, s.Locations[0].Path, s.Upstream.Servers[0].Down = []string{name}, path, down
		s.ReadTimeout = time.Duration(port+1) * time.Millisecond
		got, err := RenderNginx(s)
		if err != nil {
			return
		}
		read, err := readNginx(string(got))
		if err != nil || len(read) != len(want) || len(read[2].Block) != len(want[2].Block)+1 {
			t.Fatalf("%q %q %q: %v\n%s", value, name, path, err, got)
		}
		if out, err := nginxTest(t, "", string(got)); err != nil && !strings.Contains(out, "bind()") && !strings.Contains(out, "server_names_hash") {
			t.Errorf("nginx -t: %v: %s\n%s", err, out, got)
		}
	})
}
