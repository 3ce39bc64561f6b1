package balance

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/templates"
)

// runtimeServer is one server as the worker that takes connections has it.
type runtimeServer struct {
	name   string
	admin  int // why it is out, bit by bit
	weight int
	open   int // requests that it works on, and that wait for it
	// since the worker began
	requests, failed, refused int64
}

// down reports whether somebody has taken the server out: by the file, by the socket, or for draining. One
// that is found dead is not down by that.
func (s runtimeServer) down() bool { return s.admin&(1|4|8) != 0 }

// stateOf gives the servers of a site as they are at run time; one that is not known there keeps no weight.
func stateOf(now []runtimeServer, servers []templates.NginxServer) []templates.NginxServer {
	list := slices.Clone(servers)
	for i := range list {
		at := slices.IndexFunc(now, func(s runtimeServer) bool { return s.name == list[i].Name })
		if at < 0 {
			list[i].Weight = 0
			continue
		}
		list[i].Down, list[i].Weight, list[i].Warm = now[at].down(), now[at].weight, 0
	}
	return list
}

// say sends commands to the runtime socket of a host and gives all that it answers.
func (n haproxy) say(ctx context.Context, h deploy.Host, site templates.HaproxySite, commands ...string) (string, error) {
	s, err := n.root().sh(ctx, h, []byte(strings.Join(commands, ";")+"\n"), haproxySocketScript, site.Socket)
	if err == nil && s.exit != 0 {
		err = fault.New(fault.HaproxyFailed, "the runtime socket %s does not answer", site.Socket).Wrap(fmt.Errorf("status %d: %.200s", s.exit, s.err))
	}
	return s.out, err
}

// runtime asks for the servers of the app.
func (n haproxy) runtime(ctx context.Context, h deploy.Host, site templates.HaproxySite) ([]runtimeServer, error) {
	text, err := n.say(ctx, h, site, "show servers state "+site.Upstream.Name, "show stat "+site.Upstream.Name+" 4 -1")
	if err != nil {
		return nil, err
	}
	servers := parseServers(text, site.Upstream.Name)
	if len(servers) == 0 {
		return nil, fault.New(fault.HaproxyFailed, "the runtime socket %s knows no server of %s", site.Socket, site.Upstream.Name)
	}
	return servers, nil
}

// parseServers reads the answers to "show servers state" and "show stat", one after the other; a line that
// makes no sense is left out.
func parseServers(text, backend string) []runtimeServer {
	var list []runtimeServer
	var columns []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "# pxname,"); ok {
			columns = strings.Split("pxname,"+head, ",")
			continue
		}
		if columns != nil {
			addCounts(list, columns, strings.Split(line, ","))
			continue
		}
		words := strings.Fields(line)
		if len(words) < 9 || words[1] != backend || len(list) >= maxServers {
			continue
		}
		admin, err1 := strconv.Atoi(words[6])
		weight, err2 := strconv.Atoi(words[7])
		if err1 == nil && err2 == nil {
			list = append(list, runtimeServer{name: words[3], admin: admin, weight: weight})
		}
	}
	return list
}

// addCounts adds a line of "show stat" to its server.
func addCounts(list []runtimeServer, columns, values []string) {
	number := func(column string) int64 {
		at := slices.Index(columns, column)
		if at < 0 || at >= len(values) {
			return 0
		}
		v, _ := strconv.ParseInt(values[at], 10, 64) // empty is none
		return max(v, 0)
	}
	for i := range list {
		s := &list[i]
		if len(values) < 2 || values[1] != s.name {
			continue
		}
		s.open = int(min(number("scur")+number("qcur"), 1<<30))
		s.refused = number("hrsp_4xx")
		// A server that does not answer has an error of connection or of response, and no status.
		lost := number("econ") + number("eresp")
		s.failed = number("hrsp_5xx") + lost
		s.requests = number("hrsp_1xx") + number("hrsp_2xx") + number("hrsp_3xx") + s.refused + number("hrsp_5xx") + number("hrsp_other") + lost
	}
}

// tell brings the servers to a state by the runtime socket, and sees that they have it.
func (n haproxy) tell(ctx context.Context, h deploy.Host, to templates.Stamp) error {
	site, err := n.Env.HaproxySite()
	if err != nil {
		return err
	}
	now, err := n.runtime(ctx, h, site)
	if err != nil {
		return err
	}
	commands := runtimeChange(site.Upstream, now, State{Down: downOf(to), Warm: to.Warm})
	for some := range slices.Chunk(commands, 50) {
		answer, err := n.say(ctx, h, site, some...)
		if err != nil {
			return err
		}
		if strings.TrimSpace(answer) != "" {
			return fault.New(fault.HaproxyFailed, "HAProxy refuses a state of its servers").Fact("| %.200s", strings.TrimSpace(answer))
		}
	}
	if now, err = n.runtime(ctx, h, site); err == nil && len(runtimeChange(site.Upstream, now, State{Down: downOf(to), Warm: to.Warm})) > 0 {
		err = fault.New(fault.HaproxyFailed, "HAProxy has not taken a state of its servers")
	}
	return err
}

func downOf(s templates.Stamp) map[string]bool {
	down := map[string]bool{}
	for _, name := range s.Down {
		down[name] = true
	}
	return down
}

// runtimeChange gives the commands that lead from what is to a state.
func runtimeChange(u templates.NginxUpstream, now []runtimeServer, to State) []string {
	var commands []string
	for _, s := range u.Servers {
		at := slices.IndexFunc(now, func(r runtimeServer) bool { return r.name == s.Name })
		if at < 0 {
			continue
		}
		name, weight := u.Name+"/"+s.Name, s.Weight
		if w := to.Warm[s.Name]; w > 0 {
			weight = w
		}
		switch is := now[at]; {
		case to.Down[s.Name]:
			if !is.down() {
				commands = append(commands, "set server "+name+" state drain")
			}
			continue
		case is.weight != weight:
			commands = append(commands, "set server "+name+" weight "+strconv.Itoa(weight))
		}
		if now[at].down() {
			commands = append(commands, "set server "+name+" state ready")
		}
	}
	return commands
}
