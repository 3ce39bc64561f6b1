package templates

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Directive is one directive of an nginx file: Args[0] is its name. Block is nil for one that ends in a
// semicolon.
type Directive struct {
	Args  []string
	Block []Directive

	note  string // behind it, for people
	vars  bool   // its arguments may name variables
	block bool
}

func simple(args ...string) Directive { return Directive{Args: args} }

// variable is a directive whose arguments are constants of this package and may name variables.
func variable(args ...string) Directive { return Directive{Args: args, vars: true} }

func block(args []string, inner ...Directive) Directive {
	return Directive{Args: args, Block: inner, block: true}
}

// emit writes directives as nginx reads them. It knows the grammar: an argument that is not one plain word
// is quoted, and one that cannot be written so that nginx reads it back as it is, is an error.
func emit(b *strings.Builder, list []Directive, depth int) error {
	indent := strings.Repeat("    ", depth)
	for _, d := range list {
		b.WriteString(indent)
		for i, arg := range d.Args {
			word, err := emitWord(arg, d.vars)
			if err != nil {
				return fmt.Errorf("%s %w", d.Args[0], err)
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(word)
		}
		if !d.block {
			b.WriteString(";" + comment(d.note) + "\n")
			continue
		}
		b.WriteString(" {\n")
		if err := emit(b, d.Block, depth+1); err != nil {
			return err
		}
		b.WriteString(indent + "}\n")
	}
	return nil
}

// comment is a remark that cannot end early, for a line break would begin a directive.
func comment(note string) string {
	if note == "" {
		return ""
	}
	return "  # " + strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, note)
}

// emitWord writes one argument.
func emitWord(s string, vars bool) (string, error) {
	switch {
	case hasControl(s) || !utf8.ValidString(s):
		return "", bad("has an argument with a control character")
	case !vars && strings.Contains(s, "$"):
		return "", bad("has an argument with a $, which nginx would fill in")
	case len(s) > 2048:
		return "", bad("has an argument of more than 2048 bytes")
	}
	if s != "" && !strings.ContainsAny(s, " ;{}\"'\\#") {
		return s, nil
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}
