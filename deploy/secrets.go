package deploy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/scrypt"

	"godeploy/internal/wire"
)

// Bounds of what [secrets] command may print.
const (
	maxSecretsOutput = 1 << 20 // bytes
	maxSecrets       = 10_000  // variables
	maxSecretName    = 255     // bytes
)

// Secrets are named values that belong to one release. Printing a Secrets shows how many there are and
// nothing of them.
type Secrets struct {
	vars []secretVar // sorted by name
}

type secretVar struct{ name, value string }

// String says how many secrets there are.
func (s Secrets) String() string { return plural(len(s.vars), "secret") }

// GoString is String.
func (s Secrets) GoString() string { return s.String() }

// Values gives the values, for a Mask.
func (s Secrets) Values() []string {
	values := make([]string, len(s.vars))
	for i, v := range s.vars {
		values[i] = v.value
	}
	return values
}

// Bare names the variables whose values are too short to be masked, without those that are empty.
func (s Secrets) Bare() []string {
	var names []string
	for _, v := range s.vars {
		if len(v.value) > 0 && len(v.value) < shortSecret {
			names = append(names, v.name)
		}
	}
	return names
}

// Render gives the secrets as a file of NAME=VALUE lines that sh, systemd's EnvironmentFile and the
// usual libraries for .env files read alike: the same secrets always give the same bytes.
func (s Secrets) Render() []byte {
	var b bytes.Buffer
	for _, v := range s.vars {
		b.WriteString(v.name + "=" + quoteEnv(v.value) + "\n")
	}
	return b.Bytes()
}

// quoteEnv writes a value as it stands behind NAME=. Between single quotes everything is itself for
// every reader, but a quote cannot stand there, and a backslash is not read alike; between double quotes
// both can, and the shell's signs are escaped.
func quoteEnv(value string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("_./:@%+,=-", r)
	}
	switch {
	case strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0:
		return value
	case !strings.ContainsAny(value, `'\`):
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(value) + `"`
}

// Hash is a fingerprint of the secrets for the record of a release, which others may read: finding the
// secrets by trying costs 16 MiB and some tens of milliseconds for every guess. Scope, such as the names of
// app and environment, makes fingerprints of the same secrets differ elsewhere.
func (s Secrets) Hash(scope string) (string, error) {
	key, err := scrypt.Key(s.Render(), []byte("godeploy secrets\x00"+scope), 1<<14, 8, 1, 16)
	if err != nil {
		return "", fmt.Errorf("make a fingerprint of the secrets: %w", err)
	}
	return hex.EncodeToString(key), nil
}

// ParseSecrets reads what a command printed: lines NAME=VALUE as in a .env file, or one JSON object of
// texts, numbers and truth values. Errors tell the line and the name, never a value.
//
// Of a line, blanks around it and "export " in front are left out, and so are blank lines and those that
// begin with #. A value without quotes is what stands there, to the end of the line. Between single
// quotes everything is itself; between double quotes \\, \", \$, \`, and \n, \r, \t are read, and both may go
// over several lines. A $ is an ordinary character.
func ParseSecrets(out []byte) (Secrets, error) {
	switch {
	case len(out) > maxSecretsOutput:
		return Secrets{}, fmt.Errorf("it is longer than %d bytes", maxSecretsOutput)
	case !utf8.Valid(out):
		return Secrets{}, errors.New("it is not UTF-8")
	}
	text := strings.TrimPrefix(string(out), "\ufeff")
	read := readLines
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		read = readObject
	}
	vars, err := read(text)
	if err != nil {
		return Secrets{}, err
	}
	if len(vars) == 0 {
		return Secrets{}, errors.New("it holds no variable")
	}
	return sortSecrets(vars)
}

// sortSecrets puts the variables in order and looks at them as a whole.
func sortSecrets(vars []secretVar) (Secrets, error) {
	if len(vars) > maxSecrets {
		return Secrets{}, fmt.Errorf("it holds more than %d variables", maxSecrets)
	}
	slices.SortStableFunc(vars, func(a, b secretVar) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(vars); i++ {
		if vars[i].name == vars[i-1].name {
			return Secrets{}, fmt.Errorf("it holds %s twice", vars[i].name)
		}
	}
	s := Secrets{vars}
	if n := len(s.Render()); n > wire.MaxEnv {
		return Secrets{}, fmt.Errorf("it makes a file of %d bytes, more than %d", n, wire.MaxEnv)
	}
	return s, nil
}

// addSecret checks a variable and adds it.
func addSecret(vars []secretVar, name, value string) ([]secretVar, error) {
	if !secretName(name) {
		return nil, errors.New("a name is a letter or _, and then letters, digits and _")
	}
	bad := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }
	if i := strings.IndexFunc(value, bad); i >= 0 {
		r, _ := utf8.DecodeRuneInString(value[i:])
		return nil, fmt.Errorf("the value of %s holds the control character U+%04X", name, r)
	}
	return append(vars, secretVar{name, value}), nil
}

func secretName(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != "" && len(name) <= maxSecretName
}

// readObject reads a JSON object. The decoder's own errors quote what they do not like, so they are not
// passed on.
func readObject(text string) ([]secretVar, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	broken := func() error { return fmt.Errorf("it is no whole JSON object (byte %d)", d.InputOffset()+1) }
	if _, err := d.Token(); err != nil {
		return nil, broken()
	}
	var vars []secretVar
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, broken()
		}
		name, ok := key.(string)
		if !ok {
			return nil, broken()
		}
		token, err := d.Token()
		if err != nil {
			return nil, broken()
		}
		value, ok := scalar(token)
		if !ok {
			return nil, fmt.Errorf("the value at byte %d is neither text, number nor true or false", d.InputOffset())
		}
		if vars, err = addSecret(vars, name, value); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, broken()
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON object (byte %d)", d.InputOffset()+1)
	}
	return vars, nil
}

// scalar gives the text of a value that is no list, object or null.
func scalar(token json.Token) (string, bool) {
	switch v := token.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}
