package hosts

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// recipe turns what debootstrap leaves into a server image. It is part of the base tree's name, so
// a change to it builds a new tree.
//
//go:embed base.sh
var recipe string

// packages is what every host has. One tree serves all roles: an idle nginx or PostgreSQL costs
// disk once, a second tree would cost a minute.
const packages = "systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,nginx-light,haproxy," +
	"python3,python3-venv,gunicorn,uwsgi-core,uwsgi-plugin-python3,python3-django,python3-psycopg2,postgresql," +
	"rsync,iproute2,procps,sudo,curl,ca-certificates,zstd"

const suite = "bookworm"

// CacheDir is where the base tree and the overlays lie: GODEPLOY_E2E_CACHE, or
// /var/cache/godeploy-e2e.
func CacheDir() string {
	if dir := os.Getenv("GODEPLOY_E2E_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/godeploy-e2e"
}

// baseName is the marker: a finished tree bears the hash of everything that went into it.
func baseName() string {
	sum := sha256.Sum256([]byte(suite + "\n" + packages + "\n" + recipe))
	return fmt.Sprintf("base-%x", sum[:6])
}

// Base gives the base tree's folder and builds it first when the cache lacks it (about a minute).
// Concurrent callers, also in other processes, wait for one build.
func Base(ctx context.Context, cache string) (string, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := flock(filepath.Join(cache, "base.lock"), unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(cache, baseName())
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, buildBase(ctx, cache, dir)
}

// buildBase works under another name and renames at the end: a tree with the final name is whole.
func buildBase(ctx context.Context, cache, dir string) error {
	partial := dir + ".partial"
	if err := removeTree(partial); err != nil {
		return err
	}
	if err := dropOldBases(cache); err != nil {
		return err
	}
	if err := run(ctx, nil, "debootstrap", "--variant=minbase", "--include="+packages, suite, partial, mirror()); err != nil {
		return fmt.Errorf("build the base tree: %w", err)
	}
	if err := run(ctx, strings.NewReader(recipe), "bash", "-s", "--", partial); err != nil {
		return fmt.Errorf("prepare the base tree: %w", err)
	}
	if n := len(mountsUnder(partial)); n > 0 {
		return fmt.Errorf("%s still has %d mounts after its build", partial, n)
	}
	return os.Rename(partial, dir)
}

// dropOldBases removes the trees of earlier recipes, unless a fleet may still stand on one.
func dropOldBases(cache string) error {
	if ids, err := fleetIDs(); err != nil || len(ids) > 0 {
		return err
	}
	old, err := filepath.Glob(filepath.Join(cache, "base-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := removeTree(dir); err != nil {
			return err
		}
	}
	return nil
}

// mirror is the Debian mirror this machine uses itself, so that one configured for a closed network
// is respected. GODEPLOY_E2E_MIRROR overrides it.
func mirror() string {
	if url := os.Getenv("GODEPLOY_E2E_MIRROR"); url != "" {
		return url
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*") // the pattern is constant and valid
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if url := debianURL(string(text)); url != "" {
			return url
		}
	}
	return "http://deb.debian.org/debian"
}

// debianURL finds the first archive address in either format of apt's sources that ends in /debian.
func debianURL(text string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, word := range strings.Fields(line) {
			url := strings.TrimSuffix(word, "/")
			if strings.HasPrefix(url, "http") && strings.HasSuffix(url, "/debian") {
				return url
			}
		}
	}
	return ""
}

// run runs a command to its end; an error carries the end of what it printed.
func run(ctx context.Context, stdin *strings.Reader, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, tail(out.String(), 1500))
	}
	return nil
}

// tail gives the last n bytes of a text.
func tail(text string, n int) string {
	text = strings.TrimSpace(text)
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}
