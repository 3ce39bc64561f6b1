package deploy

import (
	"errors"
	"fmt"
	"strings"
)

// readLines reads NAME=VALUE lines; see ParseSecrets.
func readLines(text string) (vars []secretVar, err error) {
	for number := 1; text != ""; {
		line, rest, _ := strings.Cut(text, "\n")
		if trimmed := strings.TrimSpace(line); trimmed != "" && trimmed[0] != '#' {
			name, value, ok := strings.Cut(strings.TrimPrefix(trimmed, "export "), "=")
			switch {
			case !ok:
				err = errors.New("it is not NAME=VALUE")
			case value != "" && (value[0] == '\'' || value[0] == '"'):
				// The quotes may reach over the line's end: they are read in the text itself.
				value, rest, err = unquoteEnv(text[strings.IndexByte(text, '=')+1:])
			default:
				err = checkBare(value)
			}
			if err == nil {
				vars, err = addSecret(vars, name, value)
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		}
		number += strings.Count(text[:len(text)-len(rest)], "\n")
		text = rest
	}
	return vars, nil
}

// checkBare refuses a value without quotes that readers of such files do not agree on.
func checkBare(value string) error {
	switch {
	case value != strings.TrimSpace(value):
		return errors.New("a blank stands behind the =; put the value between quotes")
	case strings.Contains(value, " #") || strings.Contains(value, "\t#"):
		return errors.New("a # behind a blank is a comment for some readers; put the value between quotes")
	}
	return nil
}

// unquoteEnv reads a value between quotes, with which the text begins, and gives what follows its line.
func unquoteEnv(text string) (value, rest string, err error) {
	quote := text[0]
	var b strings.Builder
	i := 1
	for ; i < len(text) && text[i] != quote; i++ {
		c := text[i]
		if c == '\\' && quote == '"' {
			i++
			if c, err = escaped(text[i:]); err != nil {
				return "", "", err
			}
		}
		b.WriteByte(c)
	}
	if i >= len(text) {
		return "", "", errors.New("a quote is not closed")
	}
	line, rest, _ := strings.Cut(text[i+1:], "\n")
	if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
		return "", "", errors.New("something follows the closing quote")
	}
	return b.String(), rest, nil
}

// escaped reads what follows a backslash between double quotes.
func escaped(text string) (byte, error) {
	if text == "" {
		return 0, errors.New("a quote is not closed")
	}
	switch text[0] {
	case '\\', '"', '$', '`':
		return text[0], nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	}
	return 0, errors.New(`behind a backslash between double quotes stands \, ", $, ` + "`, n, r or t")
}
