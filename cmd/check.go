package cmd

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"godeploy/deploy/access"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

func checkCommand() *command {
	return &command{
		Name: "check", Group: groupStart, Usage: "check godeploy.toml without touching a server", Args: "[ENV]", MaxArgs: 1,
		Examples: []string{"godeploy check", "godeploy check prod", "godeploy check --json"},
		About: "Reads the file as every other command does and shows every problem at once, with line and column.\n" +
			"Exit 64 when the file is not valid, 8 when it is but something in it will not work as written.",
		Run: runCheck,
	}
}

// finding is something in a valid file that will not work as written.
type finding struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	Msg    string `json:"msg"`
	Hint   string `json:"hint,omitempty"`
}

func (f finding) String() string {
	pos := fault.Pos{File: f.File, Line: f.Line, Col: f.Column}.String()
	return joined(": ", pos, joined(" ", f.Key, f.Msg, hinted(f.Hint)))
}

type checkReport struct {
	File     string    `json:"file"`
	Envs     []string  `json:"envs"`
	Hosts    int       `json:"hosts"`
	Findings []finding `json:"findings"`
}

func runCheck(_ context.Context, c *call) error {
	file, err := c.load()
	if err != nil {
		return err
	}
	envs := file.EnvNames()
	if len(c.words) > 0 {
		envs = c.words[:1]
	}
	report := checkReport{File: file.Path, Envs: envs, Findings: []finding{}}
	for _, name := range envs {
		env, err := file.Env(name)
		if err != nil {
			return err
		}
		report.Hosts += len(env.Hosts)
		for _, f := range findings(file, env) {
			if !slices.Contains(report.Findings, f) {
				report.Findings = append(report.Findings, f)
			}
		}
	}
	if err := c.showCheck(report); err != nil {
		return err
	}
	if len(report.Findings) > 0 {
		return exitWith(exitFindings, nil)
	}
	return nil
}

func (c *call) showCheck(r checkReport) error {
	if c.looks().mode == "json" {
		return c.document(r)
	}
	for _, f := range r.Findings {
		f.File = c.relative(f.File)
		if _, err := fmt.Fprintln(c.sys.Stdout, clean(f.String())); err != nil {
			return err
		}
	}
	verdict := "ok"
	if len(r.Findings) > 0 {
		verdict = plural(len(r.Findings), "finding")
	}
	fmt.Fprintf(c.sys.Stderr, "%s: %s, %s, %s\n", filepath.Base(r.File), plural(len(r.Envs), "environment"), plural(r.Hosts, "host"), verdict)
	return nil
}

// findings lists what is allowed but will not work as written: keys whose feature is not there, and
// what the inventory finds suspicious. A finding of the whole file comes up once, not once per environment.
func findings(file *inventory.File, env *inventory.Env) []finding {
	var all []finding
	for _, n := range file.NotBuilt(env.Name) {
		all = append(all, finding{File: n.Pos.File, Line: n.Pos.Line, Column: n.Pos.Col, Key: n.Key,
			Msg: "asks for " + n.Feature + ", which is not built yet", Hint: n.Hint})
	}
	for _, f := range file.Findings(env.Name) {
		all = append(all, finding{File: f.Pos.File, Line: f.Pos.Line, Column: f.Pos.Col, Msg: f.Msg, Hint: f.Cause})
	}
	_, err := access.People(env)
	for _, f := range fault.All(err) {
		pos := file.Origin(env.Name, "people")
		all = append(all, finding{File: cmp.Or(pos.File, file.Path), Line: pos.Line, Column: pos.Col, Key: "people", Msg: f.Msg, Hint: f.Cause})
	}
	from := env.Sync.From
	if !filepath.IsAbs(from) {
		from = filepath.Join(file.Dir, from)
	}
	if info, err := os.Stat(from); err != nil || !info.IsDir() {
		pos := file.Origin(env.Name, "sync.from")
		all = append(all, finding{File: pos.File, Line: pos.Line, Column: pos.Col, Key: "sync.from",
			Msg: fmt.Sprintf("names %s, which is no folder here", env.Sync.From)})
	}
	return all
}
