package sshx

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// parseHop reads one host of a ProxyJump: "[user@]host[:port]", an IPv6 address in brackets, or an ssh URI.
func parseHop(text string) (Target, error) {
	bad := fmt.Errorf("%q is no host to jump over", clip(text, 100))
	if rest, ok := strings.CutPrefix(text, "ssh://"); ok {
		text = strings.TrimSuffix(rest, "/")
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
	}
	user, host, ok := cutLast(text, "@")
	if !ok {
		user, host = "", text
	} else if user == "" {
		return Target{}, bad
	}
	t := Target{User: user, Address: host}
	if inner, rest, ok := strings.Cut(strings.TrimPrefix(host, "["), "]"); ok && strings.HasPrefix(host, "[") {
		t.Address = inner
		host = "x" + rest
	}
	if name, port, ok := strings.Cut(host, ":"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Target{}, bad
		}
		t.Port = int(n)
		if t.Address == host {
			t.Address = name
		}
	}
	if t.Address == "" || strings.ContainsAny(t.Address, "/ \t") || strings.Contains(t.Address, ":") && net.ParseIP(strings.Split(t.Address, "%")[0]) == nil {
		return Target{}, bad
	}
	t.Name = t.Address
	return t, nil
}

// cutLast cuts around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}
