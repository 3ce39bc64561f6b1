package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	demoRate     = 100              // requests a second, over all servers
	demoInFlight = 64               // requests at once
	demoPatience = 10 * time.Second // for one answer
)

// demoLoad is the shop's customers: each opens a connection, asks for the page once and goes, as one
// behind a load balancer would. Nobody tries again.
type demoLoad struct {
	stop context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	seen demoSeen
}

// demoSeen is what the customers have seen.
type demoSeen struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Releases map[string]int `json:"releases"` // release to answers
	first    error          // of the requests that failed
}

// startLoad sends requests to the URLs, each in proportion to its weight, until ctx ends or finish.
func startLoad(ctx context.Context, urls []string, weights []int) *demoLoad {
	ctx, stop := context.WithCancel(ctx)
	l := &demoLoad{stop: stop, seen: demoSeen{Releases: map[string]int{}}}
	client := &http.Client{Timeout: demoPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	l.work.Go(func() { l.send(ctx, client, urls, turns(weights)) })
	return l
}

// turns spreads servers by weight, as nginx does: 10, 20, 20 gives 1 2 0 1 2.
func turns(weights []int) []int {
	total, left := 0, make([]int, len(weights))
	for _, w := range weights {
		total += w
	}
	var order []int
	for range total {
		best := 0
		for i, w := range weights {
			left[i] += w
			if left[i] > left[best] {
				best = i
			}
		}
		left[best] -= total
		order = append(order, best)
	}
	return order
}

func (l *demoLoad) send(ctx context.Context, client *http.Client, urls []string, order []int) {
	tick := time.NewTicker(time.Second / demoRate)
	defer tick.Stop()
	free := make(chan struct{}, demoInFlight)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		free <- struct{}{} // waits for an answer when too many are out
		url := urls[order[n%len(order)]]
		l.work.Go(func() {
			release, err := ask(client, url)
			<-free
			l.count(release, err)
		})
	}
}

// ask is one customer. It is not cut off when the load stops: a request that has begun counts.
func ask(client *http.Client, url string) (release string, err error) {
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxPage)); err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	release = res.Header.Get("X-Release")
	if res.StatusCode != http.StatusOK || release == "" {
		return release, fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return release, nil
}

func (l *demoLoad) count(release string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.Requests++
	if err == nil {
		l.seen.Releases[release]++
		return
	}
	l.seen.Failed++
	if l.seen.first == nil {
		l.seen.first = err
	}
}

// finish stops sending, waits for the answers that are out and gives the counts.
func (l *demoLoad) finish() demoSeen {
	l.stop()
	l.work.Wait()
	return l.seen
}

// so far gives the counts up to now.
func (l *demoLoad) soFar() (requests, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Requests, l.seen.Failed
}

// check is nil when nobody went away without a page.
func (s demoSeen) check() error {
	if s.Failed > 0 {
		return s.first
	}
	if s.Requests == 0 {
		return errors.New("no request was sent")
	}
	return nil
}
