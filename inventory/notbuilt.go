package inventory

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// NotBuilt is a key that the user set and that belongs to a feature which does not exist yet.
type NotBuilt struct {
	Key      string
	Pos      fault.Pos
	Feature  string
	Hint     string   // what to write meanwhile, "" when there is nothing to say
	Commands []string // those that refuse to run with it; empty when the key only waits
}

// Fault says it as an error of code config-not-built, for a command that refuses.
func (n NotBuilt) Fault() *fault.Error {
	e := fault.New(fault.ConfigNotBuilt, "%s asks for %s, which is not built yet", n.Key, n.Feature).At(n.Pos)
	if n.Hint != "" {
		e.Hint("%s", n.Hint)
	}
	return e
}

// later is one feature to come and the key that asks for it.
type later struct {
	key      string // of Settings; "*" stands for one free part; a section's name for all its keys
	values   string // the values that ask, by "|"; "" = any but the default; "set" = even the default
	feature  string
	hint     string
	commands string
}

const butSync = "release rollback setup restart start stop status releases"

// laters is the whole list. An entry goes away when its feature is built.
func laters() []later {
	return []later{
		{"app.layout", "inplace", "the layout inplace but for sync", `set [app] layout = "releases"`, butSync},

		{"bench", "set", "the load generator", "", "bench"},
	}
}

// NotBuilt gives the keys of an environment that ask for something not built yet, in the order of
// docs/config.md, whether they are its own or stand at the top of the file. `check` lists them.
func (f *File) NotBuilt(env string) []NotBuilt {
	e, err := f.Env(env)
	if err != nil {
		return nil
	}
	defaults := defaultValues()
	var found []NotBuilt
	add := func(l later, key string, pos fault.Pos) {
		n := NotBuilt{Key: key, Pos: pos, Feature: l.feature, Hint: l.hint, Commands: strings.Fields(l.commands)}
		if !slices.ContainsFunc(found, func(o NotBuilt) bool { return o.Key == key }) {
			found = append(found, n)
		}
	}
	settings := f.Settings(e.Name)
	for _, l := range laters() {
		for _, s := range settings {
			if key, asks := l.asks(s, defaults); asks {
				add(l, key, f.sectionPos(e.Name, key, s.Pos))
			}
		}
	}
	return found
}

// NotBuiltFor gives those of NotBuilt that a command cannot do without. The command is its first
// word: release, rollback, sync, restart, …
func (f *File) NotBuiltFor(command, env string) []NotBuilt {
	return slices.DeleteFunc(f.NotBuilt(env), func(n NotBuilt) bool { return !contains(n.Commands, command) })
}

// asks reports whether a setting, which somebody wrote, asks for the feature, and the key to name.
func (l later) asks(s Setting, defaults map[string]string) (string, bool) {
	if s.Pos.Line == 0 {
		return "", false
	}
	key, value := s.Key, strings.Trim(s.Value, `"`)
	switch {
	case l.values == "set":
		return sectionOf(key, l.key)
	case generic(key) != l.key:
		return "", false
	case l.values == "":
		return key, s.Value != defaults[l.key]
	}
	wanted := strings.TrimPrefix(l.values, "set:")
	return key, contains(strings.Split(wanted, "|"), value)
}

// sectionOf gives the part of a key that is the section, with "*" for one free name.
func sectionOf(key, section string) (string, bool) {
	have, want := splitKey(key), splitKey(section)
	if len(have) < len(want) {
		return "", false
	}
	for i, w := range want {
		if w != "*" && w != have[i] {
			return "", false
		}
	}
	return dotted(have[:len(want)]), true
}

// sectionPos is the position of a key's section header when the key is a section's name.
func (f *File) sectionPos(env, key string, pos fault.Pos) fault.Pos {
	if own := f.Origin(env, key); own.Line > 0 {
		return own
	}
	return pos
}

// generic puts "*" for the number of an element.
func generic(key string) string {
	open, shut := strings.IndexByte(key, '['), strings.IndexByte(key, ']')
	if open < 0 || shut < open {
		return key
	}
	return key[:open] + "[*]" + key[shut+1:]
}

// defaultValues gives every key's default as Settings would show it.
func defaultValues() map[string]string {
	e := newDefault(reflect.TypeFor[Env]()).Interface().(*Env)
	nginx := newDefault(reflect.TypeFor[Nginx]()).Interface().(*Nginx)
	nginx.Location = []Location{*newDefault(reflect.TypeFor[Location]()).Interface().(*Location)}
	e.Nginx = nginx
	values := map[string]string{}
	flatten("", reflect.ValueOf(e).Elem(), func(key string, v reflect.Value) {
		values[generic(key)] = display(v)
	})
	return values
}

// String says what a note is about, for lists.
func (n NotBuilt) String() string { return fmt.Sprintf("%s: %s is not built yet", n.Key, n.Feature) }
