// Command bench is `make bench`: godeploy against rsync, over one sshd, under the same rules, with
// what was promised beside what came out.
//
// A row of rows.go is a piece of work and the command lines that do it. They take turns, n times each,
// from the same beginning; medians are compared. The rules are in docs/performance.md, which it writes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// options are the command line.
type options struct {
	rows     string
	n        int
	quick    bool
	list     bool
	page     bool
	again    bool
	godeploy string
	dir      string
	kept     string
	docs     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, w io.Writer) error {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.rows, "row", "", "rows to run, by id, * allowed; empty = all but those that must be asked for")
	f.IntVar(&o.n, "n", 5, "runs of each side")
	f.BoolVar(&o.quick, "quick", false, "one run of each side, without the slow rows")
	f.BoolVar(&o.list, "list", false, "list the rows and do nothing")
	f.BoolVar(&o.page, "page", false, "write the page from what is kept; without -row -n -quick a run does so itself")
	f.BoolVar(&o.again, "continue", false, "leave out rows that this version was measured with on this machine, so many times at least")
	f.StringVar(&o.godeploy, "godeploy", "", "the binary")
	f.StringVar(&o.dir, "dir", "/var/tmp", "where everything is made, and removed again")
	f.StringVar(&o.kept, "kept", "docs/performance.json", "the results, of every row the last")
	f.StringVar(&o.docs, "docs", "docs", "folder of performance.md and img")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || o.n < 1 {
		return errors.New("usage: bench [-row IDS] [-n N] [-quick] [-list] [-page] [-continue] [-godeploy FILE] [-dir DIR]")
	}
	all := chosen(rows(), strings.Fields(o.rows), o.quick)
	if o.list {
		list(w, all)
		return nil
	}
	if len(all) == 0 {
		return fmt.Errorf("no row is called %q: make bench LIST=1", o.rows)
	}
	return o.act(ctx, all, screen{w, isTerminal(w)})
}

func list(w io.Writer, all []row) {
	for _, r := range all {
		fmt.Fprintf(w, "%-15s %s\n", r.ID, r.What)
		for _, s := range r.Sides {
			fmt.Fprintf(w, "%15s %-24s %s\n", "", s.Name, s.Argv)
		}
		for _, g := range r.Goals {
			v := verdict{Goal: g}
			fmt.Fprintf(w, "%15s %s: target %s\n", "", v.subject(), v.target())
		}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// act runs the rows and keeps what they came to. Only a whole run of the usual length goes into the
// kept results and the page; others end in a file beside the binary.
func (o options) act(ctx context.Context, all []row, s screen) error {
	if o.page {
		return o.write()
	}
	whole := o.rows == "" && !o.quick && o.n >= 5
	if !whole {
		o.kept = filepath.Join(filepath.Dir(os.Args[0]), "results.json")
	}
	if o.quick {
		o.n = 1
	}
	kept, err := readResults(o.kept)
	if err != nil {
		return err
	}
	if err := o.run(ctx, all, s, kept); err != nil {
		return err
	}
	if whole {
		return o.write()
	}
	s.line("\nkept in %s", o.kept)
	return nil
}

// run plays the rows; results are kept after each, so that a run that is cut short was not for nothing.
func (o options) run(ctx context.Context, all []row, s screen, kept results) (err error) {
	binary, err := filepath.Abs(o.godeploy)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o.dir, binary, s.progress)
	if err != nil {
		return err
	}
	defer func() {
		s.progress("removing what was made")
		err = errors.Join(err, b.Close())
		s.line("")
	}()
	if len(all) > 3 {
		if err := b.free(); err != nil {
			return err
		}
	}
	facts := thisMachine(ctx, b.dir, binary)
	for i, r := range all {
		if o.again && kept.Rows[r.ID].stands(r, facts, o.n) {
			s.show(r, kept.Rows[r.ID])
			continue
		}
		s.progress("%d of %d: %s", i+1, len(all), r.ID)
		got, err := b.play(ctx, r, o.n)
		if err != nil {
			return fmt.Errorf("%s: %w", r.ID, err)
		}
		got.Machine = facts
		s.show(r, got)
		kept.Rows[r.ID] = got
		if err := kept.write(o.kept); err != nil {
			return err
		}
	}
	s.sum(all, kept)
	return nil
}

// sum counts what was promised and held.
func (s screen) sum(all []row, kept results) {
	held, missed := 0, 0
	for _, r := range all {
		for _, g := range r.Goals {
			if judge(r, kept.Rows[r.ID], g).Met {
				held++
			} else {
				missed++
			}
		}
	}
	s.line("\n%d targets met, %d missed", held, missed)
}

// write writes the page and its pictures from what is kept.
func (o options) write() error {
	kept, err := readResults(o.kept)
	if err != nil {
		return err
	}
	files, err := pages(kept)
	for name, text := range files {
		err = errors.Join(err, replaceFile(filepath.Join(o.docs, name), text))
	}
	return err
}
