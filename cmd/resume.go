package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// maxEmpty is how many empty answers count as nobody being there.
const maxEmpty = 5

// lastRun is the value of --resume without an id.
const lastRun = "last"

// resumed gives the release that --resume asks for, "" without it.
func (c *call) resumed() (string, error) {
	switch id := c.flags.String("resume"); {
	case id == "" || deploy.ValidID(id):
		return id, nil
	case id != lastRun:
		return "", usagef("--resume takes the id of a release, not %q", id).Try("godeploy releases %s", c.env.Name)
	}
	files, err := runFiles(filepath.Join(c.file.Dir, ".godeploy", "runs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the runs before this one: %w", err)
	}
	for _, path := range slices.Backward(files) {
		id, over, err := releaseIn(path, c.env)
		if err != nil {
			return "", err
		}
		if over {
			break // it is everywhere already
		}
		if id != "" {
			return id, nil
		}
	}
	return "", fault.New(fault.ReleaseUnknown, "no release of %s is known here that was not finished", c.env.Name).
		Hint("the record of runs lies in .godeploy/runs of the machine that released; --resume=ID names one").
		Try("godeploy releases %s", c.env.Name)
}

// releaseIn reads the release of one run file, "" when it is not about releasing this environment; over
// says that the run brought it out.
func releaseIn(path string, env *inventory.Env) (id string, over bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(io.LimitReader(f, maxRunBytes))
	scanner.Buffer(nil, maxRunLine)
	for scanner.Scan() {
		var e event.Event
		if json.Unmarshal(scanner.Bytes(), &e) != nil {
			continue // the last line of a run that was killed may be half a line
		}
		switch {
		case e.Type == event.RunStart && (e.Env != env.Name || e.Command != "release" || e.DryRun):
			return "", false, nil
		case e.Type == event.Info && deploy.ValidID(e.Release):
			id = e.Release
		case e.Type == event.RunEnd:
			over = e.Result == string(deploy.Done) || e.Result == string(deploy.Nothing)
		}
	}
	return id, over, nil
}

// mayPause refuses --pause where nobody can be asked, before anything is changed.
func (c *call) mayPause() error {
	if !c.flags.Bool("pause") || c.opt.DryRun {
		return nil
	}
	if c.env.Release.Strategy != "canary" {
		return usagef("--pause asks after the canary, but the strategy is %s", c.env.Release.Strategy).
			Hint("add --canary HOST")
	}
	tty, err := c.openTTY()
	if err != nil {
		return fault.New(fault.ConfirmNeeded, "--pause asks after the canary, and there is no terminal to ask on").
			Hint("leave --pause out, or split the run: -l CANARY first, then --resume")
	}
	return tty.Close()
}

// askCanary asks on the terminal whether a release goes on after its canary.
func (c *call) askCanary(ctx context.Context, wave []string, look func(context.Context) ([]deploy.HostStatus, error)) (bool, error) {
	tty, err := c.openTTY()
	if err != nil {
		return false, err
	}
	defer tty.Close()
	for empty := 0; empty < maxEmpty; {
		answer, err := await(ctx, tty, func() (string, error) {
			fmt.Fprintf(tty, "%s has the new release. [c]ontinue  [r]oll back  [w]ait 1m  [s]tatus ", strings.Join(wave, ", "))
			return readLine(tty)
		})
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "c", "continue":
			return true, nil
		case "r", "roll back", "rollback":
			return false, nil
		case "": // the terminal is gone, or a key was hit by mistake
			empty++
			if err := deploy.Pause(ctx, time.Second); err != nil {
				return false, err
			}
		case "w", "wait":
			if err := deploy.Pause(ctx, time.Minute); err != nil {
				return false, err
			}
		case "s", "status":
			list, err := look(ctx)
			if err != nil {
				return false, err
			}
			showCanary(tty, list)
		}
	}
	return false, fault.New(fault.ConfirmNeeded, "nobody answered whether to go on after the canary")
}

func showCanary(w io.Writer, list []deploy.HostStatus) {
	for _, s := range list {
		health := "not asked"
		switch {
		case s.Problem != "":
			health = cleanLine(s.Problem)
		case s.Health > 0:
			health = fmt.Sprint(s.Health)
		}
		fmt.Fprintf(w, "  %-12s %-24s %-8s health %s\n", s.Host, orElse(s.Release, "none"), s.Service, health)
	}
}

// reach connects every host, or says why not. A host that --quarantine names may be out of reach: it is
// left out, and named.
func (c *call) reach(ctx context.Context, connector *overssh.Connector, hosts []inventory.Host) (connected []deploy.Host, absent []string, err error) {
	allowed := c.flags.StringSlice("quarantine")
	for _, name := range allowed {
		if _, ok := c.env.Host(name); !ok {
			return nil, nil, usagef("--quarantine names the unknown host %q", name).Try("godeploy inventory show %s", c.env.Name)
		}
	}
	all, errs := connector.ConnectSome(ctx, hosts)
	for i, h := range hosts {
		switch {
		case errs[i] == nil:
			connected = append(connected, all[i])
		case slices.Contains(allowed, h.Name) && codeOf(errs[i]) == exitUnreachable:
			absent = append(absent, h.Name)
			errs[i] = nil
			c.warn(h.Name, "check: out of reach and left out, as --quarantine allows; it stays behind")
		}
	}
	if err = errors.Join(errs...); err == nil && len(connected) == 0 {
		err = fault.New(fault.SSHTimeout, "none of the servers can be reached")
	}
	if err != nil {
		c.sayUnreached(hosts, errs)
		overssh.Close(connected)
		return nil, nil, err
	}
	return connected, absent, nil
}

func (c *call) warn(host, msg string) {
	if s := c.told(); s != nil {
		s.Report(event.Event{Type: event.Warn, Host: host, Phase: "check", Msg: msg})
	}
}

// sayUnreached names the way to go on without hosts that cannot be reached, where there is one.
func (c *call) sayUnreached(hosts []inventory.Host, errs []error) {
	if name := c.leaf.name(); name != "release" && name != "rollback" {
		return
	}
	flags, away := "", 0
	for i, h := range hosts {
		if errs[i] != nil && codeOf(errs[i]) == exitUnreachable {
			flags += " --quarantine " + h.Name
			away++
		}
	}
	if away > 0 && away < len(hosts) {
		c.conclude("  without it, which then stays behind:  godeploy %s %s%s", c.leaf.name(), c.env.Name, flags)
	}
}

// sayBehind names the servers that the run left out.
func (c *call) sayBehind(r *deploy.Result) {
	if len(r.Behind) > 0 {
		c.conclude("  left out, and not on it unless they were:  %s", strings.Join(r.Behind, ", "))
	}
}

// sayResume names the way to try a release again that went back.
func (c *call) sayResume(what string, r *deploy.Result) {
	if what == "released" && r.Release != "" {
		c.conclude("  again, without sending it anew:  godeploy release %s --resume", r.Env)
	}
}

// leaving repeats the servers that a run left out, for the command that goes on with it.
func leaving(r *deploy.Result) string {
	text := ""
	for _, name := range r.Behind {
		text += " -l '!" + name + "'"
	}
	return text
}

// outcomeText is what is true of one server, in words.
func outcomeText(h deploy.HostResult) string {
	switch h.Outcome {
	case deploy.Switched:
		return "switched, not proven"
	case deploy.Unknown:
		return "unknown: could not be asked"
	}
	return strings.ReplaceAll(string(h.Outcome), "_", " ")
}

// parseBatch reads "2", "25%", or a ramp "1,30%,100%".
func parseBatch(text string) (inventory.Batch, error) {
	var batch inventory.Batch
	for part := range strings.SplitSeq(text, ",") {
		var size inventory.Share
		if err := size.UnmarshalText([]byte(strings.TrimSpace(part))); err != nil {
			return nil, usagef("--batch %q %v", text, err)
		}
		batch = append(batch, size)
	}
	if batch.IsRamp() && batch[len(batch)-1] != (inventory.Share{N: 100, Percent: true}) {
		return nil, usagef("--batch %q is a ramp that does not reach everybody", text).Hint("let it end with 100%%")
	}
	return batch, nil
}
