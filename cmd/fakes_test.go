package cmd

import (
	"errors"
	"io"
	"os"
)

func errorsJoin(all []error) error { return errors.Join(all...) }

// fakeTTY answers from a reader.
type fakeTTY struct {
	io.Reader
	restored bool
}

func (*fakeTTY) Write(p []byte) (int, error) { return len(p), nil }
func (*fakeTTY) Close() error                { return nil }
func (f *fakeTTY) Restore()                  { f.restored = true }

func (f *fakeTTY) ReadPassword() ([]byte, error) {
	b, err := io.ReadAll(f)
	return b, err
}

// waiting sends Ctrl-C when it is read from, and then gives no answer.
type waiting struct {
	signals chan<- os.Signal
	until   <-chan struct{}
}

func (w waiting) Read([]byte) (int, error) {
	w.signals <- os.Interrupt
	<-w.until
	return 0, io.EOF
}
