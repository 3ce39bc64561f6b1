package overssh

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	filesync "godeploy/sync"
)

const (
	// sumText hashes the files whose names it reads; the words from $2 on are the program.
	sumText = `cd -- "$1" || exit 9
shift
LC_ALL=C; export LC_ALL
exec xargs -0 "$@"`

	// sumOddText is for names that the programs write each in its own way: it gives one line for each,
	// without a name, empty where there is no such file.
	sumOddText = `cd -- "$1" || exit 9
shift
LC_ALL=C; export LC_ALL
exec xargs -0 -n 100 /bin/sh -c 'for f do
if [ -f "$f" ] && [ ! -h "$f" ]; then '"$*"' <"$f" || echo; else echo; fi
done' sh`
)

// Sums hashes files where they are. The words that hash are put into a text in one place only, and are
// ours, not data.
func (s shellFS) Sums(ctx context.Context, paths []string) ([]filesync.Hash, error) {
	if s.tools.sum == nil {
		return nil, fmt.Errorf("hash files: %w", errors.ErrUnsupported)
	}
	sums := make([]filesync.Hash, len(paths))
	place := make(map[string]int, len(paths))
	var plain, odd bytes.Buffer
	var oddOnes []int
	for i, p := range paths {
		if err := checkPath("hash", p); err != nil {
			return nil, err
		}
		if strings.ContainsAny(p, "\n\r\\") {
			odd.WriteString("./" + p + "\x00")
			oddOnes = append(oddOnes, i)
			continue
		}
		place["./"+p] = i
		plain.WriteString("./" + p + "\x00")
	}
	if len(place) > 0 {
		out := records{end: '\n', each: func(line []byte) error { takeSum(line, place, sums); return nil }}
		if err := s.hash(ctx, sumText, &plain, &out); err != nil {
			return nil, err
		}
	}
	if len(oddOnes) > 0 {
		out := records{end: '\n', each: func(line []byte) error {
			if len(oddOnes) > 0 {
				sums[oddOnes[0]], _ = sumOf(line) // zero where there is none
				oddOnes = oddOnes[1:]
			}
			return nil
		}}
		return sums, s.hash(ctx, sumOddText, &odd, &out)
	}
	return sums, nil
}

// hash runs one of the texts. A status other than 0 is that of a file that is missing.
func (s shellFS) hash(ctx context.Context, text string, names *bytes.Buffer, out *records) error {
	err := s.script(ctx, text, names, out, s.tools.sum...)
	if status := ended(err); status > 0 && status != 9 && status < 124 {
		err = nil
	}
	if err != nil {
		return told("hash", err)
	}
	return out.bad
}

// takeSum reads a line "SUM  NAME" or "SUM *NAME".
func takeSum(line []byte, place map[string]int, sums []filesync.Hash) {
	sum, rest := sumOf(line)
	if len(rest) < 3 || rest[0] != ' ' || rest[1] != ' ' && rest[1] != '*' {
		return
	}
	if i, asked := place[string(rest[2:])]; asked {
		sums[i] = sum
	}
}

// sumOf reads the sum that a line begins with; the zero Hash where there is none.
func sumOf(line []byte) (sum filesync.Hash, rest []byte) {
	n := hex.EncodedLen(len(sum))
	if len(line) < n {
		return sum, nil
	}
	if _, err := hex.Decode(sum[:], line[:n]); err != nil {
		return filesync.Hash{}, nil
	}
	return sum, line[n:]
}

// maxRecord bounds what one file may be told in.
const maxRecord = filesync.MaxPath + 512

var errTooLong = errors.New("the host's answer has no end")

// records cuts what is written to it at end and gives each record to each, without its end. After the
// first error, which it keeps, it drops everything.
type records struct {
	end  byte
	each func(record []byte) error
	part []byte
	bad  error
}

func (r *records) Write(p []byte) (int, error) {
	n := len(p)
	for r.bad == nil {
		at := bytes.IndexByte(p, r.end)
		if at < 0 {
			break
		}
		whole := p[:at]
		if len(r.part) > 0 {
			r.part = append(r.part, whole...)
			whole = r.part
		}
		r.bad = r.each(whole)
		r.part, p = r.part[:0], p[at+1:]
	}
	if r.bad == nil {
		r.part = append(r.part, p...)
		if len(r.part) > maxRecord {
			r.bad = errTooLong
		}
	}
	return n, nil
}
