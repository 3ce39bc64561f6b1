package process

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"al.essio.dev/pkg/shellescape"

	"godeploy/deploy"
	"godeploy/hooks"
	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/templates"
)

// booth is the shell text that boots a server in a private folder, says where it is, and leaves nothing
// behind. Before it stand the assignments of dir, the release's folder, and of quit, the signal that ends
// the server; in it boot, which is the server. The login may be another user than the app's: it can go
// through the folder but not look into it, and the socket is made open once it is there.
const booth = `umask 022
room=$(mktemp -d /tmp/godeploy-trial.XXXXXXXXXX) && chmod 711 "$room" && cd -- "$dir" || exit 99
p=
over() {
  trap '' TERM INT HUP
  n=0
  [ -z "$p" ] || kill -"$quit" "$p"
  while [ -n "$p" ] && kill -0 "$p"; do n=$((n+1)); [ "$n" -lt 50 ] || kill -KILL "$p"; sleep 0.1; done
  rm -rf -- "$room"
}
trap 'over 2>/dev/null; exit 143' TERM INT HUP
boot & p=$!
while kill -0 "$p" 2>/dev/null && [ ! -S "$room/s" ]; do sleep 0.05; done
chmod 666 "$room/s" 2>/dev/null
echo "godeploy-trial $p $room/s"
wait "$p"; r=$?
rm -rf -- "$room"
exit "$r"
`

// inner copies a uWSGI configuration into the room without what would disturb the one that serves: what
// listens, writes a pid file, goes into the background, or takes another user. %d is the folder that the
// configuration lies in.
const inner = `awk -v from="$current/" -v to="$dir/" -v here="$at/" '
function put(s, a, b,  i, out) { out = ""; while ((i = index(s, a)) > 0) { out = out substr(s, 1, i-1) b; s = substr(s, i+length(a)) } return out s }
{ k = $0; sub(/=.*/, "", k); gsub(/[ \t]/, "", k); gsub(/_/, "-", k) }
k ~ /^(https?|http11|uwsgi|fastcgi|scgi|suwsgi)?-?socket$/ || k ~ /^(https?|pidfile2?|safe-pidfile2?|daemonize2?|stats|stats-server|stats-http|master-fifo|logto2?|logger|req-logger|processes|workers|chdir2?|uid|gid|emperor)$/ || k ~ /^(cheap|touch-|chown-|chmod-socket|hook-|lazy-apps)/ { next }
{ print put(put($0, from, to), "%d", here) }' "$ini" >"$room/app.ini" || exit 99
`

// trialText is the shell text of a trial boot, "" when the command line cannot be given other ends without
// a shell's help, or is of no server that is known.
func trialText(server string, words []string, current, dir string) string {
	if !isServer(words, server) {
		return ""
	}
	below, inside := strings.CutPrefix(chdir(words), current) // the app may lie in a folder of the project
	if !inside {
		below = ""
	}
	text := "current=" + shellescape.Quote(current) + " dir=" + shellescape.Quote(dir) + " work=" + shellescape.Quote(dir+below)
	if server == "gunicorn" {
		words = templates.Without(words, "--bind", "-b", "--pid", "-p", "--workers", "-w", "--error-logfile", "--log-file")
		words = slices.DeleteFunc(words, func(w string) bool { return w == "--daemon" || w == "-D" })
		return text + " quit=TERM\nboot() { exec " + staged(shellescape.QuoteCommand(words), current, dir) +
			` --chdir "$work" --bind "unix:$room/s" --pid "$room/pid" --workers 1 --error-logfile -` + "\n}\n" + booth
	}
	words = templates.Without(words, append(templates.UWSGIListens(), "--pidfile", "--pidfile2", "--safe-pidfile", "--daemonize", "--daemonize2", "-d",
		"--stats", "--master-fifo", "--logto", "--processes", "--workers", "-p", "--cheaper", "--cheaper-initial", "--uid", "--gid", "--chdir")...)
	ini, has := templates.Option(words, "--ini")
	prepare := ""
	if has {
		words = append(templates.Without(words, "--ini"), "--ini", "in the room")
		ini = staged(ini, current, dir)
		prepare = "ini=" + shellescape.Quote(ini) + " at=" + shellescape.Quote(parent(ini)) + "\n" + inner
	} else if slices.ContainsFunc(words[1:], func(w string) bool {
		return strings.HasSuffix(w, ".ini") || w == "--emperor" || w == "--xml" || w == "--yaml"
	}) {
		return ""
	}
	line := strings.ReplaceAll(staged(shellescape.QuoteCommand(words), current, dir), "'in the room'", `"$room/app.ini"`)
	return text + " quit=QUIT\nboot() {\n" + prepare + "exec " + line +
		` --chdir "$work" --http-socket "$room/s" --processes 1 --need-app --die-on-term` + "\n}\n" + booth
}

// trialWords are the words of the command line that a trial boots: what [process] command says, else the
// unit's ExecStart.
func (s *Service) trialWords(h deploy.Host, id string, f found) ([]string, error) {
	if s.env.Process.Command != "" {
		line, err := s.env.Render("process.command", s.env.Process.Command, h.Inventory(), id)
		words, _ := templates.Words(line) // none when it takes a shell
		return words, err
	}
	if slices.ContainsFunc(f.Command, func(w string) bool { return strings.ContainsAny(w, "$%") }) {
		return nil, nil
	}
	return f.Command, nil
}

// trial boots the staged release once, on a socket of its own, and asks for its health. It is on hosts that
// serve: nothing of the running server is touched.
type trial struct {
	*Service
	h     deploy.Host
	id    string
	dir   string
	began time.Time
	probe deploy.Probe

	mu   sync.Mutex
	said string
	up   chan struct{} // closed when the booth has told where the server is
	pid  int
	at   string
}

func (s *Service) newTrial(h deploy.Host, id, dir string) (*trial, error) {
	probe, err := deploy.ProbeOf(s.env, h.Inventory(), "")
	if err != nil {
		return nil, err
	}
	probe.Header, probe.Settle = "", 0
	// The path and the host that are asked for stay, the way there is another.
	if u, err := url.Parse(probe.URL); err == nil && u.Host != "" {
		u.Scheme = "http"
		probe.URL = u.String()
	} else {
		probe.URL, probe.Status = "http://localhost/", nil
	}
	return &trial{Service: s, h: h, id: id, dir: dir, began: time.Now(), probe: probe, up: make(chan struct{})}, nil
}

// run boots, asks and ends the server.
func (t *trial) run(ctx context.Context, text, user string, told map[string]string) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	type end struct {
		hooks.Ended
		err error
	}
	over := make(chan end, 1)
	go func() {
		c := hooks.Command{Shell: text, Dir: t.dir, Env: told, User: user, Timeout: 2*bootTime + t.asking()}
		ended, err := deploy.HostRunner{Host: t.h, Sudo: t.env.SSH.Sudo}.Run(running, c, t.hear)
		over <- end{ended, err}
	}()
	var ended end
	select {
	case ended = <-over:
		return t.broken(ctx, ended.Ended, ended.err)
	case <-t.up:
	}
	judged := make(chan error, 1)
	go func() { judged <- t.judge(running) }()
	select {
	case ended = <-over:
		stop()
		if err := <-judged; err == nil {
			return nil // it answered, and ended after that
		}
		return t.broken(ctx, ended.Ended, ended.err)
	case err := <-judged:
		stop()
		<-over
		return err
	}
}

// asking is how long asking for the health may take.
func (t *trial) asking() time.Duration {
	return time.Duration(t.probe.Tries) * (t.probe.Interval + t.probe.Timeout)
}

// hear takes what the booth and the server say.
func (t *trial) hear(_ string, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.said += string(p); len(t.said) > maxOutput {
		t.said = t.said[len(t.said)-maxOutput:]
	}
	if t.at != "" {
		return
	}
	_, rest, ok := strings.Cut("\n"+t.said, "\ngodeploy-trial ")
	line, _, whole := strings.Cut(rest, "\n")
	pid, at, two := strings.Cut(line, " ")
	if n, err := strconv.Atoi(pid); ok && whole && two && err == nil {
		t.pid, t.at = n, at
		close(t.up)
	}
}

// broken is the fault of a server that ended by itself.
func (t *trial) broken(ctx context.Context, ended hooks.Ended, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := fault.New(fault.CheckFailed, "the new code does not import or boot").Fact("the trial server exited with %d", ended.Exit)
	for _, line := range deploy.LastLines(t.said, 12) {
		if !strings.HasPrefix(line, "godeploy-trial ") {
			f.Fact("| %s", line)
		}
	}
	return f
}

// judge asks until the server is well or has said so often enough that it is not. Until the first answer it
// is booting, and only time counts.
func (t *trial) judge(ctx context.Context) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return t.h.Dial(ctx, "unix", t.at) }
	deadline := time.Now().Add(bootTime)
	for failed := 0; ; {
		status, err := t.probe.Ask(ctx, dial)
		switch {
		case err == nil, status > 0 && t.probe.Status == nil:
			return t.passed(ctx, status)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case status > 0:
			failed++
		case strings.Contains(err.Error(), "prohibited"):
			t.warn("trial: its sshd forwards no sockets (AllowStreamLocalForwarding), so that the new code boots is seen, but not its health")
			return deploy.Pause(ctx, 2*time.Second)
		}
		if failed >= t.probe.Tries || failed == 0 && time.Now().After(deadline) {
			return t.unwell(status, err)
		}
		if err := deploy.Pause(ctx, max(t.probe.Interval/4, pollEvery)); err != nil {
			return err
		}
	}
}

// passed sees that what answered is the staged release, and notes how long it took to boot.
func (t *trial) passed(ctx context.Context, status int) error {
	took := time.Since(t.began)
	dir, err := t.realDir(ctx, t.h, t.id)
	if err != nil {
		return err
	}
	procs, err := t.h.Procs(ctx, t.pid)
	if err != nil {
		return err
	}
	if len(procs) > 1 && procs[1].CWD != "" && procs[1].CWD != dir && !strings.HasPrefix(procs[1].CWD, dir+"/") {
		return fault.New(fault.CheckFailed, "the trial of the new code ran in %s", procs[1].CWD).
			Hint("let the server's configuration leave the folder to --chdir, or set [process] check")
	}
	t.trials.note(t.h.Inventory().Name, took)
	t.report.Report(event.Event{Type: event.Proof, Host: t.h.Inventory().Name, Phase: "build", Step: "trial", Release: t.id, Status: status, MS: took.Milliseconds(),
		Msg: fmt.Sprintf("trial: the new code boots and answers %d, %.1fs", status, took.Seconds())})
	return nil
}

// unwell is what a trial comes to that boots and does not answer as it should. Before the once hooks have
// run the schema may be the old one, and then its health is not to be judged yet.
func (t *trial) unwell(status int, err error) error {
	t.trials.note(t.h.Inventory().Name, time.Since(t.began))
	if status > 0 && len(t.env.Hooks.Once) > 0 {
		t.warn(fmt.Sprintf("trial: the new code boots, but %v; the once hooks have yet to run, so this is judged after the switch", err))
		return nil
	}
	f := fault.New(fault.CheckFailed, "the new code boots, but is not well").Fact("%v", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range deploy.LastLines(t.said, 8) {
		if !strings.HasPrefix(line, "godeploy-trial ") {
			f.Fact("| %s", line)
		}
	}
	return f
}

func (t *trial) warn(text string) {
	t.report.Report(event.Event{Type: event.Warn, Host: t.h.Inventory().Name, Phase: "build", Step: "trial", Msg: text})
}
