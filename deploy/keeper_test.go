package deploy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"godeploy/internal/event"
	"godeploy/internal/wire"
)

// Every fakeHost adds to the records of its releases.
var _ Noter = (*fakeHost)(nil)

// keeper is what a fakeHost has of secrets, and how its programs answer.
type keeper struct {
	facts   *wire.HelloReply
	secrets map[string][]byte // by release
	// says answers a program by its last argument.
	says func(shell string, env map[string]string) (exit int, stdout string)
	mu   sync.Mutex
	asks []wire.ExecRequest
}

func (k *keeper) keep(req wire.StageRequest) {
	if req.Env == nil {
		return
	}
	if k.secrets == nil {
		k.secrets = map[string][]byte{}
	}
	k.secrets[req.Release.ID] = req.Env.Content
}

func (k *keeper) answer(req wire.ExecRequest, output func(string, []byte)) wire.ExecReply {
	k.mu.Lock()
	k.asks = append(k.asks, req)
	k.mu.Unlock()
	if k.says == nil {
		return wire.ExecReply{}
	}
	exit, text := k.says(req.Argv[len(req.Argv)-1], req.Env)
	if text != "" {
		output("stdout", []byte(text))
	}
	return wire.ExecReply{Exit: exit}
}

func (h *fakeHost) Note(_ context.Context, id string, note wire.Note) error {
	if err := h.w.step(h, "note", id); err != nil {
		return err
	}
	h.w.change(func() {
		for i := range h.state.Releases {
			r := &h.state.Releases[i]
			if r.ID != id {
				continue
			}
			if note.Once != nil {
				once := *note.Once
				r.Once = &once
			}
			if note.Heads != nil {
				r.Heads = note.Heads
			}
		}
	})
	return nil
}

// ledger collects events.
type ledger struct {
	mu     sync.Mutex
	events []event.Event
}

func (l *ledger) Report(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// said reports whether an event has the text.
func (l *ledger) said(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.events, func(e event.Event) bool { return strings.Contains(e.Msg, text) })
}

// answers makes every host's programs answer.
func (w *world) answers(says func(shell string, env map[string]string) (int, string)) {
	for _, h := range w.hosts {
		h.says = says
	}
}

// times counts the steps that contain a text.
func (w *world) times(text string) int {
	n := 0
	for _, line := range w.log {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func mustParse(t *testing.T, text string) Secrets {
	t.Helper()
	s, err := ParseSecrets([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}
