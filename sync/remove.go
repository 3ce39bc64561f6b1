package filesync

import (
	"errors"
	"io/fs"
)

var (
	errNotFile = errors.New("is not a regular file")
	errTooMany = errors.New("holds too many names")
)

// removeTree removes path and what is in it without recursion, so that no depth can exhaust it.
// remove takes away one thing or says that it is a folder with something in it; list makes such a
// folder writable and gives the names in it.
func removeTree(path string, remove func(string) (full bool, err error), list func(string) ([]string, error)) error {
	stack := []string{path}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		full, err := remove(top)
		if err == nil && !full {
			stack = stack[:len(stack)-1]
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		names, listErr := list(top)
		switch {
		case listErr != nil && errors.Is(listErr, fs.ErrNotExist):
			continue
		case listErr != nil:
			return errors.Join(err, listErr)
		case len(names) == 0 && err != nil:
			return err // not full and yet not to be removed: its parent forbids it
		}
		for _, name := range names {
			full, err := remove(join(top, name))
			if err != nil {
				return err
			}
			if full {
				stack = append(stack, join(top, name))
			}
		}
	}
	return nil
}
