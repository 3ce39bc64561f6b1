package overssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	filesync "godeploy/sync"
)

const (
	// listText names everything below $2. The name comes last: it may hold anything but a zero byte.
	listText = `cd -- "$1" || exit 9
LC_ALL=C; export LC_ALL
exec find "./$2" -mindepth 1 -printf '%y %m %s %T@ %C@ %U %G %D %i %P\0'`

	// copyText refuses what a copy one by one would not make: special files and bits past 0777.
	copyText = `cd -- "$1" || exit 9
o=$(find "./$2" ! -type f ! -type d ! -type l -print -o ! -type l \( -perm -4000 -o -perm -2000 -o -perm -1000 \) -print | head -n 1) || exit 8
[ -z "$o" ] || exit 8
exec cp -pPR "./$2" "./$3"`

	removeText = `cd -- "$1" || exit 9
exec rm -rf "./$2"`

	// syncText writes the root's file system out, or all where sync cannot tell them apart.
	syncText = `cd -- "$1" || exit 9
sync -f . 2>/dev/null || sync`
)

// ReadTree lists with one find, where it is GNU's.
func (s shellFS) ReadTree(ctx context.Context, p string, each func(in filesync.Info) error) error {
	if !s.tools.find {
		return fmt.Errorf("list: %w", errors.ErrUnsupported)
	}
	if _, err := s.real("list", p); err != nil {
		return err
	}
	left := 2 * filesync.MaxEntries
	out := records{end: 0, each: func(record []byte) error {
		in, err := parseFound(string(record))
		if err != nil {
			return err
		}
		if left--; left < 0 {
			return fmt.Errorf("%s holds too many names", p)
		}
		return each(in)
	}}
	err := s.script(ctx, listText, nil, &out, p)
	if status := ended(err); status == 1 { // a folder that may not be read is empty
		err = nil
	}
	if err != nil {
		return told("find", err)
	}
	return out.bad
}

// parseFound reads a record of listText.
func parseFound(record string) (filesync.Info, error) {
	fields := strings.SplitN(record, " ", 10)
	bad := fmt.Errorf("find on the host said %.100q", record)
	if len(fields) != 10 {
		return filesync.Info{}, bad
	}
	in := filesync.Info{Kind: filesync.Special, Name: fields[9]}
	if kind, known := map[string]filesync.Kind{"f": filesync.File, "d": filesync.Dir, "l": filesync.Link}[fields[0]]; known {
		in.Kind = kind
	}
	mode, err := strconv.ParseUint(fields[1], 8, 32)
	var n [5]uint64
	for i, at := range []int{2, 5, 6, 7, 8} {
		var e error
		n[i], e = strconv.ParseUint(fields[at], 10, 64)
		err = errors.Join(err, e)
	}
	var e1, e2 error
	in.MTime, e1 = parseStamp(fields[3])
	in.CTime, e2 = parseStamp(fields[4])
	if errors.Join(err, e1, e2) != nil || checkPath("list", in.Name) != nil {
		return filesync.Info{}, bad
	}
	in.Mode, in.Size = uint32(mode)&0o777, int64(n[0])
	in.UID, in.GID, in.Dev, in.Ino = int(n[1]), int(n[2]), n[3], n[4]
	return in, nil
}

// parseStamp reads "SECONDS.FRACTION" as nanoseconds; digits past those are dropped.
func parseStamp(text string) (int64, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, err
	}
	nanos, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil {
		return 0, err
	}
	if strings.HasPrefix(whole, "-") {
		return seconds*1_000_000_000 - int64(nanos), nil
	}
	return seconds*1_000_000_000 + int64(nanos), nil
}

// CopyTree copies with one cp.
func (s shellFS) CopyTree(ctx context.Context, old, p string) error {
	if !s.tools.cp {
		return fmt.Errorf("copy: %w", errors.ErrUnsupported)
	}
	if _, err := s.reach("copy", old); err != nil {
		return err
	}
	if _, err := s.reach("copy", p); err != nil {
		return err
	}
	err := s.script(ctx, copyText, nil, io.Discard, old, p)
	if ended(err) == 8 {
		return fmt.Errorf("copy %s: %w", old, errors.ErrUnsupported)
	}
	if err != nil {
		return told("cp", err)
	}
	return nil
}

// RemoveAll removes folders with one rm, and what that leaves, since a folder forbids it, by SFTP.
func (s shellFS) RemoveAll(p string) error {
	if s.tools.cp && p != "." {
		if info, err := s.Lstat(p); err == nil && info.Kind == filesync.Dir {
			s.known.forget(p)
			// The call has no ctx: it ends with the connection.
			_ = s.script(context.Background(), removeText, nil, io.Discard, p) // what it leaves is seen below
		}
	}
	return s.sftpFS.RemoveAll(p)
}

// Sync makes all that was written durable.
func (s shellFS) Sync() error {
	if err := s.script(context.Background(), syncText, nil, io.Discard); err != nil { // as for RemoveAll
		return told("sync", err)
	}
	return nil
}
