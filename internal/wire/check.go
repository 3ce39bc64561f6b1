package wire

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Checker is a message: it says what is wrong with itself. Both ends check what arrives before they
// look at it.
type Checker interface {
	Check() error
}

// Limits of the messages.
const (
	MaxStdin   = 512 << 10 // bytes of ExecRequest.Stdin
	MaxFile    = 720 << 10 // bytes of FileRequest.Content and FileReply.Content
	MaxTimeout = 24 * time.Hour

	maxPath  = 4095
	maxName  = 255
	maxList  = 10_000
	maxArgs  = 512 << 10
	maxShort = 1 << 10
)

// Nothing is the message without fields: Hello, Ping and the answers that say only "done".
type Nothing struct{}

// Check finds nothing wrong.
func (*Nothing) Check() error { return nil }

// CheckID says what is wrong with a release id; it must look like 20261123-104107-4f2c9e1.
func CheckID(id string) error {
	if len(id) == 23 && id[8] == '-' && id[15] == '-' &&
		only(id[:8]+id[9:15], "0123456789") && only(id[16:], "0123456789abcdef") {
		return nil
	}
	return fmt.Errorf("release id %.40q", id)
}

func only(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }

const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digit = "0123456789"
)

// checkPath wants an absolute, clean path without control characters.
func checkPath(p string) error {
	switch {
	case len(p) > maxPath:
		return fmt.Errorf("path of %d bytes", len(p))
	case !path.IsAbs(p) || path.Clean(p) != p:
		return fmt.Errorf("path %.80q is not absolute and clean", p)
	case hasControl(p):
		return fmt.Errorf("path %.80q has a control character", p)
	}
	return checkComponents(p[1:])
}

func checkComponents(p string) error {
	for c := range strings.SplitSeq(p, "/") {
		if len(c) > maxName {
			return fmt.Errorf("path component of %d bytes", len(c))
		}
	}
	return nil
}

// checkRelative wants a clean path below something: no "..", no leading slash.
func checkRelative(p string) error {
	if p == "" || p == "." || len(p) > maxPath || path.IsAbs(p) || path.Clean(p) != p ||
		p == ".." || strings.HasPrefix(p, "../") || hasControl(p) {
		return fmt.Errorf("path %.80q is not a clean path below the release", p)
	}
	return checkComponents(p)
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// checkTree wants an app's path: at least two levels deep and no folder of the system's.
func checkTree(p string) error {
	if err := checkPath(p); err != nil {
		return err
	}
	if strings.Count(p, "/") < 2 {
		return fmt.Errorf("path %q is less than two levels deep", p)
	}
	top, rest, _ := strings.Cut(p[1:], "/")
	switch top {
	case "proc", "sys", "dev", "boot", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "run":
		// /dev/shm is a scratch folder of everybody, not the system's.
		if !strings.HasPrefix(p, "/dev/shm/") {
			return fmt.Errorf("path %q is in a system folder", p)
		}
	case "usr":
		if !strings.HasPrefix(rest, "local/") && !strings.HasPrefix(rest, "share/") {
			return fmt.Errorf("path %q is in a system folder", p)
		}
	case "var":
		switch rest {
		case "lib", "log", "cache", "spool", "run", "tmp", "backups", "mail", "opt", "local", "lock":
			return fmt.Errorf("path %q is a system folder", p)
		}
	}
	return nil
}

func checkList(name string, list []string, check func(string) error) error {
	if len(list) > maxList {
		return fmt.Errorf("%s: %d entries", name, len(list))
	}
	for _, s := range list {
		if err := check(s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checkShort bounds texts that are only shown or recorded.
func checkShort(texts ...string) error {
	for _, s := range texts {
		if len(s) > maxShort {
			return fmt.Errorf("text of %d bytes", len(s))
		}
	}
	return nil
}

// checkUser wants "", user or user:group as login names are written.
func checkUser(s string) error {
	if s == "" {
		return nil
	}
	user, group, both := strings.Cut(s, ":")
	if !loginName(user) || both && !loginName(group) {
		return fmt.Errorf("user %.80q", s)
	}
	return nil
}

func loginName(s string) bool {
	s = strings.TrimSuffix(s, "$")
	return s != "" && len(s) <= 64 && s[0] != '-' && only(s, lower+upper+digit+"._-")
}

func checkArgs(argv []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("no program to run")
	}
	total := 0
	for _, a := range argv {
		if strings.ContainsRune(a, 0) {
			return errors.New("NUL in an argument")
		}
		total += len(a) + 1
	}
	if total > maxArgs {
		return fmt.Errorf("%d bytes of arguments", total)
	}
	return nil
}

func checkEnv(env map[string]string) error {
	total := 0
	for k, v := range env {
		if k == "" || only(k[:1], digit) || !only(k, lower+upper+digit+"_") {
			return fmt.Errorf("environment name %.80q", k)
		}
		if strings.ContainsRune(v, 0) {
			return fmt.Errorf("NUL in %s", k)
		}
		total += len(k) + len(v) + 2
	}
	if total > maxArgs {
		return fmt.Errorf("%d bytes of environment", total)
	}
	return nil
}

// optional applies check to a text that may be missing.
func optional(s string, check func(string) error) error {
	if s == "" {
		return nil
	}
	return check(s)
}

func validUTF8(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("text that is not UTF-8")
	}
	return nil
}

// firstError gives the first that is one.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
