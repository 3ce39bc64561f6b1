package inventory

import (
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// hosts checks each host beside the others.
func (c *checker) hosts(entries []namedEntry) {
	lower := map[string]string{}
	for i, entry := range entries {
		h := c.env.Hosts[i]
		if entry.Role != "" && len(entry.Roles) > 0 {
			c.host(h, "role and roles are both set", "keep one of the two")
		}
		if contains(c.f.order, h.Name) {
			c.host(h, "host has the name of an environment", "rename one of the two, or no command could tell them apart")
		}
		if other, taken := lower[strings.ToLower(h.Name)]; taken {
			c.host(h, "host differs from "+other+" in upper and lower case only", "")
		}
		lower[strings.ToLower(h.Name)] = h.Name
		if entry.Address == "" && h.Address == "" && checkHostName(h.Name) == nil {
			c.host(h, "address is not set, and the host's name is not one", "")
		}
	}
}

// host reports something about a host as a whole.
func (c *checker) host(h Host, msg, hint string) {
	e := fault.New(fault.ConfigValue, "%s", msg).At(h.Pos)
	if hint != "" {
		e.Hint("%s", hint)
	}
	c.bad.add(e)
}

// jumps checks that every way to a host exists, ends, and is not too long.
func (c *checker) jumps() {
	g := jumpGraph{hosts: map[string]*Host{}, depth: map[string]int{}}
	for i := range c.env.Hosts {
		g.hosts[c.env.Hosts[i].Name] = &c.env.Hosts[i]
	}
	for _, h := range c.env.Hosts {
		if c.bad.full() {
			return
		}
		if len(h.Jump) == 0 || !c.knownJumps(g, h) {
			continue
		}
		switch depth := g.measure(h.Name); {
		case depth == endless:
			c.jump(h, badValue("of %s leads back to itself", h.Name))
		case depth > maxChain:
			c.jump(h, badValue("of %s goes through more than %d hosts", h.Name, maxChain))
		}
	}
}

// jump reports the jump of a host: at its own key, or at its role's.
func (c *checker) jump(h Host, err error) {
	if path := []string{"hosts", h.Name, "jump"}; c.sets(path) {
		c.refuse(err, path...)
		return
	}
	for _, role := range h.Roles {
		if path := []string{"role", role, "jump"}; c.sets(path) {
			c.refuse(err, path...)
			return
		}
	}
}

func (c *checker) sets(path []string) bool {
	doc, _ := c.f.source(c.env.Name, path)
	return doc != nil
}

func (c *checker) knownJumps(g jumpGraph, h Host) bool {
	for _, chain := range h.Jump {
		for _, hop := range chain {
			if hop == h.Name {
				c.jump(h, badValue("of %s goes through itself", h.Name))
				return false
			}
			if g.hosts[hop] != nil {
				continue
			}
			err := badValue("goes through the unknown host %q", hop)
			if near := nearest(hop, hostNames(c.env.Hosts)); near != "" {
				err.hinted("did you mean %q?", near)
			}
			c.jump(h, err)
			return false
		}
	}
	return true
}

// jumpGraph measures how many hosts lie on the longest way to each.
type jumpGraph struct {
	hosts map[string]*Host
	depth map[string]int
}

// endless is the depth of a host whose way leads back to itself.
const endless = 1 << 20

// measure follows every alternative. While a host is being measured its depth is endless, so that
// a way back to it comes out as endless too; the recursion ends at the first host seen twice.
func (g jumpGraph) measure(name string) int {
	if d, known := g.depth[name]; known {
		return d
	}
	h := g.hosts[name]
	if h == nil {
		return 0
	}
	g.depth[name] = endless
	longest := 0
	for _, chain := range h.Jump {
		longest = max(longest, g.chain(chain))
	}
	g.depth[name] = longest
	return longest
}

// chain counts the hops of a chain; its first hop is reached by that host's own jump.
func (g jumpGraph) chain(chain []string) int {
	if len(chain) == 0 {
		return 0
	}
	return min(len(chain)+g.measure(chain[0]), endless)
}

func hostNames(hosts []Host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	slices.Sort(names)
	return names
}
