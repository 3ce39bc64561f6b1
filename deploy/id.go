package deploy

import (
	"regexp"
	"time"

	filesync "godeploy/sync"
)

// idForm is what a release id looks like; nothing else is taken from a command line or a host.
var idForm = regexp.MustCompile(`^\d{8}-\d{6}-[0-9a-f]{7}$`)

// NewID names a release: the operator's time in UTC and the first seven hex digits of what is in it.
// Ids tell people apart which release is which; order comes from the sequence number alone.
func NewID(now time.Time, root filesync.Hash) string {
	return now.UTC().Format("20060102-150405") + "-" + root.String()[:7]
}

// ValidID reports whether the text has the form of a release id.
func ValidID(id string) bool { return idForm.MatchString(id) }
