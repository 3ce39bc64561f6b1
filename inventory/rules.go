package inventory

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"godeploy/templates"
)

// Limits on what is read; more is an error, never a slow run.
const (
	maxFile     = 16 << 20
	maxHosts    = 100_000
	maxEnvs     = 1000
	maxChain    = 8
	maxDepth    = 64 // nested values
	maxKeyParts = 32 // parts of a dotted key
	maxProblems = 100
	maxString   = 128 << 10 // what Linux takes as one argument
)

// valueError says what is wrong with a value, as the rest of a sentence whose subject is its key.
type valueError struct{ msg, hint string }

func (e *valueError) Error() string { return e.msg }

func (e *valueError) hinted(format string, args ...any) *valueError {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

func badValue(format string, args ...any) *valueError {
	return &valueError{msg: fmt.Sprintf(format, args...)}
}

// rule checks one string value.
type rule func(string) error

// ruleFor gives the rule with the name that struct tags use.
func ruleFor(name string) rule {
	switch name {
	case "appname":
		return checkAppName
	case "apppath":
		return checkAppPathText
	case "abspath":
		return checkAbsPath
	case "nginxfolder":
		return func(s string) error { return nginxRule(templates.CheckNginxPath)(strings.TrimSuffix(s, "/")) }
	case "relpath":
		return checkRelPath
	case "pidfile":
		return checkPidfile
	case "address":
		return checkAddressText
	case "ipaddress":
		return checkIPAddress
	case "hostname":
		return checkHostName
	case "template":
		return checkTemplate
	case "command":
		return checkCommand
	case "limit":
		return checkLimit
	case "pattern":
		return checkPattern
	case "gate":
		return checkGate
	}
	if check := nginxCheck(name); check != nil {
		return nginxRule(check)
	}
	return rulePattern(name)
}

// rulePattern gives the rules that are one expression and one explanation.
func rulePattern(name string) rule {
	switch name {
	case "word":
		return matching(`[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}`, "must be a word of letters, digits and . _ + -")
	case "owner":
		return matching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,31})?`, `must be a user or "user:group"`)
	case "user":
		return matching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,31}`, "must be a user name of letters, digits and . _ -")
	case "unit":
		return matching(`[A-Za-z0-9:_][A-Za-z0-9:_.@-]{0,240}\.(service|socket|target)`, `must be a unit such as "swiper.service"`)
	case "header":
		return matching(`[A-Za-z0-9-]{1,64}`, `must be a header name such as "X-Release"`)
	case "fingerprint":
		return matching(`SHA256:[A-Za-z0-9+/]{43}=?`, `must be a fingerprint "SHA256:…", as ssh-keygen -l prints it`)
	case "urlpath":
		return matching(`/[A-Za-z0-9/._~%!$&'()*+,=:@?-]{0,999}`, "must be a path that starts with /")
	case "limit-name":
		return matching(`[a-z]{2,16}`, "must be a limit such as nofile")
	case "sysctl":
		return matching(`[a-z0-9_]+([./][A-Za-z0-9_-]+)+`, `must be a setting such as "net.core.somaxconn"`)
	}
	return checkLine
}

func matching(expr, message string) rule {
	re := regexp.MustCompile(`^(?:` + expr + `)$`)
	return func(s string) error {
		if !re.MatchString(s) {
			return badValue("%s", message)
		}
		return nil
	}
}

// checkLine refuses what cannot stand in one line.
func checkLine(s string) error {
	for _, r := range s {
		if unicode.IsControl(r) && r != '\t' {
			return badValue("holds the control character U+%04X", r)
		}
	}
	if len(s) > maxString {
		return badValue("is longer than %d bytes", maxString)
	}
	return nil
}

func checkCommand(s string) error {
	if strings.TrimSpace(s) == "" {
		return badValue("is an empty command")
	}
	return checkLine(strings.NewReplacer("\n", "", "\t", "").Replace(s))
}

func checkPattern(s string) error {
	if s == "" {
		return badValue("holds an empty pattern")
	}
	return checkLine(s)
}

func checkAppName(s string) error {
	return matching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, "must be at most 64 letters, digits and . _ -")(s)
}

func checkEnvName(s string) error {
	if err := matching(`[A-Za-z0-9][A-Za-z0-9_-]{0,63}`, "must be at most 64 letters, digits and _ -")(s); err != nil {
		return err
	}
	return nil
}

// CheckAppPath says whether a folder may hold an app: absolute, clean, at least two levels deep,
// plain characters, and no folder of the system or of a whole user. The error is the rest of a
// sentence whose subject is the path.
func CheckAppPath(s string) error {
	if err := checkAbsPath(s); err != nil {
		return err
	}
	parts := strings.Split(s[1:], "/")
	switch {
	case len(s) > 1024:
		return badValue("is longer than 1024 bytes")
	case len(parts) < 2:
		return badValue("must be at least two levels deep").hinted("give the app a folder of its own, such as \"/opt/NAME\"")
	case systemFolder(parts):
		return badValue("is a folder of the system").hinted("give the app a folder of its own, such as \"/opt/NAME\"")
	case parts[0] == "home" && len(parts) == 2:
		return badValue("is somebody's home").hinted("give the app a folder in it, such as \"%s/app\"", s)
	}
	return nil
}

func systemFolder(parts []string) bool {
	switch parts[0] {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "dev", "proc", "sys", "boot", "run", "lost+found":
		return true
	case "usr":
		return len(parts) == 2 || contains([]string{"bin", "sbin", "lib", "lib64", "libexec", "include"}, parts[1])
	case "var":
		return len(parts) == 2 || parts[1] == "run" || parts[1] == "lock"
	}
	return false
}

func checkAbsPath(s string) error {
	if strings.HasPrefix(s, "~") {
		return badValue("must not start with ~").hinted("write the whole path; it is not the same for every user")
	}
	if !strings.HasPrefix(s, "/") {
		return badValue("must be an absolute path")
	}
	if path.Clean(s) != s {
		return badValue("must be written without .., ., // or a / at the end").hinted("write %q", path.Clean(s))
	}
	return checkPathText(s)
}

func checkRelPath(s string) error {
	trimmed := strings.TrimSuffix(s, "/")
	switch {
	case trimmed == "" || trimmed == ".":
		return badValue("must name something below the folder")
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~"):
		return badValue("must be relative")
	case path.Clean(trimmed) != trimmed || trimmed == ".." || strings.HasPrefix(trimmed, "../"):
		return badValue("must be written without .., . or //")
	}
	return checkPathText(s)
}

func checkPidfile(s string) error {
	if strings.HasPrefix(s, "/") {
		return checkAbsPath(s)
	}
	return checkRelPath(s)
}

// checkPathText keeps to characters that no shell, unit file or nginx file reads as something else.
func checkPathText(s string) error {
	if len(s) > 4095 {
		return badValue("is longer than 4095 bytes")
	}
	if strings.Contains(s, "{{") {
		return badValue("must not hold {{…}}").hinted("only process.bind, process.command, process.check and health.url may")
	}
	for _, r := range s {
		plain := unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-+@,=", r)
		if !plain || r == utf8.RuneError {
			return badValue("must not hold %q", r)
		}
	}
	return nil
}

// checkHostName checks a host's name in the file, not its address.
func checkHostName(s string) error {
	if len(s) > 253 || !wordOf(s, "._-") || strings.ContainsRune("._-", rune(s[0])) {
		return badValue("must be a host name of at most 253 letters, digits and . _ -")
	}
	return nil
}

// wordOf reports whether s is not empty and has ASCII letters, digits and the marks only. It is a
// loop and no expression because a file may have 100,000 hosts.
func wordOf(s, marks string) bool {
	for _, r := range s {
		plain := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		if !plain && !strings.ContainsRune(marks, r) {
			return false
		}
	}
	return s != ""
}

func checkAddressText(s string) error {
	_, err := normalAddress(s)
	return err
}

// normalAddress gives an address in the one form used everywhere else: lower case, without a
// trailing dot, IPv6 without brackets.
func normalAddress(s string) (string, error) {
	bare := s
	if strings.HasPrefix(s, "[") {
		inner, rest, closed := strings.Cut(s[1:], "]")
		if closed && strings.HasPrefix(rest, ":") {
			return "", portInAddress(inner, rest[1:])
		}
		if !closed || rest != "" || !strings.Contains(inner, ":") {
			return "", badValue("is not an address")
		}
		bare = inner
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return normalIP(ip)
	}
	if err := checkNotAddress(s); err != nil {
		return "", err
	}
	return normalName(s)
}

func normalIP(ip netip.Addr) (string, error) {
	if ip.IsUnspecified() || ip.IsMulticast() {
		return "", badValue("is not the address of a host")
	}
	if zone := ip.Zone(); zone != "" && (len(zone) > 15 || !wordOf(zone, "._-")) {
		return "", badValue("has an odd zone after the %%")
	}
	return ip.String(), nil
}

// checkNotAddress tells apart the usual mistakes, for the sake of the hint.
func checkNotAddress(s string) error {
	host, port, _ := strings.Cut(s, ":")
	switch {
	case s == "":
		return badValue("is empty").hinted("leave it out to use the host's name")
	case strings.Contains(s, "@"):
		return badValue("must be without a user").hinted("user is a key of its own: user = %q", s[:strings.Index(s, "@")])
	case strings.Count(s, ":") == 1 && port != "" && strings.Trim(port, "0123456789") == "":
		return portInAddress(host, port)
	case strings.Contains(s, "://"):
		return badValue("must be a host, not a URL")
	}
	for _, r := range s {
		if r >= utf8.RuneSelf {
			return badValue("must be ASCII; it holds %q (U+%04X)", r, r).hinted("write the name in its xn-- form")
		}
	}
	return nil
}

func portInAddress(host, port string) error {
	return badValue("must be without a port").hinted("port is a key of its own: address = %q, port = %s", host, port)
}

func normalName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if len(name) > 253 {
		return "", badValue("is longer than 253 characters")
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if len(l) > 63 {
			return "", badValue("has a part longer than 63 characters")
		}
		if !wordOf(l, "_-") || l[0] == '-' || l[len(l)-1] == '-' {
			return "", badValue("is not an IP address or a host name")
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", badValue("is not an IP address")
	}
	return name, nil
}
