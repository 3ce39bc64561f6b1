package templates

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/template/parse"
)

// Error is what is wrong with a template, as the rest of a sentence whose subject is the field.
type Error struct {
	Msg    string
	Hint   string
	Offset int // byte in the text where it is, 0 when it is about the whole
}

// Error gives the message.
func (e *Error) Error() string { return e.Msg }

// syntaxError turns text/template's "template: name:LINE: message" into an Error.
func syntaxError(name, text string, err error) error {
	msg := strings.TrimPrefix(err.Error(), "template: "+name+":")
	line := 1
	if m := regexp.MustCompile(`^(\d+):(?:\d+:)? ?(.*)`).FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits by the expression; 0 on overflow is harmless below
		msg = m[2]
	}
	if m := regexp.MustCompile(`function "([^"]*)" not defined`).FindStringSubmatch(msg); m != nil {
		return unknownFunction(m[1], strings.Index(text, m[1]))
	}
	offset := 0
	for i := 1; i < line; i++ {
		offset += strings.IndexByte(text[offset:], '\n') + 1
	}
	if open := strings.Index(text[offset:], "{{"); open > 0 {
		offset += open
	}
	return &Error{Msg: "is not a template: " + msg, Offset: offset}
}

func unknownFunction(name string, offset int) error {
	return &Error{
		Msg:    fmt.Sprintf("calls the unknown function %q", name),
		Hint:   "there are quote, default and join",
		Offset: max(offset, 0),
	}
}

// checkList refuses every node that is not on the list of harmless ones. What is not listed, such
// as a loop over a number, could run for ever.
func checkList(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := checkNode(n); err != nil {
			return err
		}
	}
	return nil
}

func checkNode(n parse.Node) error {
	switch n := n.(type) {
	case *parse.TextNode, *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		return checkPipe(n.Pipe)
	case *parse.IfNode:
		if err := checkPipe(n.Pipe); err != nil {
			return err
		}
		if err := checkList(n.List); err != nil {
			return err
		}
		return checkList(n.ElseList)
	}
	return refused(n)
}

func refused(n parse.Node) error {
	word := strings.Trim(firstWord(n.String()), "{}")
	return &Error{
		Msg:    fmt.Sprintf("must not use {{%s}}", word),
		Hint:   "there are fields, if, and the functions quote, default and join",
		Offset: int(n.Position()),
	}
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

func checkPipe(p *parse.PipeNode) error {
	if p == nil {
		return nil
	}
	if len(p.Decl) > 0 {
		return refused(p)
	}
	for _, c := range p.Cmds {
		for _, arg := range c.Args {
			if err := checkArg(arg); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkArg(n parse.Node) error {
	switch n := n.(type) {
	case *parse.StringNode, *parse.NumberNode, *parse.BoolNode:
		return nil
	case *parse.PipeNode:
		return checkPipe(n)
	case *parse.FieldNode:
		return checkField(n)
	case *parse.IdentifierNode:
		switch n.Ident {
		case "quote", "default", "join", "eq", "ne", "and", "or", "not":
			return nil
		}
		return unknownFunction(n.Ident, int(n.Pos))
	}
	return refused(n)
}

// checkField follows a field such as .Host.Address through Data. It must end at a value, not at
// one of Data's parts.
func checkField(n *parse.FieldNode) error {
	t := reflect.TypeFor[Data]()
	for _, name := range n.Ident {
		if t.Kind() != reflect.Struct {
			return unknownField(n)
		}
		f, ok := t.FieldByName(name)
		if !ok {
			return unknownField(n)
		}
		t = f.Type
	}
	if t.Kind() == reflect.Struct {
		return unknownField(n)
	}
	return nil
}

func unknownField(n *parse.FieldNode) error {
	return &Error{
		Msg:    fmt.Sprintf("uses the unknown field %s", n),
		Hint:   "there are " + strings.Join(Fields(), " "),
		Offset: fieldStart(n),
	}
}

// fieldStart finds the first byte of a field: the parser notes where its second part begins.
func fieldStart(n *parse.FieldNode) int {
	if len(n.Ident) < 2 {
		return int(n.Pos)
	}
	return max(int(n.Pos)-len("."+n.Ident[0]), 0)
}

// Fields gives every field that a template may use, in order: ".Host.Name" and so on.
func Fields() []string {
	var names []string
	data := reflect.TypeFor[Data]()
	for i := range data.NumField() {
		part := data.Field(i)
		for j := range part.Type.NumField() {
			names = append(names, "."+part.Name+"."+part.Type.Field(j).Name)
		}
	}
	return names
}
