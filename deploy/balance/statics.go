package balance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// Statics is a folder of static files on the nginx hosts: the files of the last releases lie in it side by
// side. What each release brought is listed in .godeploy/statics below it.
type Statics struct {
	Env    *inventory.Env
	Hosts  []deploy.Host
	Folder string // absolute
	Keep   int    // releases whose files stay
}

// folderScript makes the folder where it is missing, and gives it to the login.
const folderScript = `[ -d "$1" ] || { mkdir -p -- "$1" && chown -- "$2" "$1"; }`

// listScript keeps the list of one release.
const listScript = `d=$1/.godeploy/statics
mkdir -p -- "$d" && cat >"$d/.new" && mv -f -- "$d/.new" "$d/$2"`

// pruneScript removes what stands in the list of a release that is not kept and in no list that is. A file
// that stands in no list at all is somebody else's. A list of "*" knows nothing, so that all stays.
const pruneScript = `export LC_ALL=C
cd "$1/.godeploy/statics" 2>/dev/null || exit 0
old=$(ls -1 | sort -r | tail -n "+$(($2 + 1))")
[ -n "$old" ] || exit 0
kept=$(ls -1 | sort -r | head -n "$2")
grep -q -x '\*' $kept $old && exit 0
sort -u -- $kept >.kept && sort -u -- $old >.old && comm -23 .old .kept >.gone || exit
while IFS= read -r f; do rm -f -- "$1/$f" || exit; done <.gone
rm -f -- .kept .old .gone $old`

func (s *Statics) each(ctx context.Context, do func(context.Context, deploy.Host) error) error {
	n := Tier{Env: s.Env, Hosts: s.Hosts}
	return n.each(ctx, func(ctx context.Context, _ int, h deploy.Host) error { return do(ctx, h) })
}

// Prepare makes the folder on every host that lacks it; where the login may not become root, it has to be
// there.
func (s *Statics) Prepare(ctx context.Context) error {
	return s.each(ctx, func(ctx context.Context, h deploy.Host) error {
		if h.Facts().UID != 0 && !s.Env.SSH.Sudo {
			return nil
		}
		return root{s.Env}.do(ctx, h, nil, folderScript, s.Folder, h.Facts().User)
	})
}

// Record lists what a release has brought to the folder, on every host.
func (s *Statics) Record(ctx context.Context, release wire.Release, paths []string) error {
	list := strings.Join(paths, "\n") + "\n"
	for _, p := range paths {
		if strings.Contains(p, "\n") || len(list) > wire.MaxStdin {
			list = "*\n"
			break
		}
	}
	return s.each(ctx, func(ctx context.Context, h deploy.Host) error {
		return s.run(ctx, h, []byte(list), listScript, s.Folder, fmt.Sprintf("%010d-%s", release.Seq, release.ID))
	})
}

// Prune removes the files that only releases before the last Keep had.
func (s *Statics) Prune(ctx context.Context) error {
	return s.each(ctx, func(ctx context.Context, h deploy.Host) error {
		return s.run(ctx, h, nil, pruneScript, s.Folder, fmt.Sprint(s.Keep))
	})
}

// run runs a script as the login, whose files these are.
func (s *Statics) run(ctx context.Context, h deploy.Host, stdin []byte, script string, args ...string) error {
	var out strings.Builder
	reply, err := h.Exec(ctx, wire.ExecRequest{Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...), Stdin: stdin, Timeout: 10 * time.Minute},
		func(_ string, p []byte) { out.Write(p[:min(len(p), max(4096-out.Len(), 0))]) })
	if err == nil && (reply.Exit != 0 || reply.TimedOut) {
		f := fault.New(fault.NginxFailed, "the list of static files in %s cannot be kept", s.Folder)
		if text := strings.TrimSpace(out.String()); text != "" {
			f.Fact("| %s", text)
		}
		return f
	}
	return err
}
