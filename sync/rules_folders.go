package filesync

import (
	"context"
	"io"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// FolderRules are the rules of a source with those of every folder in it, so that they can be told to
// a host that has, or had, other files of rules. It is read-only and safe for concurrent use. A nil
// one leaves alone what is always left out.
type FolderRules struct {
	top     *Rules
	folders map[string]*Rules // those whose rules are not those of the folder they lie in
	ended   map[string]*Rules // what is left of them in folders that the source does not have
}

// Folders reads the rules of all folders of the source at dir that are not left out. Where no rule
// names files to look for, nothing is read. The errors are those of Enter, and of listing a folder.
func (r *Rules) Folders(ctx context.Context, dir string) (*FolderRules, error) {
	f := newFolderRules(r)
	if r == nil || len(r.lists) == 0 && r.git == nil {
		return f.end(), nil
	}
	fsys, err := openSource(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = fsys.Close() }() // it was only read
	count := 0
	for todo := []ruleFolder{{".", r}}; len(todo) > 0; {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		rules, below, err := at.open(fsys)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		todo = append(todo, below...)
		if rules == at.rules {
			continue
		}
		f.folders[at.path] = rules
		if count += len(rules.flat); count > maxFolderRules {
			return nil, fault.New(fault.ConfigValue, "rules of all folders are more than %d", maxFolderRules)
		}
	}
	return f.end(), nil
}

// ruleFolder is one to read, with the rules of the folder it lies in.
type ruleFolder struct {
	path  string
	rules *Rules
}

// open gives the rules of the folder and the folders in it that are not left out.
func (d ruleFolder) open(fsys FS) (rules *Rules, below []ruleFolder, err error) {
	in, err := fsys.ReadDir(d.path)
	if err != nil {
		return nil, nil, fault.New(fault.SyncSource, "%s cannot be listed", showPath(d.path)).Wrap(plain(err))
	}
	rules, err = d.rules.Enter(d.path, in, func(name string) ([]byte, error) { return readIn(fsys, join(d.path, name)) })
	if err != nil {
		return nil, nil, err
	}
	for i := range in {
		if path := join(d.path, in[i].Name); in[i].Kind == Dir && !rules.Excluded(path, true) {
			below = append(below, ruleFolder{path, rules})
		}
	}
	return rules, below, nil
}

func readIn(fsys FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(f, maxRuleFile+1))
}

func newFolderRules(top *Rules) *FolderRules {
	return &FolderRules{top: top, folders: map[string]*Rules{}, ended: map[string]*Rules{}}
}

// end works out what holds in folders that the source does not have.
func (f *FolderRules) end() *FolderRules {
	f.folders["."] = f.rulesAt(".")
	for path, r := range f.folders {
		below := r
		if r != nil && slices.ContainsFunc(r.flat, endsHere) {
			copied := *r
			copied.flat = slices.DeleteFunc(slices.Clone(r.flat), endsHere)
			below = &copied
		}
		f.ended[path] = below
	}
	return f
}

func (f *FolderRules) rulesAt(path string) *Rules {
	if r, own := f.folders[path]; own {
		return r
	}
	return f.top
}

// In gives the rules for what is in a folder, a path relative to the source, which need not have it.
// They answer Excluded, Protected and Doomed; they are not to be entered.
func (f *FolderRules) In(dir string) *Rules {
	if f == nil {
		return nil
	}
	if r, own := f.folders[dir]; own {
		return r
	}
	for dir != "." {
		dir, _ = split(dir)
		if r, known := f.ended[dir]; known {
			return r
		}
	}
	return f.top
}

// Protected says whether a path is left alone by a deletion: Rules.Protected with the rules of the
// folder it lies in.
func (f *FolderRules) Protected(path string, dir bool) bool {
	folder, _ := split(path)
	return f.In(folder).Protected(path, dir)
}

// paths gives the folders with rules of their own, the outer ones first.
func (f *FolderRules) paths() []string {
	var paths []string
	for path := range f.folders {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int {
		switch {
		case a == ".":
			return -1
		case b == ".":
			return 1
		}
		return strings.Compare(a, b)
	})
	return paths
}
