package cmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"godeploy/internal/event"
	filesync "godeploy/sync"
)

// sayUnmatched names the patterns of exclude that matched nothing in the tree, and what would match. It
// does so once for a tree and its patterns, which the cache remembers; without a cache it says nothing: there
// every run would be the first.
func (c *call) sayUnmatched(rules *filesync.Rules, m *filesync.Manifest, report event.Reporter) {
	patterns := rules.Unmatched()
	if len(patterns) == 0 || !firstTime(c.cacheDir(), append([]string{c.sourceDir()}, patterns...)) {
		return
	}
	var would []string
	for _, p := range patterns {
		if other := filesync.Meant(p, m); other != "" {
			would = append(would, cleanLine(other)+" would")
		}
	}
	report.Report(event.Event{
		Type: event.Warn, Phase: "scan", Msg: "patterns matched nothing: " + cleanLine(strings.Join(patterns, ", ")), Hint: strings.Join(would, ", "),
	})
}

// firstTime reports whether nobody has asked this before with that cache, and remembers it. What cannot be
// remembered is no first time.
func firstTime(cache string, what []string) bool {
	if cache == "" {
		return false
	}
	id := sha256.Sum256([]byte(strings.Join(what, "\x00")))
	dir := filepath.Join(cache, "said")
	if os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(id[:16])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return errors.Join(err, f.Close()) == nil
}
