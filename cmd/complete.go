package cmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"godeploy/deploy/doctor"
	"godeploy/inventory"
)

// completeCommand is what the scripts of `completion` call on TAB. It reads godeploy.toml and nothing
// else: no command runs and no host is asked, whatever stands on the line.
func completeCommand() *command {
	return &command{Name: "__complete", MaxArgs: 0, Rest: true, Run: runComplete}
}

func runComplete(_ context.Context, c *call) error {
	var b strings.Builder
	for _, w := range candidates(commands(), c.rest, c.known()) {
		fmt.Fprintf(&b, "%s\t%s\n", clean(w.word), cleanLine(w.about))
	}
	return c.print("%s", b.String())
}

// candidate is one word that may stand where the cursor is.
type candidate struct{ word, about string }

// known is what the file says, as far as completion needs it.
type known struct {
	envs  []string
	hosts func(env string) []inventory.Host
}

// known reads the file; without one, or with one that is not valid, nothing of it is offered.
func (c *call) known() known {
	none := known{hosts: func(string) []inventory.Host { return nil }}
	file, err := c.load()
	if err != nil {
		return none
	}
	return known{envs: file.EnvNames(), hosts: func(name string) []inventory.Host {
		env, err := file.Env(name)
		if err != nil {
			return nil
		}
		return env.Hosts
	}}
}

// typed is the line before the word at the cursor, taken apart.
type typed struct {
	at      leaf     // the command so far; its cmd may be a group, or nil
	words   []string // behind the command
	pending *spelling
	closed  bool // a "--" came before
}

// candidates are the words that may stand at the cursor; the last of words is what is typed there so far.
func candidates(tree []*command, words []string, k known) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	cur := words[len(words)-1]
	t := takeApart(tree, words[:len(words)-1])
	var all []candidate
	prefix := ""
	switch name, value, given := strings.Cut(cur, "="); {
	case t.closed:
		return nil
	case t.pending != nil:
		all = values(t, t.pending.name, k)
		prefix, cur = listed(cur)
	case given && strings.HasPrefix(name, "-"):
		sp, ok := spellings(flagsOf(t.at))[name]
		if !ok {
			return nil
		}
		all = values(t, sp.name, k)
		prefix, cur = listed(value)
		prefix = name + "=" + prefix
	case strings.HasPrefix(cur, "-"):
		all = flagWords(t)
	default:
		all = plainWords(tree, t, k)
	}
	var fit []candidate
	for _, w := range all {
		if strings.HasPrefix(w.word, cur) {
			fit = append(fit, candidate{prefix + w.word, w.about})
		}
	}
	return fit
}

// listed parts what is typed of a value that may be a list: what is finished, and what is not.
func listed(value string) (before, last string) {
	i := strings.LastIndex(value, ",") + 1
	return value[:i], value[i:]
}

func takeApart(tree []*command, words []string) typed {
	var t typed
	for _, w := range words {
		switch {
		case t.pending != nil:
			t.pending = nil
		case w == "--":
			t.closed = true
			return t
		case strings.HasPrefix(w, "-"):
			if sp, ok := spellings(flagsOf(t.at))[w]; ok && sp.takes && !sp.optional {
				t.pending = &sp
			}
		default:
			t.word(tree, w)
		}
	}
	return t
}

// word takes a word that is no flag: it leads into the tree, or stands behind the command.
func (t *typed) word(tree []*command, w string) {
	below := tree
	if t.at.cmd != nil {
		below = t.at.cmd.Sub
	}
	if next := named(below, w); next != nil && len(t.words) == 0 {
		t.at = leaf{path: append(t.at.path, next.Name), cmd: next}
		return
	}
	t.words = append(t.words, w)
}

func flagWords(t typed) []candidate {
	var all []candidate
	for _, f := range slices.Concat(flagDocs(flagsOf(t.at)), flagDocs(globalFlags())) {
		for _, name := range f.Names {
			if strings.HasPrefix(name, "--") {
				all = append(all, candidate{name, f.Usage})
			}
		}
	}
	return all
}

// plainWords are commands, environments and hosts.
func plainWords(tree []*command, t typed, k known) []candidate {
	switch {
	case t.at.cmd == nil && len(t.words) > 0:
		return nil
	case t.at.cmd == nil:
		return commandWords(tree)
	case len(t.at.cmd.Sub) > 0 && len(t.words) == 0:
		return commandWords(t.at.cmd.Sub)
	case t.at.name() == "help":
		return append(commandWords(tree), codeWords()...)
	case t.at.name() == "completion":
		return []candidate{{"bash", ""}, {"zsh", ""}, {"fish", ""}}
	}
	var all []candidate
	chosen, left := t.env(k)
	if t.at.cmd.Env && len(t.words) == 0 {
		for _, env := range k.envs {
			all = append(all, candidate{env, "environment"})
		}
	}
	if left < t.at.cmd.MaxArgs && takesHost(t.at.name()) {
		all = append(all, hostWords(k.hosts(chosen))...)
	}
	return all
}

// takesHost names the commands whose words are hosts.
func takesHost(name string) bool {
	return oneOf(name, []string{"ssh", "nginx drain", "nginx undrain", "balancer drain", "balancer undrain"})
}

// env is the environment that the line names, "" for the file's own choice, and how many words are left.
func (t typed) env(k known) (name string, left int) {
	if len(t.words) > 0 && slices.Contains(k.envs, t.words[0]) {
		return t.words[0], len(t.words) - 1
	}
	return "", len(t.words)
}

func commandWords(tree []*command) []candidate {
	var all []candidate
	for _, c := range tree {
		if c.Group != "" {
			all = append(all, candidate{c.Name, c.Usage})
		}
	}
	return all
}

func hostWords(hosts []inventory.Host) []candidate {
	var all []candidate
	for _, h := range hosts {
		all = append(all, candidate{h.Name, strings.Join(h.Roles, ",") + " " + h.Address})
	}
	return all
}

// values are what a flag takes, where that is known.
func values(t typed, flag string, k known) []candidate {
	name, _ := t.env(k)
	switch flag {
	case "limit", "canary", "quarantine":
		hosts := k.hosts(name)
		all := hostWords(hosts)
		if flag == "limit" {
			all = append(all, groupWords(hosts)...)
		}
		return all
	case "output":
		return plainCandidates(outputModes())
	case "color":
		return plainCandidates([]string{"auto", "always", "never"})
	case "only":
		if t.at.name() == "doctor" {
			return plainCandidates(doctor.Topics())
		}
	case "as":
		return plainCandidates([]string{"owner", "root"})
	case "cd":
		return plainCandidates([]string{"current", "shared"})
	}
	return nil
}

// groupWords are the roles and tags of --limit.
func groupWords(hosts []inventory.Host) []candidate {
	var all []candidate
	add := func(word string) {
		if !slices.ContainsFunc(all, func(c candidate) bool { return c.word == word }) {
			all = append(all, candidate{word, ""})
		}
	}
	for _, h := range hosts {
		for _, role := range h.Roles {
			add("role:" + role)
		}
		for _, tag := range h.Tags {
			add("tag:" + tag)
		}
	}
	return append(all, candidate{"@failed", "hosts that failed in the last run"})
}

func plainCandidates(words []string) []candidate {
	var all []candidate
	for _, w := range words {
		all = append(all, candidate{w, ""})
	}
	return all
}

func codeWords() []candidate {
	var all []candidate
	for _, e := range explanations() {
		all = append(all, candidate{string(e.Code), "error code"})
	}
	return all
}
