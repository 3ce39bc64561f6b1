package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/deploy"
	"godeploy/deploy/overssh"
	"godeploy/internal/wire"
)

// scenario is a run and what there was before it.
type scenario struct {
	name   string
	before []run
	run    run
}

func scenarios() []scenario {
	v1, v2 := run{command: "release", version: "v1"}, run{command: "release", version: "v2"}
	return []scenario{
		{"first", nil, v1},
		{"release", []run{v1}, v2},
		{"broken", []run{v1}, run{command: "release", version: "bad", bad: "c"}},
		{"rollback", []run{v1, v2}, run{command: "rollback"}},
	}
}

func scenarioOf(name string) scenario {
	for _, s := range scenarios() {
		if s.name == name {
			return s
		}
	}
	return scenario{}
}

// point is one place where something strikes.
type point struct {
	Scenario string `json:"scenario"`
	Who      string `json:"who"`            // controller, helper, both, freeze, reset; or an errno
	At       string `json:"at"`             // frame, call
	K        int    `json:"k"`              // counted from 1, over all hosts for frames, of one host for calls
	Host     string `json:"host,omitempty"` // for calls
}

func (p point) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s/%s/%s/%d/%s", p.Scenario, p.Who, p.At, p.K, p.Host), "/")
}

func parsePoint(text string) (point, error) {
	f := strings.Split(text, "/")
	if len(f) < 4 || len(f) > 5 {
		return point{}, fmt.Errorf("point %q", text)
	}
	k, err := strconv.Atoi(f[3])
	p := point{Scenario: f[0], Who: f[1], At: f[2], K: k}
	if len(f) == 5 {
		p.Host = f[4]
	}
	return p, err
}

// outcome is what came of a point.
type outcome struct {
	Point    point    `json:"point"`
	Step     string   `json:"step"` // of release.md's order; "" when nothing was struck
	Struck   string   `json:"struck,omitempty"`
	Verdict  string   `json:"verdict"` // of the run that was struck
	Error    string   `json:"error,omitempty"`
	Hosts    []string `json:"hosts"`   // what each was on before the next run: old, new, none; with "open" when its journal is
	FreeMS   int64    `json:"free_ms"` // until every lock was free
	MS       int64    `json:"ms"`
	Findings findings `json:"findings,omitempty"`
}

// stand brings the fleet to where a scenario begins; the way there is gone once and copied afterwards.
func (l *lab) stand(s scenario) error {
	kept := filepath.Join(l.dir, "base-"+s.name)
	if err := l.disk.away(); err != nil {
		return err
	}
	if _, err := os.Stat(kept); errors.Is(err, os.ErrNotExist) {
		l.empty()
		for _, r := range s.before {
			if _, _, err := l.plain(r); err != nil {
				return fmt.Errorf("prepare %s: %w", s.name, err)
			}
		}
		if err := command("cp", "-a", filepath.Join(l.dir, "hosts"), kept); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(l.dir, "hosts")); err != nil {
		return err
	}
	if err := command("cp", "-a", kept, filepath.Join(l.dir, "hosts")); err != nil {
		return err
	}
	return l.disk.under(l.host("b"))
}

// strikes arranges for the point's fault. killed names the hosts whose helpers get no time to do anything.
func (c *crew) strikes(p point, faults map[string][]string, log string) (killed map[string]bool) {
	killed = map[string]bool{}
	all := func() {
		for _, h := range hostNames() {
			killed[h] = true
		}
	}
	if p.At == "call" {
		what := "kill " + strconv.Itoa(p.K)
		if _, ok := errnos()[p.Who]; ok {
			what = "fail " + strconv.Itoa(p.K) + " " + p.Who
		} else if killed[p.Host] = true; p.Who == "both" {
			all()
		}
		faults[p.Host] = []string{faultEnv + "=" + what, logEnv + "=" + log}
		return killed
	}
	switch p.Who {
	case "controller":
		c.tap.strike = func(string) { c.cut() }
	case "helper":
		c.tap.strike = func(h string) { killed[h] = true; c.kill(h) }
	case "both", "reboot":
		all()
		c.tap.strike = func(string) { c.kill(""); c.cut() }
	case "power":
		all()
		c.tap.strike = func(string) { c.kill(""); c.l.disk.snapshot(); c.cut() }
	case "reset":
		c.tap.strike = c.reset
	case "freeze":
		c.tap.strike = func(string) {
			close(c.tap.frozen)
			go func() { _, _ = c.await(time.Minute); c.cut() }()
		}
	}
	return killed
}

// reset ends the connection to one host; controller and helper live.
func (c *crew) reset(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.helpers {
		if p.host == host {
			_ = p.pipe.Close()
		}
	}
}

// lives reports whether the controller of a struck run goes on and can be believed.
func (p point) lives() bool {
	switch p.Who {
	case "controller", "both", "freeze", "reboot", "power":
		return false
	}
	return true
}

// try carries a point out: the scenario up to the fault, what must hold after it, and the next release.
func (l *lab) try(p point) (o outcome) {
	began := time.Now()
	o.Point = p
	defer func() { o.MS = time.Since(began).Milliseconds() }()
	s := scenarioOf(p.Scenario)
	if err := l.stand(s); err != nil {
		o.Findings.add("set up: %v", err)
		return o
	}
	l.mu.Lock()
	l.log = nil
	l.mu.Unlock()
	before := map[string]seen{}
	for _, h := range hostNames() {
		before[h], _ = l.look(h)
	}
	o.Findings = append(o.Findings, l.struck(s.run, p, before, &o)...)
	l.Report(marker("the next release"))
	o.Findings = append(o.Findings, l.next()...)
	l.boot = ""
	return o
}

// reboot is what a host's start does: its service comes up with what current leads to.
func (l *lab) reboot() error {
	l.boot = "11111111-2222-3333-4444-" + strconv.FormatInt(l.clock.Unix(), 10)
	for _, h := range hostNames() {
		serving := filepath.Join(l.host(h), "run/serving")
		to, err := os.Readlink(filepath.Join(l.shop(h), "current"))
		if err != nil {
			if err := os.RemoveAll(serving); err != nil {
				return err
			}
			continue
		}
		code, err := os.ReadFile(filepath.Join(l.shop(h), to, "app.txt"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(serving, []byte(filepath.Base(to)+"\n"+string(code)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// next is the plain release that has to work whatever came before.
func (l *lab) next() (f findings) {
	result, tap, err := l.plain(run{command: "release", version: "next"})
	return append(append(f, tap.wrong...), l.afterNext(result, err)...)
}

// struck is the run in which the fault strikes.
func (l *lab) struck(r run, p point, before map[string]seen, o *outcome) (f findings) {
	l.tick()
	t := newTap(0)
	if p.At == "frame" {
		t.at = p.K
	}
	c := &crew{l: l, tap: t}
	log := filepath.Join(l.dir, "struck")
	_ = os.Remove(log)
	faults := map[string][]string{}
	killed := c.strikes(p, faults, log)
	options := wire.Options{}
	if p.Who == "freeze" {
		options.Heartbeat = 100 * time.Millisecond
		for _, h := range hostNames() {
			faults[h] = []string{silenceEnv + "=1500ms"}
		}
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 2*time.Minute)
	defer cancel()
	fleet, err := l.fleet(ctx, c, "struck", faults, options)
	var result *deploy.Result
	if err == nil {
		if p.At == "call" && p.Who == "both" {
			go c.follow(p.Host)
		}
		result, err = l.do(ctx, fleet, r)
		overssh.Close(fleet.Hosts)
	}
	if ctx.Err() != nil {
		f.add("I8: the run did not end in time")
	}
	f = append(f, l.judge(r, p, c, result, err, before, killed, o)...)
	o.Step, o.Struck = stepOf(t, p, log)
	return append(append(f, t.wrong...), l.silent(p, o)...)
}

// follow lets the controller die with the helper of a host.
func (c *crew) follow(host string) {
	c.mu.Lock()
	helpers := slices.Clone(c.helpers)
	c.mu.Unlock()
	for _, p := range helpers {
		if p.host == host {
			<-p.ended
		}
	}
	c.kill("")
	c.cut()
}

// judge looks at what a struck run has left, and at what it said.
func (l *lab) judge(r run, p point, c *crew, result *deploy.Result, err error, before map[string]seen, killed map[string]bool, o *outcome) (f findings) {
	took, aerr := c.await(time.Minute)
	o.FreeMS = took.Milliseconds()
	if aerr != nil {
		f.add("I8: %v", aerr)
	}
	if p.Who == "power" {
		aerr = l.disk.cut()
	}
	if aerr == nil && (p.Who == "reboot" || p.Who == "power") {
		aerr = l.reboot()
	}
	if aerr != nil {
		f.add("I1: after the boot: %v", aerr)
	}
	if err != nil {
		o.Error = strings.Join(strings.Fields(err.Error()), " ")
		o.Error = o.Error[:min(len(o.Error), 300)]
	}
	left := map[string]bool{}
	for _, h := range hostNames() {
		left[h] = !killed[h]
	}
	o.Hosts = l.whereabouts(before, result)
	if result != nil {
		o.Verdict = string(result.Verdict)
		if r.command == "release" {
			l.learned(result.Release, r.version)
		}
		if p.lives() {
			f = append(f, l.truth(result, err, before)...)
			for _, h := range result.Hosts { // what is told as broken is for the next run to heal
				left[h.Host] = left[h.Host] && h.Outcome != deploy.Broken
			}
		}
	}
	return append(f, l.afterFault(before, left)...)
}

// whereabouts says for each host what current was after the fault.
func (l *lab) whereabouts(before map[string]seen, result *deploy.Result) []string {
	var list []string
	for _, h := range hostNames() {
		s, err := l.look(h)
		word := "new"
		switch {
		case err != nil:
			word = "unreadable"
		case s.current == before[h].current:
			word = "old"
		case s.current == "":
			word = "none"
		case result == nil || s.current != result.Release:
			word = "other"
		}
		if s.journal.Open() {
			word += " open"
		}
		list = append(list, word)
	}
	return list
}

// stepOf says where the fault struck.
func stepOf(t *tap, p point, log string) (name, what string) {
	if p.At == "frame" {
		if t.struck == nil {
			return "", ""
		}
		way := "to"
		if t.struck.Back {
			way = "from"
		}
		return t.struck.Name, fmt.Sprintf("0x%02x %s %s", uint8(t.struck.Kind), way, t.struck.Host)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		return "", ""
	}
	line := strings.TrimSpace(string(bytes.TrimSpace(b)))
	return callStep(line), line
}

// callStep gives the step of release.md's order that an operation on the app's folder belongs to.
func callStep(line string) string {
	op, path, _ := strings.Cut(line, " ")
	switch {
	case strings.Contains(path, "journal"), strings.HasPrefix(path, "current"), strings.Contains(path, "current.new"), path == "./":
		return "12 switch"
	case strings.Contains(path, ".gone-"), op == "remove" && strings.HasPrefix(path, "releases/2"):
		return "16 prune"
	case strings.Contains(path, "audit.log"):
		return "16 prune"
	case strings.HasPrefix(path, ".godeploy/releases"):
		return "9 finalize"
	case strings.HasPrefix(path, ".godeploy/manifests"):
		return "6 manifest"
	case op == "syncfs" || op == "rename" && strings.HasPrefix(path, "releases/"):
		return "9 finalize"
	case strings.Contains(path, ".partial"), strings.HasPrefix(path, "releases/"):
		return "7-8 materialize"
	}
	return "6 manifest"
}

// length is how long a scenario is: how many frames it has over all hosts, and what it does to each host's
// folder, as "OP PATH".
type length struct {
	frames int
	calls  map[string][]string
}

// count counts the operations on a host's folder, those that write or all.
func (n length) count(host string, kills bool) (calls int) {
	for _, line := range n.calls[host] {
		if op, _, _ := strings.Cut(line, " "); !kills || writes(op) {
			calls++
		}
	}
	return calls
}

// measure runs a scenario without a fault.
func (l *lab) measure(s scenario) (n length, err error) {
	if err := l.stand(s); err != nil {
		return n, err
	}
	l.tick()
	t := newTap(0)
	c := &crew{l: l, tap: t}
	logs := map[string][]string{}
	for _, h := range hostNames() {
		log := filepath.Join(l.dir, "calls-"+h)
		_ = os.Remove(log)
		logs[h] = []string{logEnv + "=" + log}
	}
	f, err := l.fleet(l.t.Context(), c, "counted", logs, wire.Options{})
	if err != nil {
		return n, err
	}
	result, err := l.do(l.t.Context(), f, s.run)
	overssh.Close(f.Hosts)
	if _, aerr := c.await(time.Minute); aerr != nil {
		return n, aerr
	}
	if want := s.run.bad == ""; want != (err == nil) {
		return n, fmt.Errorf("%s without a fault: %s, %w", s.name, result.Verdict, err)
	}
	n = length{frames: t.seen, calls: map[string][]string{}}
	for _, h := range hostNames() {
		b, err := os.ReadFile(filepath.Join(l.dir, "calls-"+h))
		if err != nil {
			return n, err
		}
		n.calls[h] = strings.Split(strings.TrimSpace(string(b)), "\n")
	}
	return n, nil
}

// TestScenariosRunWithoutAFault shows that the lab itself is well.
func TestScenariosRunWithoutAFault(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, s := range scenarios() {
		n, err := l.measure(s)
		frames, calls := n.frames, n.count("b", true)
		if err != nil {
			t.Fatalf("%v\n%s", err, l.told())
		}
		if frames < 40 || calls < 10 {
			t.Errorf("%s: %d frames, %d operations: too few to be true", s.name, frames, calls)
		}
		t.Logf("%s: %d frames over all hosts, %d operations that write on one", s.name, frames, calls)
		if f := l.next(); len(f) > 0 {
			t.Errorf("%s: the release after it:\n%s\n%s", s.name, strings.Join(f, "\n"), l.told())
		}
	}
}
