package sshx

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // the hash of known_hosts' hashed names; not a matter of trust
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// KnownHosts is what a set of known_hosts files says, read as leniently as ssh(1) reads them: a line
// that cannot be understood is left out and noted, never the end of the file. It is immutable and
// safe for concurrent use; nil knows nothing.
type KnownHosts struct {
	entries []knownKey
	skipped []string
}

// KnownKey is one line of a known_hosts file that speaks of a host.
type KnownKey struct {
	HostKey
	File      string
	Line      int  // from 1
	Authority bool // the key of a @cert-authority
	Revoked   bool // a @revoked key
}

// knownKey is a line with its names.
type knownKey struct {
	KnownKey
	names string
}

const (
	maxKnownLine = 1 << 20  // a longer line is skipped
	maxKnownFile = 64 << 20 // what lies behind is not read
)

// ReadKnownHosts reads the files in order; ~ is expanded. A missing file counts as empty, as does
// one that cannot be read, which Skipped then names.
func ReadKnownHosts(paths ...string) *KnownHosts {
	known := new(KnownHosts)
	for _, path := range paths {
		if err := known.readFile(expand(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			known.skipped = append(known.skipped, err.Error())
		}
	}
	return known
}

// Skipped lists what could not be read, as "file:line: reason".
func (k *KnownHosts) Skipped() []string {
	if k == nil {
		return nil
	}
	return k.skipped
}

// Lookup gives the lines that name the host, in file order. The name is an alias as it stands
// ("prod/app1") or what KnownName makes of an address.
func (k *KnownHosts) Lookup(name string) []KnownKey {
	if k == nil {
		return nil
	}
	name = strings.ToLower(name)
	var found []KnownKey
	for _, entry := range k.entries {
		if namesMatch(entry.names, name) {
			found = append(found, entry.KnownKey)
		}
	}
	return found
}

// KnownName is the name under which known_hosts lists an address: "host", or "[host]:port" when the
// port is not 22.
func KnownName(address string, port int) string {
	if port == 0 || port == 22 {
		return strings.ToLower(address)
	}
	return strings.ToLower("[" + address + "]:" + strconv.Itoa(port))
}

// revoked gives the @revoked line of the key. Which host the line names does not matter: a key that
// was revoked once is bad everywhere (stricter than ssh).
func (k *KnownHosts) revoked(key HostKey) (KnownKey, bool) {
	if k == nil {
		return KnownKey{}, false
	}
	for _, entry := range k.entries {
		if entry.Revoked && same(entry.HostKey, key) {
			return entry.KnownKey, true
		}
	}
	return KnownKey{}, false
}

// same reports whether two keys are one.
func same(a, b HostKey) bool { return bytes.Equal(a.key.Marshal(), b.key.Marshal()) }

func (k *KnownHosts) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := k.read(f, path); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// read takes the lines of one file.
func (k *KnownHosts) read(r io.Reader, path string) error {
	lines := bufio.NewReader(io.LimitReader(r, maxKnownFile))
	for number := 1; ; number++ {
		line, whole, err := readLine(lines)
		if whole {
			k.add(line, path, number)
		} else if len(line) > 0 {
			k.skip(path, number, "line is longer than 1 MiB")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLine reads one line, of which it keeps no more than maxKnownLine; whole says it kept all.
func readLine(r *bufio.Reader) (line string, whole bool, err error) {
	var kept []byte
	whole = true
	for {
		part, err := r.ReadSlice('\n')
		if len(kept)+len(part) <= maxKnownLine {
			kept = append(kept, part...)
		} else {
			whole = false
			kept = append(kept[:0], 'x')
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.TrimRight(string(kept), "\r\n"), whole, err
		}
	}
}

func (k *KnownHosts) skip(path string, line int, reason string) {
	if len(k.skipped) < 1000 {
		k.skipped = append(k.skipped, fmt.Sprintf("%s:%d: %s", path, line, reason))
	}
}

// add takes one line.
func (k *KnownHosts) add(line, path string, number int) {
	first, rest := word(line)
	if first == "" || first[0] == '#' {
		return
	}
	entry := knownKey{KnownKey: KnownKey{File: path, Line: number}}
	if first[0] == '@' {
		entry.Authority, entry.Revoked = first == "@cert-authority", first == "@revoked"
		if !entry.Authority && !entry.Revoked {
			k.skip(path, number, "unknown marker")
			return
		}
		first, rest = word(rest)
	}
	key, err := ParseHostKey(rest)
	if err != nil || strings.HasPrefix(first, "@") {
		k.skip(path, number, "not a host key line")
		return
	}
	entry.names, entry.HostKey = first, key
	k.entries = append(k.entries, entry)
}

// namesMatch reports whether the first field of a line names the host: a hashed name, or patterns
// parted by commas of which none with a "!" may match.
func namesMatch(names, host string) bool {
	if strings.HasPrefix(names, "|") {
		return hashMatch(names, host)
	}
	found := false
	for pattern := range strings.SplitSeq(strings.ToLower(names), ",") {
		bare, negated := strings.CutPrefix(pattern, "!")
		if !wildcard(bare, host) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// hashMatch compares with "|1|salt|hash".
func hashMatch(hashed, host string) bool {
	parts := strings.Split(hashed, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(host))
	return hmac.Equal(mac.Sum(nil), want)
}

// wildcard matches * and ? over the whole text, dots included, in time linear in most inputs and
// never worse than the product of both lengths.
func wildcard(pattern, text string) bool {
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// expand replaces a leading ~/ by the home folder; without one the path stays as it is.
func expand(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || (rest != "" && !os.IsPathSeparator(rest[0])) {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

// knownNames are those under which a target may be known, the deciding one first. The bare address behind
// another port than 22 counts only when it says yes, as in ssh(1). A HostKeyAlias of ssh_config stands in
// place of address and port.
func (t Target) knownNames() []string {
	var names []string
	if t.Alias != "" {
		names = append(names, t.Alias)
	}
	if t.conf.keyAlias != "" {
		return append(names, t.conf.keyAlias)
	}
	if t.Address != "" {
		names = append(names, KnownName(t.Address, t.port()))
	}
	return names
}

// knownFiles reads known_hosts files again only when one of them has changed.
type knownFiles struct {
	mu   sync.Mutex
	sets map[string]*knownSet // by their paths
}

// knownSet is what some files said when they were in that state.
type knownSet struct {
	state string
	known *KnownHosts
}

// read gives what the files say now.
func (f *knownFiles) read(paths []string) *KnownHosts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets == nil {
		f.sets = make(map[string]*knownSet)
	}
	key, state := strings.Join(paths, "\x00"), stateOf(paths)
	if had := f.sets[key]; had != nil && had.state == state {
		return had.known
	}
	known := ReadKnownHosts(paths...)
	f.sets[key] = &knownSet{state, known}
	return known
}

// stateOf is different when a file is: each replacement has its own time, and most their own size.
func stateOf(paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		if about, err := os.Stat(expand(path)); err == nil {
			fmt.Fprintf(&b, "%d %d", about.Size(), about.ModTime().UnixNano())
		}
		b.WriteByte('\n')
	}
	return b.String()
}
