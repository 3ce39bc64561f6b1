package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// The trees that rows name.
const (
	treeGo     = "go"
	tree10k    = "10k"
	tree100k   = "100k"
	tree1m     = "1m"
	treeBig    = "1g"
	treeRandom = "random"
	treeTiny   = "tiny"
)

// bigFile is the one file of treeBig; movedFolder the folder of 1,000 files in tree10k, whose name
// renameFolder changes.
const (
	bigFile     = "data.bin"
	movedFolder = "moved-"
)

// treeSpec says what a tree is made of. The same seed makes the same tree on every machine; only
// treeGo depends on the Go that is installed.
type treeSpec struct {
	What           string
	Folders, Each  int
	Median, Spread float64 // of file sizes: log-normal
	Make           func(ctx context.Context, dir string) error
	Moved          bool
}

func treeSpecs() map[string]treeSpec {
	return map[string]treeSpec{
		treeGo:     {What: "the Go source tree (GOROOT/src)", Make: copyGo},
		tree10k:    {What: "10,000 text files in 91 folders, log-normal sizes, one folder of 1,000", Folders: 90, Each: 100, Median: 1700, Spread: 0.95, Moved: true},
		tree100k:   {What: "100,000 text files in 1,000 folders, log-normal sizes", Folders: 1000, Each: 100, Median: 1700, Spread: 0.95},
		tree1m:     {What: "1,000,000 small text files in 10,000 folders", Folders: 10000, Each: 100, Median: 200, Spread: 0.5},
		treeBig:    {What: "one file of 1 GiB, by turns 8 MiB of random bytes and of text", Make: makeBig},
		treeRandom: {What: "16 files of 16 MiB of random bytes", Make: makeRandom},
		treeTiny:   {What: "60 text files", Folders: 3, Each: 20, Median: 1700, Spread: 0.5},
	}
}

// makeTree makes the tree in the new folder dir. Its files are older than any run, as files of a
// project mostly are.
func makeTree(ctx context.Context, name, dir string) error {
	spec, ok := treeSpecs()[name]
	if !ok {
		return fmt.Errorf("there is no tree %q", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if spec.Make != nil {
		return spec.Make(ctx, dir)
	}
	return spec.write(ctx, dir)
}

// write makes the folders side by side, each from a seed of its own.
func (t treeSpec) write(ctx context.Context, dir string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range t.Folders {
		g.Go(func() error {
			return t.folder(ctx, filepath.Join(dir, fmt.Sprintf("part%02d", i/10), fmt.Sprintf("folder%04d", i)), uint64(i), t.Each)
		})
	}
	if t.Moved {
		g.Go(func() error { return t.folder(ctx, filepath.Join(dir, movedFolder+"0"), math.MaxUint32, 1000) })
	}
	return g.Wait()
}

func (t treeSpec) folder(ctx context.Context, dir string, seed uint64, files int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0x676f6465))
	for i := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := min(int(t.Median*math.Exp(t.Spread*r.NormFloat64())), 256<<10)
		name := filepath.Join(dir, fmt.Sprintf("%s_%03d.py", word(r), i))
		if err := errors.Join(os.WriteFile(name, text(r, max(size, 1)), 0o644), os.Chtimes(name, past(), past())); err != nil {
			return err
		}
	}
	return nil
}

// past is when the trees were written, as far as their files tell.
func past() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC) }

func word(r *rand.Rand) string {
	const syllables = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu"
	var b strings.Builder
	for range 2 + r.IntN(3) {
		i := r.IntN(20) * 3
		b.WriteString(syllables[i : i+2])
	}
	return b.String()
}

// text gives size bytes of lines that look and compress like source code.
func text(r *rand.Rand, size int) []byte {
	var b []byte
	for len(b) < size {
		switch r.IntN(4) {
		case 0:
			b = fmt.Appendf(b, "def %s(%s, %s):\n", word(r), word(r), word(r))
		case 1:
			b = fmt.Appendf(b, "    self.%s = %s(%d)\n", word(r), word(r), r.IntN(1000))
		case 2:
			b = fmt.Appendf(b, "    if %s is not None and %s != \"%x\":\n", word(r), word(r), r.Uint32())
		default:
			b = fmt.Appendf(b, "        return %s.%s(%s)\n", word(r), word(r), word(r))
		}
	}
	b[size-1] = '\n'
	return b[:size]
}

// copyGo copies the sources of the Go that is installed.
func copyGo(ctx context.Context, dir string) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("ask go for its sources: %w", err)
	}
	from := filepath.Join(strings.TrimSpace(string(root)), "src")
	if out, err := exec.CommandContext(ctx, "cp", "-a", from+"/.", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}

// makeBig writes the file piece by piece, so that this program stays small.
func makeBig(ctx context.Context, dir string) error {
	r := rand.New(rand.NewPCG(1, 1<<30))
	noise := rand.NewChaCha8([32]byte{1})
	return writeFile(ctx, filepath.Join(dir, bigFile), 128, func(i int) []byte {
		if i%2 == 1 {
			return text(r, 8<<20)
		}
		piece := make([]byte, 8<<20)
		_, _ = noise.Read(piece) // never fails
		return piece
	})
}

func makeRandom(ctx context.Context, dir string) error {
	noise := rand.NewChaCha8([32]byte{2})
	for i := range 16 {
		err := writeFile(ctx, filepath.Join(dir, fmt.Sprintf("random%02d.bin", i)), 2, func(int) []byte {
			piece := make([]byte, 8<<20)
			_, _ = noise.Read(piece) // never fails
			return piece
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeFile(ctx context.Context, name string, pieces int, piece func(i int) []byte) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Chtimes(name, past(), past())) }()
	for i := range pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.Write(piece(i)); err != nil {
			return err
		}
	}
	return nil
}

// warm reads every file once, so that each row begins with the tree in the page cache, and says how
// large it is.
func warm(ctx context.Context, dir string) (files int, size int64, err error) {
	buf := bufio.NewReaderSize(nil, 1<<20)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close() // read only
		buf.Reset(f)
		n, err := io.Copy(io.Discard, buf)
		files, size = files+1, size+n
		return err
	})
	return files, size, err
}
