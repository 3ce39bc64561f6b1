package access

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"godeploy/internal/fault"
)

// Options is what a key may do on one host. The zero value is the narrowest: commands and a terminal, and
// nothing forwarded.
type Options struct {
	// Opens are the addresses that connections may be forwarded to, "10.0.0.1:22" or "[fd00::1]:22": the
	// hosts behind a jump host, and what a health check asks.
	Opens   []string
	From    []string  // addresses and networks that the key may come from; empty is anywhere
	Expires time.Time // when it stops to let in; the zero time is never
}

// render gives the options as they stand in the file: restrict first, so that a newer sshd's further
// permissions are off as well.
func (o Options) render() (string, error) {
	all := []string{"restrict", "pty"}
	if len(o.Opens) > 0 {
		all = append(all, "port-forwarding")
	}
	for _, to := range slices.Compact(slices.Sorted(slices.Values(o.Opens))) {
		if err := checkOpen(to); err != nil {
			return "", err
		}
		all = append(all, `permitopen="`+to+`"`)
	}
	if len(o.From) > 0 {
		for _, from := range o.From {
			if err := checkFrom(from); err != nil {
				return "", err
			}
		}
		all = append(all, `from="`+strings.Join(o.From, ",")+`"`)
	}
	if !o.Expires.IsZero() {
		// Z: without it sshd takes the time for that of its own zone.
		all = append(all, `expiry-time="`+o.Expires.UTC().Format("20060102150405")+`Z"`)
	}
	return strings.Join(all, ","), nil
}

func checkOpen(to string) error {
	host, port, err := net.SplitHostPort(to)
	n, err2 := strconv.Atoi(port)
	if err != nil || err2 != nil || n < 1 || n > 65535 || !optionValue(host) || host == "" {
		return fault.New(fault.Usage, "%q is no address with a port that connections can be forwarded to", to)
	}
	return nil
}

// checkFrom wants an address, a network, or a pattern of host names as sshd knows it.
func checkFrom(from string) error {
	bare := strings.TrimPrefix(from, "!")
	if _, _, err := net.ParseCIDR(bare); err == nil {
		return nil
	}
	if bare == "" || !optionValue(bare) || strings.ContainsAny(bare, ",/ ") {
		return fault.New(fault.Usage, "%q is no address to log in from", from).
			Hint("an address, a network such as 10.0.0.0/8, or a host name with * and ?")
	}
	return nil
}

// optionValue refuses what could end an option or a line.
func optionValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' })
}
