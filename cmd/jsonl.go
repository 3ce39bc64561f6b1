package cmd

import (
	"bufio"
	"encoding/json"
	"io"
	"time"

	"godeploy/internal/event"
)

// schemaVersion is the version of the JSON lines: the minor number grows when something is added, the
// major one when something changes its meaning (docs/json.md).
const schemaVersion = "1.0"

// progressEvery is how often the lines tell the progress of one host: people look, pipes fill.
const progressEvery = time.Second

// hello is the first line of every stream.
type hello struct {
	V        string `json:"v"`
	T        string `json:"t"`
	Seq      int64  `json:"seq"`
	Type     string `json:"type"`
	Run      string `json:"run"`
	Godeploy string `json:"godeploy"`
	PID      int    `json:"pid"`
}

// jsonLine is an event on the wire. Its own T and Type win over those of the embedded event.
type jsonLine struct {
	V    string     `json:"v"`
	T    string     `json:"t"`
	Seq  int64      `json:"seq"`
	Type event.Type `json:"type"`
	Run  string     `json:"run"`
	event.Event
}

// jsonLines writes records as JSON lines. After a write error it stays quiet and close gives the
// error: a full disk or a reader that went away must not stop a release.
type jsonLines struct {
	w      *bufio.Writer
	closer io.Closer // nil when the stream is not ours to close
	enc    *json.Encoder
	seen   map[progressKey]time.Time
	err    error
}

// newJSONLines writes the first line at once; closer may be nil.
func newJSONLines(w io.Writer, closer io.Closer, first hello) *jsonLines {
	j := &jsonLines{w: bufio.NewWriter(w), closer: closer, seen: map[progressKey]time.Time{}}
	j.enc = json.NewEncoder(j.w)
	j.enc.SetEscapeHTML(false)
	first.V, first.Seq, first.Type = schemaVersion, 0, "hello"
	j.encode(first)
	return j
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (j *jsonLines) show(r record) {
	if r.Type == event.Progress && !j.due(r) {
		return
	}
	j.encode(jsonLine{V: schemaVersion, T: timestamp(r.Time), Seq: r.Seq, Type: r.Type, Run: r.Run, Event: r.Event})
}

func (j *jsonLines) due(r record) bool {
	key := progressKey{r.Host, r.Phase, r.Step}
	if last, ok := j.seen[key]; ok && r.Time.Sub(last) < progressEvery && r.Done != r.Total {
		return false
	}
	j.seen[key] = r.Time
	return true
}

func (j *jsonLines) encode(v any) {
	if j.err == nil {
		j.err = j.enc.Encode(v)
	}
}

// tick sends what has gathered: a reader follows the run, it does not read it afterwards.
func (j *jsonLines) tick(time.Time) {
	if j.err == nil {
		j.err = j.w.Flush()
	}
}

func (j *jsonLines) close() error {
	j.tick(time.Time{})
	if j.closer != nil {
		if err := j.closer.Close(); err != nil && j.err == nil {
			j.err = err
		}
	}
	return j.err
}
