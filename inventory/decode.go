package inventory

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// The library's own decoding ends at its first problem, and places some of them at a line without
// a column. Here its tree is decoded again, so that every problem is found, each at its place.

// decoder fills structs from the tree of one document. Keys that the tree lacks are left as they
// are, which is what makes overlays work.
type decoder struct {
	doc *document
	bad *problems // nil: this part was decoded before, its problems are known
	*cache
}

// cache keeps what is dear to make and the same for every host.
type cache struct {
	rules  map[string]rule
	fields map[reflect.Type]map[string]reflect.StructField
}

func newCache() *cache {
	return &cache{map[string]rule{}, map[reflect.Type]map[string]reflect.StructField{}}
}

func (c *cache) rule(name string) rule {
	r, ok := c.rules[name]
	if !ok {
		r = ruleFor(name)
		c.rules[name] = r
	}
	return r
}

func (c *cache) fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields, ok := c.fields[t]
	if !ok {
		fields = fieldsOf(t)
		c.fields[t] = fields
	}
	return fields
}

// table decodes a table into a struct. The extra keys are known but decoded by the caller.
func (d *decoder) table(path []string, raw map[string]any, dst reflect.Value, extra ...string) {
	fields := d.fieldsOf(dst.Type())
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		at := below(path, key)
		if f, ok := fields[key]; ok {
			d.value(at, raw[key], dst.FieldByIndex(f.Index), f.Tag)
		} else if !contains(extra, key) {
			d.unknown(at, append(slices.Sorted(maps.Keys(fields)), extra...))
		}
	}
	for key, f := range fields {
		if _, set := raw[key]; !set && f.Tag.Get("need") == "true" {
			d.bad.add(fault.New(fault.ConfigMissing, "%s is not set", dotted(below(path, key))).At(d.doc.keyPos(path)))
		}
	}
}

// fieldsOf gives the fields of a struct by their key, those of embedded structs included.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("toml"); key != "" && key != "-" {
			fields[key] = f
		}
	}
	return fields
}

func below(path []string, key string) []string {
	return append(append(make([]string, 0, len(path)+1), path...), key)
}

// value decodes one value into a field; the tag says what is allowed.
func (d *decoder) value(path []string, raw any, dst reflect.Value, tag reflect.StructTag) {
	switch target := dst.Addr().Interface().(type) {
	case *time.Duration:
		d.duration(path, raw, target, tag)
		return
	case *Batch:
		d.batch(path, raw, target)
		return
	case encoding.TextUnmarshaler:
		d.text(path, raw, target)
		return
	}
	switch dst.Kind() {
	case reflect.String:
		d.str(path, raw, dst, tag)
	case reflect.Bool:
		if b, ok := raw.(bool); ok {
			dst.SetBool(b)
		} else {
			d.mismatch(path, raw, "true or false")
		}
	case reflect.Int:
		d.integer(path, raw, dst, tag)
	case reflect.Slice:
		d.list(path, raw, dst, tag)
	case reflect.Map:
		d.dict(path, raw, dst, tag)
	case reflect.Pointer:
		if dst.IsNil() {
			dst.Set(newDefault(dst.Type().Elem()))
		}
		d.value(path, raw, dst.Elem(), tag)
	case reflect.Struct:
		d.structure(path, raw, dst)
	}
}

func (d *decoder) structure(path []string, raw any, dst reflect.Value) {
	table, ok := raw.(map[string]any)
	if !ok {
		d.mismatch(path, raw, "a table")
		return
	}
	d.table(path, table, dst)
}

func (d *decoder) str(path []string, raw any, dst reflect.Value, tag reflect.StructTag) {
	s, ok := raw.(string)
	if !ok {
		d.mismatch(path, raw, "a string")
		return
	}
	if words := tag.Get("enum"); words != "" {
		d.word(path, s, dst, strings.Split(words, "|"), tag.Get("fold") == "true")
		return
	}
	// An empty string is how a file says "not this one" in an overlay; what must not be empty is
	// checked where it is needed. Elements of a list have no such meaning.
	if s != "" || isElement(path[len(path)-1]) || tag.Get("need") == "true" {
		if err := d.rule(tag.Get("rule"))(s); err != nil {
			d.refuse(path, err)
			return
		}
	}
	dst.SetString(s)
}

func (d *decoder) word(path []string, s string, dst reflect.Value, words []string, fold bool) {
	if fold {
		s = strings.ToLower(s)
	}
	if contains(words, s) {
		dst.SetString(s)
		return
	}
	err := badValue("must be one of %s", strings.Join(words, ", "))
	if near := nearest(s, words); near != "" {
		err.hinted("did you mean %q?", near)
	}
	d.refuse(path, err)
}

func (d *decoder) integer(path []string, raw any, dst reflect.Value, tag reflect.StructTag) {
	n, ok := raw.(int64)
	if !ok {
		d.mismatch(path, raw, "a whole number")
		return
	}
	low, high := intRange(tag)
	if n < low || n > high {
		d.refuse(path, badValue("must be from %d to %d", low, high))
		return
	}
	dst.SetInt(n)
}

// intRange reads the min and max tags, which TestTagsAreSound proves readable.
func intRange(tag reflect.StructTag) (low, high int64) {
	low, _ = strconv.ParseInt(tag.Get("min"), 10, 64)
	high, _ = strconv.ParseInt(tag.Get("max"), 10, 64)
	return low, high
}

func (d *decoder) duration(path []string, raw any, dst *time.Duration, tag reflect.StructTag) {
	text := ""
	switch raw := raw.(type) {
	case string:
		text = raw
	case int64:
		text = strconv.FormatInt(raw, 10)
	default:
		d.mismatch(path, raw, `a time such as "10s"`)
		return
	}
	got, err := parseDuration(text)
	if err != nil {
		d.refuse(path, err)
		return
	}
	low, _ := time.ParseDuration(tag.Get("min"))
	high, _ := time.ParseDuration(tag.Get("max"))
	if got < low || got > high {
		d.refuse(path, badValue("must be from %s to %s", tag.Get("min"), tag.Get("max")))
		return
	}
	*dst = got
}

// text decodes a type with rules of its own; a whole number reaches it as its digits.
func (d *decoder) text(path []string, raw any, dst encoding.TextUnmarshaler) {
	var err error
	switch raw := raw.(type) {
	case string:
		err = dst.UnmarshalText([]byte(raw))
	case int64:
		err = dst.UnmarshalText(strconv.AppendInt(nil, raw, 10))
	default:
		d.mismatch(path, raw, "a string or a whole number")
		return
	}
	if err != nil {
		d.refuse(path, err)
	}
}

func (d *decoder) batch(path []string, raw any, dst *Batch) {
	items, isList := raw.([]any)
	if !isList {
		var s Share
		d.text(path, raw, &s)
		*dst = Batch{s}
		return
	}
	var ramp Batch
	for i, item := range items {
		var s Share
		d.text(below(path, element(i)), item, &s)
		ramp = append(ramp, s)
	}
	if len(ramp) == 0 {
		d.refuse(path, badValue("must not be empty"))
		return
	}
	*dst = ramp
}

// list decodes an array, or the array of tables that [[…]] makes. Hooks and jumps may leave out
// the brackets around a single one.
func (d *decoder) list(path []string, raw any, dst reflect.Value, tag reflect.StructTag) {
	items, ok := anyList(raw)
	elem := dst.Type().Elem()
	single := elem == reflect.TypeFor[Hook]() || elem == reflect.TypeFor[Chain]()
	if !ok && !single {
		d.mismatch(path, raw, "a list")
		return
	}
	if !ok {
		items = []any{raw}
	}
	out := reflect.MakeSlice(dst.Type(), 0, len(items))
	for i, item := range items {
		at := path
		if ok {
			at = below(path, element(i))
		}
		v := newDefault(elem).Elem()
		if s, isString := item.(string); isString && elem == reflect.TypeFor[Hook]() {
			d.str(at, s, v.FieldByName("Run"), `rule:"command" need:"true"`)
		} else {
			d.value(at, item, v, tag)
		}
		out = reflect.Append(out, v)
	}
	dst.Set(out)
}

func anyList(raw any) ([]any, bool) {
	switch raw := raw.(type) {
	case []any:
		return raw, true
	case []map[string]any:
		items := make([]any, len(raw))
		for i, m := range raw {
			items[i] = m
		}
		return items, true
	}
	return nil, false
}

// dict decodes a table whose keys are free; a rule in the tag is about the keys.
func (d *decoder) dict(path []string, raw any, dst reflect.Value, tag reflect.StructTag) {
	table, ok := raw.(map[string]any)
	if !ok {
		d.mismatch(path, raw, "a table")
		return
	}
	if dst.IsNil() {
		dst.Set(reflect.MakeMap(dst.Type()))
	}
	check := d.rule("word")
	if name := tag.Get("rule"); name != "" {
		check = d.rule(name)
	}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		at := below(path, key)
		if err := check(key); err != nil {
			d.refuse(at, err)
			continue
		}
		v := reflect.New(dst.Type().Elem()).Elem()
		if old := dst.MapIndex(reflect.ValueOf(key)); old.IsValid() {
			v.Set(old)
		}
		d.value(at, table[key], v, tag)
		dst.SetMapIndex(reflect.ValueOf(key), v)
	}
}

// unknown reports a key that does not exist, and the one that was probably meant.
func (d *decoder) unknown(path []string, known []string) {
	if d.bad == nil {
		return
	}
	key := path[len(path)-1]
	e := fault.New(fault.ConfigUnknownKey, "unknown key %q%s", key, inTable(path))
	e.At(d.doc.keyPos(path))
	e.Pos.Key = ""
	if near := nearest(key, known); near != "" {
		e.Hint("did you mean %q?", near)
	} else if home := homeOf(key); home != "" {
		e.Hint("%q belongs to %s", key, home)
	}
	d.bad.add(e)
}

func inTable(path []string) string {
	if len(path) == 1 {
		return " at the top of the file"
	}
	if len(path) == 5 && path[0] == "env" && path[2] == "hosts" {
		return " in " + label(path)
	}
	table, _ := split(path)
	return " in " + table
}

// homeOf gives the section that has a key of this name.
func homeOf(key string) string {
	if key == "hosts" || key == "branch" || key == "confirm" {
		return "[env.NAME]"
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		t := f.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			continue
		}
		if _, ok := fieldsOf(t)[key]; ok {
			return "[" + f.Tag.Get("toml") + "]"
		}
	}
	return ""
}

func (d *decoder) mismatch(path []string, raw any, want string) {
	err := badValue("is %s, it must be %s", kindOf(raw), want)
	if s, ok := raw.(string); ok && want == "a whole number" && s != "" && strings.Trim(s, "0123456789") == "" {
		err.hinted("write %s without the quotes", s)
	}
	d.refuse(path, err)
}

func kindOf(raw any) string {
	switch raw.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("a %T", raw)
}

// refuse reports a value, with a picture of its place. The error is the rest of a sentence.
func (d *decoder) refuse(path []string, err error) {
	if d.bad == nil {
		return
	}
	d.bad.add(d.doc.valueFault(path, err))
}

// valueFault makes a problem of what is wrong with the value at a path.
func (d *document) valueFault(path []string, err error) *fault.Error {
	p := d.place(path)
	offset, width := p.value, p.end-p.value
	if p.value < 0 {
		offset, width = p.key, len(keyName(path))
	}
	e := fault.New(fault.ConfigValue, "%s %s", keyName(path), err.Error())
	var inTemplate *templateError
	var plain *valueError
	if errors.As(err, &inTemplate) {
		plain = &inTemplate.valueError
		offset, width = d.within(offset, inTemplate.offset, width)
	}
	if plain != nil || errors.As(err, &plain) {
		if plain.hint != "" {
			e.Hint("%s", plain.hint)
		}
	}
	e.At(d.posAt(offset, path))
	e.Facts = d.picture(offset, width, 0)
	return e
}

// within moves an offset to a byte inside a string, when the string is written plainly enough that
// its bytes stand in the file as they are.
func (d *document) within(start, inside, width int) (offset, left int) {
	text := d.src[start:min(start+1+inside, len(d.src))]
	if strings.HasPrefix(text, `""`) || strings.HasPrefix(text, "''") || strings.ContainsAny(text, "\\\n") {
		return start, width
	}
	return start + 1 + inside, 1
}

// keyName is the last key of a path that is not a number.
func keyName(path []string) string {
	if len(path) == 0 {
		return ""
	}
	for i := len(path) - 1; i > 0; i-- {
		if !isElement(path[i]) {
			return path[i]
		}
	}
	return path[0]
}
