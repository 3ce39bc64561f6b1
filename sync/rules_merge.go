package filesync

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"godeploy/internal/fault"
)

// mergeRule reads a rule that names a file of rules.
func (p *ruleParser) mergeRule(text string, t token) {
	if t.pattern == "" {
		t.pattern = ".cvsignore" // only C lets it be empty
	}
	if t.marks&markSelf != 0 {
		_, name := split(t.pattern)
		p.add(text, token{pattern: name})
	}
	if t.marks&markPerDir != 0 {
		p.dirMerge(text, t)
		return
	}
	name, problem := p.mergedName(t.pattern)
	if problem != "" {
		p.refuse(text, problem)
		return
	}
	content, err := readRuleFile(p.origin.dir, name)
	if err != nil {
		p.refuse(text, "cannot be read: "+plain(err).Error())
		return
	}
	p.nested(name, content, t.marks)
}

// nested reads a merged file, whose anchored patterns begin at the source, wherever its rule stands.
func (p *ruleParser) nested(name string, content []byte, in marks) {
	base, above := p.base, p.above
	p.base, p.above = "", ""
	p.file(filepath.Join(p.origin.dir, filepath.FromSlash(name)), content, in)
	p.base, p.above = base, above
}

// mergedName gives the path of a merged file below the source. As with rsync a plain name means the
// source, a path in the file of a folder means that folder.
func (p *ruleParser) mergedName(name string) (path, problem string) {
	if p.folder != "" && strings.Contains(name, "/") {
		name = join(p.folder, name)
	}
	clean := filepath.ToSlash(filepath.Clean(filepath.FromSlash(name)))
	switch {
	case p.origin.dir == "":
		return "", "names a file, which cannot be done here"
	case p.scanAbove:
		return "", "names a file and stands in a folder above the source, where it must not"
	case p.depth >= maxRuleDepth:
		return "", "merges files more than 32 deep"
	case strings.HasPrefix(name, "/") || !filepath.IsLocal(filepath.FromSlash(name)) || clean == ".":
		return "", "names a file that is not below the source"
	}
	return clean, ""
}

// readRuleFile reads a file below dir. No link is followed, on the way or at the end.
func readRuleFile(dir, path string) (text []byte, err error) {
	fsys, err := OpenLocal(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = fsys.Close() }() // nothing was written
	info, err := fsys.Lstat(path)
	if err != nil {
		return nil, err
	}
	if info.Kind != File {
		return nil, errors.New("is no regular file")
	}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return readBounded(f)
}

func readBounded(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxRuleFile+1))
	if err == nil && len(text) > maxRuleFile {
		err = errors.New("is larger than 1 MiB")
	}
	return text, err
}

// file reads the rules of a file: by lines, where empty ones and comments are nothing and blanks
// belong to the pattern, or by words. in are the marks of the rule that named it.
func (p *ruleParser) file(name string, text []byte, in marks) {
	pos := p.pos
	p.depth++
	for line, n := []byte(nil), 1; len(text) > 0; n++ {
		line, text = cutLine(text)
		p.pos = fault.Pos{File: name, Line: n}
		switch {
		case in&markWords != 0:
			for word := range bytes.FieldsFuncSeq(line, isBlank) {
				p.rule(string(word), in, false)
			}
		case len(line) > 0 && line[0] != '#' && line[0] != ';':
			p.rule(string(line), in, false)
		}
	}
	p.depth--
	p.pos = pos
}

// isBlank is the C locale's isspace.
func isBlank(c rune) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// cutLine takes off a line, which ends with LF, CR or both.
func cutLine(text []byte) (line, rest []byte) {
	i := bytes.IndexAny(text, "\r\n")
	switch {
	case i < 0:
		return text, nil
	case bytes.HasPrefix(text[i:], []byte("\r\n")):
		return text[:i], text[i+2:]
	}
	return text[:i], text[i+1:]
}

// dirMerge reads a rule that names a file that folders may have.
func (p *ruleParser) dirMerge(text string, t token) {
	name, above := strings.CutPrefix(t.pattern, "/")
	switch {
	case checkName(name) != nil:
		p.refuse(text, "names a folder: dir-merge takes a name, or a name after a slash to look above the source too")
		return
	case p.origin.dir == "" || p.scanAbove || above && p.folder != "":
		p.refuse(text, "names a file of folders, which cannot be done here")
		return
	}
	for _, list := range p.lists {
		if list.name == name && !list.gone {
			return // as with rsync the first rule that names it counts
		}
	}
	p.lists = append(p.lists, mergeList{name: name, marks: t.marks &^ (markMerge | markPerDir | markSelf)})
	p.items = append(p.items, listed{list: len(p.lists)})
	if above {
		p.readAbove(len(p.lists) - 1)
	}
}

// readAbove reads a file of folders in all folders above the source, from the top down.
func (p *ruleParser) readAbove(i int) {
	list := p.lists[i]
	if list.marks&markLocal != 0 {
		return
	}
	items, path := p.items, p.origin.above
	for at := 0; at < len(path); at += strings.IndexByte(path[at:], '/') + 1 {
		dir := p.origin.root + path[:at]
		text, err := readRuleFile(dir, list.name)
		if dir == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			p.refuse(filepath.Join(dir, list.name), "cannot be read: "+plain(err).Error())
			continue
		}
		p.items, p.passedOn, p.above, p.scanAbove = nil, list.items, path[at:], true
		p.file(filepath.Join(dir, list.name), text, list.marks)
		list.items = append(p.items, p.passedOn...)
	}
	p.items, p.passedOn, p.above, p.scanAbove = items, nil, "", false
	p.lists[i].items = list.items
}
