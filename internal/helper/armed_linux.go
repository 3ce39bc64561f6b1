package helper

import (
	"sync"

	"godeploy/internal/wire"
)

// armed are the apps whose journal this connection has opened: when it ends without letting go of the
// lock, the helper finishes or undoes them.
type armed struct {
	mu    sync.Mutex
	sites []wire.Site
}

func (a *armed) put(s wire.Site) {
	a.drop(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sites = append(a.sites, s)
}

// drop forgets an app: the controller is there and knows how it leaves the host.
func (a *armed) drop(s wire.Site) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var left []wire.Site
	for _, one := range a.sites {
		if key(one) != key(s) {
			left = append(left, one)
		}
	}
	a.sites = left
}

// take gives what is armed and forgets it.
func (a *armed) take() []wire.Site {
	a.mu.Lock()
	defer a.mu.Unlock()
	sites := a.sites
	a.sites = nil
	return sites
}
