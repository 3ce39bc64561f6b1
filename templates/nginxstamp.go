package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Stamp is what a rendered file says of itself in its first lines.
type Stamp struct {
	App, Env string
	// Intact is false when the file is not, byte for byte, what was written: somebody has edited it.
	Intact bool
	// Mark is what the probe of these workers answers that have loaded the file; "" when it has no probe.
	Mark string
	Down []string       // servers that are drained
	Warm map[string]int // servers with another weight than their own
}

// joinErrors keeps one error as it is.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// stamped puts the stamp before a body: whose file it is, the state of the servers, and a sum by which an
// edit is noticed.
func (s *NginxSite) stamped(body string) []byte {
	return stamped(s.App, s.Env, "nginx", s.Upstream.Servers, body)
}

func stamped(app, env, group string, servers []NginxServer, body string) []byte {
	state := "# in service: all\n"
	var parts []string
	for _, one := range servers {
		if one.Down {
			parts = append(parts, one.Name+" down")
		}
		if one.Warm > 0 {
			parts = append(parts, one.Name+" weight "+strconv.Itoa(one.Warm))
		}
	}
	if parts != nil {
		state = "# state: " + strings.Join(parts, ", ") + "\n"
	}
	rest := state + body
	sum := sha256.Sum256([]byte(app + "\n" + env + "\n" + rest))
	return fmt.Appendf(nil, "# written by godeploy for %s, env %s, sum %s; do not edit: change godeploy.toml, then godeploy %s push %s\n%s",
		app, env, hex.EncodeToString(sum[:]), group, env, rest)
}

// ReadStamp reads the first lines of a file; ok is false for a file that godeploy has not written.
func ReadStamp(file []byte) (stamp Stamp, ok bool) {
	first, rest, found := strings.Cut(string(file), "\n")
	m := regexp.MustCompile(`^# written by godeploy for ([A-Za-z0-9_.-]{1,64}), env ([A-Za-z0-9_.-]{1,64}), sum ([0-9a-f]{64});`).FindStringSubmatch(first)
	if !found || m == nil {
		return Stamp{}, false
	}
	stamp = Stamp{App: m[1], Env: m[2], Warm: map[string]int{}}
	sum := sha256.Sum256([]byte(stamp.App + "\n" + stamp.Env + "\n" + rest))
	stamp.Intact = hex.EncodeToString(sum[:]) == m[3]
	if mark := regexp.MustCompile(`(?:add_header|hdr) ` + NginxMarkHeader + ` ([0-9a-f]{16}(?:\.[0-9a-f]{8})?) (?:always;|if )`).FindStringSubmatch(rest); mark != nil {
		stamp.Mark = mark[1]
	}
	state, _, _ := strings.Cut(rest, "\n")
	for _, m := range regexp.MustCompile(`([A-Za-z0-9_.-]+) (down|weight ([0-9]{1,5}))`).FindAllStringSubmatch(strings.TrimPrefix(state, "# state: "), -1) {
		if m[2] == "down" {
			stamp.Down = append(stamp.Down, m[1])
		} else {
			stamp.Warm[m[1]], _ = strconv.Atoi(m[3]) // digits by the expression
		}
	}
	return stamp, true
}
