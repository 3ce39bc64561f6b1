package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

const (
	rootTime   = 2 * time.Minute // one command that should answer at once
	rootOutput = 512 << 10       // of one command's output
)

// Root runs commands on a host as root: as they are where the login is root, by `sudo -n` where it is
// not. It is safe for concurrent use.
type Root struct {
	Host Host
	Sudo bool // the login may use sudo; without it a login that is not root gets SudoNeeded
	// Timeout bounds one command; 0 is two minutes.
	Timeout time.Duration
	// Keep leaves alone what a command has started in the background and detached from its output.
	Keep bool
}

// Run runs a command and gives what it wrote to standard output, at most 512 KiB. Exit is its exit
// status, -1 when a signal or the time limit ended it; said is the end of its standard error. The error
// is about the connection or about sudo.
func (r Root) Run(ctx context.Context, argv ...string) (out string, exit int, said string, err error) {
	return r.as(ctx, "root", argv)
}

// As is Run as another user, "" for the login's own.
func (r Root) As(ctx context.Context, user string, argv ...string) (out string, exit int, said string, err error) {
	if user == "" {
		user = r.Host.Facts().User
	}
	return r.as(ctx, user, argv)
}

func (r Root) as(ctx context.Context, user string, argv []string) (string, int, string, error) {
	facts := r.Host.Facts()
	req := wire.ExecRequest{Argv: argv, Dir: "/", Timeout: r.Timeout, Keep: r.Keep}
	switch {
	case user == facts.User || user == "root" && facts.UID == 0:
	case facts.UID == 0:
		req.User = user
	case !r.Sudo:
		return "", -1, "", fault.New(fault.SudoNeeded, "%s may not run %s as %s", facts.User, argv[0], user).
			Hint("log in as root, or set sudo = true in [ssh]")
	default:
		req.Argv = append([]string{"sudo", "-n", "-u", user, "--"}, argv...)
	}
	if req.Timeout == 0 {
		req.Timeout = rootTime
	}
	did, err := Capture(ctx, r.Host, req, rootOutput, rootOutput)
	if err == nil && req.Argv[0] == "sudo" && did.Exit == 1 && strings.HasPrefix(did.Said, "sudo: ") {
		err = fault.New(fault.SudoNeeded, "%s may not run %s as %s", facts.User, argv[0], user).
			Fact("| %s", lastLine(did.Said)).
			Hint("this needs a login that may become root for any command: root, or a line NOPASSWD: ALL in sudoers")
	}
	exit := did.Exit
	if did.TimedOut {
		exit = -1
	}
	return did.Out, exit, did.Said, err
}

// Must is Run for a command whose failure is one: a fault with code exec-failed and the end of what it
// said.
func (r Root) Must(ctx context.Context, argv ...string) (string, error) {
	out, exit, said, err := r.Run(ctx, argv...)
	return out, failure(argv, exit, said, err)
}

// MustAs is As, with failures as Must has them.
func (r Root) MustAs(ctx context.Context, user string, argv ...string) (string, error) {
	out, exit, said, err := r.As(ctx, user, argv...)
	return out, failure(argv, exit, said, err)
}

func failure(argv []string, exit int, said string, err error) error {
	if err != nil || exit == 0 {
		return err
	}
	f := fault.New(fault.ExecFailed, "%s ended with %d", shown(argv), exit)
	for _, line := range LastLines(said, 3) {
		f.Fact("| %s", line)
	}
	return f
}

// shown names a command for a person: a script of ours by its arguments, not by its text.
func shown(argv []string) string {
	if len(argv) > 4 && argv[0] == "/bin/sh" && argv[1] == "-c" {
		argv = argv[3:5]
	}
	return fmt.Sprintf("%.200s", strings.Join(argv, " "))
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// rootWrite is constant text; path, mode and content are its arguments. What was not finished is removed.
const rootWrite = `set -eu
umask 077
d=${1%/*}
[ -d "$d" ] || mkdir -p -m 0755 -- "$d"
if [ -e "$1" ] || [ -L "$1" ]; then [ -f "$1" ] && [ ! -L "$1" ] || { echo "$1 is no plain file" >&2; exit 1; }; fi
t=$(mktemp "$d/.godeploy-XXXXXXXX")
trap 'rm -f -- "$t"' EXIT
printf %s "$3" >"$t"
chmod "$2" "$t"
sync "$t" 2>/dev/null || sync
mv -f -- "$t" "$1"
sync "$d" 2>/dev/null || sync`

// Write puts a file of root's in place, whole and durable, with the mode; the folder it lies in is made
// when it is missing. A link or anything else that is no plain file is refused. The content stands among
// the arguments of a process for a moment: it must be no secret, and is at most 64 KiB.
func (r Root) Write(ctx context.Context, path string, mode uint32, content string) error {
	if len(content) > 64<<10 || strings.ContainsRune(content, 0) {
		return fault.New(fault.LayoutRefused, "%s would be longer than 64 KiB or hold a NUL", path)
	}
	_, err := r.Must(ctx, "/bin/sh", "-c", rootWrite, "write", path, fmt.Sprintf("%04o", mode), content)
	return err
}

// rootRemove removes files, and the folder of each when nothing else is in it and its name ends in ".d":
// it was made for the file.
const rootRemove = `set -eu
for f; do
  rm -f -- "$f"; d=${f%/*}
  case $d in /etc/systemd/system/*.d) rmdir -- "$d" 2>/dev/null || :;; esac
done`

// Remove removes files of root's; one that is not there is no error. A systemd drop-in folder that is empty
// then goes with its file.
func (r Root) Remove(ctx context.Context, paths ...string) error {
	_, err := r.Must(ctx, append([]string{"/bin/sh", "-c", rootRemove, "remove"}, paths...)...)
	return err
}
