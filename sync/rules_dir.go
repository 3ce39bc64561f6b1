package filesync

import (
	"path/filepath"
	"slices"

	"godeploy/internal/fault"
)

// ignoreFile is what git calls its files of patterns.
const ignoreFile = ".gitignore"

// mergeList is what the files of one name say in the folders on the way to where we are.
type mergeList struct {
	name  string
	marks marks // its rules take over
	items []listed
	gone  bool // the rule that named the file was cleared
}

// ends reports whether a list says something that folders below must not hear.
func (l mergeList) ends() bool { return l.marks&markLocal != 0 && len(l.items) > 0 }

// Enter gives the rules that hold for what is in dir, a path relative to the source ("." is the
// source itself), given those of the folder it lies in. It is r itself when the folder changes
// nothing, and that costs nothing where no rule names files to look for. in is all that is in the
// folder, in any order, what is left out too; read gives the content of one file of it, is called
// only for regular files found in in, and need give no more than a little over 1 MiB. The errors are
// faults of code fault.ConfigValue that name file and line, joined, 100 at most.
func (r *Rules) Enter(dir string, in []Info, read func(name string) ([]byte, error)) (*Rules, error) {
	if r == nil || len(r.lists) == 0 && r.git == nil || !r.changesIn(in) {
		return r, nil
	}
	p := ruleParser{origin: r.origin, lists: slices.Clone(r.lists), folder: dir}
	if dir != "." {
		p.base = dir + "/"
	}
	for i := 0; i < len(p.lists); i++ { // a file may name further files
		p.enterList(i, in, read)
	}
	below := *r
	below.items, below.lists = r.items, p.lists
	if info := find(in, ignoreFile); r.git != nil && info != nil && info.Kind == File {
		if text := p.read(ignoreFile, read); text != nil {
			below.git = p.gitRules(r.git, text)
		}
	}
	return below.flatten(p.problems)
}

// changesIn reports whether a folder can have rules other than those of the folder it lies in.
func (r *Rules) changesIn(in []Info) bool {
	if slices.ContainsFunc(r.lists, mergeList.ends) {
		return true
	}
	return slices.ContainsFunc(in, func(info Info) bool {
		return r.git != nil && info.Name == ignoreFile ||
			slices.ContainsFunc(r.lists, func(l mergeList) bool { return l.name == info.Name })
	})
}

func find(in []Info, name string) *Info {
	if i := slices.IndexFunc(in, func(info Info) bool { return info.Name == name }); i >= 0 {
		return &in[i]
	}
	return nil
}

// enterList puts what the folder's file says in front of what the folders above said.
func (p *ruleParser) enterList(i int, in []Info, read func(string) ([]byte, error)) {
	list := p.lists[i]
	p.items, p.passedOn = nil, list.items
	if list.marks&markLocal != 0 {
		p.passedOn = nil
	}
	info := find(in, list.name)
	switch {
	case list.gone || info == nil || info.Kind == Dir:
	case info.Kind != File:
		p.problems = append(p.problems, fault.New(fault.ConfigValue, "rule file %s is no regular file", p.shown(list.name)).
			Hint("no link is followed to rules"))
	default:
		p.file(p.shown(list.name), p.read(list.name, read), list.marks)
	}
	p.lists[i].items = slices.Concat(p.items, p.passedOn)
}

func (p *ruleParser) shown(name string) string {
	return filepath.Join(p.origin.dir, filepath.FromSlash(join(p.folder, name)))
}

func (p *ruleParser) read(name string, read func(string) ([]byte, error)) []byte {
	text, err := read(name)
	problem := fault.New(fault.ConfigValue, "rule file %s cannot be read", p.shown(name))
	switch {
	case err != nil:
		p.problems = append(p.problems, problem.Wrap(plain(err)))
		return nil
	case len(text) > maxRuleFile:
		p.problems = append(p.problems, fault.New(fault.ConfigValue, "rule file %s is larger than 1 MiB", p.shown(name)))
		return nil
	}
	return text
}
