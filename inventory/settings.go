package inventory

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// Setting is one resolved key of an environment, for people and for JSON.
type Setting struct {
	Key   string    `json:"key"`   // "release.batch", as Origin takes it
	Value string    `json:"value"` // as the file would have it
	Pos   fault.Pos `json:"-"`     // the line it came from; the zero Pos for a default
}

// Settings gives every key of an environment but its hosts, in the order of docs/config.md, with
// the line each value came from. An unknown environment has none.
func (f *File) Settings(env string) []Setting {
	e, err := f.Env(env)
	if err != nil {
		return nil
	}
	var all []Setting
	flatten("", reflect.ValueOf(e).Elem(), func(key string, v reflect.Value) {
		all = append(all, Setting{Key: key, Value: display(v), Pos: f.Origin(e.Name, key)})
	})
	return all
}

// flatten visits every key below a struct, with what it holds.
func flatten(prefix string, v reflect.Value, visit func(key string, v reflect.Value)) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			flatten(prefix, v.Field(i), visit)
		case tag != "" && tag != "-":
			flattenField(prefix+tag, v.Field(i), visit)
		}
	}
}

func flattenField(key string, v reflect.Value, visit func(key string, v reflect.Value)) {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
	case v.Kind() == reflect.Pointer:
		flattenField(key, v.Elem(), visit)
	case v.Kind() == reflect.Map:
		for _, name := range slices.Sorted(maps.Keys(stringKeys(v))) {
			flattenField(key+"."+quoteKey(name), v.MapIndex(reflect.ValueOf(name)), visit)
		}
	case v.Type() == reflect.TypeFor[[]Location]() || v.Type() == reflect.TypeFor[[]Person]():
		for i := range v.Len() {
			flatten(key+"["+strconv.Itoa(i)+"].", v.Index(i), visit)
		}
	case v.Kind() == reflect.Struct && isSection(v.Type()):
		flatten(key+".", v, visit)
	default:
		visit(key, v)
	}
}

func stringKeys(v reflect.Value) map[string]bool {
	set := map[string]bool{}
	for _, k := range v.MapKeys() {
		set[k.String()] = true
	}
	return set
}

// isSection tells a table of the file from a struct that is one value, such as Share.
func isSection(t reflect.Type) bool {
	return t != reflect.TypeFor[Hook]() && len(fieldsOf(t)) > 0
}

// display writes a value as the file would have it.
func display(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Batch:
		if !x.IsRamp() {
			return strconv.Quote(x.String())
		}
		return x.String()
	case time.Duration:
		return strconv.Quote(shortDuration(x))
	case Hook:
		return displayHook(x)
	case fmt.Stringer:
		return strconv.Quote(x.String())
	}
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = display(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// displayHook is the short form when it says all.
func displayHook(h Hook) string {
	if h.As == "owner" && h.Timeout == 0 && h.On == "" {
		return strconv.Quote(h.Run)
	}
	parts := []string{"run = " + strconv.Quote(h.Run)}
	if h.As != "owner" {
		parts = append(parts, "as = "+strconv.Quote(h.As))
	}
	if h.Timeout != 0 {
		parts = append(parts, "timeout = "+strconv.Quote(shortDuration(h.Timeout)))
	}
	if h.On != "" {
		parts = append(parts, "on = "+strconv.Quote(h.On))
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// shortDuration is "10m" where time.Duration says "10m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// View is an environment for `inventory show --json`.
type View struct {
	Env   string     `json:"env"`
	Hosts []HostView `json:"hosts"`
}

// HostView is one resolved host.
type HostView struct {
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	User       string     `json:"user"` // "" = the operator's own name
	Port       int        `json:"port"`
	Jump       [][]string `json:"jump"` // alternatives, each a chain
	Roles      []string   `json:"roles"`
	Weight     int        `json:"weight"`
	Tags       []string   `json:"tags"`
	Backup     bool       `json:"backup,omitempty"`
	AppAddress string     `json:"app_address,omitempty"`
	HostKey    string     `json:"host_key,omitempty"`
	File       string     `json:"file"`
	Line       int        `json:"line"`
}

// View gives some of the environment's hosts, such as Select chose, in a form made for JSON; lists
// are never null. With nil it gives all of them.
func (e *Env) View(hosts []Host) View {
	if hosts == nil {
		hosts = e.Hosts
	}
	v := View{Env: e.Name, Hosts: make([]HostView, 0, len(hosts))}
	for _, h := range hosts {
		v.Hosts = append(v.Hosts, HostView{
			Name: h.Name, Address: h.Address, User: h.User, Port: h.Port,
			Jump: orEmpty(h.Jump), Roles: orEmpty(h.Roles), Weight: h.Weight, Tags: orEmpty(h.Tags),
			Backup: h.Backup, AppAddress: h.AppAddress, HostKey: h.HostKey, File: h.Pos.File, Line: h.Pos.Line,
		})
	}
	return v
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
