package sshx

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hostLine decides whether a Host line is for the host.
func (r *configReader) hostLine(at configLine, patterns []string) (bool, error) {
	if len(patterns) == 0 {
		return false, at.fault("Host has no pattern")
	}
	name := r.host
	if r.final {
		name = r.target()
	}
	active := false
	for _, pattern := range patterns {
		bare, negated := strings.CutPrefix(pattern, "!")
		if bare == "" {
			return false, at.fault("Host has an empty pattern")
		}
		if wildcard(bare, name) {
			if negated {
				return false, nil
			}
			active = true
		}
	}
	return active, nil
}

// matchLine decides about a Match line: all its criteria must hold.
func (r *configReader) matchLine(at configLine, words []string) (bool, error) {
	if len(words) == 0 {
		return false, at.fault("Match has no criteria")
	}
	holds := true
	for i := 0; i < len(words); i++ {
		name, negated := strings.CutPrefix(words[i], "!")
		name = strings.ToLower(name)
		var is bool
		switch name {
		case "all":
			if i+1 < len(words) || i > 1 || i == 1 && !strings.EqualFold(words[0], "final") && !strings.EqualFold(words[0], "canonical") {
				return false, at.fault("Match all stands alone")
			}
			is = !negated
			negated = false
		case "final", "canonical":
			r.again = r.again || name == "final"
			is = r.final
		default:
			if i++; i == len(words) || words[i] == "" {
				return false, at.fault("Match %s has no pattern", name)
			}
			var err error
			if is, err = r.criterion(name, words[i]); err != nil {
				return false, at.fault("%v", err)
			}
		}
		holds = holds && is != negated
	}
	return holds, nil
}

// criterion is one of those with a pattern.
func (r *configReader) criterion(name, patterns string) (bool, error) {
	switch name {
	case "host":
		return listed(strings.ToLower(patterns), strings.ToLower(r.target())), nil
	case "originalhost":
		return listed(strings.ToLower(patterns), strings.ToLower(r.host)), nil
	case "user":
		return listed(patterns, orElse(r.v.raw("user"), r.c.user)), nil
	case "localuser":
		return listed(patterns, r.c.user), nil
	}
	return false, fmt.Errorf("condition %s of Match can only be answered by ssh itself, which is not installed here", name)
}

// target is the host's name so far.
func (r *configReader) target() string {
	if name := r.v.raw("hostname"); name != "" {
		return strings.ReplaceAll(strings.ReplaceAll(name, "%h", r.host), "%%", "%")
	}
	return r.host
}

// raw is the first value, whatever it is.
func (v values) raw(key string) string {
	if all := v[key]; len(all) > 0 {
		return all[0]
	}
	return ""
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// listed matches patterns parted by commas, of which none with a "!" may match.
func listed(patterns, text string) bool {
	found := false
	for pattern := range strings.SplitSeq(patterns, ",") {
		bare, negated := strings.CutPrefix(pattern, "!")
		if !wildcard(bare, text) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// take reads one keyword. What is wrong is an error even where the block does not match.
func (r *configReader) take(at configLine, key string, words []string, rest string, active bool) error {
	if key == "canonicalizehostname" && active && len(words) > 0 && !strings.EqualFold(words[0], "no") {
		return at.fault("CanonicalizeHostname can only be done by ssh itself, which is not installed here")
	}
	if rest == "" {
		return at.fault("%s has no value", key)
	}
	if !heeded(key) {
		return nil
	}
	if key == "proxycommand" || key == "proxyjump" {
		return r.proxy(at, key, rest, active)
	}
	if len(words) == 0 || words[0] == "" {
		return at.fault("%s has no value", key)
	}
	many := key == "userknownhostsfile" || key == "globalknownhostsfile"
	if len(words) > 1 && !many {
		return at.fault("%s has more than one value", key)
	}
	value, err := checkedValue(key, words)
	if err != nil {
		return at.fault("%s: %v", key, err)
	}
	switch have := r.v[key]; {
	case !active:
	case key == "identityfile" || key == "certificatefile":
		if len(have) >= maxKeyFiles {
			return at.fault("more than %d key files", maxKeyFiles)
		}
		if !slices.Contains(have, value) {
			r.v[key] = append(have, value)
		}
	case len(have) == 0:
		r.v[key] = []string{value}
	}
	return nil
}

// proxy reads ProxyCommand or ProxyJump, of which the first that is met counts.
func (r *configReader) proxy(at configLine, key, rest string, active bool) error {
	value := strings.TrimLeft(rest, " \t=")
	if value == "" {
		return at.fault("%s has no value", key)
	}
	if key == "proxyjump" {
		if value = strings.TrimRight(value, " \t"); !strings.EqualFold(value, "none") {
			for hop := range strings.SplitSeq(value, ",") {
				if _, err := parseHop(hop); err != nil {
					return at.fault("ProxyJump: %v", err)
				}
			}
		}
	}
	if active && key == "proxycommand" && strings.EqualFold(r.v.raw("proxyjump"), "none") {
		delete(r.v, "proxyjump") // which rules out a ProxyJump that follows, no command
	}
	if active && len(r.v["proxycommand"]) == 0 && len(r.v["proxyjump"]) == 0 {
		r.v[key] = []string{value}
	}
	return nil
}

// checkedValue checks a value and writes it as ssh -G does.
func checkedValue(key string, words []string) (string, error) {
	value := words[0]
	switch key {
	case "port":
		n, err := net.LookupPort("tcp", value)
		if err != nil || n <= 0 || n > 65535 {
			return "", fmt.Errorf("%q is no port", clip(value, 40))
		}
		return strconv.Itoa(n), nil
	case "serveralivecountmax":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return "", fmt.Errorf("%q is no number", clip(value, 40))
		}
		return strconv.FormatInt(n, 10), nil
	case "identitiesonly", "proxyusefdpass":
		switch strings.ToLower(value) {
		case "yes", "true":
			return "yes", nil
		case "no", "false":
			return "no", nil
		}
		return "", fmt.Errorf("%q is neither yes nor no", clip(value, 40))
	case "addressfamily":
		if value = strings.ToLower(value); value != "any" && value != "inet" && value != "inet6" {
			return "", fmt.Errorf("%q is no address family", clip(value, 40))
		}
	case "connecttimeout", "serveraliveinterval":
		if strings.EqualFold(value, "none") {
			return "none", nil
		}
		return configSeconds(value)
	case "ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes":
		if strings.HasPrefix(value, "-") {
			return "none", nil // takes some away from the current ones
		}
		return strings.TrimLeft(value, "+^"), nil
	case "userknownhostsfile", "globalknownhostsfile":
		return strings.Join(words, "\x00"), nil
	}
	return value, nil
}

// configSeconds reads a time like "90", "1m30s" or "2h", and writes it in seconds.
func configSeconds(text string) (string, error) {
	total, digits := time.Duration(0), ""
	units := map[rune]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	for _, c := range strings.ToLower(text) + "\n" {
		if c >= '0' && c <= '9' {
			digits += string(c)
			continue
		}
		unit, ok := units[c]
		if c == '\n' {
			unit, ok = time.Second, true
			if digits == "" && total > 0 {
				break
			}
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if !ok || err != nil || time.Duration(n) > (1<<31)*time.Second/unit {
			return "", fmt.Errorf("%q is no time", clip(text, 40))
		}
		total, digits = total+time.Duration(n)*unit, ""
	}
	return strconv.FormatInt(int64(total/time.Second), 10), nil
}

// settle replaces the tokens of HostName, as ssh does before a second pass.
func (r *configReader) settle() error {
	name := r.host
	if said := r.v.raw("hostname"); said != "" {
		t := tokens{of: map[byte]string{'%': "%", 'h': r.host}}
		var err error
		if name, err = t.replace(said); err != nil {
			return fmt.Errorf("HostName: %w", err)
		}
	}
	if !strings.Contains(name, "%") { // an address with its zone is left as it is
		name = strings.ToLower(name)
	}
	r.v["hostname"] = []string{name}
	return nil
}

// finish fills in what ssh -G would print where nothing was said.
func (r *configReader) finish() error {
	for key, usual := range map[string]string{"user": r.c.user, "port": "22", "serveralivecountmax": "3",
		"userknownhostsfile":   "~/.ssh/known_hosts\x00~/.ssh/known_hosts2",
		"globalknownhostsfile": "/etc/ssh/ssh_known_hosts\x00/etc/ssh/ssh_known_hosts2"} {
		if len(r.v[key]) == 0 {
			r.v[key] = []string{usual}
		}
	}
	delete(r.v, "controlpath")               // without ssh there is no master
	port, _ := strconv.Atoi(r.v.raw("port")) // checked, or ours
	s := settings{hostName: r.v.raw("hostname"), user: r.v.raw("user"), port: port}
	t := r.c.tokens(r.host, &s)
	for _, key := range []string{"userknownhostsfile", "globalknownhostsfile"} {
		files := strings.Split(r.v.raw(key), "\x00")
		for i, path := range files {
			done, err := t.path(path)
			if err != nil {
				return err
			}
			files[i] = filepath.ToSlash(done)
		}
		r.v[key] = []string{strings.Join(files, " ")}
	}
	return nil
}
