package cmd

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"godeploy/sshx"
)

func TestEscapesAreKnownAtTheBeginningOfALine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typed, sent string
		hungUp      bool
	}{
		{"ls\r", "ls\r", false},
		{"~.", "", true},
		{"ls\r~.", "ls\r", true},
		{"cd ~.\r", "cd ~.\r", false},
		{"~~.\r", "~.\r", false},
		{"~a~.\r", "~a~.\r", false},
		{"\n~?~.", "\n", true},
		{"~\r~.", "~\r", true},
		{"é~.\r", "é~.\r", false},
	} {
		hungUp := false
		var told bytes.Buffer
		for _, from := range []io.Reader{strings.NewReader(tt.typed), iotest.OneByteReader(strings.NewReader(tt.typed))} {
			hungUp = false
			got, err := io.ReadAll(iotest.OneByteReader(&escapes{from: from, told: &told, hangUp: func() { hungUp = true }}))
			if string(got) != tt.sent || hungUp != tt.hungUp || err != nil {
				t.Errorf("%q: sent %q, hung up %v, %v; want %q, %v", tt.typed, got, hungUp, err, tt.sent, tt.hungUp)
			}
		}
		if want := strings.Contains(tt.typed, "~?"); want != strings.Contains(told.String(), "end the connection") {
			t.Errorf("%q: told %q", tt.typed, told.String())
		}
	}
}

func TestEqualAnswersAreOneGroup(t *testing.T) {
	t.Parallel()
	s := &collected{}
	var results []remote
	for _, r := range []struct {
		host, text string
		status     int
		err        error
	}{
		{"a", "x", 0, nil}, {"b", "y", 0, nil}, {"c", "", 0, errors.New("gone")}, {"d", "y", 0, nil}, {"e", "y", 1, nil}, {"f", "", 0, errors.New("gone")},
	} {
		out, errs, flush := s.of(r.host)
		_, _ = io.WriteString(out, r.text[:len(r.text)/2])
		_, _ = io.WriteString(errs, r.text[len(r.text)/2:])
		flush()
		results = append(results, remote{target: sshx.Target{Name: r.host}, status: r.status, err: r.err})
	}
	var b strings.Builder
	if err := s.show(&b, results); err != nil {
		t.Fatal(err)
	}
	want := "== b, d (2 hosts)\ny\n== a\nx\n== c (no connection)\n== e (status 1)\ny\n== f (no connection)\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestOneHostsAnswerIsBounded(t *testing.T) {
	t.Parallel()
	s := &collected{}
	out, _, _ := s.of("a")
	block := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10)
	for range 6 {
		if n, err := out.Write(block); n != len(block) || err != nil {
			t.Fatal(n, err)
		}
	}
	var b strings.Builder
	if err := s.show(&b, []remote{{target: sshx.Target{Name: "a"}}}); err != nil {
		t.Fatal(err)
	}
	if b.Len() > maxCollected+100 || !strings.HasSuffix(b.String(), "(the rest after 4 MiB is left out)\n") {
		t.Errorf("%d bytes, ending in %q", b.Len(), b.String()[b.Len()-50:])
	}
}
