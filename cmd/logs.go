package cmd

import (
	"context"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"time"

	"godeploy/deploy"
	"godeploy/internal/event"
	"godeploy/inventory"
	"godeploy/sshx"

	"github.com/urfave/cli/v2"
)

func logsCommand() *command {
	return &command{
		Name: "logs", Group: groupServers, Usage: "what the app has logged, on every server", Args: "[ENV]",
		Env: true, Story: true, Terse: true,
		Examples: []string{"godeploy logs prod", "godeploy logs prod -f -l app2", "godeploy logs prod --since 10m --grep 'ERROR|Traceback'",
			"godeploy logs prod --source nginx -n 20", "godeploy logs prod --source /var/log/syslog -n 50"},
		About: "The source app is the unit's journal, or what a server without systemd has written to .godeploy/service.log; nginx are the\n" +
			"site's logs on the nginx hosts, journal is all of the journal, and a path is a file. --grep looks through the lines that\n" +
			"--since and -n leave, the last 10000 when -n is not given. A login that is not root sees the unit's journal when it is in\n" +
			"the group systemd-journal, or when sudo lets it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes, until Ctrl-C"},
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Usage: "the last `N` lines of each host; default: 100"},
			&cli.DurationFlag{Name: "since", Usage: "only what is not older than this `DURATION`; of the journal"},
			&cli.StringFlag{Name: "grep", Usage: "only lines that match this `REGEXP`"},
			&cli.StringFlag{Name: "source", Value: "app", Usage: "`SOURCE`: app, nginx, journal or a file's absolute path"},
			&cli.BoolFlag{Name: "no-prefix", Usage: "no host in front of the lines"},
		},
		Run: runLogs,
	}
}

func runLogs(ctx context.Context, c *call) error {
	keep, err := c.logFilter()
	if err != nil {
		return err
	}
	hosts, err := c.logHosts()
	if err != nil {
		return err
	}
	j := job{input: func() io.Reader { return nil }}
	for _, h := range hosts {
		argv, err := c.logCommand(h)
		if err != nil {
			return err
		}
		line, err := sshx.Quote(argv...)
		if err != nil {
			return err
		}
		j.lines = append(j.lines, line)
	}
	if j.targets, err = c.targets(hosts); err != nil {
		return err
	}
	report, err := c.begin(event.Event{Hosts: namesOf(j.targets)})
	if err != nil {
		return err
	}
	pool := c.connect(report)
	defer pool.Close() // nothing was changed over it
	return c.execResult(c.runOnAll(ctx, pool, report, j, c.logOutput(report, j.targets, keep)))
}

func (c *call) logFilter() (*regexp.Regexp, error) {
	text := c.flags.String("grep")
	if text == "" {
		return nil, nil
	}
	keep, err := regexp.Compile(text)
	if err != nil {
		return nil, usagef("--grep is no regular expression").Wrap(err)
	}
	return keep, nil
}

// logHosts are the hosts that have the source.
func (c *call) logHosts() ([]inventory.Host, error) {
	switch source := c.flags.String("source"); {
	case source == "app":
		return c.serviceHosts()
	case source == "journal" || path.IsAbs(source):
		return c.hosts()
	case source != "nginx":
		return nil, usagef("--source does not know %q", source).Hint("it takes app, nginx, journal or a file's absolute path")
	}
	return c.frontHosts()
}

// seeScript runs a command that not every login may see the result of: by sudo where the login is nobody of
// the journal's readers and sudo lets it run exactly this.
const seeScript = `[ "$(id -u)" = 0 ] && exec "$@"
case " $(id -Gn) " in *" systemd-journal "*|*" adm "*) exec "$@";; esac
command -v sudo >/dev/null && sudo -n -l -- "$@" >/dev/null 2>&1 && exec sudo -n -- "$@"
exec "$@"`

// logCommand is what shows the source on a host.
func (c *call) logCommand(h inventory.Host) ([]string, error) {
	env, source := c.env.On(h), c.flags.String("source")
	var files []string
	switch {
	case source == "nginx":
		files = nginxLogs(env)
	case path.IsAbs(source):
		files = []string{source}
	case source == "app" && env.Process.Manager != "systemd":
		files = []string{env.App.Path + "/.godeploy/service.log"}
	}
	if files != nil && c.flags.Duration("since") > 0 {
		return nil, usagef("--since works with the journal only").Hint("lines of a file have no time that is known; -n N takes the last ones")
	}
	argv := c.journalWords(env, source)
	if files != nil {
		argv = c.tailWords(files)
	}
	return append([]string{"/bin/sh", "-c", seeScript, "sh"}, argv...), nil
}

func nginxLogs(env *inventory.Env) []string {
	access := "/var/log/nginx/access.log"
	if env.Nginx != nil {
		access = orElse(env.Nginx.AccessLog, "/var/log/nginx/godeploy-"+env.App.Name+".log")
	}
	return []string{access, "/var/log/nginx/error.log"}
}

func (c *call) journalWords(env *inventory.Env, source string) []string {
	argv := []string{"journalctl", "--no-pager", "-o", "short-iso", "-n", strconv.Itoa(c.logLines())}
	if source == "app" {
		argv = append(argv, "-u", deploy.UnitName(env))
	}
	if since := c.flags.Duration("since"); since > 0 {
		argv = append(argv, fmt.Sprintf("--since=-%ds", int64(since/time.Second)))
	}
	if c.flags.Bool("follow") {
		argv = append(argv, "-f")
	}
	return argv
}

func (c *call) tailWords(files []string) []string {
	argv := []string{"tail", "-n", strconv.Itoa(c.logLines())}
	if c.flags.Bool("follow") {
		argv = append(argv, "-F")
	}
	return append(append(argv, "--"), files...)
}

// logLines is how many lines a host is asked for.
func (c *call) logLines() int {
	switch n := c.flags.Int("lines"); {
	case n > 0:
		return n
	case c.flags.String("grep") != "" || c.flags.Duration("since") > 0:
		return 10_000
	}
	return 100
}

// logOutput shows lines as exec does, those that match.
func (c *call) logOutput(report event.Reporter, targets []sshx.Target, keep *regexp.Regexp) outputs {
	show := logLines{keep: keep}
	switch {
	case c.looks().mode == "json":
		show.to = eventOutput{report}
	case len(targets) == 1 || c.flags.Bool("no-prefix"):
		show.to = bareOutput{newPrefixed(c.sys.Stdout, c.sys.Stderr, nil)}
	default:
		show.to = newPrefixed(c.sys.Stdout, c.sys.Stderr, namesOf(targets))
	}
	return show
}

// logLines lets lines of standard output through that match.
type logLines struct {
	to   outputs
	keep *regexp.Regexp
}

func (l logLines) of(host string) (io.Writer, io.Writer, func()) {
	stdout, stderr, flush := l.to.of(host)
	if l.keep == nil {
		return stdout, stderr, flush
	}
	filter := &lineWriter{line: func(text string) {
		if l.keep.MatchString(text) {
			_, _ = io.WriteString(stdout, text+"\n") // a line writer: it takes all
		}
	}}
	return filter, stderr, func() { filter.flush(); flush() }
}

// bareOutput writes whole lines without their host.
type bareOutput struct{ *prefixed }

func (b bareOutput) of(string) (io.Writer, io.Writer, func()) {
	write := func(w io.Writer) *lineWriter {
		return &lineWriter{line: func(text string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			_, _ = fmt.Fprintln(w, clean(text)) // as prefixed does
		}}
	}
	out, err := write(b.stdout), write(b.stderr)
	return out, err, func() { out.flush(); err.flush() }
}
