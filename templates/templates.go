package templates

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"godeploy/internal/fault"
)

// MaxSize bounds a template and what it renders to, in bytes.
const MaxSize = 64 << 10

// Render gives text with its {{…}} filled in from data. The name is what messages call the field.
// Errors are faults with code config-value. The result has no NUL and at most MaxSize bytes.
func Render(name, text string, data Data) (string, error) {
	t, err := parseText(name, text)
	if err != nil {
		return "", problem(name, err)
	}
	out := &bounded{}
	if err := t.Execute(out, data); err != nil {
		return "", problem(name, execCause(err))
	}
	if strings.ContainsRune(out.String(), 0) {
		return "", problem(name, errors.New("holds a NUL"))
	}
	return out.String(), nil
}

// Line is Render for a field of one line: a line break in the result is an error too.
func Line(name, text string, data Data) (string, error) {
	s, err := Render(name, text, data)
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(s, "\n\r") {
		return "", problem(name, errors.New("must be one line"))
	}
	return s, nil
}

// Check says what is wrong with a template without rendering it; every branch is looked at. The
// error is a *Error.
func Check(text string) error {
	_, err := parseText("", text)
	return err
}

func parseText(name, text string) (*template.Template, error) {
	if len(text) > MaxSize {
		return nil, &Error{Msg: fmt.Sprintf("is longer than %d bytes", MaxSize)}
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, syntaxError(name, text, err)
	}
	// No define or block: a template that includes itself would not end.
	if len(t.Templates()) > 1 {
		return nil, &Error{Msg: "must not define other templates"}
	}
	if t.Tree == nil {
		return t, nil
	}
	return t, checkList(t.Root)
}

func problem(name string, err error) error {
	f := fault.New(fault.ConfigValue, "%s %s", name, err.Error())
	var e *Error
	if errors.As(err, &e) && e.Hint != "" {
		f.Hint("%s", e.Hint)
	}
	return f
}

// execCause drops text/template's "template: name:1:2: executing …" from an error of ours.
func execCause(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return fmt.Errorf("does not render: %w", err)
}

// functions are all that a template can call, beside the comparisons that check.go lets through.
func functions() template.FuncMap {
	return template.FuncMap{"quote": quote, "default": orDefault, "join": join}
}

// quote makes one word for a POSIX shell.
func quote(v any) string {
	return "'" + strings.ReplaceAll(fmt.Sprint(v), "'", `'\''`) + "'"
}

// orDefault gives value, or fallback when value is empty or 0: {{.Release.ID | default "none"}}.
func orDefault(fallback, value any) any {
	if s := fmt.Sprint(value); s == "" || s == "0" {
		return fallback
	}
	return value
}

// join puts sep between those parts that are not empty.
func join(sep string, parts ...any) string {
	var texts []string
	for _, p := range parts {
		if s := fmt.Sprint(p); s != "" {
			texts = append(texts, s)
		}
	}
	return strings.Join(texts, sep)
}

// bounded is a buffer that refuses more than MaxSize bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxSize {
		return 0, &Error{Msg: fmt.Sprintf("renders to more than %d bytes", MaxSize)}
	}
	return b.Buffer.Write(p)
}
