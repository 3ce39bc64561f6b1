package process

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/event"
)

// listening is where the app is asked, and the sockets that the kernel has there: number to address.
type listening struct {
	where   string
	sockets map[string]bool
}

// listens finds the sockets that the app's port or path has. A host that does not tell has none, and then
// nothing is said of them.
func (s *Service) listens(ctx context.Context, h deploy.Host) listening {
	where := s.where(h)
	l := listening{where: where, sockets: map[string]bool{}}
	if where == "" {
		return l
	}
	script := []string{"awk", `$4 == "0A" && $2 ~ (":" p "$") { print $10 }`, fmt.Sprintf("p=%04X", portOf(where)), "/proc/net/tcp", "/proc/net/tcp6"}
	if name, unix := strings.CutPrefix(where, "unix:"); unix {
		// Only a socket that accepts has the flag 00010000.
		script = []string{"awk", `$4 == "00010000" && $8 == p { print $7 }`, "p=" + name, "/proc/net/unix"}
	}
	did, err := command(ctx, h, script)
	if err != nil || did.Exit != 0 && did.Out == "" {
		return l
	}
	for _, word := range strings.Fields(did.Out) {
		l.sockets[word] = true
	}
	return l
}

// where is the address that the app listens on: [process] bind, else where its health is asked.
func (s *Service) where(h deploy.Host) string {
	if bind, err := s.env.Render("process.bind", s.env.Process.Bind, h.Inventory(), ""); err == nil && bind != "" {
		return bind
	}
	probe, err := deploy.ProbeOf(s.env, h.Inventory(), "")
	if err != nil {
		return ""
	}
	u, err := url.Parse(probe.URL)
	if err != nil || u.Port() == "" {
		return ""
	}
	return u.Host
}

func portOf(address string) int {
	port := 0
	for _, c := range address[strings.LastIndexByte(address, ':')+1:] {
		if c < '0' || c > '9' || port > 65535 {
			return 0
		}
		port = port*10 + int(c-'0')
	}
	return port
}

// kept says whether the listener is the same as before, so that no connection was ever refused. One that
// was opened anew is worth a warning: the release may have changed the address, or it was closed.
func (s *Service) kept(ctx context.Context, h deploy.Host, id string, before listening) {
	if len(before.sockets) == 0 {
		return
	}
	e := event.Event{Type: event.Proof, Host: h.Inventory().Name, Phase: "switch", Step: "listener", Release: id}
	now := s.listens(ctx, h)
	if maps.Equal(now.sockets, before.sockets) {
		list := strings.Join(slices.Sorted(maps.Keys(now.sockets)), ", ")
		e.Msg = fmt.Sprintf("proof: the listener at %s was never closed (socket %s)", before.where, list)
	} else {
		e.Type, e.Msg = event.Warn, fmt.Sprintf("restart: the listener at %s was opened anew, so connections may have been refused meanwhile", before.where)
	}
	s.report.Report(e)
}
