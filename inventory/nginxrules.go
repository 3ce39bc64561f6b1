package inventory

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"godeploy/templates"
)

// nginxCheck gives the checks of what can stand in an nginx file; nil for any other name.
func nginxCheck(name string) func(string) error {
	switch name {
	case "method":
		return func(s string) error { _, err := templates.ParseNginxMethod(s); return err }
	case "listen":
		return func(s string) error { _, err := ParseListen(s); return err }
	case "nginxheader":
		return func(s string) error { _, err := templates.ParseNginxHeader(s); return err }
	case "nginxword":
		return templates.CheckNginxWord
	case "servername":
		return templates.CheckServerName
	case "nginxpath":
		return templates.CheckNginxPath
	case "nginxsocket":
		return templates.CheckSocketPath
	case "nginxsize":
		return templates.CheckNginxSize
	case "nginxtime":
		return templates.CheckNginxExpires
	case "locationpath":
		return templates.CheckLocationPath
	}
	return nil
}

// nginxRule makes a rule of a check that package templates has.
func nginxRule(check func(string) error) rule {
	return func(s string) error {
		err := check(s)
		var bad *templates.Error
		if errors.As(err, &bad) {
			return &valueError{bad.Msg, bad.Hint}
		}
		return err
	}
}

// checkIPAddress wants an address that somebody else can connect to.
func checkIPAddress(s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return badValue(`must be an IP address such as "10.0.0.1"`)
	}
	return nil
}

// ParseListen reads "80", "10.0.0.1:80" or "[::]:443", several with commas between them.
func ParseListen(s string) ([]templates.NginxListen, error) {
	var all []templates.NginxListen
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		one := templates.NginxListen{}
		if ap, err := netip.ParseAddrPort(part); err == nil && ap.Addr().Zone() == "" {
			one.Address, one.Port = ap.Addr(), int(ap.Port())
		} else if n, err := strconv.ParseUint(part, 10, 16); err == nil {
			one.Port = int(n)
		}
		if one.Port == 0 || strings.HasPrefix(part, "+") {
			return nil, badValue(`must be a port from 1 to 65535, or an address with one, such as "10.0.0.1:80" or "[::]:80"`)
		}
		all = append(all, one)
	}
	return all, nil
}
