package cmd

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/internal/wire"
)

func TestItemisedAsRsyncDoes(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]wire.PlaceChange{
		"<f+++++++++": {Op: wire.PlaceCreate, Kind: wire.PlaceFile, Why: wire.WhyNew},
		"cd+++++++++": {Op: wire.PlaceCreate, Kind: wire.PlaceDir, Why: wire.WhyNew},
		"cL+++++++++": {Op: wire.PlaceCreate, Kind: wire.PlaceLink, Why: wire.WhyNew},
		"<fcst......": {Op: wire.PlaceUpdate, Kind: wire.PlaceFile, Why: wire.WhySize | wire.WhyTime},
		"<fc..p.....": {Op: wire.PlaceUpdate, Kind: wire.PlaceFile, Why: wire.WhyContent | wire.WhyMode},
		".f..t......": {Op: wire.PlaceMeta, Kind: wire.PlaceFile, Why: wire.WhyTime},
		".d...po....": {Op: wire.PlaceMeta, Kind: wire.PlaceDir, Why: wire.WhyMode | wire.WhyOwner},
		"*deleting  ": {Op: wire.PlaceDelete, Kind: wire.PlaceFile, Why: wire.WhyDeleted},
	} {
		if got := itemised(&c); got != want {
			t.Errorf("%v: got %q, want %q", c, got, want)
		}
	}
}

func TestListedOnceForHostsAlike(t *testing.T) {
	t.Parallel()
	change := []wire.PlaceChange{{Path: "a\x1b[31m", Op: wire.PlaceCreate, Kind: wire.PlaceFile, Why: wire.WhyNew}}
	groups := sameChanges([]deploy.Synced{
		{Host: "one", Changes: change, Listed: true}, {Host: "two", Listed: true}, {Host: "three", Changes: change, Listed: true}, {Host: "four"},
	})
	var got []string
	for _, g := range groups {
		got = append(got, fmt.Sprint(g.hosts, len(g.first.Changes)))
	}
	if strings.Join(got, " ") != "[one three] 1 [two] 0 [four] 0" {
		t.Errorf("got %v", got)
	}
	if line := changeLine(look{}, &change[0]); strings.Contains(line, "\x1b") {
		t.Errorf("a name of the source reaches the terminal: %q", line)
	}
}

// What is sent by several connections together keeps to the rate, and a closed one does not wait.
func TestRateHoldsForAllConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, each, conns = 1 << 20, 1 << 20, 4
		r := newRate(rate)
		began := time.Now()
		done := make(chan error, conns)
		for range conns {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			go func() {
				c := &limited{Conn: here, rate: r, closed: make(chan struct{})}
				_, err := c.Write(make([]byte, each))
				done <- err
				_ = c.Close()
			}()
		}
		for range conns {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took < 3900*time.Millisecond || took > 4100*time.Millisecond {
			t.Errorf("4 MiB at 1 MiB/s took %v", took)
		}
		here, _ := net.Pipe()
		c := &limited{Conn: here, rate: newRate(1), closed: make(chan struct{})}
		go func() {
			_, err := c.Write([]byte("much too much"))
			done <- err
		}()
		synctest.Wait()
		_ = c.Close()
		if err := <-done; err == nil {
			t.Error("a closed connection was written to")
		}
	})
	if newRate(0).dialer() != nil {
		t.Error("no rate has a dialer of its own")
	}
}

func TestCacheFolder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ goos, home, vars, want string }{
		{"linux", "/h", "", "/h/.cache"}, {"linux", "/h", "XDG_CACHE_HOME=/c", "/c"}, {"linux", "/h", "XDG_CACHE_HOME=c", "/h/.cache"},
		{"darwin", "/h", "XDG_CACHE_HOME=/c", "/h/Library/Caches"}, {"windows", "", "LocalAppData=C:\\c", "C:\\c"}, {"linux", "", "", ""},
	} {
		name, value, _ := strings.Cut(tt.vars, "=")
		sys := System{Home: tt.home, Env: func(n string) string {
			if n == name {
				return value
			}
			return ""
		}}
		if got := userCache(tt.goos, sys); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
	for value, want := range map[string]string{"off": "", "/x": "/x", "x": "/w/x", "": "/h/.cache/godeploy"} {
		c := &call{sys: System{Home: "/h", Dir: "/w", Env: func(n string) string { return map[string]string{"GODEPLOY_CACHE": value}[n] }}}
		if got := c.cacheDir(); got != want && !strings.Contains(got, "Caches") {
			t.Errorf("GODEPLOY_CACHE=%q: got %q, want %q", value, got, want)
		}
	}
}

func TestPaceOfATransfer(t *testing.T) {
	t.Parallel()
	s := state{}
	s.learn(event.Event{Time: at(0), Type: event.PhaseStart, Phase: "sync", Hosts: []string{"a", "b"}})
	for i := range 11 {
		for n, host := range []string{"a", "b"} {
			s.learn(event.Event{Time: at(float64(i)), Type: event.Progress, Host: host, Phase: "sync", Unit: "bytes",
				Done: int64(i * (n + 1) * 1e6), Total: 20e6})
		}
	}
	if got := s.host("a").pace.text(at(10)); got != "10.0 MB of 20.0 MB, 1.0 MB/s, 10.0s left" {
		t.Errorf("a: %s", got)
	}
	if got := s.pace(); got != "30.0 MB of 40.0 MB, 3.0 MB/s, 10.0s left" {
		t.Errorf("in all: %s", got)
	}
	if got := s.host("b").pace.text(at(10)); got != "20.0 MB of 20.0 MB, 2.0 MB/s" {
		t.Errorf("b: %s", got)
	}
	// Nothing moves any more: the rate goes down with the time.
	if got := s.host("a").pace.rate(at(20)); got > 0.6e6 {
		t.Errorf("10 s later: %v", got)
	}
	if got := (&pace{}).text(at(0)); got != "0 B of 0 B" {
		t.Errorf("nothing: %s", got)
	}
}

func TestInPlaceNothingGoesUnasked(t *testing.T) {
	t.Parallel()
	const file = "version = 1\n[app]\nname = \"x\"\npath = \"/opt/x\"\n%s[process]\nmanager = \"command\"\n[hooks]\nrestart = [\"true\"]\n[env.prod.hosts]\na = { role = \"app\", address = \"192.0.2.1\" }\n"
	for _, tt := range []struct {
		more, line string
		want       string // of placing: staged, keeps, deletes, or refused
	}{
		{"", "", "staged"},
		{"", "--delete", "refused"},
		{"", "--max-delete 3", "refused"},
		{"", "--to /opt/y", "keeps"},
		{"", "--to /opt/y/ --delete", "deletes"},
		{"[sync]\ndelete = true\n", "--to /opt/y", "keeps"},
		{"layout = \"inplace\"\n", "", "keeps"},
		{"layout = \"inplace\"\n[sync]\ndelete = true\n", "", "deletes"},
		{"layout = \"inplace\"\n[sync]\ndelete = true\n", "--no-delete", "keeps"},
		{"", "--to opt/y", "refused"}, {"", "--to /etc", "refused"}, {"", "--to /opt/y --rate much", "refused"},
		{"", "--to /opt/y --max-delete 0%", "refused"},
	} {
		m := newMachine(t)
		m.write(t, "godeploy.toml", fmt.Sprintf(file, tt.more))
		got := "refused"
		spec := syncCommand()
		spec.Run = func(ctx context.Context, c *call) error {
			if err := c.applySync(); err != nil {
				return err
			}
			place, err := c.placing(ctx)
			switch {
			case err != nil:
				return err
			case place == nil:
				got = "staged"
			case place.Delete:
				got = "deletes"
			default:
				got = "keeps"
			}
			return nil
		}
		code := atCommand(t.Context(), m, spec, strings.Fields(tt.line)...)
		if got != tt.want || (code == exitUsage) != (tt.want == "refused") {
			t.Errorf("%q %q: got %s, exit %d, want %s: %s", tt.more, tt.line, got, code, tt.want, m.err.String())
		}
	}
}
