package cmd

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Screen is the terminal at which a person works on a host: a Reader of what is typed. Raw hands keys
// over one by one, Restore ends that and may be called more than once, from any goroutine.
type Screen interface {
	io.Reader
	Raw() error
	Restore()
	Size() (cols, rows int)
	Resized() <-chan os.Signal // one value for each change of the size; nil where nothing tells
}

// screen is the terminal behind stdin.
type screen struct {
	*os.File
	resized <-chan os.Signal
	stop    func()
	mu      sync.Mutex
	before  *term.State // nil while it is not raw
}

func openScreen() (Screen, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("stdin is no terminal")
	}
	changed, stop := watchSize()
	return &screen{File: os.Stdin, resized: changed, stop: stop}, nil
}

func (s *screen) Raw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, err := term.MakeRaw(int(s.Fd()))
	s.before = state
	return err
}

func (s *screen) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before == nil {
		return
	}
	_ = term.Restore(int(s.Fd()), s.before) // nothing left to try
	s.before = nil
	s.stop()
}

func (s *screen) Size() (int, int) {
	cols, rows, err := term.GetSize(int(s.Fd()))
	if err != nil {
		return 80, 24
	}
	return cols, rows
}

func (s *screen) Resized() <-chan os.Signal { return s.resized }
