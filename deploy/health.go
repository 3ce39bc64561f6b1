package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// maxHealthBody bounds what is read of a health check's answer.
const maxHealthBody = 64 << 10

// Probe is one host's health check, with everything rendered for it.
type Probe struct {
	Host     string
	URL      string
	Status   inventory.StatusRange
	Interval time.Duration
	Timeout  time.Duration // of one try
	Tries    int
	Settle   time.Duration // how long it must stay healthy after the first success
	Header   string        // response header that must equal Release; "" asks nothing
	Release  string
}

// Dialer connects from a host; Host.Dial is one.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Await asks until the host has been healthy for Settle without a break, or Tries tries have failed.
// A failure while settling counts as a try and starts the settling again. The fault says what the
// last answer was.
func (p Probe) Await(ctx context.Context, dial Dialer, report event.Reporter) error {
	if p.URL == "" {
		return nil
	}
	client := p.client(dial)
	defer client.CloseIdleConnections()
	var since time.Time // of an unbroken row of successes
	for failed := 0; ; {
		status, err := p.ask(ctx, client)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			since = time.Time{}
			failed++
			e := event.Event{Type: event.Health, Host: p.Host, Try: failed, Of: p.Tries, Status: status, Error: err.Error()}
			if failed == 1 || failed%10 == 0 || failed == p.Tries { // each try is an event, few are worth a line
				e.Msg = fmt.Sprintf("health: %v, try %d of %d", err, failed, p.Tries)
			}
			report.Report(e)
			if failed >= p.Tries {
				return p.unhealthy(err)
			}
		case since.IsZero():
			since = time.Now()
			report.Report(event.Event{Type: event.Health, Host: p.Host, Try: failed + 1, Of: p.Tries, Status: status})
		}
		if !since.IsZero() && time.Since(since) >= p.Settle {
			return nil
		}
		if err := Pause(ctx, p.wait(since)); err != nil {
			return err
		}
	}
}

// wait is how long until the next question: the interval, or what is left of settling.
func (p Probe) wait(since time.Time) time.Duration {
	if since.IsZero() {
		return p.Interval
	}
	return min(p.Interval, max(p.Settle-time.Since(since), 0))
}

// Ask asks once and gives the HTTP status, 0 when there was no answer or nothing to ask.
func (p Probe) Ask(ctx context.Context, dial Dialer) (int, error) {
	if p.URL == "" {
		return 0, nil
	}
	client := p.client(dial)
	defer client.CloseIdleConnections()
	return p.ask(ctx, client)
}

func (p Probe) ask(ctx context.Context, client *http.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "godeploy-health")
	res, err := client.Do(req)
	if err != nil {
		return 0, shorten(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxHealthBody)) // the status is what counts
	if !p.Status.Has(res.StatusCode) {
		return res.StatusCode, fmt.Errorf("GET %s -> %d", p.URL, res.StatusCode)
	}
	if got := res.Header.Get(p.Header); p.Header != "" && got != p.Release {
		return res.StatusCode, fmt.Errorf("GET %s -> %d, %s is %q, want %q", p.URL, res.StatusCode, p.Header, got, p.Release)
	}
	return res.StatusCode, nil
}

// client makes a new connection for each question, as the first request after a restart would.
func (p Probe) client(dial Dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHealthBody},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != via[0].URL.Host || len(via) > 5 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

func (p Probe) unhealthy(last error) error {
	return fault.New(fault.HealthFailed, "did not become healthy in %d tries", p.Tries).
		On(p.Host).Fact("%v (%d tries)", last, p.Tries)
}

// shorten drops the method and address that net/http puts in front of every cause.
func shorten(err error) error {
	var asked *url.Error
	if !errors.As(err, &asked) {
		return err
	}
	if asked.Timeout() {
		return errors.New("no answer in time")
	}
	return asked.Err
}

// Pause waits, or ends with the context's cause.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
