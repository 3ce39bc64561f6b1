package hooks

import (
	"bytes"
	"strings"
)

// maxLine bounds a line of output that is held back until its end comes; a longer one is cut there.
const maxLine = 16 << 10

// lines turns chunks of two output streams into whole lines. It is used by one goroutine at a time.
type lines struct {
	emit    func(stream, line string)
	pending map[string]*bytes.Buffer
	order   []string
}

func newLines(emit func(stream, line string)) *lines {
	return &lines{emit: emit, pending: map[string]*bytes.Buffer{}}
}

func (l *lines) write(stream string, p []byte) {
	b := l.buffer(stream)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		for room := maxLine - b.Len(); len(line) > room; room = maxLine {
			b.Write(line[:room])
			l.out(stream, b)
			line = line[room:]
		}
		b.Write(line)
		if !whole {
			return
		}
		l.out(stream, b)
		p = rest
	}
}

func (l *lines) buffer(stream string) *bytes.Buffer {
	b := l.pending[stream]
	if b == nil {
		b = &bytes.Buffer{}
		l.pending[stream] = b
		l.order = append(l.order, stream)
	}
	return b
}

func (l *lines) out(stream string, b *bytes.Buffer) {
	l.emit(stream, strings.TrimSuffix(b.String(), "\r"))
	b.Reset()
}

// flush gives what came after the last line end.
func (l *lines) flush() {
	for _, stream := range l.order {
		if b := l.pending[stream]; b.Len() > 0 {
			l.out(stream, b)
		}
	}
}

// tail keeps the last few lines that were not blank.
type tail struct {
	kept []string
	max  int
}

func newTail(max int) *tail { return &tail{max: max} }

func (t *tail) add(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(line) > 300 {
		line = line[:300] + "…"
	}
	t.kept = append(t.kept, line)
	if len(t.kept) > t.max {
		t.kept = t.kept[1:]
	}
}

func (t *tail) lines() []string { return append([]string(nil), t.kept...) }
