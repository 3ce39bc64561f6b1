package filesync

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"godeploy/internal/fault"
)

// faults gathers what is wrong with a tree, from many goroutines.
type faults struct {
	mu   sync.Mutex
	all  []*fault.Error
	more int
}

const mostFaults = 100

func (f *faults) add(code fault.Code, path, format string, args ...any) *fault.Error {
	e := fault.New(code, "%s "+format, append([]any{showPath(path)}, args...)...)
	f.take(e)
	return e
}

func (f *faults) take(e *fault.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.all) < mostFaults {
		f.all = append(f.all, e)
	} else {
		f.more++
	}
}

// err joins what was gathered, sorted, so that one tree always gives one message.
func (f *faults) err() error {
	if len(f.all) == 0 {
		return nil
	}
	slices.SortFunc(f.all, func(a, b *fault.Error) int { return cmp.Compare(a.Msg, b.Msg) })
	errs := make([]error, 0, len(f.all)+1)
	for _, e := range f.all {
		errs = append(errs, e)
	}
	if f.more > 0 {
		errs = append(errs, fault.New(fault.SyncSource, "source has %d more such paths", f.more))
	}
	return errors.Join(errs...)
}

// remarks gathers what was left out or is otherwise worth a line, from many goroutines.
type remarks struct {
	mu  sync.Mutex
	all []string
}

const mostRemarks = 100

func (n *remarks) add(format string, path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.all) < mostRemarks {
		n.all = append(n.all, fmt.Sprintf(format, showPath(path)))
	}
}

// showPath writes a path for people: as it is when that is safe to print, else quoted.
func showPath(path string) string {
	if quoted := fmt.Sprintf("%q", path); quoted != `"`+path+`"` || strings.Contains(path, " ") {
		return quoted
	}
	return path
}

// plain takes the path off an error: the message names it already.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
