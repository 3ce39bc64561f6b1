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
		{"controller", "frame", 6}, {"helper", "frame", 5}, {"both", "frame", 5}, {"reset", "frame", 3}, {"freeze", "frame", 2}, {"reboot", "frame", 3},
		{"helper", "call", 5}, {"both", "call", 5},
	}
	for name := range errnos() {
		list = append(list, sweep{name, "call", 2})
	}
	return list
}

// lengths measures every scenario.
func (l *lab) lengths() (map[string]length, error) {
	all := map[string]length{}
	for _, s := range scenarios() {
		n, err := l.measure(s)
		if err != nil {
			return nil, err
		}
		all[s.name] = n
	}
	return all, nil
}

// points are all of a sweep's.
func (w sweep) points(lengths map[string]length) []point {
	var list []point
	for _, s := range scenarios() {
		if w.who == "freeze" && s.name != "release" && s.name != "broken" {
			continue // each takes the time that a helper waits
		}
		if w.at != "frame" {
			list = w.calls(s, lengths[s.name], list)
			continue
		}
		for k := range lengths[s.name].frames {
			list = append(list, point{s.name, w.who, w.at, k + 1, ""})
		}
	}
	return list
}

// calls are the points at operations on a folder: of the first, the middle and the last host by turns.
func (w sweep) calls(s scenario, n length, list []point) []point {
	_, fails := errnos()[w.who]
	for i, h := range hostNames() {
		for k := range n.count(h, !fails) {
			if !fails || k%len(hostNames()) == i { // an operation fails alike on any host
				list = append(list, point{s.name, w.who, w.at, k + 1, h})
			}
		}
	}
	return list
}

// TestNothingIsLeftHalfWay strikes at every point, or at a sample of them. Some labs are struck beside each
// other: a point spends more time waiting than working.
func TestNothingIsLeftHalfWay(t *testing.T) {
	t.Parallel()
	if tryOne(t) {
		return
	}
	book := openBook(t)
	const beside = 3
	labs := make(chan *lab, beside)
	for range beside {
		labs <- newLab(t)
	}
	first := <-labs
	lengths, err := first.lengths()
	if err != nil {
		t.Fatalf("%v\n%s", err, first.told())
	}
	labs <- first
	for _, w := range sweeps() {
		chosen := book.choose(t, w.points(lengths), w.sample)
		t.Run(w.who+" at a "+w.at, func(t *testing.T) {
			t.Parallel()
			for i, p := range chosen {
				if !book.strike(t, labs, p, i > 0) {
					t.Logf("%s is up: %d of the sample are not tried", sampleTime, w.sample-i)
					return
				}
			}
		})
	}
}

// strike tries a point in a lab that is free; false says that the sample's time is up.
func (b *book) strike(t *testing.T, labs chan *lab, p point, mayBeLate bool) bool {
	t.Helper()
	l := <-labs
	defer func() { labs <- l }()
	if mayBeLate && b.late() {
		return false
	}
	l.t = t
	if o, done := l.report(p); done {
		b.write(t, o)
	}
	return true
}

// tryOne tries the one point that was asked for.
func tryOne(t *testing.T) bool {
	t.Helper()
	text := os.Getenv(pointEnv)
	if text == "" {
		return false
	}
	p, err := parsePoint(text)
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t)
	if p.Who == "power" {
		l.newDisk()
	}
	l.report(p)
	return true
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
	began time.Time
	all   bool
	only  string // with all: what names of points begin with
	part  func(i int) bool
	path  string
	done  map[point]bool
	rand  *rand.Rand
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
	b := &book{
		began: time.Now(), all: os.Getenv(allEnv) != "", only: strings.TrimPrefix(os.Getenv(allEnv), "all"), path: os.Getenv(resultsEnv), done: map[point]bool{}, rand: rand.New(rand.NewPCG(seed, 0)),
	}
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

// sampleTime is after which a sample is left as it is, but for one point of each sweep: a machine that is
// busy tries fewer.
const sampleTime = 40 * time.Second

func (b *book) late() bool { return !b.all && time.Since(b.began) > sampleTime }

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
