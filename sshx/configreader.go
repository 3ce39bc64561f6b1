package sshx

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	maxConfig    = 1 << 20 // what is read of one configuration file
	maxIncludes  = 16      // how deep they nest, as in ssh(1)
	maxKeyFiles  = 100     // that one host may name, likewise
	maxConfigAll = 1000    // files of one reading
)

// configReader reads ssh_config for one host where ssh(1) is not there to be asked. What it cannot do
// ("Match exec", CanonicalizeHostname) is an error, never a guess.
type configReader struct {
	c     *UserConfig
	host  string // as it was asked for
	v     values // what was found; the first value of a keyword stays
	final bool   // the second pass
	again bool   // "Match final" was met, so a second pass is due
	files int
}

// configLine is where the reader stands.
type configLine struct {
	file   string
	number int
	user   bool // in the user's file or what it includes
	depth  int
	never  bool // included from a block that does not match
}

func (l configLine) fault(format string, a ...any) error {
	return fmt.Errorf("%s:%d: %w", l.file, l.number, fmt.Errorf(format, a...))
}

// reader makes one. Port and user that are given stand before everything that is read.
func (c *UserConfig) reader(host string, port int, user string) *configReader {
	r := &configReader{c: c, host: host, v: make(values)}
	if port != 0 {
		r.v["port"] = []string{strconv.Itoa(port)}
	}
	if user != "" {
		r.v["user"] = []string{user}
	}
	return r
}

// read gives the values as ssh -G prints them.
func (r *configReader) read() (values, error) {
	if err := r.pass(); err != nil {
		return nil, err
	}
	if err := r.settle(); err != nil {
		return nil, err
	}
	if r.again {
		r.final = true
		if err := r.pass(); err != nil {
			return nil, err
		}
	}
	return r.v, r.finish()
}

// pass goes through all files once.
func (r *configReader) pass() error {
	for i, path := range r.c.files {
		if path == "" {
			continue
		}
		err := r.file(path, configLine{user: i == 0})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// errMatters ends the look through the files.
var errMatters = errors.New("a line matters")

// matters reports whether any line that can be reached, whatever host it is for, says something that
// godeploy would heed. A file that cannot be read matters: somebody has to say so.
func (r *configReader) matters() bool {
	for i, path := range r.c.files {
		if path == "" {
			continue
		}
		if err := r.look(path, configLine{user: i == 0}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

func (r *configReader) look(path string, at configLine) error {
	return r.lines(path, at, func(at configLine, key string, _ []string, rest string) error {
		if heeded(key) || key == "canonicalizehostname" {
			return errMatters
		}
		if at.depth++; key != "include" || at.depth > maxIncludes {
			return nil
		}
		return r.include(at, rest, func(path string) error { return r.look(path, at) })
	})
}

// heeded reports whether godeploy reads a keyword.
func heeded(key string) bool {
	return slices.Contains([]string{"hostname", "user", "port", "identityfile", "identityagent", "identitiesonly", "certificatefile",
		"proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "connecttimeout",
		"serveraliveinterval", "serveralivecountmax", "controlpath", "addressfamily", "kexalgorithms", "ciphers", "macs",
		"hostkeyalgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "revokedhostkeys", "proxyusefdpass"}, key)
}

// lines hands each line that says something to use: its keyword in lower case, its words, and what
// follows the keyword as it stands.
func (r *configReader) lines(path string, at configLine, use func(at configLine, key string, words []string, rest string) error) error {
	text, err := r.readFile(path)
	if err != nil {
		return err
	}
	at.file = path
	for line := range strings.Lines(text) {
		at.number++
		key, rest := keyword(strings.TrimRight(line, " \t\r\n\f"))
		if key == "" || key[0] == '#' {
			continue
		}
		words, err := configWords(rest)
		if err != nil {
			return at.fault("%v", err)
		}
		if err := use(at, strings.ToLower(key), words, rest); err != nil {
			return err
		}
	}
	return nil
}

func (r *configReader) readFile(path string) (string, error) {
	if r.files++; r.files > maxConfigAll {
		return "", fmt.Errorf("%s: too many configuration files", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	about, err := f.Stat()
	if err == nil && about.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return string(text), err
}

// file reads one file for the host.
func (r *configReader) file(path string, at configLine) error {
	active := true
	return r.lines(path, at, func(at configLine, key string, words []string, rest string) (err error) {
		switch key {
		case "host":
			active, err = r.hostLine(at, words)
			active = active && !at.never
		case "match":
			active = false
			if !at.never {
				active, err = r.matchLine(at, words)
			}
		case "include":
			if at.depth++; at.depth > maxIncludes {
				return at.fault("includes nest too deep")
			}
			at.never = at.never || !active
			err = r.include(at, rest, func(path string) error { return r.file(path, at) })
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		default:
			err = r.take(at, key, words, rest, active && !at.never)
		}
		return err
	})
}

// include finds the files that an Include names.
func (r *configReader) include(at configLine, rest string, use func(path string) error) error {
	patterns, err := configWords(rest)
	if err != nil {
		return at.fault("%v", err)
	}
	if len(patterns) == 0 {
		return at.fault("Include names no file")
	}
	base := "/etc/ssh"
	if at.user {
		base = filepath.Join(r.c.home, ".ssh")
	}
	for _, pattern := range patterns {
		switch rest, tilde := strings.CutPrefix(pattern, "~/"); {
		case tilde:
			pattern = filepath.Join(r.c.home, rest)
		case !filepath.IsAbs(pattern):
			pattern = filepath.Join(base, pattern)
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			return at.fault("include %s: %v", pattern, err)
		}
		for _, path := range found {
			if err := use(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// keyword cuts the first word off a line; one "=" may stand behind it.
func keyword(line string) (key, rest string) {
	line = strings.TrimLeft(line, " \t\f")
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		key, rest, _ = strings.Cut(quoted, `"`)
	} else if i := strings.IndexAny(line, " \t\f="); i >= 0 {
		key, rest = line[:i], line[i:]
	} else {
		return line, ""
	}
	rest = strings.TrimLeft(rest, " \t\f")
	rest, _ = strings.CutPrefix(rest, "=")
	return key, strings.TrimLeft(rest, " \t\f")
}

// configWords parts a line into words: quotes hold together, a backslash takes quotes, itself and, outside
// of quotes, a blank as they are; "#" at the start of a word begins a comment.
func configWords(text string) ([]string, error) {
	var words []string
	for i := 0; i < len(text); i++ {
		if text[i] == ' ' || text[i] == '\t' {
			continue
		}
		if text[i] == '#' {
			break
		}
		word, end, err := configWord(text, i)
		if err != nil {
			return nil, err
		}
		words, i = append(words, word), end
	}
	return words, nil
}

// configWord reads the word that begins at i, and says where it ends.
func configWord(text string, i int) (string, int, error) {
	var b strings.Builder
	quote := byte(0)
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (strings.IndexByte(`'"\`, text[i+1]) >= 0 || quote == 0 && text[i+1] == ' '):
			i++
			b.WriteByte(text[i])
		case c == '\\':
			b.WriteByte(c)
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), i, nil
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", i, errors.New("a quote is not closed")
	}
	return b.String(), i, nil
}
