package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// change is what happens to a source tree before each round; every side of the row then sees the same
// new version. Rounds count from 1; round 0 is the tree as it was found.
type change int

const (
	noChange change = iota
	edit20
	touchAll
	renameFolder
	insertKiB
)

// apply changes the tree for the round.
func (c change) apply(ctx context.Context, dir string, round int) error {
	switch c {
	case edit20:
		return edit(dir, round)
	case touchAll:
		return touch(ctx, dir)
	case renameFolder:
		return rename(dir, round)
	case insertKiB:
		return insert(filepath.Join(dir, bigFile), round)
	}
	return nil
}

// edit changes 20 files: ten keep their size, ten get a line more.
func edit(dir string, round int) error {
	files, err := editable(dir)
	if err != nil {
		return err
	}
	if len(files) < 20 {
		return fmt.Errorf("%s has only %d files that can be edited", dir, len(files))
	}
	r := rand.New(rand.NewPCG(uint64(round), 20))
	r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	for i, name := range files[:20] {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := later(name, edited(text, i%2 == 0, fmt.Sprintf("%08x", r.Uint32()))); err != nil {
			return err
		}
	}
	return nil
}

// later writes a file with a time of another second than it had: rsync compares whole seconds, and
// would not see that a file of the same size was changed twice within one.
func later(name string, text []byte) error {
	before, err := os.Stat(name)
	if err != nil {
		return err
	}
	now := time.Now()
	if now.Unix() <= before.ModTime().Unix() {
		now = before.ModTime().Add(time.Second)
	}
	return errors.Join(os.WriteFile(name, text, 0o644), os.Chtimes(name, now, now))
}

// edited changes eight bytes in the middle, or puts a line there.
func edited(text []byte, sameSize bool, mark string) []byte {
	middle := len(text) / 2
	if sameSize {
		copy(text[middle:], mark)
		return text
	}
	if i := slices.Index(text[middle:], '\n'); i >= 0 {
		middle += i + 1
	}
	return slices.Insert(text, middle, []byte("// edited: "+mark+"\n")...)
}

// editable lists the files that a person may have been working on, always in the same order.
func editable(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !slices.Contains([]string{".go", ".py"}, filepath.Ext(name)) {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() >= 500 && info.Size() <= 100_000 {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

// touch gives every file the time of now, as a fresh checkout does.
func touch(ctx context.Context, dir string) error {
	now := time.Now()
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return errors.Join(ctx.Err(), os.Chtimes(name, now, now))
	})
}

func rename(dir string, round int) error {
	names, err := filepath.Glob(filepath.Join(dir, movedFolder+"*"))
	if err != nil {
		return err
	}
	if len(names) != 1 {
		return fmt.Errorf("%s has %d folders to rename, want 1", dir, len(names))
	}
	return os.Rename(names[0], filepath.Join(dir, fmt.Sprintf("%s%d", movedFolder, round)))
}

// insert puts 1 KiB somewhere in the middle fifth of the file, at an odd place, and moves the rest.
func insert(name string, round int) (err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(uint64(round), 1024))
	at := info.Size()*2/5 + r.Int64N(info.Size()/5) | 1
	buf := make([]byte, 1<<20)
	for end := info.Size(); end > at; {
		n := min(end-at, int64(len(buf)))
		end -= n
		if _, err := io.ReadFull(io.NewSectionReader(f, end, n), buf[:n]); err != nil {
			return err
		}
		if _, err := f.WriteAt(buf[:n], end+1024); err != nil {
			return err
		}
	}
	_, err = f.WriteAt(text(r, 1024), at)
	return err
}
