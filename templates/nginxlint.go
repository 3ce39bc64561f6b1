package templates

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"

	"godeploy/internal/fault"
)

// NginxTemplate is a template of the user's own for the nginx file, which has passed the lint. It is
// read-only and safe for concurrent use.
type NginxTemplate struct {
	name string
	tree *template.Template
}

// ParseNginxTemplate reads a template of the user's own for the http context. Every place where it writes a
// value is looked at: one where the value could be read as something else than the one word that it is, is
// refused, as is everything by which that could not be told. The name stands in positions. Errors are faults
// of code config-value with file, line and column.
func ParseNginxTemplate(name, text string) (*NginxTemplate, error) {
	l := &nginxLint{name: name, text: text, scan: newScanner()}
	switch {
	case len(text) > MaxSize:
		return nil, l.fault(&Error{Msg: fmt.Sprintf("is longer than %d bytes", MaxSize)})
	case hasControl(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(text)):
		return nil, l.fault(bad("has a control character"))
	case strings.Contains(text, NginxMarkHeader):
		return nil, l.fault(&Error{Msg: "sets the header " + NginxMarkHeader, Hint: "{{.Blocks.Probe}} does", Offset: strings.Index(text, NginxMarkHeader)})
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(nginxFunctions()).Parse(text)
	if err != nil {
		return nil, l.fault(syntaxError(name, text, err).(*Error))
	}
	if len(t.Templates()) > 1 || t.Tree == nil {
		return nil, l.fault(bad("must be one template that is not empty"))
	}
	if err := l.list(t.Root, reflect.TypeFor[nginxValues](), 0); err != nil {
		return nil, l.fault(err)
	}
	if _, err := l.scan.end(); err != nil {
		e := err.(*Error)
		e.Offset = len(text)
		return nil, l.fault(e)
	}
	return &NginxTemplate{name: name, tree: t}, nil
}

// nginxFunctions are what such a template can call, beside comparisons.
func nginxFunctions() template.FuncMap {
	return template.FuncMap{"quote": quoteNginx, "default": orDefault}
}

// quoteNginx makes one word for nginx, in quotes.
func quoteNginx(v any) (string, error) {
	word, err := emitWord(fmt.Sprint(v), false)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(word, `"`) {
		return word, nil
	}
	return `"` + word + `"`, nil
}

// nginxLint walks through a template with a reader of nginx's grammar at its hand.
type nginxLint struct {
	name, text string
	scan       *nginxScanner
}

func (l *nginxLint) fault(e *Error) error {
	before := l.text[:min(max(e.Offset, 0), len(l.text))]
	line := strings.Count(before, "\n") + 1
	f := fault.New(fault.ConfigValue, "nginx.template %s", e.Msg).
		At(fault.Pos{File: l.name, Line: line, Col: len(before) - strings.LastIndexByte(before, '\n')})
	if e.Hint != "" {
		f.Hint("%s", e.Hint)
	}
	return f
}

func at(e *Error, n parse.Node) *Error {
	if e != nil && e.Offset == 0 {
		e.Offset = int(n.Position())
	}
	return e
}

func (l *nginxLint) list(list *parse.ListNode, dot reflect.Type, loops int) *Error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := l.node(n, dot, loops); err != nil {
			return err
		}
	}
	return nil
}

func (l *nginxLint) node(n parse.Node, dot reflect.Type, loops int) *Error {
	switch n := n.(type) {
	case *parse.CommentNode:
		return nil
	case *parse.TextNode:
		if err := l.scan.feed(string(n.Text)); err != nil {
			e := err.(*Error)
			e.Offset += int(n.Pos)
			return e
		}
		return nil
	case *parse.ActionNode:
		kind, err := kindOf(n.Pipe, dot)
		if err != nil {
			return at(err, n)
		}
		return at(l.scan.put(kind, n.Pipe.Cmds[0].Args[len(n.Pipe.Cmds[0].Args)-1].String()), n)
	case *parse.IfNode:
		if err := condition(n.Pipe, dot); err != nil {
			return at(err, n)
		}
		return l.branches(n, n.List, n.ElseList, dot, loops)
	case *parse.RangeNode:
		elem, err := ranged(n.Pipe, dot)
		switch {
		case err != nil:
			return at(err, n)
		case loops == 2:
			return at(bad("has more than two {{range}} within each other"), n)
		case n.ElseList != nil:
			return at(bad("must not use {{else}} in {{range}}"), n)
		}
		if err := l.branches(n, n.List, nil, elem, loops+1); err != nil {
			return err
		}
		return l.branches(n, n.List, nil, elem, loops+1) // the second time around it begins where the first has ended
	}
	return &Error{Msg: fmt.Sprintf("must not use {{%s}}", strings.Trim(firstWord(n.String()), "{}")), Offset: int(n.Position()),
		Hint: "there are fields, if, range, and the functions quote and default"}
}

// branches goes through both ways from one state; what follows must read the same behind either.
func (l *nginxLint) branches(n parse.Node, yes, no *parse.ListNode, dot reflect.Type, loops int) *Error {
	begin := l.scan.at
	middle := at(bad("has a condition in the middle of a name"), n)
	if begin.escape || begin.variable {
		return middle
	}
	if err := l.list(yes, dot, loops); err != nil {
		return err
	}
	one := l.scan.at
	l.scan.at = begin
	if err := l.list(no, dot, loops); err != nil {
		return err
	}
	if begin.first && (one.first || no != nil && l.scan.at.first) { // what the directive is would hang on it
		return middle
	}
	both, ok := meet(one, l.scan.at)
	if !ok {
		return at(hinted(bad("has branches that end at different places of nginx's grammar"),
			"let each branch hold whole words, whole directives or whole blocks"), n)
	}
	l.scan.at = both
	return nil
}

// kindOf is the kind of what an action writes.
func kindOf(p *parse.PipeNode, dot reflect.Type) (valueKind, *Error) {
	if len(p.Decl) > 0 {
		return kindNone, bad("must not set variables")
	}
	kind := kindNone
	for i, c := range p.Cmds {
		args := c.Args
		id, isCall := args[0].(*parse.IdentifierNode)
		switch {
		case !isCall && i == 0 && len(args) == 1:
			t, err := typeOf(args[0], dot)
			if err != nil {
				return kindNone, err
			}
			kind = kindOfType(t)
			continue
		case !isCall:
			return kindNone, bad("has a value that cannot stand there")
		}
		fixed := map[string]int{"quote": 1, "default": 2}[id.Ident]
		if fixed == 0 {
			return kindNone, &Error{Msg: fmt.Sprintf("writes what %s gives", id.Ident), Hint: "there are quote and default", Offset: int(id.Pos)}
		}
		operands := args[1:]
		if i == 0 && len(operands) == fixed {
			t, err := typeOf(operands[fixed-1], dot)
			if err != nil {
				return kindNone, err
			}
			kind = kindOfType(t)
		} else if i == 0 || len(operands) != fixed-1 {
			return kindNone, bad("calls %s with the wrong number of values", id.Ident)
		}
		if id.Ident == "default" && !plainLiteral(operands[0]) {
			return kindNone, bad("needs a word of letters, digits and . _ / : - as the default")
		}
		if id.Ident == "quote" && (kind == kindBlock || kind == kindNone || kind == kindQuoted) {
			return kindNone, bad("quotes what cannot be one word")
		} else if id.Ident == "quote" {
			kind = kindQuoted
		}
	}
	return kind, nil
}

func plainLiteral(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.NumberNode:
		return n.IsInt
	case *parse.StringNode:
		return regexp.MustCompile(`^[A-Za-z0-9_./:-]+$`).MatchString(n.Text)
	}
	return false
}

func kindOfType(t reflect.Type) valueKind {
	switch t {
	case reflect.TypeFor[nginxWord](), reflect.TypeFor[int]():
		return kindWord
	case reflect.TypeFor[nginxWords]():
		return kindWords
	case reflect.TypeFor[nginxText]():
		return kindText
	case reflect.TypeFor[nginxBlock]():
		return kindBlock
	}
	return kindNone
}

// typeOf follows a field from the dot, or from $.
func typeOf(n parse.Node, dot reflect.Type) (reflect.Type, *Error) {
	var names []string
	switch n := n.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.FieldNode:
		names = n.Ident
	case *parse.VariableNode:
		if n.Ident[0] != "$" {
			return nil, bad("must not use the variable %s", n.Ident[0])
		}
		dot, names = reflect.TypeFor[nginxValues](), n.Ident[1:]
	default:
		return nil, bad("has %s where a field belongs", n)
	}
	for _, name := range names {
		f, ok := reflect.StructField{}, false
		if dot.Kind() == reflect.Struct {
			f, ok = dot.FieldByName(name)
		}
		if !ok {
			return nil, &Error{Msg: fmt.Sprintf("uses the unknown field %s", n), Hint: "docs/nginx.md lists those that there are"}
		}
		dot = f.Type
	}
	return dot, nil
}

// ranged gives what a loop's dot is.
func ranged(p *parse.PipeNode, dot reflect.Type) (reflect.Type, *Error) {
	if len(p.Decl) > 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return nil, bad("must range over one list, without variables")
	}
	t, err := typeOf(p.Cmds[0].Args[0], dot)
	if err == nil && t.Kind() != reflect.Slice {
		err = bad("ranges over %s, which is no list", p.Cmds[0].Args[0])
	}
	if err != nil {
		return nil, err
	}
	return t.Elem(), nil
}

// condition looks at what decides: fields, constants and comparisons.
func condition(p *parse.PipeNode, dot reflect.Type) *Error {
	if len(p.Decl) > 0 {
		return bad("must not set variables")
	}
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			switch n := arg.(type) {
			case *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
			case *parse.PipeNode:
				if err := condition(n, dot); err != nil {
					return err
				}
			case *parse.IdentifierNode:
				if !is(`eq|ne|and|or|not`, n.Ident) {
					return &Error{Msg: fmt.Sprintf("calls %s in a condition", n.Ident), Hint: "there are eq, ne, and, or and not", Offset: int(n.Pos)}
				}
			default:
				if _, err := typeOf(arg, dot); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
