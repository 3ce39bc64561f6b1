package inventory

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// newDefault makes a pointer to a new value whose default tags are applied, at every depth except
// behind pointers, lists and maps.
func newDefault(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if t.Kind() == reflect.Struct {
		setDefaults(v.Elem())
	}
	return v
}

func setDefaults(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if text, ok := f.Tag.Lookup("default"); ok {
			if err := setText(v.Field(i), text); err != nil {
				// The tags are constants of this package; TestTagsAreSound reads every one.
				panic(fmt.Sprintf("inventory: default of %s: %v", f.Name, err))
			}
		} else if f.Type.Kind() == reflect.Struct {
			setDefaults(v.Field(i))
		}
	}
}

func setText(v reflect.Value, text string) error {
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := time.ParseDuration(text)
		*target = d
		return err
	case *Batch:
		var s Share
		err := s.UnmarshalText([]byte(text))
		*target = Batch{s}
		return err
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	case *[]string:
		*target = strings.Split(text, ",")
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case reflect.Int:
		n, err := strconv.Atoi(text)
		v.SetInt(int64(n))
		return err
	}
	return fmt.Errorf("no default for a %s", v.Type())
}
