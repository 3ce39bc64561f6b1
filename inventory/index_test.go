package inventory

import (
	"strings"
	"testing"

	"godeploy/internal/fault"
)

func TestIndexFindsKeysAndValues(t *testing.T) {
	t.Parallel()
	const src = `a = 1
[[t]]
b = "x" # c = 2
[[t]]
"d.e" = { f = [1, {g = 2}] }
[t.sub]
h = """x"""""
i.j = 'y'
[u]
k = [
  1, # ]
  "]",
]
`
	x := newIndex(src)
	for _, c := range []struct{ path, key, value string }{
		{"a", "a =", "1\n"},
		{"t [0] b", "b =", `"x"`},
		{"t [1]", "t]]\n\"d", ""},
		{"t [1] d.e", `"d.e"`, "{ f"},
		{"t [1] d.e f [1] g", "g =", "2}"},
		{"t [1] sub h", "h =", `"""x`},
		{"t [1] sub i j", "j =", "'y'"},
		{"u k [1]", `"]"`, `"]"`},
	} {
		path := strings.Fields(c.path)
		for i := range path {
			if strings.HasPrefix(path[i], "[") {
				path[i] = "\x01" + strings.Trim(path[i], "[]")
			}
		}
		p, ok := x.places[pathID(path)]
		if !ok || !strings.HasPrefix(src[p.key:], c.key) || (c.value == "") != (p.value < 0) {
			t.Errorf("%s: got %+v, %v, want %q", c.path, p, ok, c.key)
			continue
		}
		if p.value >= 0 && !strings.HasPrefix(src[p.value:], c.value) {
			t.Errorf("%s: value at %q, want %q", c.path, src[p.value:], c.value)
		}
	}
	if p := x.places[pathID([]string{"t", "\x010", "b"})]; src[p.value:p.end] != `"x"` {
		t.Errorf("value ends after %q", src[p.value:p.end])
	}
}

func TestByteOrderMarkDoesNotMovePositions(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"x = [1,, 2]\n", head + "x = [1,, 2]\n"} {
		without, with := oneProblem(t, src), oneProblem(t, "\xef\xbb\xbf"+src)
		if with.Pos != without.Pos || strings.Join(with.Facts, "|") != strings.Join(without.Facts, "|") {
			t.Errorf("got %v\n%s\nwant %v\n%s", with.Pos, strings.Join(with.Facts, "\n"), without.Pos, strings.Join(without.Facts, "\n"))
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"port", "weight", "address", "role", "roles", "tags"}
	for _, c := range []struct{ word, want string }{
		{"prot", "port"}, {"Port", "port"}, {"wieght", "weight"}, {"adress", "address"}, {"tag", "tags"},
		{"part", "port"}, {"xyz", ""}, {"", ""}, {"something", ""},
	} {
		if got := nearest(c.word, words); got != c.want {
			t.Errorf("%q: got %q, want %q", c.word, got, c.want)
		}
	}
}

func TestProblemOfTheTopIsSaidOnceForAllEnvironments(t *testing.T) {
	t.Parallel()
	e := oneProblem(t, head+"[shared]\ndirs = [\"x\"]\nfiles = [\"x\"]\n[env.a.hosts]\nh = {}\n[env.b.hosts]\nh = {}\n")
	if e.Pos.Line != 6 || e.Code != fault.ConfigValue {
		t.Errorf("got %v", e)
	}
}

func TestOverlayOfARoleAndOfAList(t *testing.T) {
	t.Parallel()
	f := mustParse(t, head+`
[role.app]
user = "top"
[[nginx.location]]
path = "/"
proxy = "swiper_servers"
expires = "1d"
[env.p.role.app]
port = 2222
[[env.p.nginx.location]]
path = "/p"
proxy = "swiper_servers"
[env.p.hosts]
h = { role = "app" }
`)
	e := mustEnv(t, f, "p")
	if h := e.Hosts[0]; h.User != "top" || h.Port != 2222 {
		t.Errorf("the role of the environment hides the one above: %+v", h)
	}
	if len(e.Nginx.Location) != 1 || e.Nginx.Location[0].Expires != "" {
		t.Errorf("locations: got %+v", e.Nginx.Location)
	}
	if got := f.Origin("p", "nginx.location[0].expires"); got.Line != 0 {
		t.Errorf("a default in a replaced list comes from %v", got)
	}
	if got := f.Origin("p", "nginx.location[0].path"); got.Line != 14 {
		t.Errorf("got %v, want line 14", got)
	}
}
