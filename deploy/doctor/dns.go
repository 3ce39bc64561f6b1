package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"godeploy/inventory"
)

// Lookup gives the addresses of a name.
type Lookup func(ctx context.Context, name string) ([]string, error)

// DNS looks the names of the file up: those of hosts that are reached from here, and those of the site,
// which must lead to every nginx host. Hosts behind a jump host are looked up there, by the jump host.
func DNS(ctx context.Context, env *inventory.Env, hosts []inventory.Host, lookup Lookup) []Finding {
	var all []Finding
	for _, h := range hosts {
		if len(h.Jump) > 0 || isAddress(h.Address) {
			continue
		}
		if _, err := lookup(ctx, h.Address); err != nil {
			f := Finding{Host: h.Name, Topic: "dns", Msg: fmt.Sprintf("%s has no address", h.Address), Facts: []string{err.Error()}}
			all = append(all, f.fix("write the IP address into godeploy.toml (%s), or mend the name", h.Pos))
		}
	}
	return append(all, site(ctx, env, lookup)...)
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// site looks the server names up. Without nginx hosts of an address that the world may see there is
// nothing to compare them with.
func site(ctx context.Context, env *inventory.Env, lookup Lookup) []Finding {
	if env.Nginx == nil {
		return nil
	}
	var all []Finding
	wanted := front(ctx, env, lookup)
	for _, name := range env.Nginx.Names {
		if strings.ContainsAny(name, "*~") || !strings.Contains(name, ".") || len(env.NginxHosts()) == 0 {
			continue
		}
		found, err := lookup(ctx, name)
		if err != nil {
			f := Finding{Topic: "dns", Msg: fmt.Sprintf("%s has no address", name), Facts: []string{err.Error()}}
			all = append(all, f.fix("give %s an A or AAAA record for each nginx host", name))
			continue
		}
		all = append(all, missing(name, found, wanted)...)
	}
	return all
}

// door is an nginx host and its address.
type door struct{ host, address string }

// front gives the nginx hosts whose address is not of a private network.
func front(ctx context.Context, env *inventory.Env, lookup Lookup) []door {
	var doors []door
	for _, h := range env.NginxHosts() {
		addresses := []string{h.Address}
		if !isAddress(h.Address) {
			addresses, _ = lookup(ctx, h.Address) // one that has none is a finding of its own
		}
		for _, text := range addresses {
			if a, err := netip.ParseAddr(text); err == nil && a.Is4() && !a.IsPrivate() && !a.IsLinkLocalUnicast() {
				doors = append(doors, door{h.Name, text})
				break
			}
		}
	}
	return doors
}

// missing compares a name's addresses with the nginx hosts. A name that leads to none of them may stand
// for something in front of them: that is one finding.
func missing(name string, found []string, wanted []door) []Finding {
	var without []string
	for _, d := range wanted {
		if !slices.Contains(found, d.address) {
			without = append(without, d.host+" "+d.address)
		}
	}
	switch {
	case len(without) == 0:
		return nil
	case len(without) == len(wanted):
		f := Finding{Topic: "dns", Msg: fmt.Sprintf("%s leads to none of the nginx hosts", name), Facts: append([]string{"it leads to " + strings.Join(found, ", ")}, without...)}
		return []Finding{f.fix("give %s a record for each nginx host; nothing is wrong where a CDN or a balancer stands before them", name).note()}
	}
	f := Finding{Topic: "dns", Msg: fmt.Sprintf("%s does not lead to every nginx host", name), Facts: without}
	return []Finding{f.fix("give %s a record for each of these", name)}
}
