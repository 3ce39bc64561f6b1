package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// What `make chaos` says through the environment; see its target.
const (
	allEnv     = "GODEPLOY_CHAOS"         // "all": every point; or those whose names begin so; else a sample
	partEnv    = "GODEPLOY_CHAOS_PART"    // i/n: only these
	resultsEnv = "GODEPLOY_CHAOS_RESULTS" // file of outcomes: what stands there is not tried again
	seedEnv    = "GODEPLOY_CHAOS_SEED"    // of the sample
	pointEnv   = "GODEPLOY_CHAOS_POINT"   // only this one, as a failure names it
)

// sweep is one kind of fault over all scenarios.
type sweep struct {
	who, at string
	sample  int // points of it in an ordinary test
}

func sweeps() []sweep {
	list := []sweep{
		{"controller", "frame", 10}, {"helper", "frame", 8}, {"both", "frame", 8}, {"reset", "frame", 6}, {"freeze", "frame", 3}, {"reboot", "frame", 6},
		{"helper", "call", 8}, {"both", "call", 8},
	}
	for name := range errnos() {
		list = append(list, sweep{name, "call", 3})
	}
	return list
}

// points are all of a sweep's.
func (l *lab) points(w sweep) ([]point, error) {
	var list []point
	for _, s := range scenarios() {
		if w.who == "freeze" && s.name != "release" && s.name != "broken" {
			continue // each takes the time that a helper waits
		}
		frames, _, err := 0, 0, error(nil)
		if w.at == "frame" {
			frames, _, err = l.length(s, "b", true)
			for k := range frames {
				list = append(list, point{s.name, w.who, w.at, k + 1, ""})
			}
		} else {
			list, err = l.calls(w, s, list)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// calls are the points at operations on a folder: of the first, the middle and the last host by turns.
func (l *lab) calls(w sweep, s scenario, list []point) ([]point, error) {
	_, fails := errnos()[w.who]
	for i, h := range hostNames() {
		_, calls, err := l.length(s, h, !fails)
		if err != nil {
			return nil, err
		}
		for k := range calls {
			if !fails || k%len(hostNames()) == i { // an operation fails alike on any host
				list = append(list, point{s.name, w.who, w.at, k + 1, h})
			}
		}
	}
	return list, nil
}

// TestNothingIsLeftHalfWay strikes at every point, or at a sample of them.
func TestNothingIsLeftHalfWay(t *testing.T) {
	if text := os.Getenv(pointEnv); text != "" {
		p, err := parsePoint(text)
		if err != nil {
			t.Fatal(err)
		}
		l := newLab(t)
		if p.Who == "power" {
			l.newDisk()
		}
		l.report(p)
		return
	}
	book := openBook(t) // rand is used before the sweeps run beside each other
	for _, w := range sweeps() {
		t.Run(w.who+" at a "+w.at, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			list, err := l.points(w)
			if err != nil {
				t.Fatalf("%v\n%s", err, l.told())
			}
			for _, p := range book.choose(t, list, w.sample) {
				if o, done := l.report(p); done {
					book.write(t, o)
				}
			}
		})
	}
}

// report tries a point and tells of it.
func (l *lab) report(p point) (outcome, bool) {
	l.t.Helper()
	if l.t.Context().Err() != nil {
		return outcome{}, false
	}
	o := l.try(p)
	l.t.Logf("%s: struck %q in %q, verdict %q, locks free after %d ms, %d ms", p, o.Struck, o.Step, o.Verdict, o.FreeMS, o.MS)
	if len(o.Findings) > 0 {
		l.t.Errorf("%s=%s\nstruck %q in %q; the run: %q %s\n%s\n\n%s", pointEnv, p, o.Struck, o.Step, o.Verdict, o.Error,
			strings.Join(o.Findings, "\n"), l.told())
	}
	return o, true
}

// book keeps what came of the points, so that a sweep that was stopped goes on where it was.
type book struct {
	all  bool
	only string // with all: what names of points begin with
	part func(i int) bool
	path string
	done map[point]bool
	rand *rand.Rand
}

func openBook(t *testing.T) *book {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedEnv); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)
	b := &book{all: os.Getenv(allEnv) != "", only: strings.TrimPrefix(os.Getenv(allEnv), "all"), path: os.Getenv(resultsEnv), done: map[point]bool{}, rand: rand.New(rand.NewPCG(seed, 0))}
	i, n := 1, 1
	if text := os.Getenv(partEnv); text != "" {
		if _, err := fmt.Sscanf(text, "%d/%d", &i, &n); err != nil || i < 1 || i > n {
			t.Fatalf("%s=%q is no i/n", partEnv, text)
		}
	}
	b.part = func(at int) bool { return at%n == i-1 }
	outcomes, err := readBook(b.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if len(o.Findings) == 0 {
			b.done[o.Point] = true
		}
	}
	return b
}

// choose picks the points to try.
func (b *book) choose(t *testing.T, list []point, sample int) []point {
	t.Helper()
	var chosen []point
	if !b.all {
		r := rand.New(rand.NewPCG(b.rand.Uint64(), uint64(len(list))))
		for _, i := range r.Perm(len(list))[:min(sample, len(list))] {
			chosen = append(chosen, list[i])
		}
		return chosen
	}
	for i, p := range list {
		if b.part(i) && !b.done[p] && strings.HasPrefix(p.String(), b.only) {
			chosen = append(chosen, p)
		}
	}
	t.Logf("%d of %d points to try", len(chosen), len(list))
	return chosen
}

func (b *book) write(t *testing.T, o outcome) {
	t.Helper()
	if b.path == "" {
		return
	}
	line, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(append(line, '\n'))
	if cerr := f.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
}

// readBook reads outcomes; of a point that was tried more than once the last counts. A line that a
// stopped sweep has cut is passed over.
func readBook(path string) ([]outcome, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := map[point]int{}
	var list []outcome
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o outcome
		if json.Unmarshal(lines.Bytes(), &o) != nil {
			continue
		}
		if at, ok := index[o.Point]; ok {
			list[at] = o
			continue
		}
		index[o.Point] = len(list)
		list = append(list, o)
	}
	return list, lines.Err()
}
