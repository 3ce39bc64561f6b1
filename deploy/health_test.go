package deploy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

func statuses(text string) (r inventory.StatusRange) {
	if err := r.UnmarshalText([]byte(text)); err != nil {
		panic(err) // a slip in the test itself
	}
	return r
}

func dialer() Dialer { return (&net.Dialer{}).DialContext }

func probeFor(url string) Probe {
	return Probe{Host: "app1", URL: url, Status: statuses("200-299"), Interval: time.Millisecond,
		Timeout: 2 * time.Second, Tries: 4, Release: "20261123-104107-4f2c9e1"}
}

func TestHealthDecides(t *testing.T) {
	t.Parallel()
	const header = "X-Release"
	for _, tt := range []struct {
		name   string
		answer func(n int64, w http.ResponseWriter, r *http.Request)
		change func(*Probe)
		fact   string // "" is healthy
	}{
		{name: "well at once", answer: func(int64, http.ResponseWriter, *http.Request) {}},
		{name: "well at the third try", answer: func(n int64, w http.ResponseWriter, _ *http.Request) {
			if n < 3 {
				w.WriteHeader(503)
			}
		}},
		{name: "ill for good", answer: func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, fact: "-> 500 (4 tries)"},
		{name: "no answer in time", answer: func(_ int64, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			change: func(p *Probe) { p.Timeout = 20 * time.Millisecond }, fact: "no answer in time"},
		{name: "the old release answers", answer: func(_ int64, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, "20261121-181530-b01d77a")
		},
			change: func(p *Probe) { p.Header = header }, fact: `X-Release is "20261121-181530-b01d77a"`},
		{name: "the new release answers", answer: func(_ int64, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, "20261123-104107-4f2c9e1")
		},
			change: func(p *Probe) { p.Header = header }},
		{name: "a redirect elsewhere is not followed", answer: func(_ int64, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
		}, fact: "-> 302"},
		{name: "well once, then ill, while settling", answer: func(n int64, w http.ResponseWriter, _ *http.Request) {
			if n > 1 {
				w.WriteHeader(500)
			}
		}, change: func(p *Probe) { p.Settle = time.Hour }, fact: "-> 500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tt.answer(asked.Add(1), w, r)
			}))
			defer server.Close()
			p := probeFor(server.URL + "/healthz")
			if tt.change != nil {
				tt.change(&p)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := p.Await(ctx, dialer(), event.Discard{})
			if tt.fact == "" {
				if err != nil {
					t.Fatalf("got %v, want healthy", err)
				}
				return
			}
			if !fault.Is(err, fault.HealthFailed) {
				t.Fatalf("got %v, want health-failed", err)
			}
			if facts := strings.Join(fault.All(err)[0].Facts, "\n"); !strings.Contains(facts, tt.fact) {
				t.Errorf("facts %q lack %q", facts, tt.fact)
			}
		})
	}
}

func TestHealthEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := fault.New(fault.Interrupted, "stopped")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel(stop)
		w.WriteHeader(500)
	}))
	defer server.Close()
	p := probeFor(server.URL)
	p.Interval = time.Hour
	if err := p.Await(ctx, dialer(), event.Discard{}); !fault.Is(err, fault.Interrupted) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}

func TestHealthWithoutURLAsksNothing(t *testing.T) {
	t.Parallel()
	if err := (Probe{}).Await(t.Context(), nil, event.Discard{}); err != nil {
		t.Error(err)
	}
}
