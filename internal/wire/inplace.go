package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// PlaceRequest opens a stream that makes the folder Site.Path what a source is, in place (docs/wire.md,
// "Place"). It needs the lock of the site, but for a DryRun. After the sync stream, when List is set, the
// helper writes the changes (ReadPlaceChanges); the reply is PlaceReply.
type PlaceRequest struct {
	Site   Site   `json:"site"`
	Delete bool   `json:"delete,omitempty"` // remove what the source does not have
	Limit  Share  `json:"limit"`            // of Delete: more is refused before anything is changed
	DryRun bool   `json:"dry_run,omitempty"`
	List   bool   `json:"list,omitempty"`   // tell every change, and what is kept
	Verify string `json:"verify,omitempty"` // "" or changed: hash what does not look as it was left; all: everything
	// Rules say what Delete leaves alone: those of every folder of the source, as filesync.FolderRules
	// writes them. Bytes, because names need not be text.
	Rules  [][]byte `json:"rules,omitempty"`
	Source Origin   `json:"source"`
	// Holder, when set, has the request take the lock for the holder and make the path first.
	Holder *Holder `json:"holder,omitempty"`
}

// Share is a count or a percentage; zero means the default, 50 %.
type Share struct {
	N       int  `json:"n,omitempty"`
	Percent bool `json:"percent,omitempty"`
	Set     bool `json:"set,omitempty"` // N counts even when it is 0
}

// Origin says which folder of which machine a source is, so that a host that is that machine can refuse
// to write into the source. Zero fields are unknown.
type Origin struct {
	BootID string `json:"boot_id,omitempty"`
	Dev    uint64 `json:"dev,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
}

// PlaceReply counts what was done, or with DryRun would be.
type PlaceReply struct {
	Files    int      `json:"files"`           // of the source
	Same     int      `json:"same"`            // files that were right already
	Written  int      `json:"written"`         // files with new content
	Touched  int      `json:"touched"`         // things of which only mode, time or owner changed
	Made     int      `json:"made"`            // folders and links made or replaced
	Deleted  int      `json:"deleted"`         // files, links and folders
	Kept     int      `json:"kept,omitempty"`  // things Delete left alone because a rule protects them
	Hashed   int      `json:"hashed"`          // files of the host that had to be read
	Received int64    `json:"received"`        // bytes of the stream
	Bytes    int64    `json:"bytes"`           // size of the source
	Notes    []string `json:"notes,omitempty"` // one line each, safe to show
	// Changes is filled from the stream, sorted by path, when List was set.
	Changes []PlaceChange `json:"-"`
}

// PlaceChange is one difference between the folder and the source.
type PlaceChange struct {
	Path string // raw bytes
	Op   PlaceOp
	Kind PlaceKind // what is at Path afterwards; of a deletion or what is kept, what was there
	Why  PlaceWhy
	Size int64 // of the file; of a deletion as it was
}

// PlaceOp says what is done to a path.
type PlaceOp uint8

// The operations. PlaceKept is none: something stays that Delete would have removed.
const (
	PlaceCreate PlaceOp = iota + 1
	PlaceUpdate         // content, link text or kind
	PlaceMeta           // mode, time or owner only
	PlaceDelete
	PlaceKept
)

// String gives "create", "update", "meta", "delete" or "kept".
func (o PlaceOp) String() string {
	return [...]string{"", "create", "update", "meta", "delete", "kept"}[min(o, PlaceKept)]
}

// PlaceKind is the kind of a thing.
type PlaceKind uint8

// The kinds.
const (
	PlaceDir PlaceKind = iota + 1
	PlaceFile
	PlaceLink
	PlaceSpecial
)

// String gives "dir", "file", "link" or "special".
func (k PlaceKind) String() string {
	return [...]string{"", "dir", "file", "link", "special"}[min(k, PlaceSpecial)]
}

// PlaceWhy is a set of reasons.
type PlaceWhy uint16

// The reasons.
const (
	WhyNew       PlaceWhy = 1 << iota // nothing was there
	WhyContent                        // other content of the same size, or another link text
	WhySize                           // other content of another size
	WhyMode                           // other permission bits
	WhyTime                           // another modification time
	WhyOwner                          // another owner or group
	WhyType                           // something of another kind was there
	WhyDeleted                        // the source does not have it
	WhyProtected                      // the source does not have it, and a rule protects it or something in it
)

// Names gives the reasons in words, in a fixed order.
func (w PlaceWhy) Names() []string {
	var names []string
	for i, name := range []string{"new", "content", "size", "mode", "time", "owner", "type", "deleted", "protected"} {
		if w&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String gives the reasons separated by commas.
func (w PlaceWhy) String() string { return strings.Join(w.Names(), ",") }

// Limits of the rules of a request, which must fit one frame in base64.
const (
	maxRuleBytes = 640 << 10
	maxRuleTexts = 40_000
)

// Check checks site, limit and the sizes of the rules. What a rule says the helper checks when it reads it.
func (r *PlaceRequest) Check() error {
	switch r.Verify {
	case "", "changed", "all":
	default:
		return fmt.Errorf("verify %.40q", r.Verify)
	}
	if r.Limit.N < 0 || r.Limit.Percent && r.Limit.N > 100 {
		return fmt.Errorf("limit of %d", r.Limit.N)
	}
	if len(r.Rules) > maxRuleTexts {
		return fmt.Errorf("%d rules", len(r.Rules))
	}
	total := 0
	for _, rule := range r.Rules {
		total += len(rule)
	}
	if total > maxRuleBytes {
		return fmt.Errorf("%d bytes of rules", total)
	}
	if r.Holder != nil {
		if err := r.Holder.Check(); err != nil {
			return err
		}
	}
	return firstError(r.Site.Check(), checkShort(r.Source.BootID))
}

// Check wants counts that can be and notes of bounded length.
func (r *PlaceReply) Check() error {
	for _, n := range []int{r.Files, r.Same, r.Written, r.Touched, r.Made, r.Deleted, r.Kept, r.Hashed} {
		if n < 0 {
			return errors.New("negative count")
		}
	}
	if r.Received < 0 || r.Bytes < 0 {
		return errors.New("negative count")
	}
	return checkList("notes", r.Notes, func(s string) error {
		if len(s) > maxNote {
			return fmt.Errorf("text of %d bytes", len(s))
		}
		return nil
	})
}

const (
	maxNote        = 4 * 33 << 10 // a path of the longest kind, quoted
	maxChanges     = 4_000_000
	maxChangeBytes = 256 << 20 // of all paths together
	maxChangePath  = 32 << 10
)

// WritePlaceChanges writes changes, which are sorted by path.
func WritePlaceChanges(w io.Writer, changes []PlaceChange) error {
	out := bufio.NewWriterSize(w, 64<<10)
	buf := binary.AppendUvarint(nil, uint64(len(changes)))
	last := ""
	for i := range changes {
		c := &changes[i]
		same := common(last, c.Path)
		buf = append(buf, byte(c.Op), byte(c.Kind))
		buf = binary.AppendUvarint(buf, uint64(c.Why))
		buf = binary.AppendUvarint(buf, uint64(max(c.Size, 0)))
		buf = binary.AppendUvarint(buf, uint64(same))
		buf = binary.AppendUvarint(buf, uint64(len(c.Path)-same))
		buf = append(buf, c.Path[same:]...)
		if _, err := out.Write(buf); err != nil {
			return err
		}
		buf, last = buf[:0], c.Path
	}
	if _, err := out.Write(buf); err != nil { // the count of none
		return err
	}
	return out.Flush()
}

func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// ReadPlaceChanges reads what WritePlaceChanges wrote, and no byte more than that from a reader that is
// an io.ByteReader. Every path is checked: relative and clean.
func ReadPlaceChanges(r io.Reader) ([]PlaceChange, error) {
	in, ok := r.(byteReader)
	if !ok {
		in = bufio.NewReaderSize(r, 64<<10)
	}
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, noEOF(err)
	}
	if n > maxChanges {
		return nil, fmt.Errorf("list of %d changes", n)
	}
	c := changeReader{in: in, room: maxChangeBytes}
	list := make([]PlaceChange, 0, min(n, 4096))
	for range n {
		one, err := c.next()
		if err != nil {
			return nil, noEOF(err)
		}
		list = append(list, one)
	}
	return list, nil
}

type byteReader interface {
	io.Reader
	io.ByteReader
}

// changeReader reads one change after the other.
type changeReader struct {
	in   byteReader
	last string
	room int
	buf  []byte
}

func (c *changeReader) next() (PlaceChange, error) {
	op, err := c.in.ReadByte()
	if err != nil {
		return PlaceChange{}, err
	}
	kind, err := c.in.ReadByte()
	if err != nil {
		return PlaceChange{}, err
	}
	var n [4]uint64 // why, size, bytes in common, bytes of its own
	for i := range n {
		if n[i], err = binary.ReadUvarint(c.in); err != nil {
			return PlaceChange{}, err
		}
	}
	if op < 1 || op > byte(PlaceKept) || kind < 1 || kind > byte(PlaceSpecial) || n[0] >= 1<<9 || n[1] > 1<<63-1 {
		return PlaceChange{}, errors.New("change that cannot be")
	}
	path, err := c.path(n[2], n[3])
	return PlaceChange{Path: path, Op: PlaceOp(op), Kind: PlaceKind(kind), Why: PlaceWhy(n[0]), Size: int64(n[1])}, err
}

func (c *changeReader) path(same, own uint64) (string, error) {
	if same > uint64(len(c.last)) || own > maxChangePath || same+own > maxChangePath {
		return "", errors.New("path of a change that cannot be")
	}
	if c.room -= int(same + own); c.room < 0 {
		return "", errors.New("paths of changes without end")
	}
	c.buf = append(append(c.buf[:0], c.last[:same]...), make([]byte, own)...)
	if _, err := io.ReadFull(c.in, c.buf[same:]); err != nil {
		return "", err
	}
	path := string(c.buf)
	if path <= c.last || !cleanBelow(path) {
		return "", fmt.Errorf("path %.80q of a change", path)
	}
	c.last = path
	return path, nil
}

// cleanBelow reports whether a path is made of plain components; any byte but NUL may be in them.
func cleanBelow(p string) bool {
	for c := range strings.SplitSeq(p, "/") {
		if c == "" || c == "." || c == ".." || len(c) > maxName || strings.ContainsRune(c, 0) {
			return false
		}
	}
	return true
}
