package overssh

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// unpackText enters the root and runs the words from $3 on as tar; $2 is the program before it, or empty.
// What a user has set up for tar and its helpers must change nothing here.
const unpackText = `cd -- "$1" || exit 9
u=$2; shift 2
unset TAR_OPTIONS GZIP ZSTD_CLEVEL ZSTD_NBTHREADS
LC_ALL=C; export LC_ALL
case $u in
zstd) zstd -dcq | "$@" ;;
gzip) gzip -dc | "$@" ;;
*) exec "$@" ;;
esac`

// bulk starts one tar on the host. What it makes comes as one stream. The caller closes it.
func (s shellFS) bulk(ctx context.Context) (*tarBulk, error) {
	argv := s.tools.extract()
	if argv == nil {
		return nil, fmt.Errorf("bulk: %w", errors.ErrUnsupported)
	}
	b := &tarBulk{s: s, argv: argv, made: map[string]bool{}}
	return b, b.start(ctx)
}

// errStopped is what a writer hears of whose reader ended before it; the reader's own end tells more.
var errStopped = errors.New("the program on the host ended before all was there")

// tarBulk is a stream to one tar, or to two in turn. It makes things in the order given: folders before
// what is in them, names that are linked to before the new ones. Nothing is promised to be there before
// Close. It is for one goroutine; after an error nothing but Close is of use, and what was made stays.
type tarBulk struct {
	s     shellFS
	argv  []string
	made  map[string]bool // folders it has made
	again bool            // one of them was named again
	bad   error           // the first error

	next func() error // ends the program and starts another
	tar  *tar.Writer
	raw  io.Writer   // what is written below tar, for headers of our own
	ends []io.Closer // from the inside out: tar, compression, buffer, pipe
	pipe *io.PipeWriter
	done chan struct{}
	err  error // how the program ended; valid after done
}

// start runs the program.
func (b *tarBulk) start(ctx context.Context) error {
	unzip := ""
	if b.s.compress && b.s.tools.unzip != nil {
		unzip = b.s.tools.unzip[0]
	}
	from, to := io.Pipe()
	b.pipe, b.done = to, make(chan struct{})
	b.next = func() error {
		if err := b.end(); err != nil {
			return err
		}
		return b.start(ctx)
	}
	if err := b.open(unzip); err != nil {
		return err
	}
	go func() { // ends with the program, with the stream's end, or with ctx
		defer close(b.done)
		b.err = b.s.script(ctx, unpackText, from, io.Discard, append([]string{unzip}, b.argv...)...)
		_ = from.CloseWithError(errStopped) // a writer that still writes is stopped
	}()
	return nil
}

// open puts tar, the compression and a buffer before the pipe.
func (b *tarBulk) open(unzip string) error {
	buffer := bufio.NewWriterSize(tally{b.pipe, b.s.sent}, 256<<10)
	b.raw, b.ends = buffer, []io.Closer{flusher{buffer}, b.pipe}
	switch unzip {
	case "zstd":
		z, err := zstd.NewWriter(buffer, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(4<<20))
		if err != nil {
			return err
		}
		b.raw, b.ends = z, append([]io.Closer{z}, b.ends...)
	case "gzip":
		z, err := gzip.NewWriterLevel(buffer, gzip.BestSpeed)
		if err != nil {
			return err
		}
		b.raw, b.ends = z, append([]io.Closer{z}, b.ends...)
	}
	b.tar = tar.NewWriter(b.raw)
	b.ends = append([]io.Closer{b.tar}, b.ends...)
	return nil
}

// tally counts what goes to the host.
type tally struct {
	io.Writer
	sent *atomic.Int64
}

func (t tally) Write(p []byte) (int, error) {
	n, err := t.Writer.Write(p)
	t.sent.Add(int64(n))
	return n, err
}

// flusher closes a buffer by flushing it.
type flusher struct{ *bufio.Writer }

func (f flusher) Close() error { return f.Flush() }

// Mkdir makes a folder. One that it made before gets these bits and this time: folders are first made open
// and named again when all is in them.
func (b *tarBulk) Mkdir(p string, perm uint32, mtime int64) error {
	if b.made[p] && !b.again && !b.s.tools.closes() {
		b.again = true
		if err := b.next(); err != nil {
			return err
		}
	}
	err := b.head(&tar.Header{Typeflag: tar.TypeDir, Name: p + "/", Mode: int64(perm & 0o777)}, mtime)
	if err == nil {
		b.made[p] = true
	}
	return err
}

// begin begins a file of exactly size bytes, which are then written to tar.
func (b *tarBulk) begin(p string, perm uint32, mtime, size int64) error {
	return b.head(&tar.Header{Typeflag: tar.TypeReg, Name: p, Mode: int64(perm & 0o777), Size: size}, mtime)
}

// Link makes another name of a file.
func (b *tarBulk) Link(old, p string) error {
	if err := b.checked("link", old); err != nil {
		return err
	}
	return b.head(&tar.Header{Typeflag: tar.TypeLink, Name: p, Linkname: old, Mode: 0o644}, 0)
}

// Symlink keeps target verbatim.
func (b *tarBulk) Symlink(target, p string, mtime int64) error {
	if target == "" || strings.ContainsRune(target, 0) {
		return b.note("symlink", p, fs.ErrInvalid)
	}
	return b.head(&tar.Header{Typeflag: tar.TypeSymlink, Name: p, Linkname: target, Mode: 0o777}, mtime)
}

// head writes one entry's header. The form is GNU's: its long names are raw bytes, where PAX would have
// them in UTF-8, and every tar reads it.
func (b *tarBulk) head(h *tar.Header, mtime int64) error {
	if err := b.checked("bulk", strings.TrimSuffix(h.Name, "/")); err != nil {
		return err
	}
	when := time.Unix(0, mtime)
	if h.Typeflag != tar.TypeLink && b.s.tools.nanos(when) {
		if err := b.fine(when); err != nil {
			return b.note("bulk", h.Name, err)
		}
	}
	h.Format, h.ModTime = tar.FormatGNU, time.Unix(when.Unix(), 0)
	return b.note("bulk", h.Name, b.tar.WriteHeader(h))
}

// fine writes a PAX header that gives the next entry's time with its nanoseconds, and nothing else.
// archive/tar has it in the PAX form only.
func (b *tarBulk) fine(when time.Time) error {
	if err := b.tar.Flush(); err != nil { // the entry before it is padded first
		return err
	}
	record := paxRecord("mtime", paxTime(when))
	var block [1024]byte
	copy(block[512:], record)
	copy(block[:], "./PaxHeaders/time")
	copy(block[100:], "0000644\x000000000\x000000000\x00")
	copy(block[124:], fmt.Sprintf("%011o\x0000000000000\x00        x", len(record)))
	copy(block[257:], "ustar\x0000")
	sum := 0
	for _, c := range block[:512] {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	_, err := b.raw.Write(block[:])
	return err
}

// paxTime writes seconds and nanoseconds as one decimal number, below zero too.
func paxTime(when time.Time) string {
	sec, nsec := when.Unix(), when.Nanosecond()
	if sec >= 0 {
		return fmt.Sprintf("%d.%09d", sec, nsec)
	}
	return fmt.Sprintf("-%d.%09d", -(sec + 1), 1_000_000_000-nsec)
}

// paxRecord is "LENGTH KEY=VALUE\n", whose length counts itself.
func paxRecord(key, value string) string {
	rest := len(key) + len(value) + 3
	n := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(n)) > len(strconv.Itoa(rest)) {
		n++
	}
	return strconv.Itoa(n) + " " + key + "=" + value + "\n"
}

// checked refuses a path that leads out of the root: by its text, or through what is no folder that this
// stream has made or that was seen to be one.
func (b *tarBulk) checked(op, p string) error {
	if b.bad != nil {
		return b.bad
	}
	if err := checkPath(op, p); err != nil {
		return b.note(op, p, err)
	}
	if dir := path.Dir(p); dir == "." || b.made[dir] {
		return nil
	}
	_, err := b.s.reach(op, p)
	return b.note(op, p, err)
}

// note keeps the first error: nothing is written after it.
func (b *tarBulk) note(op, p string, err error) error {
	if err == nil || b.bad != nil {
		return b.bad
	}
	b.bad = err
	if _, named := errors.AsType[*fs.PathError](err); !named {
		b.bad = &fs.PathError{Op: op, Path: p, Err: err}
	}
	return b.bad
}

// Close says that this was all and waits: nil when the host has made everything, else what it said.
func (b *tarBulk) Close() error {
	if err := b.end(); err != nil {
		return err
	}
	for dir := range b.made {
		b.s.known.learn(dir)
	}
	return nil
}

// end ends the program and says how it went. After an error the stream is broken off, so that no half
// entry looks whole.
func (b *tarBulk) end() error {
	if b.bad != nil {
		_ = b.pipe.CloseWithError(b.bad)
	}
	for _, end := range b.ends {
		if err := end.Close(); err != nil && b.bad == nil {
			b.bad = err
		}
	}
	<-b.done
	if b.err != nil && (b.bad == nil || errors.Is(b.bad, errStopped)) {
		b.bad = told("tar", b.err)
	}
	return b.bad
}
