package sshx

import (
	"errors"
	"fmt"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// Quote gives argv as one line that a POSIX shell splits back into exactly these words, and runs as
// a command of that name: a first word that the shell would take for an assignment or a keyword is
// quoted too. It refuses an empty argv and words with a NUL byte, which no command can be given.
func Quote(argv ...string) (string, error) {
	if len(argv) == 0 {
		return "", errors.New("command is empty")
	}
	words := make([]string, len(argv))
	for i, word := range argv {
		if strings.IndexByte(word, 0) >= 0 {
			return "", fmt.Errorf("word %d of the command contains a NUL byte", i+1)
		}
		words[i] = shellescape.Quote(word)
	}
	if words[0] == argv[0] && special(argv[0]) {
		words[0] = "'" + argv[0] + "'"
	}
	return strings.Join(words, " "), nil
}

// special reports whether a shell would read the bare word as something else than a command's name.
func special(word string) bool {
	if strings.ContainsAny(word, "=%") {
		return true
	}
	switch word {
	case "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for",
		"in", "select", "function", "time", "coproc":
		return true
	}
	return false
}
