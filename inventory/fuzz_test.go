package inventory

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"godeploy/internal/fault"
)

// FuzzParse holds that no text makes Parse panic, that every problem has a place in the file, and
// that the walk over the text finds exactly the keys that the library finds.
func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(full), head, "", "a", "\xef\xbb\xbfa=1", "[[a]]\n[a.b]\nc=1\n[[a]]\nb.c=2", "a = [{b=1},{b=[{c=2}]}]",
		"\"q\\u0041\" = '''x''''", "a=\"\"\"x\\\"\"\"\"\"\"", "a.\"b.c\".'d' = 1979-05-27 07:32:00Z", "a = {b.c=1,\n d=2,}", "[env.a]\nhosts=1", "a=[[[1]]]#x",
		"[env.p.hosts]\na={jump=['b,c','d']}\nb={jump='a'}", "default_env=\"\"\n[role.x.tune.limits]\nnofile=1", "a = \"\\\\\"", "''=1", "\"\"=2", "a=[\n#x\n1\n]\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1<<16 {
			return
		}
		file, err := Parse("godeploy.toml", []byte(src), map[string][]byte{"other": []byte(src)})
		if (file == nil) == (err == nil) {
			t.Fatalf("got file %v and error %v", file, err)
		}
		for _, e := range fault.All(err) {
			checkPlace(t, src, e)
		}
		if file != nil {
			for _, env := range file.EnvNames() {
				file.NotBuilt(env)
				file.Settings(env)
			}
		}
		compareKeys(t, src)
	})
}

func checkPlace(t *testing.T, src string, e *fault.Error) {
	lines := strings.Split(src, "\n")
	if strings.Contains(e.Msg, "more problems") {
		return
	}
	if e.Pos.Line < 1 || e.Pos.Line > len(lines) || e.Pos.Col < 1 || e.Pos.Col > len(lines[e.Pos.Line-1])+1 || len(e.Facts) > 5 {
		t.Errorf("%q has the place %v in %q", e.Msg, e.Pos, src)
	}
}

// compareKeys compares the walk with the library's list of keys. The other way round it leaves out
// texts with inline tables: the library does not list those inside of lists.
func compareKeys(t *testing.T, src string) {
	doc, bad := readDocument("f", "", []byte(src))
	if bad != nil {
		return
	}
	found := map[string]bool{}
	for id := range doc.places.places {
		var plain []string
		for part := range strings.SplitSeq(id, "\x00") {
			if !isElement(part) {
				plain = append(plain, part)
			}
		}
		found[pathID(plain)] = true
	}
	listed := map[string]bool{}
	for _, k := range doc.keys {
		for i := range k {
			listed[pathID(k[:i+1])] = true
		}
		if !found[pathID(k)] && !oddKey(k) {
			t.Errorf("the walk lacks %q of %q", k, src)
		}
	}
	for id := range found {
		if parts := strings.Split(id, "\x00"); !listed[id] && !oddKey(parts) && !strings.Contains(src, "{") {
			t.Errorf("the walk has %q, the library does not, in %q", parts, src)
		}
	}
}

// oddKey is a key that holds what pathID uses between keys.
func oddKey(key toml.Key) bool { return strings.ContainsAny(strings.Join(key, ""), "\x00\x01") }

func TestManyHostsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	const many = 20_000
	f := mustParse(t, manyHosts(many))
	e := mustEnv(t, f, "")
	if len(e.Hosts) != many || e.Hosts[many-1].Name != fmt.Sprintf("h%d", many-1) {
		t.Fatalf("got %d hosts", len(e.Hosts))
	}
}

// manyHosts makes a file of so many hosts, all but the first behind a jump.
func manyHosts(n int) string {
	var b strings.Builder
	b.WriteString(head + "[env.prod.role.app]\njump = \"gate\"\n[env.prod.hosts]\ngate = { address = \"192.0.2.1\" }\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "h%d = { role = \"app\", address = \"10.%d.%d.%d\" }\n", i, i>>16, i>>8&255, i&255)
	}
	return b.String()
}

func BenchmarkHundredThousandHosts(b *testing.B) {
	src := []byte(manyHosts(maxHosts))
	for b.Loop() {
		if _, err := Parse("godeploy.toml", src, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMoreHostsThanTheLimit(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head + "[env.prod.hosts]\n")
	for i := range maxHosts + 1 {
		fmt.Fprintf(&b, "h%d.port=1\n", i)
	}
	if e := oneProblem(t, b.String()); !strings.Contains(e.Msg, "more than 100000 hosts") {
		t.Errorf("one more: got %v", e)
	}
}

// TestTagsAreSound reads every tag of every config struct, so that the decoder may rely on them.
func TestTagsAreSound(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{reflect.TypeFor[top](), reflect.TypeFor[Env](), reflect.TypeFor[Hook](), reflect.TypeFor[hostEntry]()} {
		checkTags(t, typ)
	}
}

func checkTags(t *testing.T, typ reflect.Type) {
	newDefault(typ) // panics on a default that does not fit
	for i := range typ.NumField() {
		f := typ.Field(i)
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && (f.Anonymous || isSection(inner)) {
			checkTags(t, inner)
		}
		if f.Tag.Get("toml") == "" || f.Tag.Get("toml") == "-" {
			continue
		}
		rest := strings.NewReplacer("toml:", "", "rule:", "", "enum:", "", "fold:", "", "default:", "", "min:", "", "max:", "", "need:", "", "doc:", "").Replace(string(f.Tag))
		if strings.Contains(rest, `:"`) {
			t.Errorf("%s.%s has an unknown tag: %s", typ, f.Name, f.Tag)
		}
		if name := f.Tag.Get("rule"); name != "" && name != "line" && isLineRule(name) {
			t.Errorf("%s.%s has the unknown rule %q", typ, f.Name, name)
		}
		if f.Type == reflect.TypeFor[time.Duration]() {
			low, err := time.ParseDuration(f.Tag.Get("min"))
			high, err2 := time.ParseDuration(f.Tag.Get("max"))
			if err != nil || err2 != nil || low >= high {
				t.Errorf("%s.%s has no good range: %s", typ, f.Name, f.Tag)
			}
		}
		if f.Type.Kind() == reflect.Int {
			if low, high := intRange(f.Tag); low >= high {
				t.Errorf("%s.%s has no good range: %s", typ, f.Name, f.Tag)
			}
		}
	}
}

// isLineRule reports whether a rule's name falls through to the default rule: unknown names do.
func isLineRule(name string) bool {
	return ruleFor(name)("plain ☃ text; with {odd} $signs") == nil && name != "pattern" && name != "template" && name != "command" && name != "limit"
}
