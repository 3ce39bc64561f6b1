package sshx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// knownHeader stands at the top of a file we begin.
const knownHeader = "# Host keys of this project's servers, as `godeploy keys trust` wrote them. Commit this file.\n"

// AppendKnownHosts adds the keys under the alias to a known_hosts file, which it makes (with its
// folder) when there is none. Lines that are there already stay the only ones; nothing is removed.
// Host lines are kept sorted by name, so that two people who trust different hosts can merge;
// comments stay above the line they stand above. The file is replaced in one step.
func AppendKnownHosts(path, alias string, keys []HostKey) error {
	return editKnownHosts(path, alias, keys, false)
}

// ReplaceKnownHosts is AppendKnownHosts for a host whose keys have changed: other plain lines that
// name exactly this alias go. Lines with a marker, a pattern or a hashed name stay.
func ReplaceKnownHosts(path, alias string, keys []HostKey) error {
	return editKnownHosts(path, alias, keys, true)
}

func editKnownHosts(path, alias string, keys []HostKey, replace bool) error {
	if alias == "" || strings.ContainsAny(alias, " \t\r\n,*?!|@#[]") {
		return fmt.Errorf("%q cannot stand as a name in known_hosts", alias)
	}
	path = expand(path)
	old, err := readSmall(path)
	if err != nil {
		return err
	}
	text := mergeKnownHosts(old, alias, keys, replace)
	if bytes.Equal(text, old) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return writeKnownHosts(path, text)
}

// writeKnownHosts replaces the file: temp name, fsync, rename. A link stays one, and so do the
// permissions.
func writeKnownHosts(path string, text []byte) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := fs.FileMode(0o644)
	if about, err := os.Stat(path); err == nil {
		mode = about.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".known_hosts-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left of it after the rename
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// readSmall reads a file that may be missing.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKnownFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKnownFile {
		return nil, fmt.Errorf("%s is larger than 64 MiB", path)
	}
	return text, nil
}

// hostLine is a line with the comments above it, and what it is sorted by; an empty name keeps lines
// in the order they had.
type hostLine struct{ name, kind, text string }

// mergeKnownHosts makes the new text from the old.
func mergeKnownHosts(old []byte, alias string, keys []HostKey, replace bool) []byte {
	head, lines, foot := splitKnownHosts(string(old))
	if len(old) == 0 {
		head = knownHeader
	}
	want := make(map[string]bool)
	for _, key := range keys {
		want[key.String()] = true
	}
	lines = slices.DeleteFunc(lines, func(l hostLine) bool {
		return replace && l.name == alias && !want[keyOf(l.text)]
	})
	for _, l := range lines {
		if l.name == alias {
			delete(want, keyOf(l.text))
		}
	}
	for _, key := range keys {
		if want[key.String()] {
			delete(want, key.String())
			lines = append(lines, hostLine{alias, key.Type(), alias + " " + key.String() + "\n"})
		}
	}
	slices.SortStableFunc(lines, func(a, b hostLine) int {
		if by := strings.Compare(a.name, b.name); by != 0 {
			return by
		}
		return strings.Compare(a.kind, b.kind)
	})
	return []byte(head + joinLines(lines) + foot)
}

func joinLines(lines []hostLine) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
	}
	return b.String()
}

// splitKnownHosts parts a file into the comments at its top up to an empty line, the host lines with
// the comments above each, and what follows the last.
func splitKnownHosts(text string) (head string, lines []hostLine, foot string) {
	above := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n") + "\n"
		first, rest := word(strings.TrimSpace(line))
		switch {
		case first == "" && len(lines) == 0:
			head, above = head+above+line, ""
		case first == "" || first[0] == '#':
			above += line
			if len(lines) == 0 && head == "" && line == knownHeader {
				head, above = line, ""
			}
		default:
			kind, _ := word(rest)
			lines = append(lines, hostLine{first, kind, above + line})
			above = ""
		}
	}
	return head, lines, above
}

// keyOf is the key of a plain line's last row: "ssh-ed25519 AAAA…", without the comment.
func keyOf(text string) string {
	rows := strings.Split(strings.TrimSpace(text), "\n")
	_, rest := word(strings.TrimSpace(rows[len(rows)-1]))
	kind, rest := word(rest)
	blob, _ := word(rest)
	return kind + " " + blob
}
