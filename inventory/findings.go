package inventory

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"godeploy/internal/fault"
)

// Findings looks for what is allowed but probably not meant: roles of nobody, one host under two
// names, hook scripts that cannot run, a file that others may write, values that look like
// secrets. It reads the hooks' scripts below Dir, and changes nothing. `check` lists the findings
// and exits 8 when there are any. An unknown environment has none.
func (f *File) Findings(env string) []*fault.Error {
	e, err := f.Env(env)
	if err != nil {
		return nil
	}
	w := finder{f: f, env: e}
	w.hosts()
	w.roles()
	w.hooks()
	w.secrets()
	w.nginx()
	for _, m := range f.modes {
		if why := unsafeMode(m.info); why != "" {
			w.add(fault.Pos{File: m.name}, "%s %s", m.name, why).
				Hint("whoever writes this file runs commands as you, here and on every host").Try("chmod go-w %s", m.name)
		}
	}
	return w.found
}

type finder struct {
	f     *File
	env   *Env
	found []*fault.Error
}

func (w *finder) add(pos fault.Pos, format string, args ...any) *fault.Error {
	e := fault.New(fault.ConfigValue, format, args...).At(pos)
	w.found = append(w.found, e)
	return e
}

func (w *finder) pos(path ...string) fault.Pos {
	for ; len(path) > 0; path = path[:len(path)-1] {
		if doc, whole := w.f.source(w.env.Name, path); doc != nil {
			return doc.valuePos(whole)
		}
	}
	return fault.Pos{File: w.f.Path}
}

func (w *finder) hosts() {
	if len(w.env.ReleaseHosts()) == 0 {
		w.add(w.pos("release", "roles"), "no host of %s has the role %s, so a release would go nowhere",
			w.env.Name, strings.Join(w.env.Release.Roles, " or "))
	}
	first := map[string]string{}
	for _, h := range w.env.Hosts {
		id := fmt.Sprintf("%s %d %s", h.Address, h.Port, h.User)
		if other, twice := first[id]; twice {
			w.add(h.Pos, "host %s has the address, port and user of %s", h.Name, other)
			continue
		}
		first[id] = h.Name
	}
}

func (w *finder) roles() {
	has := w.env.words(func(h Host) []string { return h.Roles })
	for name := range w.env.Role {
		// At the top of the file a role may be meant for another environment.
		if doc, whole := w.f.source(w.env.Name, []string{"role", name}); doc != nil && whole[0] == "env" && !contains(has, name) {
			e := w.add(doc.keyPos(whole), "no host of %s has the role %q", w.env.Name, name)
			if near := nearest(name, has); near != "" {
				e.Hint("did you mean %q?", near)
			}
		}
	}
}

func (w *finder) hooks() {
	for _, list := range w.env.Hooks.Lists() {
		for i, h := range list.Hooks {
			pos := w.pos("hooks", list.Name, element(i))
			if h.On != "" {
				if _, err := w.env.Select([]string{h.On}, nil); err != nil {
					w.add(pos, "%s hook runs nowhere: no host of %s is %q", list.Name, w.env.Name, h.On)
				}
			}
			w.script(pos, list.Name, h.Run)
		}
	}
}

// script looks at the file that a hook runs, when its command plainly is a file of the user's.
func (w *finder) script(pos fault.Pos, list, command string) {
	word, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	if !strings.Contains(word, "/") || strings.HasPrefix(word, "/") || checkRelPath(strings.TrimPrefix(word, "./")) != nil {
		return
	}
	local := strings.HasPrefix(list, "local_")
	folder := w.f.Dir
	if !local {
		folder = filepath.Join(folder, filepath.FromSlash(w.env.Sync.From))
	}
	file := filepath.Join(folder, filepath.FromSlash(word))
	info, err := os.Stat(file)
	switch {
	case err != nil && !local:
		return // it may come into being on the host, as .venv/bin/pip does
	case err != nil:
		w.add(pos, "%s hook runs %s, which is not there", list, word)
	case info.Mode().IsRegular() && notExecutable(info):
		w.add(pos, "%s hook runs %s, which is not executable", list, word).Try("chmod +x %s", word)
	case info.Mode().IsRegular() && windowsShebang(file):
		w.add(pos, "%s hook runs %s, whose first line ends with CR LF", list, word).
			Hint("the system would look for an interpreter with a CR in its name; save the script with LF line ends")
	}
}

// windowsShebang reports whether a script's #! line ends with CR LF. A script that cannot be read
// is not judged.
func windowsShebang(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close() // only read
	head, err := io.ReadAll(io.LimitReader(f, 256))
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return err == nil && bytes.HasPrefix(line, []byte("#!")) && bytes.HasSuffix(line, []byte("\r"))
}

// secrets looks for values that do not belong in a file that is committed. The values themselves
// are not repeated.
func (w *finder) secrets() {
	looks := regexp.MustCompile(`(?i)(password|passwd|secret|token|api_?key)\s*[=:]\s*["']?[^\s"'${<(]{6,}` +
		`|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@${]+@`)
	for _, s := range w.f.Settings(w.env.Name) {
		if s.Pos.Line > 0 && looks.MatchString(s.Value) {
			w.add(s.Pos, "%s looks as if it held a secret", s.Key).
				Hint("the file is committed; keep secrets in a [shared] file or behind [secrets] command")
		}
	}
}

// notExecutable is about the bits, not about this user: the script runs elsewhere too.
func notExecutable(info fs.FileInfo) bool { return unixModes && info.Mode().Perm()&0o111 == 0 }
