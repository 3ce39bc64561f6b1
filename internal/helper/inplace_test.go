package helper

import (
	"io/fs"
	"testing"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// TestCheckTarget: only a folder of its own may be changed in place.
func TestCheckTarget(t *testing.T) {
	t.Parallel()
	there := map[string]filesync.Kind{
		"/opt": filesync.Dir, "/opt/app": filesync.Dir, "/opt/link": filesync.Link, "/opt/file": filesync.File,
		"/srv/shop": filesync.Dir, "/srv/shop/releases": filesync.Dir, "/srv/shop/current": filesync.Link,
		"/srv/half/releases": filesync.Dir, "/srv/new": filesync.Dir, "/srv/new/releases": filesync.Dir, "/srv/new/.godeploy/releases": filesync.Dir, "/srv/half": filesync.Dir, "/home/ann": filesync.Dir, "/data/me": filesync.Dir,
	}
	real := map[string]string{"/opt/link": "/opt/app", "/var/www/app": "/etc/app", "/var/www/ann": "/home/ann"}
	look := func(p string) (filesync.Kind, error) {
		if kind, ok := there[p]; ok {
			return kind, nil
		}
		return 0, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
	}
	resolve := func(p string) (string, error) {
		if to, ok := real[p]; ok {
			return to, nil
		}
		return p, nil
	}
	for path, good := range map[string]bool{
		"/opt/app": true, "/opt/new": true, "/opt/new/er": true, "/srv/half": true, "/srv/shop/shared/media": true, "/home/ann/app": true,
		"/opt/link": false, "/opt/file": false, "/srv/shop": false, "/srv/shop/releases": false, "/srv/shop/releases/r1/app": false,
		"/srv/shop/current/x": false, "/home/ann": false, "/data/me": false, "/var/www/app": false, "/var/www/ann": false,
		"/opt/app/.godeploy": false, "/opt/app/.godeploy/x": false, "/srv/shop/shared": false, "/srv/new": false,
	} {
		_, err := CheckTarget(wire.Site{App: "shop", Path: path}, "/data/me", resolve, look)
		if good && err != nil || !good && !fault.Is(err, fault.LayoutRefused) {
			t.Errorf("%s: got %v, want it taken: %t", path, err, good)
		}
	}
}
