package hosts

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// LoadOptions say how hard and for how long to ask.
type LoadOptions struct {
	URLs []string // asked in turn
	// Rate is requests a second, kept whatever the answer time; at most 1000. 0 means 50.
	Rate int
	// Max ends the load after that many requests; 0 means 20,000.
	Max int
	// Timeout is for one request, connection included; 0 means 10 s.
	Timeout time.Duration
	// Check, if set, judges an answer beyond its status; an error counts as a failure.
	Check func(resp *http.Response, body []byte) error
}

// Failure is one request that did not get a good answer.
type Failure struct {
	At     time.Time
	URL    string
	Reason string
}

// Report is what a load saw.
type Report struct {
	Requests int
	Failed   int
	// Failures holds the first hundred in order of their end.
	Failures []Failure
	// Versions counts good answers by their X-Version header, Releases by X-Release.
	Versions, Releases map[string]int
	Slowest            time.Duration
}

// String gives the report in a few lines for a test's log.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %d failed, slowest %v", r.Requests, r.Failed, r.Slowest.Round(time.Millisecond))
	for _, v := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, ", %s: %d", v, r.Versions[v])
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n  %s %s: %s", f.At.Format("15:04:05.000"), f.URL, f.Reason)
	}
	return b.String()
}

// Load is a running load. Stop ends it.
type Load struct {
	opts   LoadOptions
	client *http.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	report  Report
	changed chan struct{} // closed and replaced at each answer
}

// Load starts asking from the operator's namespace: one-shot clients, a new connection for each
// request and no second try, so that every failure a visitor would see is counted. It ends with
// the context, with Stop, or after Max requests.
func (f *Fleet) Load(ctx context.Context, opts LoadOptions) *Load {
	if opts.Rate <= 0 {
		opts.Rate = 50
	}
	opts.Rate = min(opts.Rate, 1000)
	if opts.Max <= 0 {
		opts.Max = 20_000
	}
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{opts: opts, client: f.HTTP(opts.Timeout), cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	l.report.Versions, l.report.Releases = map[string]int{}, map[string]int{}
	go l.run(ctx)
	return l
}

// run keeps the rate; requests under way are let end, so none is counted as failed for the stop.
func (l *Load) run(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(time.Second / time.Duration(l.opts.Rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := range l.opts.Max {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wg.Go(func() { l.ask(l.opts.URLs[n%len(l.opts.URLs)]) })
	}
}

func (l *Load) ask(url string) {
	began := time.Now()
	resp, err := l.client.Get(url)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		_ = resp.Body.Close() // the whole body was read or the error is in err
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, tail(string(body), 200))
	}
	if err == nil && l.opts.Check != nil {
		err = l.opts.Check(resp, body)
	}
	l.count(url, resp, err, time.Since(began))
}

func (l *Load) count(url string, resp *http.Response, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Requests++
	l.report.Slowest = max(l.report.Slowest, took)
	if err == nil {
		l.report.Versions[resp.Header.Get("X-Version")]++
		l.report.Releases[resp.Header.Get("X-Release")]++
	} else {
		l.report.Failed++
		if len(l.report.Failures) < 100 {
			l.report.Failures = append(l.report.Failures, Failure{At: time.Now(), URL: url, Reason: err.Error()})
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Report gives what was seen so far.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Failures = slices.Clone(r.Failures)
	r.Versions, r.Releases = maps.Clone(r.Versions), maps.Clone(r.Releases)
	return r
}

// Until waits until the report satisfies cond, and says whether it did before the load or the
// context ended.
func (l *Load) Until(ctx context.Context, cond func(r Report) bool) bool {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if cond(l.Report()) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		case <-l.done:
			return cond(l.Report())
		}
	}
}

// Stop sends no more requests, waits for those under way, and gives the report.
func (l *Load) Stop() Report {
	l.cancel()
	<-l.done
	return l.Report()
}

// Wait waits until Max requests are answered or the context of Load ends, and gives the report.
func (l *Load) Wait() Report {
	<-l.done
	l.cancel()
	return l.Report()
}
