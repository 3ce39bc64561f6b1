package balance

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/templates"
)

// probeTime bounds one question to a balancer.
const probeTime = 5 * time.Second

// ask gives the mark of the file that the workers of a host have loaded, "" when they answer without one.
func (n nginx) ask(ctx context.Context, h deploy.Host) (string, error) {
	site, err := n.Env.NginxSite()
	if err != nil {
		return "", err
	}
	return askMark(ctx, h, site.Listen[0], site.Certificate != "", probeName(site.Names), templates.NginxProbePath)
}

// askMark asks the balancer of a host, under a name of the site, for the mark of the file that it has loaded.
func askMark(ctx context.Context, h deploy.Host, on templates.NginxListen, tls bool, name, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	client := &http.Client{Transport: probeTransport(h, on, name), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	scheme := "http"
	if tls {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+name+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // only the header counts
	_ = resp.Body.Close()
	return resp.Header.Get(templates.NginxMarkHeader), nil
}

// probeTransport connects from the host itself to the first address that its balancer listens on. The
// certificate is not looked at: it is for the visitors' names, and what is asked is no secret and is not
// believed further than that a file was loaded.
func probeTransport(h deploy.Host, on templates.NginxListen, name string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: name},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return h.Dial(ctx, "tcp", probeAddress(on))
		},
	}
}

// probeAddress is where a host finds its own balancer.
func probeAddress(l templates.NginxListen) string {
	at := l.Address
	switch {
	case !at.IsValid() || at == netip.IPv4Unspecified():
		at = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case at == netip.IPv6Unspecified():
		at = netip.IPv6Loopback()
	}
	return net.JoinHostPort(at.String(), strconv.Itoa(l.Port))
}

// probeName is a name that the server block answers to.
func probeName(names []string) string {
	if len(names) == 0 {
		return "_"
	}
	name := strings.TrimSuffix(names[0], ".*")
	if strings.HasPrefix(name, "*") {
		return "godeploy" + name[1:]
	}
	return strings.TrimPrefix(name, ".")
}

// loaded asks until the workers answer with a mark; without one any answer will do.
func (n nginx) loaded(ctx context.Context, h deploy.Host, mark string) error {
	for {
		got, err := n.ask(ctx, h)
		if err == nil && (mark == "" || got == mark) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("nginx answers with the mark %.40q, not %s", got, mark)
		}
		if deploy.Pause(ctx, pollTime) != nil {
			return err
		}
	}
}
