package cmd

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/inventory"

	"github.com/mattn/go-runewidth"
)

func inventoryCommand() *command {
	return &command{
		Name: "inventory", Group: groupFile, Usage: "what godeploy.toml says about the servers", Args: "show [ENV]",
		Examples: []string{"godeploy inventory show", "godeploy inventory show prod -l role:app", "godeploy inventory show prod --json"},
		Sub: []*command{{
			Name: "show", Group: groupFile, Usage: "the hosts, with everything they take from roles and defaults", Args: "[ENV]", Env: true,
			Examples: []string{"godeploy inventory show", "godeploy inventory show prod -l role:app", "godeploy inventory show prod --json"},
			Run:      runInventoryShow,
		}},
	}
}

// hostView is a host as `inventory show` tells it.
type hostView struct {
	Name    string     `json:"name"`
	Address string     `json:"address"`
	User    string     `json:"user,omitempty"`
	Port    int        `json:"port"`
	Jump    [][]string `json:"jump,omitempty"`
	Roles   []string   `json:"roles"`
	Weight  int        `json:"weight"`
	Tags    []string   `json:"tags,omitempty"`
	Backup  bool       `json:"backup,omitempty"`
	HostKey string     `json:"host_key,omitempty"`
	File    string     `json:"file"`
	Line    int        `json:"line"`
}

type inventoryView struct {
	App   string     `json:"app"`
	Path  string     `json:"path"`
	Env   string     `json:"env"`
	Hosts []hostView `json:"hosts"`
}

func runInventoryShow(_ context.Context, c *call) error {
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	view := inventoryView{App: c.env.App.Name, Path: c.env.App.Path, Env: c.env.Name, Hosts: []hostView{}}
	for _, h := range hosts {
		view.Hosts = append(view.Hosts, viewOf(h))
	}
	if c.looks().mode == "json" {
		return c.document(view)
	}
	return table(c.sys.Stdout, []string{"HOST", "ADDRESS", "USER", "PORT", "VIA", "ROLES", "WEIGHT", "TAGS", "FROM"}, c.inventoryRows(view.Hosts))
}

func viewOf(h inventory.Host) hostView {
	return hostView{Name: h.Name, Address: h.Address, User: h.User, Port: h.Port, Jump: h.Jump, Roles: h.Roles, Weight: h.Weight,
		Tags: h.Tags, Backup: h.Backup, HostKey: h.HostKey, File: h.Pos.File, Line: h.Pos.Line}
}

func (c *call) inventoryRows(hosts []hostView) [][]string {
	var rows [][]string
	for _, h := range hosts {
		from := fault.Pos{File: c.relative(h.File), Line: h.Line}.String()
		rows = append(rows, []string{h.Name, h.Address, h.User, strconv.Itoa(h.Port), jumpText(h.Jump),
			strings.Join(h.Roles, ","), strconv.Itoa(h.Weight), strings.Join(h.Tags, ","), from})
	}
	return rows
}

// jumpText shows alternatives with a bar between them and chains as ssh writes them.
func jumpText(jump [][]string) string {
	var all []string
	for _, chain := range jump {
		all = append(all, strings.Join(chain, ","))
	}
	return strings.Join(all, " | ")
}

// table writes rows below a heading, columns two spaces apart; an empty cell is a dash, so that every
// row has as many words as the heading. Columns that are empty in every row are left out.
func table(w io.Writer, heading []string, rows [][]string) error {
	widths := make([]int, len(heading))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(clean(cell)))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{heading}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			if widths[i] > 0 {
				line.WriteString(pad(orElse(clean(cell), "-"), max(widths[i], len(heading[i]))) + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := fmt.Fprint(w, b.String())
	return err
}
