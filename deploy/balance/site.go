// Package balance is what stands before the app hosts: nginx, or HAProxy. It renders their files, brings
// them to every balancer host or to none, and takes app hosts out of service and back.
package balance

import (
	"maps"
	"slices"

	"godeploy/internal/fault"
	"godeploy/inventory"
	"godeploy/templates"
)

// State is how the app hosts in service differ from what godeploy.toml says, by host name. The zero State
// is every host in service with its own weight.
type State struct {
	Down map[string]bool // drained: no new requests
	Warm map[string]int  // weight while a host warms in
}

// Clone gives a State of its own, whose maps may be changed.
func (s State) Clone() State {
	c := State{Down: map[string]bool{}, Warm: map[string]int{}}
	for name, down := range s.Down {
		if down {
			c.Down[name] = true
		}
	}
	maps.Copy(c.Warm, s.Warm)
	return c
}

// DownNames gives the drained hosts, sorted.
func (s State) DownNames() []string {
	names := slices.Sorted(maps.Keys(s.Down))
	return slices.DeleteFunc(names, func(n string) bool { return !s.Down[n] })
}

// SiteOf gives the typed values of the nginx file of an environment in a state. Names in the state that
// are no app host any more are left out: the file says who there is. A state that leaves nobody in
// service is refused with max-unavailable; other errors are faults of the file, with their place.
func SiteOf(env *inventory.Env, state State) (templates.NginxSite, error) {
	site, err := env.NginxSite()
	if err != nil {
		return site, err
	}
	return site, state.apply(env, site.Upstream.Servers)
}

// apply brings a state to servers, and refuses one that leaves nobody in service.
func (s State) apply(env *inventory.Env, servers []templates.NginxServer) error {
	serving := 0
	for i := range servers {
		one := &servers[i]
		one.Down, one.Warm = s.Down[one.Name], s.Warm[one.Name]
		if one.Warm == one.Weight {
			one.Warm = 0
		}
		if !one.Down {
			serving++
		}
	}
	if serving == 0 {
		return fault.New(fault.MaxUnavailable, "no app host of %s would be left in service", env.Name).
			Hint("a balancer without a server answers everybody with an error")
	}
	return nil
}
