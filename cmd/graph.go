package cmd

import (
	"context"
	"fmt"
	"strings"

	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func inventoryGraphCommand() *command {
	return &command{
		Name: "graph", Group: groupFile, Usage: "draw who sends requests to whom, and through whom servers are reached", Args: "[ENV]", Env: true,
		Examples: []string{"godeploy inventory graph prod", "godeploy inventory graph prod --svg >prod.svg", "godeploy inventory graph prod --mermaid"},
		About:    "Reads godeploy.toml only: names, the nginx hosts, the app hosts with their weights, the other hosts, and jumps.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "svg", Usage: "as a picture"},
			&cli.BoolFlag{Name: "mermaid", Usage: "as a Mermaid flowchart"},
			&cli.BoolFlag{Name: "dot", Usage: "in Graphviz's language"},
		},
		Run: runInventoryGraph,
	}
}

// graph is what there is to draw, as plain data.
type graph struct {
	Names    []string    `json:"names"`
	Front    []graphHost `json:"nginx"`
	Upstream string      `json:"upstream"`
	Method   string      `json:"method,omitempty"`
	Servers  []graphHost `json:"servers"`
	Others   []graphHost `json:"others"`
	Jumps    []graphJump `json:"jumps"`
}

type graphHost struct {
	Name    string  `json:"name"`
	Address string  `json:"address"` // with the port, where it is known
	Roles   string  `json:"roles"`
	Weight  int     `json:"weight,omitempty"`
	Share   float64 `json:"share,omitempty"` // of the requests, in percent; none for a backup
	Backup  bool    `json:"backup,omitempty"`
}

// graphJump says that a host is reached through others: alternatives, each a chain.
type graphJump struct {
	To      string     `json:"to"`
	Through [][]string `json:"through"`
}

func graphOf(env *inventory.Env) graph {
	g := graph{Names: []string{}, Upstream: env.UpstreamName(), Others: []graphHost{}, Jumps: []graphJump{}}
	ends := map[string]string{}
	switch {
	case env.Balancer.Kind == "haproxy":
		g.Method = env.Balancer.Method
	case env.Nginx != nil:
		g.Names, g.Method = append(g.Names, env.Nginx.Names...), env.Nginx.Method
	}
	if env.HasBalancer() {
		servers, _ := env.Servers() // where it has errors, addresses are shown without their port
		for _, s := range servers {
			ends[s.Name] = s.Endpoint()
		}
	}
	total := 0
	for _, h := range env.BalancedHosts() {
		if !h.Backup {
			total += h.Weight
		}
	}
	placed := map[string]bool{}
	for _, h := range env.FrontHosts() {
		placed[h.Name] = true
		g.Front = append(g.Front, graphHost{Name: h.Name, Address: h.Address, Roles: strings.Join(h.Roles, ",")})
	}
	for _, h := range env.BalancedHosts() {
		placed[h.Name] = true
		one := graphHost{Name: h.Name, Address: orElse(ends[h.Name], h.Address), Roles: strings.Join(h.Roles, ","), Weight: h.Weight, Backup: h.Backup}
		if !h.Backup {
			one.Share = 100 * float64(h.Weight) / float64(total)
		}
		g.Servers = append(g.Servers, one)
	}
	for _, h := range env.Hosts {
		if !placed[h.Name] {
			g.Others = append(g.Others, graphHost{Name: h.Name, Address: h.Address, Roles: strings.Join(h.Roles, ",")})
		}
		if len(h.Jump) > 0 {
			g.Jumps = append(g.Jumps, graphJump{h.Name, h.Jump})
		}
	}
	return g
}

func runInventoryGraph(_ context.Context, c *call) error {
	g := graphOf(c.env)
	var text string
	switch {
	case c.looks().mode == "json":
		return c.document(g)
	case c.flags.Bool("svg"):
		text = g.svg(c.env.App.Name + " " + c.env.Name)
	case c.flags.Bool("mermaid"):
		text = g.mermaid()
	case c.flags.Bool("dot"):
		text = g.dot()
	default:
		text = g.tree(c.looks().ascii)
	}
	_, err := fmt.Fprint(c.sys.Stdout, text)
	return err
}

// branch draws a list below something: each element with the lines that stand below it.
func branch(indent string, ascii bool, list []string, below func(last bool, indent string) string) string {
	tee, end, bar := "├─ ", "└─ ", "│  "
	if ascii {
		tee, end, bar = "|- ", "`- ", "|  "
	}
	var b strings.Builder
	for i, text := range list {
		sign, next := tee, bar
		if i == len(list)-1 {
			sign, next = end, "   "
		}
		b.WriteString(indent + sign + clean(text) + "\n")
		b.WriteString(below(i == len(list)-1, indent+next))
	}
	return b.String()
}

func nothingBelow(bool, string) string { return "" }

// tree draws the way of a request from the top down. All nginx hosts send to the same servers, which are
// drawn once, below the last.
func (g graph) tree(ascii bool) string {
	servers := func(last bool, indent string) string {
		if !last {
			return ""
		}
		title := []string{joined("  ", g.Upstream, g.Method)}
		return branch(indent, ascii, title, func(_ bool, indent string) string {
			return branch(indent, ascii, texts(g.Servers), nothingBelow)
		})
	}
	var b strings.Builder
	b.WriteString(orElse(clean(strings.Join(g.Names, " ")), "every name") + "\n")
	if len(g.Front) == 0 {
		b.WriteString(servers(true, ""))
	} else {
		b.WriteString(branch("", ascii, texts(g.Front), servers))
	}
	if len(g.Others) > 0 {
		b.WriteString("\nbeside\n" + branch("", ascii, texts(g.Others), nothingBelow))
	}
	if len(g.Jumps) > 0 {
		b.WriteString("\nreached through\n")
		var lines []string
		for _, j := range g.Jumps {
			lines = append(lines, j.To+"  by "+jumpText(j.Through))
		}
		b.WriteString(branch("", ascii, lines, nothingBelow))
	}
	return b.String()
}

func texts(hosts []graphHost) []string {
	width := 0
	for _, h := range hosts {
		width = max(width, len(h.Name))
	}
	var all []string
	for _, h := range hosts {
		all = append(all, strings.TrimRight(fmt.Sprintf("%-*s  %s", width, h.Name, h.line()), " "))
	}
	return all
}

// line is what is said of a host beside its name.
func (h graphHost) line() string {
	switch {
	case h.Backup:
		return fmt.Sprintf("%s  weight %d  backup", h.Address, h.Weight)
	case h.Weight > 0:
		return fmt.Sprintf("%s  weight %d  %.1f%%", h.Address, h.Weight, h.Share)
	}
	return h.Address + "  " + h.Roles
}
