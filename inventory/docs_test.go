package inventory

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/config.md anew")

const configPage = "../docs/config.md"

// TestConfigPageHasEveryKey compares docs/config.md with what the structs say, key by key.
func TestConfigPageHasEveryKey(t *testing.T) {
	t.Parallel()
	want := configDoc()
	if *update {
		if err := os.WriteFile(configPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the structs say; run: go test ./inventory -run ConfigPage -update\n%s", configPage, firstDifference(string(got), want))
	}
	for _, k := range allKeys() {
		if !strings.Contains(string(got), "| `"+k.key+"` |") {
			t.Errorf("%s has no line for %s", configPage, k.key)
		}
		if k.doc == "" {
			t.Errorf("%s has no doc tag", k.key)
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}

// docKey is one key of the file as the structs describe it.
type docKey struct {
	section, key, kind, value, doc string
}

// allKeys walks every config struct.
func allKeys() []docKey {
	var all []docKey
	walkDoc("", "", reflect.TypeFor[top](), &all)
	var env []docKey
	walkDoc("env.NAME.", "env.NAME", reflect.TypeFor[Env](), &env)
	for _, k := range env {
		if k.section == "env.NAME" {
			all = append(all, k)
		}
	}
	walkDoc("env.NAME.hosts.HOST.", "env.NAME.hosts.HOST", reflect.TypeFor[hostEntry](), &all)
	walkDoc("hooks.*.", "hooks.*, a hook as a table", reflect.TypeFor[Hook](), &all)
	return all
}

func walkDoc(prefix, section string, t reflect.Type, all *[]docKey) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("toml")
		if f.Anonymous {
			walkDoc(prefix, section, f.Type, all)
			continue
		}
		if tag == "" || tag == "-" {
			continue
		}
		inner, free := f.Type, ""
		switch {
		case inner.Kind() == reflect.Pointer:
			inner = inner.Elem()
		case inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct:
			inner, free = inner.Elem(), ".ROLE"
		case inner == reflect.TypeFor[[]Location]() || inner == reflect.TypeFor[[]Person]():
			inner, free = inner.Elem(), "[]"
		}
		if inner.Kind() == reflect.Struct && isSection(inner) {
			walkDoc(prefix+tag+free+".", prefix+tag+free, inner, all)
			continue
		}
		*all = append(*all, docKey{section, prefix + tag, docType(f), docDefault(f), f.Tag.Get("doc")})
	}
}

func docType(f reflect.StructField) string {
	if words := f.Tag.Get("enum"); words != "" {
		return strings.ReplaceAll(words, "|", ", ")
	}
	switch f.Type {
	case reflect.TypeFor[time.Duration]():
		return "time, " + f.Tag.Get("min") + " to " + f.Tag.Get("max")
	case reflect.TypeFor[Batch]():
		return "number, percentage or list of them"
	case reflect.TypeFor[Share]():
		return "number or percentage"
	case reflect.TypeFor[StatusRange]():
		return "statuses"
	case reflect.TypeFor[Workers]():
		return "number or expression"
	case reflect.TypeFor[Rate]():
		return "rate"
	case reflect.TypeFor[[]Hook]():
		return "list of hooks"
	case reflect.TypeFor[[]Chain]():
		return "list of hosts"
	}
	switch f.Type.Kind() {
	case reflect.Int:
		return "whole number, " + f.Tag.Get("min") + " to " + f.Tag.Get("max")
	case reflect.Slice:
		return "list of strings"
	case reflect.Map:
		if f.Type.Elem().Kind() == reflect.Int {
			return "table of whole numbers"
		}
		return "table of values"
	case reflect.Bool:
		return "true, false"
	}
	if f.Tag.Get("rule") == "template" {
		return "string with {{…}}"
	}
	return "string"
}

func docDefault(f reflect.StructField) string {
	text, ok := f.Tag.Lookup("default")
	switch {
	case !ok && f.Type.Kind() == reflect.Bool:
		return "`false`"
	case !ok:
		return ""
	case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.String:
		return "`[\"" + text + "\"]`"
	case f.Type.Kind() == reflect.Bool || f.Type.Kind() == reflect.Int:
		return "`" + text + "`"
	}
	return "`\"" + text + "\"`"
}

// docLater says which part of a key is not built yet.
func docLater(key string) string {
	for _, l := range laters() {
		want := strings.NewReplacer("[*]", "[]", "role.*", "role.ROLE").Replace(l.key)
		switch {
		case l.values == "set" && (key == want || strings.HasPrefix(key, want+".") || strings.HasPrefix(key, want+"[].")):
			return "not built yet"
		case key != want:
			continue
		case l.values == "" || l.values == "set:true":
			return "not built yet"
		}
		return strings.ReplaceAll(l.values, "|", ", ") + " not built yet"
	}
	return ""
}

func configDoc() string {
	var b strings.Builder
	b.WriteString(configIntro)
	section := "-"
	for _, k := range allKeys() {
		if k.section != section {
			section = k.section
			title := "[" + section + "]"
			if section == "" {
				title = "Top of the file"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title)
		}
		doc := k.doc
		if later := docLater(k.key); later != "" {
			doc += "; **" + later + "**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.key, k.kind, k.value, doc)
	}
	return b.String()
}

const configIntro = `# godeploy.toml, key by key

This page is made from the program: ` + "`go test ./inventory -run ConfigPage -update`" + ` writes it, and the tests fail
when it is not what the program does.

- Every section may stand at the top of the file and again below an environment, as in ` + "`[env.prod.release]`" + `. What
  stands below the environment replaces what stands at the top, key by key. Lists are replaced too, except
  ` + "`exclude_add`" + `, which adds.
- The hosts of an environment stand in ` + "`[env.NAME.hosts]`" + `, in the order in which they are worked on. An environment may
  instead be a file of its own beside this one, ` + "`godeploy.NAME.toml`" + `, with the same keys without ` + "`env.NAME`" + `.
- Needed are only ` + "`app.name`, `app.path`" + ` and an environment.
- A time is written with its unit: ` + "`\"500ms\"`, `\"10s\"`, `\"1m30s\"`" + `.
- ` + "`{{…}}`" + ` means something only in the keys marked so. It can name ` + "`.Host.Name`, `.Host.Address`, `.Host.Weight`,\n  `.Host.Role`, `.App.Name`, `.App.Path`, `.App.Current`, `.App.Shared`, `.Env.Name`, `.Release.ID`, `.Release.Path`" + `, and
  call ` + "`quote`, `default`, `join`" + `. A ` + "`$`" + ` is an ordinary character everywhere but in hooks, where the shell reads it.
- An unknown key is an error. A key marked "not built yet" is read and checked; ` + "`godeploy check`" + ` lists it, and only a
  command that cannot do without it refuses to run.
`
