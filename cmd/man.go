package cmd

import (
	"fmt"
	"strings"
)

// manual is the manual page, in the language of man(7).
func manual(versionText string) string {
	all, global := Reference()
	var b strings.Builder
	fmt.Fprintf(&b, ".TH GODEPLOY 1 \"\" %s \"godeploy\"\n", roffArg("godeploy "+versionText))
	b.WriteString(".SH NAME\ngodeploy \\- puts a web application on its servers over SSH, and takes it back when it fails\n")
	b.WriteString(".SH SYNOPSIS\n.B godeploy\n.I COMMAND\n[\\fIENV\\fR] [words] [flags]\n")
	b.WriteString(".SH DESCRIPTION\nFlags may stand anywhere on the line. The first word behind the command is the environment if it names one; else it is\n" +
		"GODEPLOY_ENV, default_env or the only one in godeploy.toml. Data goes to standard output, the story of a run to standard error.\n")
	b.WriteString(".SH OPTIONS\n")
	manFlags(&b, global)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range all {
		fmt.Fprintf(&b, ".SS %s\n%s.\n", roffArg(joined(" ", c.Name, c.Args)), roff(sentence(c.Usage)))
		if c.About != "" {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(c.About))
		}
		manFlags(&b, c.Flags)
		b.WriteString(".PP\n.nf\n")
		for _, e := range c.Examples {
			fmt.Fprintf(&b, "    %s\n", roff(e))
		}
		b.WriteString(".fi\n")
	}
	b.WriteString(".SH \"EXIT STATUS\"\nIt says in which state the servers are.\n")
	for _, row := range exitMeanings() {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", row[0], roff(row[1]))
	}
	b.WriteString(".SH FILES\n.TP\n.B godeploy.toml\nwhat is deployed, and where\n.TP\n.B .godeploy/known_hosts\nhost keys of the servers\n" +
		".TP\n.B .godeploy/runs\nthe last 50 runs\n.SH \"SEE ALSO\"\n.BR ssh (1),\n.BR rsync (1)\n")
	return b.String()
}

func manFlags(b *strings.Builder, flags []Flag) {
	for _, f := range flags {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roffArg(strings.Join(f.Names, ", ")+f.Value), roff(f.Usage))
	}
}

// exitMeanings are the exit codes in few words.
func exitMeanings() [][2]string {
	return [][2]string{
		{"0", "done, or nothing to do"},
		{"1", "unexpected error, or exec failed on a server"},
		{"3", "there are differences; only with --exit-code"},
		{"4", "a server could not be reached or refused the login; nothing changed"},
		{"5", "failed; every server is on the old release"},
		{"6", "failed; servers differ, or a service is down"},
		{"7", "somebody else holds the lock; nothing changed"},
		{"8", "a goal was missed, or check or doctor has findings"},
		{"64", "the call or the file is wrong; nothing touched"},
		{"130, 143", "interrupted"},
	}
}

// roff writes text so that it is shown as it is: a backslash, a dash, and a dot or quote that begins a line
// mean something else there.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// roffArg is roff for one argument of a macro.
func roffArg(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `""`) + `"` }
