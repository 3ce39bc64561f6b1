package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"godeploy/deploy/access"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

func TestLinesSurviveAnyChunking(t *testing.T) {
	t.Parallel()
	text := "one\ntwo\r\n\n" + strings.Repeat("x", maxLine+10) + "\nlast"
	want := []string{"one", "two", "", strings.Repeat("x", maxLine), strings.Repeat("x", 10), "last"}
	for _, size := range []int{1, 2, 3, 7, 4096, len(text)} {
		var got []string
		w := &lineWriter{line: func(s string) { got = append(got, s) }}
		for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if n, err := w.Write(rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatalf("write: %d, %v", n, err)
			}
		}
		w.flush()
		if fmt.Sprint(len(got)) != fmt.Sprint(len(want)) || strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("chunks of %d: got %d lines, want %d", size, len(got), len(want))
		}
	}
}

func TestHostsDoNotRunIntoEachOthersLines(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	p := newPrefixed(&out, &errs, []string{"app1", "app10"})
	var group sync.WaitGroup
	for _, host := range []string{"app1", "app10"} {
		group.Go(func() {
			stdout, _, flush := p.of(host)
			for range 200 {
				fmt.Fprint(stdout, "half ")
				fmt.Fprintf(stdout, "of %s\n", host)
			}
			fmt.Fprint(stdout, "::set-output \x1b[31m")
			flush()
		})
	}
	group.Wait()
	for line := range strings.Lines(out.String()) {
		ok := line == "app1  | half of app1\n" || line == "app10 | half of app10\n" || strings.HasSuffix(line, ` | ::set-output \x1b[31m`+"\n")
		if !ok {
			t.Fatalf("got %q", line)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 402 {
		t.Errorf("%d lines, want 402", n)
	}
}

// One host's bytes reach a pipe untouched and a person's terminal harmless.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	for _, tty := range []bool{false, true} {
		var out bytes.Buffer
		w, _, flush := passThrough{System{Stdout: &out, StdoutTTY: tty}}.of("app1")
		if _, err := w.Write([]byte("\x1b]0;x\a\xff\n")); err != nil {
			t.Fatal(err)
		}
		flush()
		want := "\x1b]0;x\a\xff\n"
		if tty {
			want = `\x1b]0;x\x07` + "\ufffd\n"
		}
		if out.String() != want {
			t.Errorf("tty %v: got %q, want %q", tty, out.String(), want)
		}
	}
}

func TestJumpHostsAreTrustedBeforeThoseBehindThem(t *testing.T) {
	t.Parallel()
	file, err := inventory.Parse("godeploy.toml", []byte(`version = 1
[app]
name = "swiper"
path = "/opt/swiper"
[process]
unit = "swiper.service"
[health]
url = "http://127.0.0.1/"
[env.prod.hosts]
deep = { role = "app", address = "10.0.0.3", jump = ["gate,mid"] }
app = { role = "app", address = "10.0.0.2", jump = ["gate", "other"] }
mid = { role = "cache", address = "10.0.0.1", jump = ["gate"] }
gate = { role = "nginx", address = "192.0.2.1" }
other = { role = "nginx", address = "192.0.2.2" }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, rank := range access.Ranks(env, env.Hosts) {
		var names []string
		for _, h := range rank {
			names = append(names, h.Name)
		}
		got = append(got, strings.Join(names, " "))
	}
	if want := "gate other; app mid; deep"; strings.Join(got, "; ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "; "), want)
	}
}

func TestExecResults(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	c := &call{sys: m.System}
	off := fault.New(fault.SSHTimeout, "x").On("a")
	lost := fault.New(fault.SSHLost, "x").On("a")
	tests := []struct {
		results []remote
		want    int
	}{
		{[]remote{{status: 0}}, 0},
		{[]remote{{status: 3}}, 3},
		{[]remote{{status: 255, err: off}}, 255},
		{[]remote{{}, {}}, 0},
		{[]remote{{}, {status: 3}}, 1},
		{[]remote{{}, {err: off}}, 4},
		{[]remote{{status: 3}, {err: off}}, 1},
		{[]remote{{err: lost}, {}}, 1},
		{[]remote{{err: errors.New("odd")}, {err: off}}, 1},
	}
	for _, tt := range tests {
		if got := codeOf(c.execResult(tt.results)); got != tt.want {
			t.Errorf("%+v: exit %d, want %d", tt.results, got, tt.want)
		}
	}
}

func TestPassphraseIsAskedOnTheTerminal(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	c := &call{sys: m.System}
	if _, err := c.passphrase(context.Background(), "~/.ssh/id"); !fault.Is(err, fault.SSHAuth) || codeOf(err) != exitUnreachable {
		t.Errorf("without a terminal: %v", err)
	}
	c.sys.OpenTTY = func() (TTY, error) { return &fakeTTY{Reader: strings.NewReader("secret")}, nil }
	if got, err := c.passphrase(context.Background(), "~/.ssh/id"); err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
}
