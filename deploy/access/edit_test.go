package access

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// aKey makes up a key of a type: its blob begins as a real one's does.
func aKey(kind, seed string) Key {
	body := make([]byte, 32)
	copy(body, seed)
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(kind)))
	blob = append(blob, kind...)
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(body)))
	return Key{Type: kind, Blob: append(blob, body...), Comment: seed}
}

func text(k Key) string { return k.Type + " " + base64.StdEncoding.EncodeToString(k.Blob) }

func TestAdd(t *testing.T) {
	t.Parallel()
	a, b, k := aKey("ssh-ed25519", "a"), aKey("ssh-ed25519", "b"), aKey("ssh-ed25519", "k")
	own := "restrict,pty " + k.Public() + "\n"
	for name, c := range map[string]struct {
		file, want string
		change     Change
	}{
		"empty":              {"", own, Change{Added: 1}},
		"no final newline":   {text(a), text(a) + "\n" + own, Change{Added: 1}},
		"CRLF":               {text(a) + " x\r\n" + text(b) + "\r\n", text(a) + " x\r\n" + text(b) + "\r\n" + own, Change{Added: 1}},
		"there":              {own, own, Change{}},
		"there, reordered":   {"pty,restrict " + text(k) + "\n", "pty,restrict " + text(k) + "\n", Change{}},
		"there, free":        {"# x\n \t" + text(k) + " mine \n" + text(a) + "\n", "# x\n \trestrict,pty " + text(k) + " mine \n" + text(a) + "\n", Change{Replaced: 1}},
		"there, CRLF":        {text(k) + "\r\n", "restrict,pty " + text(k) + "\r\n", Change{Replaced: 1}},
		"other options":      {`command="backup \"x\" y" ` + text(k) + "\n", `command="backup \"x\" y" ` + text(k) + "\n", Change{Notes: []string{`line 1 has the key with options of its own, which were left as they are: "command=\"backup \\\"x\\\" y\""`}}},
		"commented":          {"#" + text(k) + "\n", "#" + text(k) + "\n" + own, Change{Added: 1}},
		"authority":          {"cert-authority " + text(k) + "\n", "cert-authority " + text(k) + "\n" + own, Change{Added: 1}},
		"byte order mark":    {bom + text(k) + "\n", bom + text(k) + "\n" + own, Change{Added: 1, Notes: []string{"line 1 lets nobody in: a byte order mark in front of it makes sshd overlook it"}}},
		"unknown option":     {"fly " + text(k) + "\n", "fly " + text(k) + "\n" + own, Change{Added: 1, Notes: []string{`line 1 lets nobody in: sshd does not know its option "fly"`}}},
		"twice":              {own + text(k) + "\n", own + text(k) + "\n", Change{Notes: []string{"line 2 has the key of line 1 once more; sshd goes by the first"}}},
		"junk, not UTF-8":    {"\xff\xfe junk\n" + text(a) + " \xe4\n", "\xff\xfe junk\n" + text(a) + " \xe4\n" + own, Change{Added: 1}},
		"a line's type lies": {"ssh-rsa " + base64.StdEncoding.EncodeToString(k.Blob) + "\n", "ssh-rsa " + base64.StdEncoding.EncodeToString(k.Blob) + "\n" + own, Change{Added: 1}},
		"open quotes":        {`command="x ` + text(k) + "\n", `command="x ` + text(k) + "\n" + own, Change{Added: 1}},
		"behind a NUL":       {"x\x00" + text(k) + "\n", "x\x00" + text(k) + "\n" + own, Change{Added: 1}},
	} {
		got, change, err := Add([]byte(c.file), k, Options{})
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
		if change.Added != c.change.Added || change.Replaced != c.change.Replaced || fmt.Sprint(notes(change)) != fmt.Sprint(notes(c.change)) {
			t.Errorf("%s: got %+v, want %+v", name, change, c.change)
		}
	}
}

// notes are compared without the quoting of what a host has.
func notes(c Change) string { return strings.ReplaceAll(strings.Join(c.Notes, "; "), `\`, "") }

func TestRemove(t *testing.T) {
	t.Parallel()
	a, k := aKey("ssh-ed25519", "a"), aKey("sk-ssh-ed25519@openssh.com", "k")
	for name, c := range map[string]struct {
		file, want string
		removed    int
	}{
		"not there":      {text(a), text(a), 0},
		"the only one":   {text(k), "", 1},
		"in the middle":  {"# c\r\n" + text(a) + "\n" + text(k) + " x\r\n\n" + text(a), "# c\r\n" + text(a) + "\n\n" + text(a), 1},
		"twice":          {text(k) + "\n" + text(a) + "\nrestrict " + text(k) + "\n", text(a) + "\n", 2},
		"commented":      {"# " + text(k) + "\n", "# " + text(k) + "\n", 0},
		"authority":      {"cert-authority " + text(k) + "\n", "cert-authority " + text(k) + "\n", 0},
		"overlooked now": {"fly " + text(k) + "\n" + text(a) + "\n", text(a) + "\n", 1},
	} {
		got, change := Remove([]byte(c.file), k.Blob)
		if string(got) != c.want || change.Removed != c.removed {
			t.Errorf("%s: got %q, %d removed, want %q, %d", name, got, change.Removed, c.want, c.removed)
		}
	}
}

// Every edit leaves every other line as it is, and can be undone.
func FuzzEdit(f *testing.F) {
	a, k := aKey("ssh-ed25519", "a"), aKey("ssh-ed25519", "k")
	for _, s := range []string{"", text(a), text(k), bom + text(k) + "\n" + text(k), "restrict " + text(k) + " x\r\n", `from="a b",pty ` + text(k), "\x00\n#", `environment="A=\"" ` + text(a)} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, file []byte, open bool) {
		o := Options{From: []string{"10.0.0.0/8"}}
		if open {
			o.Opens = []string{"10.0.0.1:22"}
		}
		added, c, err := Add(file, k, o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readSheet(file).bytes(), file) {
			t.Fatalf("%q does not come together again", file)
		}
		if len(readSheet(added).find(k.Blob)) == 0 {
			t.Fatalf("%q has no key in %q", file, added)
		}
		if again, c, _ := Add(added, k, o); !bytes.Equal(again, added) || c.Any() {
			t.Fatalf("a second time changes %q to %q", added, again)
		}
		if c.Added == 1 && !bytes.HasPrefix(added, file) {
			t.Fatalf("%q became %q", file, added)
		}
		if !others(file, added, k) {
			t.Fatalf("other lines of %q became %q", file, added)
		}
		if back := Restore(added, file, k); c.Any() && !bytes.Equal(bytes.TrimSuffix(back, []byte("\n")), bytes.TrimSuffix(undone(file, c), []byte("\n"))) {
			t.Fatalf("%q undone is %q", file, back)
		}
		removed, _ := Remove(added, k.Blob)
		if len(readSheet(removed).find(k.Blob)) != 0 || !others(added, removed, k) {
			t.Fatalf("%q without the key is %q", added, removed)
		}
	})
}

// undone is what Restore gives: blanks between options and key may be fewer.
func undone(file []byte, c Change) []byte {
	if c.Replaced == 0 {
		return file
	}
	s := slices.Clone(readSheet(file))
	at := s.find(aKey("ssh-ed25519", "k").Blob)[0]
	s[at].raw = s[at].withOptions(s[at].options)
	return s.bytes()
}

// others compares the lines that do not have the key.
func others(a, b []byte, k Key) bool {
	pick := func(file []byte) (out []string) {
		for _, l := range readSheet(file) {
			if !bytes.Equal(l.blob, k.Blob) {
				out = append(out, strings.TrimSuffix(string(l.raw), "\n"))
			}
		}
		return out
	}
	return slices.Equal(pick(a), pick(b))
}

func TestOptionsRefuseWhatEndsALine(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{From: []string{`10.0.0.1" ssh-rsa`}}, {From: []string{"a\nb"}}, {From: []string{"a,b"}}, {From: []string{""}}, {From: []string{"a\\"}},
		{Opens: []string{"x"}}, {Opens: []string{`h":22`}}, {Opens: []string{"h:0"}}, {Opens: []string{"h h:1"}}, {Opens: []string{":22"}},
	} {
		if out, _, err := Add(nil, aKey("ssh-ed25519", "k"), o); err == nil {
			t.Errorf("%+v gives %q", o, out)
		}
	}
	all := Options{Opens: []string{"[fd00::1]:22", "10.0.0.1:22", "10.0.0.1:22"}, From: []string{"10.0.0.0/8", "!10.9.0.1", "*.example.org"},
		Expires: time.Date(2027, 1, 31, 1, 0, 0, 0, time.FixedZone("", 3600))}
	got, err := all.render()
	if want := `restrict,pty,port-forwarding,permitopen="10.0.0.1:22",permitopen="[fd00::1]:22",from="10.0.0.0/8,!10.9.0.1,*.example.org",expiry-time="20270131000000Z"`; got != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// ssh-keygen -l lists what OpenSSH finds in a file; our reader must find the same.
func TestReaderAgreesWithSSHKeygen(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		if os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
			t.Fatal(err)
		}
		t.Skip("ssh-keygen is not installed")
	}
	dir := t.TempDir()
	var keys []Key
	for i := range 4 {
		k, err := Generate(filepath.Join(dir, fmt.Sprint("k", i)), GenerateOptions{Comment: fmt.Sprint("c", i)})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	random := rand.New(rand.NewPCG(7, 7))
	for n := range 60 {
		file := filepath.Join(dir, "authorized")
		content := randomFile(random, keys)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var want, got []string
		out, _ := exec.Command("ssh-keygen", "-l", "-f", file).Output() // it ends with 255 where there is no key
		for l := range strings.Lines(string(out)) {
			want = append(want, strings.Fields(l)[1])
		}
		for _, l := range readSheet(content) {
			if l.blob != nil {
				got = append(got, Key{Blob: l.blob}.Fingerprint())
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("file %d: got %q, ssh-keygen finds %q in\n%q", n, got, want, content)
		}
	}
}

func randomFile(r *rand.Rand, keys []Key) []byte {
	var b bytes.Buffer
	front := []string{"", "", " \t", "restrict ", `command="a \"b\" c",pty `, "#", "# ", "from=\"a,b\" "}
	ends := []string{"\n", "\r\n", "\n\n", "\n# comment\n", "\njunk line here\n"}
	for range r.IntN(6) {
		b.WriteString(front[r.IntN(len(front))] + keys[r.IntN(len(keys))].Public() + ends[r.IntN(len(ends))])
	}
	return b.Bytes()
}
