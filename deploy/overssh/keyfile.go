package overssh

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/sshx"
)

// KeyFile reads or replaces the file of keys of an account, as the account. It is what deploy/access works
// with.
func (h *helped) KeyFile(ctx context.Context, req wire.KeyFileRequest) (wire.KeyFileReply, error) {
	var reply wire.KeyFileReply
	err := h.client.Call(ctx, wire.KindKeyFile, &req, &reply)
	return reply, err
}

// readKeys answers in lines, and ends with the content. Links are resolved by the host; a part is told by its
// raw mode, owner, group and name.
const readKeys = `LC_ALL=C; export LC_ALL
h=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6); h=${h:-$HOME}; p=$1
r=$(cd -- "$h" 2>/dev/null && pwd -P)
echo "godeploy-keys $(id -u) $(id -g)"; echo "home $r"
case $p in /*) ;; *) p=$h/$p ;; esac
[ -L "$p" ] && echo link
q=$(readlink -f -- "$p") || q=
if [ -z "$q" ]; then
  [ -L "$p" ] && { echo dangling; exit 0; }
  d=${p%/*}; q=$(readlink -f -- "$d") && q=$q/${p##*/} || q=$p
fi
echo "path $q"
c=$q
while :; do
  [ -e "$c" ] && stat -c 'part %f %u %g %n' -- "$c"
  [ "$c" = / ] && break
  c=${c%/*}; c=${c:-/}
done
[ -f "$q" ] || { echo end; exit 0; }
[ -r "$q" ] || { echo denied; exit 0; }
echo content; exec cat -- "$q"`

// writeKeys does what the helper does for a write, with the programs that a host has: $1 is the file, $2 what
// its SHA-256 must be or "none", $3 the SHA-256 of what comes on the standard input, $4 a name for the new
// file. It says "done" or "stale", or why it could not.
const writeKeys = `LC_ALL=C; export LC_ALL; umask 077
p=$1 e=$2 f=$3 d=${1%/*}
t=$d/$4
no() { echo "no $*"; exit 0; }
for c in sha256sum stat mv ln; do command -v $c >/dev/null 2>&1 || no "$c is missing"; done
if [ ! -d "$d" ]; then
  h=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6); h=${h:-$HOME}
  r=$(cd -- "$h" 2>/dev/null && pwd -P)
  [ "$d" = "$r/.ssh" ] || no "the folder $d is not there"
  m=$(mkdir -m 700 -- "$d" 2>&1) || [ -d "$d" ] || no "$m"
  [ -e /sys/fs/selinux/enforce ] && restorecon -F "$d" >/dev/null 2>&1
fi
sum() { s=$(sha256sum <"$1") || return 1; echo "${s%% *}"; }
now() { if [ -L "$p" ]; then echo link; elif [ -e "$p" ]; then [ -f "$p" ] && sum "$p" && stat -c '%d %i %s %Y' -- "$p"; else echo none; fi; }
trap 'rm -f -- "$t"' 0
trap 'exit 1' 1 2 13 15
m=$( { cat >"$t"; } 2>&1 ) || no "$m"
[ "$(sum "$t")" = "$f" ] || no "the new file came incomplete"
l=$d/.authorized_keys.godeploy-lock
if command -v flock >/dev/null 2>&1; then
  m=$( { : >>"$l"; } 2>&1 ) || no "$m"
  exec 9>>"$l"
  i=0; until flock -n 9; do i=$((i+1)); [ $i -lt 300 ] || no "somebody has been editing $p for 30s"; sleep 0.1; done
else
  i=0; until mkdir "$l.d" 2>/dev/null; do i=$((i+1)); [ $i -lt 300 ] || no "$l.d has been there for 30s"; sleep 0.1; done
  trap 'rm -f -- "$t"; rmdir -- "$l.d"' 0
fi
w=$(now); case $w in "$e"|"$e
"*) ;; *) echo stale; exit 0 ;; esac
if [ -e "$p" ]; then
  m=$(chmod "$(stat -c %a -- "$p")" "$t" 2>&1) || no "$m"
  chgrp "$(stat -c %g -- "$p")" "$t" 2>/dev/null
  [ -e /sys/fs/selinux/enforce ] && chcon --reference="$p" "$t" 2>/dev/null
  ln -f -- "$p" "$p.godeploy-prev" 2>/dev/null
fi
sync "$t" 2>/dev/null || sync
[ "$(now)" = "$w" ] || { echo stale; exit 0; }
m=$(mv -f -- "$t" "$p" 2>&1) || no "$m"
[ -e /sys/fs/selinux/enforce ] && restorecon -F "$p" >/dev/null 2>&1
sync "$d" 2>/dev/null || sync
echo done`

// KeyFile does the same by a shell alone. The texts are constant; path and sums are their arguments, and
// the content comes on the standard input.
func (p *plain) KeyFile(ctx context.Context, req wire.KeyFileRequest) (wire.KeyFileReply, error) {
	if !p.tools.shell {
		return wire.KeyFileReply{}, p.errNoShell()
	}
	if err := req.Check(); err != nil {
		return wire.KeyFileReply{}, fault.New(fault.Internal, "the keys cannot be asked for").Wrap(err)
	}
	if req.User != "" && req.User != p.facts.User && p.facts.UID != 0 {
		return wire.KeyFileReply{}, fault.New(fault.SudoNeeded, "only root can act for %s", req.User).Hint("log in as root, with --as-root")
	}
	if req.Write {
		return p.writeKeys(ctx, req)
	}
	where := req.Path
	if where == "" {
		where = ".ssh/authorized_keys"
	}
	out, err := p.asOwner(ctx, req.User, nil, readKeys, where)
	if err != nil {
		return wire.KeyFileReply{}, fault.New(fault.AccountRefused, "the keys of %s cannot be read", p.accountName(req)).Wrap(err)
	}
	reply, err := parseKeys(out)
	if err == nil {
		err = reply.Check()
	}
	return reply, err
}

func (p *plain) accountName(req wire.KeyFileRequest) string {
	if req.User == "" {
		return p.facts.User
	}
	return req.User
}

func (p *plain) writeKeys(ctx context.Context, req wire.KeyFileRequest) (wire.KeyFileReply, error) {
	expect, sum := req.Expect, sha256.Sum256(req.Content)
	if expect == "" {
		expect = "none"
	}
	out, err := p.asOwner(ctx, req.User, req.Content, writeKeys, req.Path, expect, hex.EncodeToString(sum[:]), ".godeploy-"+rand.Text()[:16])
	if err != nil {
		return wire.KeyFileReply{}, fault.New(fault.AccountRefused, "%s cannot be written", req.Path).Wrap(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	switch last := lines[len(lines)-1]; {
	case last == "done":
		return wire.KeyFileReply{Path: req.Path}, nil
	case last == "stale":
		return wire.KeyFileReply{Path: req.Path, Stale: true}, nil
	case strings.Contains(last, "No space left") || strings.Contains(last, "quota"):
		return wire.KeyFileReply{}, fault.New(fault.DiskFull, "no room left to write %s", req.Path).Fact("| %.1000s", last)
	default:
		return wire.KeyFileReply{}, fault.New(fault.AccountRefused, "%s cannot be written", req.Path).Fact("| %.1000s", strings.TrimPrefix(last, "no ")).
			Hint("see ls -ld and lsattr -d for the file and its folder: its owner, its mode, an immutable flag, a read-only disk")
	}
}

// asOwner runs constant shell text as an account, and gives its output.
func (p *plain) asOwner(ctx context.Context, user string, stdin []byte, text string, args ...string) ([]byte, error) {
	argv := asUser(wire.ExecRequest{Argv: append([]string{"/bin/sh", "-c", text, "sh"}, args...), User: user}, p.facts.UID == 0 && user != p.facts.User)
	command, err := sshx.Quote(argv...)
	if err != nil {
		return nil, err
	}
	out, said := &capped{limit: wire.MaxKeyFile + 64<<10}, &bounded{}
	err = p.conn.Run(ctx, command, bytes.NewReader(stdin), out, said)
	if exit := (*sshx.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w", strings.TrimSpace(said.String()), err)
	}
	if err == nil && out.over {
		err = fmt.Errorf("more than %d bytes", wire.MaxKeyFile)
	}
	return out.Bytes(), err
}

// capped keeps up to limit bytes and remembers that there were more.
type capped struct {
	bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(b []byte) (int, error) {
	room := min(len(b), c.limit-c.Len())
	c.over = c.over || room < len(b)
	c.Buffer.Write(b[:room])
	return len(b), nil
}

// parseKeys reads what readKeys prints. What a login shell said before is skipped.
func parseKeys(out []byte) (wire.KeyFileReply, error) {
	var reply wire.KeyFileReply
	_, rest, ok := bytes.Cut(out, []byte("godeploy-keys "))
	senseless := fault.New(fault.Protocol, "the host's answer about its keys makes no sense")
	if !ok {
		return reply, senseless
	}
	for first := true; ; first = false {
		text, more, ended := bytes.Cut(rest, []byte("\n"))
		if !ended {
			return reply, senseless
		}
		rest = more
		word, value, _ := strings.Cut(string(text), " ")
		if first {
			word, value = "ids", string(text)
		}
		switch word {
		case "content":
			reply.Content = rest
			return reply, nil
		case "end", "denied":
			reply.Denied = word == "denied"
			return reply, nil
		case "dangling":
			return reply, fault.New(fault.AccountRefused, "the file of keys is a link to nothing").Hint("remove it, or make what it points to")
		}
		if err := takeKeyLine(&reply, word, value); err != nil {
			return reply, senseless.Fact("| %.200s", text)
		}
	}
}

func takeKeyLine(reply *wire.KeyFileReply, word, value string) error {
	switch word {
	case "ids":
		_, err := fmt.Sscanf(value, "%d %d", &reply.UID, &reply.GID)
		return err
	case "home":
		reply.Home = value
	case "link":
		reply.Link = true
	case "path":
		if reply.Path = value; path.Clean(value) != value {
			return errors.New("path that is not clean")
		}
	case "part":
		return takeKeyPart(reply, strings.SplitN(value, " ", 4))
	default:
		return fmt.Errorf("word %q", word)
	}
	return nil
}

// takeKeyPart takes one folder of the way; they come from the file upwards.
func takeKeyPart(reply *wire.KeyFileReply, f []string) error {
	if len(f) != 4 {
		return errors.New("part that is cut short")
	}
	mode, err := strconv.ParseUint(f[0], 16, 32)
	uid, err2 := strconv.Atoi(f[1])
	gid, err3 := strconv.Atoi(f[2])
	reply.Way = append([]wire.KeyPart{{Path: f[3], Mode: uint32(mode), UID: uid, GID: gid}}, reply.Way...)
	reply.Exists = reply.Exists || f[3] == reply.Path
	return errors.Join(err, err2, err3)
}
