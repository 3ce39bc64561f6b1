package cmd

import (
	"context"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
)

func completionCommand() *command {
	return &command{
		Name: "completion", Group: groupStart, Usage: "print a script that completes godeploy's words in a shell", Args: "bash|zsh|fish", MaxArgs: 1,
		Examples: []string{"godeploy completion bash --install", "godeploy completion zsh > ~/.zfunc/_godeploy", "source <(godeploy completion bash)"},
		About: "TAB then knows commands, flags, environments, hosts and roles. It reads godeploy.toml; it runs no command and asks no\n" +
			"server, whatever stands on the line.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "install", Usage: "write it where the shell looks for it, below your home folder"}},
		Run:   runCompletion,
	}
}

func runCompletion(_ context.Context, c *call) error {
	if len(c.words) == 0 {
		return usagef("completion needs the name of a shell").Hint("bash, zsh or fish").Try("godeploy completion bash --install")
	}
	shell := c.words[0]
	script, place := completionScript(shell)
	if script == "" {
		return usagef("there is no completion for %q", shell).Hint("bash, zsh or fish")
	}
	if !c.flags.Bool("install") {
		return c.print("%s", script)
	}
	if c.sys.Home == "" {
		return usagef("there is no home folder to install into").Try("godeploy completion %s", shell)
	}
	file := filepath.Join(c.sys.Home, filepath.FromSlash(place))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return usagef("%s cannot be made", filepath.Dir(file)).Wrap(err)
	}
	if err := writeNew(file, script, true); err != nil {
		return err
	}
	c.conclude("%s wrote %s", c.mark(true), file)
	if shell == "zsh" {
		c.conclude("  put this into ~/.zshrc, above compinit: fpath+=(%s)", filepath.Dir(file))
	} else {
		c.conclude("  a new %s knows it", shell)
	}
	return nil
}

// completionScript gives a shell's script, and its place below the home folder. The scripts hand the words
// over as arguments and take the answer as text: nothing of the line or the answer is evaluated.
func completionScript(shell string) (script, place string) {
	switch shell {
	case "bash":
		return bashCompletion, ".local/share/bash-completion/completions/godeploy"
	case "zsh":
		return zshCompletion, ".local/share/zsh/site-functions/_godeploy"
	case "fish":
		return fishCompletion, ".config/fish/completions/godeploy.fish"
	}
	return "", ""
}

const bashCompletion = `# godeploy completion bash
_godeploy() {
    local line=${COMP_LINE:0:COMP_POINT} cur='' glued='' answer
    local -a words=()
    read -r -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    cur=${words[${#words[@]} - 1]}
    # bash replaces only what stands behind the last of its word breaks
    [[ $cur == *[=:]* ]] && glued=${cur%"${cur##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r answer; do
        answer=${answer%%$'\t'*}
        COMPREPLY+=("${answer#"$glued"}")
    done < <(command godeploy __complete -- "${words[@]:1}" 2>/dev/null </dev/null)
}
complete -o default -F _godeploy godeploy
`

const zshCompletion = `#compdef godeploy
# godeploy completion zsh
_godeploy() {
    local -a answers described
    local answer
    answers=("${(@f)$(command godeploy __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)}")
    for answer in $answers; do
        described+=("${${answer%%$'\t'*}//:/\\:}:${answer#*$'\t'}")
    done
    (( ${#described} )) && _describe godeploy described || _files
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _godeploy "$@"
else
    compdef _godeploy godeploy
fi
`

const fishCompletion = `# godeploy completion fish
function __godeploy_complete
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    command godeploy __complete -- $words 2>/dev/null </dev/null
end
complete -c godeploy -f -a '(__godeploy_complete)'
`
