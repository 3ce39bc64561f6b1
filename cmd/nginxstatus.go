package cmd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"godeploy/deploy/balance"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"

	"github.com/urfave/cli/v2"
)

func nginxStatusCommand() *command {
	return &command{
		Name: "status", Group: groupTraffic, Usage: "who gets traffic, and how it is answered", Args: "[ENV]", Env: true, Terse: true,
		Examples: []string{"godeploy nginx status prod", "godeploy nginx status prod --json", "godeploy nginx status prod --exit-code"},
		About: "Asks every nginx host, changes nothing and takes no lock. Requests, 5xx and times are those of the last 4 MiB of\n" +
			"each access log, by the server that answered. Exit 0 whatever it finds; with --exit-code 3 when a server is out,\n" +
			"has another weight than its own, or nginx hosts differ.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "exit-code", Usage: "exit 3 when a server does not get what godeploy.toml gives it"}},
		Run:   runNginxStatus,
	}
}

// serverView is one server of `nginx status --json`.
type serverView struct {
	Server   string   `json:"server"`
	Address  string   `json:"address"`
	Weight   int      `json:"weight"`
	Now      int      `json:"weight_now"`
	Backup   bool     `json:"backup,omitempty"`
	State    string   `json:"state"` // up, down, or mixed where nginx hosts differ
	Up       []string `json:"up_on"`
	Down     []string `json:"down_on"`
	Why      string   `json:"why,omitempty"`
	Requests int      `json:"requests"`
	Failed   int      `json:"5xx"`
	P50      float64  `json:"p50_ms"`
	P95      float64  `json:"p95_ms"`
}

type nginxStatus struct {
	Env     string       `json:"env"`
	App     string       `json:"app"`
	Even    bool         `json:"even"` // every server gets what godeploy.toml gives it, on every nginx host
	Since   string       `json:"since,omitempty"`
	Servers []serverView `json:"servers"`
}

func runNginxStatus(ctx context.Context, c *call) error {
	if _, err := c.env.Servers(); err != nil {
		return err
	}
	pool := c.connect(event.Discard{})
	defer pool.Close() // nothing was changed over it
	front, err := c.connectFront(ctx, c.connector(pool, event.Discard{}), nil)
	if err != nil {
		return err
	}
	defer overssh.Close(front)
	servers, logged, err := c.drainer(event.Discard{}).Status(ctx, front)
	if err != nil {
		return err
	}
	view := c.nginxView(servers, logged)
	if c.looks().mode == "json" {
		err = c.document(view)
	} else {
		err = c.nginxTable(view, logged)
	}
	if err == nil && c.flags.Bool("exit-code") && !view.Even {
		return exitWith(exitDifferences, nil)
	}
	return err
}

func (c *call) nginxView(servers []balance.ServerStatus, logged balance.Logged) nginxStatus {
	view := nginxStatus{Env: c.env.Name, App: c.env.App.Name, Even: true, Since: when(logged.Since), Servers: []serverView{}}
	for _, s := range servers {
		one := serverView{Server: s.Server, Address: s.Endpoint, Weight: s.Weight, Now: s.Now, Backup: s.Backup, Up: append([]string{}, s.Up...),
			Down: append([]string{}, s.Down...), Why: s.Why, Requests: s.Count.Requests, Failed: s.Count.Failed,
			State: "mixed"}
		if c.env.Balancer.Kind == "nginx" { // HAProxy counts no times
			one.P50, one.P95 = inMS(s.Count.Quantile(0.5)), inMS(s.Count.Quantile(0.95))
		}
		switch {
		case len(s.Down) == 0:
			one.State = "up"
		case len(s.Up) == 0:
			one.State = "down"
		}
		view.Even = view.Even && one.State == "up" && s.Now == s.Weight
		view.Servers = append(view.Servers, one)
	}
	return view
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (c *call) nginxTable(view nginxStatus, logged balance.Logged) error {
	rows := [][]string{}
	for _, s := range view.Servers {
		weight := strconv.Itoa(s.Now)
		if s.Now != s.Weight {
			weight = fmt.Sprintf("%d of %d", s.Now, s.Weight)
		}
		failed, p95 := "", ""
		if s.Requests > 0 {
			failed = fmt.Sprintf("%d (%.2f%%)", s.Failed, 100*float64(s.Failed)/float64(s.Requests))
			if p95 = "-"; c.env.Balancer.Kind == "nginx" {
				p95 = fmt.Sprintf("%.0fms", s.P95)
			}
		}
		rows = append(rows, []string{s.Server, s.Address, weight, s.State, strconv.Itoa(s.Requests), failed, p95})
	}
	err := table(c.sys.Stdout, []string{"SERVER", "ADDRESS", "WEIGHT", "STATE", "REQUESTS", "5XX", "P95"}, rows)
	for _, s := range view.Servers {
		if s.Why != "" {
			c.conclude("%s %s: %s%s", c.mark(false), s.Server, clean(s.Why), onHosts(s))
		}
	}
	switch {
	case c.env.Balancer.Kind == "haproxy":
		c.conclude("  %s since HAProxy was loaded last, by its own counters", plural(logged.Requests, "request"))
	case logged.Requests > 0:
		c.conclude("  %s since %s, by the access logs", plural(logged.Requests, "request"), logged.Since.Local().Format("2006-01-02 15:04:05"))
	}
	return err
}

// onHosts says where a server is out, when that is not everywhere.
func onHosts(s serverView) string {
	if s.State != "mixed" {
		return ""
	}
	return " (down on " + strings.Join(s.Down, ", ") + ")"
}
