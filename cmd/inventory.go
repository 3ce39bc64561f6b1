package cmd

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/inventory"

	"github.com/urfave/cli/v2"
)

func inventoryCommand() *command {
	return &command{
		Name: "inventory", Group: groupFile, Usage: "what godeploy.toml says about the servers", Args: "show|graph [ENV]",
		Examples: []string{"godeploy inventory show", "godeploy inventory graph prod", "godeploy inventory show prod -l role:app", "godeploy inventory show prod --json"},
		Sub: []*command{{
			Name: "show", Group: groupFile, Usage: "the hosts, with everything they take from roles and defaults", Args: "[ENV]", Env: true,
			Examples: []string{"godeploy inventory show", "godeploy inventory show prod -l role:app", "godeploy inventory show prod --json",
				"godeploy inventory show prod --ssh-config > ~/.ssh/prod.conf"},
			About: "With -v also every other key, its value and the line it comes from. --ssh-config prints what plain ssh, scp and rsync\n" +
				"need to reach the hosts by their names: put `Include prod.conf` on top of ~/.ssh/config. A pinned host_key cannot be\n" +
				"written there: trust that host's key once with keys trust.",
			Flags: []cli.Flag{&cli.BoolFlag{Name: "ssh-config", Usage: "print Host blocks for ~/.ssh/config"}},
			Run:   runInventoryShow,
		}, inventoryGraphCommand()},
	}
}

// inventoryDocument is the JSON document of `inventory show`.
type inventoryDocument struct {
	inventory.View
	Settings []settingView `json:"settings"`
}

// settingView is a key with the line its value comes from; none for a default.
type settingView struct {
	inventory.Setting
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func runInventoryShow(_ context.Context, c *call) error {
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	if c.flags.Bool("ssh-config") {
		text, err := c.sshConfig(hosts)
		if err != nil {
			return err
		}
		return c.print("%s", text)
	}
	doc := inventoryDocument{View: c.env.View(hosts)}
	for _, s := range c.file.Settings(c.env.Name) {
		doc.Settings = append(doc.Settings, settingView{Setting: s, File: s.Pos.File, Line: s.Pos.Line})
	}
	if c.looks().mode == "json" {
		return c.document(doc)
	}
	heading := []string{"HOST", "ADDRESS", "USER", "PORT", "VIA", "ROLES", "WEIGHT", "TAGS", "FROM"}
	if err := table(c.sys.Stdout, heading, c.inventoryRows(doc.Hosts)); err != nil || c.opt.Verbose == 0 {
		return err
	}
	fmt.Fprintln(c.sys.Stdout)
	return table(c.sys.Stdout, []string{"KEY", "VALUE", "FROM"}, c.settingRows(doc.Settings))
}

func (c *call) inventoryRows(hosts []inventory.HostView) [][]string {
	var rows [][]string
	for _, h := range hosts {
		rows = append(rows, []string{h.Name, h.Address, h.User, strconv.Itoa(h.Port), jumpText(h.Jump),
			strings.Join(h.Roles, ","), strconv.Itoa(h.Weight), strings.Join(h.Tags, ","), c.lineOf(h.File, h.Line)})
	}
	return rows
}

func (c *call) settingRows(all []settingView) [][]string {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{s.Key, s.Value, orElse(c.lineOf(s.File, s.Line), "default")})
	}
	return rows
}

// lineOf is "godeploy.toml:12", "" when the place is unknown.
func (c *call) lineOf(file string, line int) string {
	return fault.Pos{File: c.relative(file), Line: line}.String()
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
			widths[i] = max(widths[i], displayWidth(clean(cell)))
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
