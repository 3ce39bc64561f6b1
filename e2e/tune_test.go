package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"godeploy/e2e/hosts"
)

// nofile is under the hard limit of machines that boot the hosts without CAP_SYS_RESOURCE.
const nofile = 16384

const wantedTune = `[tune.limits]
nofile = 16384
[tune.sysctl]
"net.core.somaxconn" = 1024
"net.ipv4.ip_local_port_range" = "10240 65000"
`

// tunedSite names the backlog that the app's own gunicorn-config.py has.
var tunedSite = site{process: "unit = \"swiper.service\"\nbacklog = 512", more: wantedTune}

// tuneFiles gives what lies at the places of tune's own files, and the live values.
func tuneFiles(ctx context.Context, t *testing.T, h *hosts.Host) string {
	t.Helper()
	out, err := h.Sh(ctx, "cd /etc; for f in sysctl.d/60-godeploy.conf security/limits.d/60-godeploy.conf systemd/system/*.d/60-godeploy.conf; do "+
		"[ ! -e $f ] || { echo \"== $f\"; cat $f; }; done; sysctl net.core.somaxconn net.ipv4.ip_local_port_range")
	must(t, err)
	return out
}

// holds checks, without godeploy's eyes, that the wanted values are those of the kernel, of gunicorn's
// processes, of its queue, and of a new login.
func holds(ctx context.Context, t *testing.T, f *hosts.Fleet, when string) {
	t.Helper()
	want := squeeze(fmt.Sprintf("1024\n10240\t65000\n%d %d files\nqueue 512", nofile, nofile))
	got := ""
	for deadline := time.Now().Add(90 * time.Second); got != want && ctx.Err() == nil && time.Now().Before(deadline); { // a unit may still be starting
		out, err := f.Host("app1").Sh(ctx, `sysctl -n net.core.somaxconn net.ipv4.ip_local_port_range
m=$(systemctl show -p MainPID --value swiper.service)
for p in $m $(cat /proc/$m/task/$m/children); do sed -n 's/^Max open files *//p' /proc/$p/limits; done | sort -u
ss -Hltn 'sport = :9000' | awk '{print "queue", $3}'`)
		if got = squeeze(out); err != nil {
			got = err.Error()
		}
	}
	if got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", when, got, want)
	}
	if out, err := f.SSH(ctx, "deploy", "app1", "ulimit -n; ulimit -Hn"); err != nil || out != fmt.Sprintf("%d\n%d\n", nofile, nofile) {
		t.Errorf("%s: a new login has %q open files, %v", when, out, err)
	}
}

func squeeze(s string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(s)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// The limits and settings are written, hold in what runs, survive a reboot, and go away again; what would
// keep people out is refused before anything is written, or taken back by the host.
func TestTune(t *testing.T) {
	t.Parallel()
	ctx, o := newSite(t, tunedSite, "lb1", "app1", "db1")
	app1 := o.fleet.Host("app1")
	for _, h := range []*hosts.Host{app1, o.fleet.Host("lb1")} {
		_, err := h.Exec(ctx, "sysctl", "-qw", "net.core.somaxconn=128")
		must(t, err)
	}
	o.want(ctx, 0, "keys", "trust", "prod", "--yes")
	o.release(ctx, named(t, "v1"))
	before := tuneFiles(ctx, t, app1)

	if out := o.want(ctx, 3, "tune", "prod", "--dry-run", "--diff", "--exit-code"); !strings.Contains(out.stdout, "+LimitNOFILE=16384") {
		t.Error("the diff lacks the unit's new limit")
	}
	refusesBadTune(ctx, t, o)
	takesALockOutBack(ctx, t, o)
	if now := tuneFiles(ctx, t, app1); now != before {
		t.Fatalf("before anything was to be changed: got\n%s\nwant\n%s", now, before)
	}

	o.configure(tunedSite)
	if out := o.want(ctx, 0, "tune", "prod"); !strings.Contains(out.stderr, "swiper.service must restart on app1") {
		t.Error("nobody says that gunicorn must restart")
	}
	if out := o.want(ctx, 3, "status", "prod", "--exit-code"); !strings.Contains(out.stderr, "nofile of swiper.service is 1024, not 16384") {
		t.Error("status does not tell the limit that does not hold")
	}
	o.want(ctx, 0, "tune", "prod", "--restart", "--exit-code")
	showsVitals(ctx, t, o)
	holds(ctx, t, o.fleet, "after tune --restart")
	must(t, app1.Reboot(ctx))
	holds(ctx, t, o.fleet, "after a reboot")
	if out := o.want(ctx, 0, "tune", "prod", "--exit-code"); !strings.Contains(out.stderr, "Nothing to change on 2 servers") {
		t.Error("a second run finds something to change")
	}

	must(t, app1.WriteFile(ctx, "/etc/sysctl.d/99-local.conf", []byte("net.core.somaxconn = 256\n"), 0o644))
	if out := o.want(ctx, 0, "tune", "prod"); !strings.Contains(out.stderr, "/etc/sysctl.d/99-local.conf comes later and sets net.core.somaxconn = 256") {
		t.Error("nobody names the file that will win at the next boot")
	}
	o.want(ctx, 0, "tune", "prod", "--revert")
	if now := tuneFiles(ctx, t, app1); squeeze(now) != squeeze(before) {
		t.Errorf("after --revert: got\n%s\nwant\n%s", now, before)
	}
}

// showsVitals: status knows the processes, the queue and the machine, and goes on looking when asked to.
func showsVitals(ctx context.Context, t *testing.T, o *operator) {
	t.Helper()
	out := o.want(ctx, 0, "status", "prod", "--json", "--exit-code", "--watch=200ms", "--timeout", "10s")
	looks := json.NewDecoder(strings.NewReader(out.stdout))
	n := 0
	for ; looks.More(); n++ {
		var s struct {
			Drift bool
			Hosts []struct {
				Vitals struct {
					Master  int
					Workers []struct{ PID int }
					Queues  []struct{ Max int }
					CPUs    int
					Memory  struct{ Total, Free uint64 }
					Disk    struct{ Total, Free uint64 }
				}
			}
		}
		must(t, looks.Decode(&s))
		v := s.Hosts[0].Vitals
		if s.Drift || v.Master == 0 || len(v.Workers) == 0 || len(v.Queues) != 1 || v.Queues[0].Max != 512 || v.CPUs == 0 ||
			v.Memory.Free == 0 || v.Memory.Total < v.Memory.Free || v.Disk.Total < v.Disk.Free || v.Disk.Free == 0 {
			t.Fatalf("look %d: got %+v", n, s)
		}
	}
	if n < 2 {
		t.Errorf("--watch looked %d times in 10 s", n)
	}
}

// refusesBadTune: each of these ends in 64 with nothing written, whatever else the file wants.
func refusesBadTune(ctx context.Context, t *testing.T, o *operator) {
	t.Helper()
	ceiling, err := o.fleet.Host("app1").Sh(ctx, "cat /proc/sys/fs/nr_open")
	must(t, err)
	most, err := strconv.Atoi(strings.TrimSpace(ceiling))
	must(t, err)
	o.configure(site{more: fmt.Sprintf("[tune.limits]\nnofile = %d\n", most+1)})
	// A machine that boots the hosts without CAP_SYS_RESOURCE has a lower ceiling, which is named then.
	if out := o.want(ctx, 64, "tune", "prod"); !strings.Contains(out.stderr, "more than fs.nr_open allows: "+strings.TrimSpace(ceiling)) && !strings.Contains(out.stderr, "more than the container") {
		t.Error("a limit above fs.nr_open is refused without its ceiling")
	}
	for _, bad := range []string{"nofile = 0", "nproc = 0", "nofile = \"abc\"", "nofile = 2000000000", "nosuch = 1",
		"nofile = 16384\n[tune.sysctl]\n\"net.core.somaxconn\" = \"abc\"", "nofile = 16384\n[tune.sysctl]\n\"net.core.nosuch\" = 1",
		"nofile = 16384\n[tune.sysctl]\n\"net.ipv4.ip_local_port_range\" = \"65000 10240\""} {
		o.configure(site{more: "[tune.limits]\n" + bad + "\n"})
		o.want(ctx, 64, "tune", "prod")
	}
}

// takesALockOutBack: with a megabyte of memory no shell starts any more, so the second login fails. The
// host must be as it was, for a person too.
func takesALockOutBack(ctx context.Context, t *testing.T, o *operator) {
	t.Helper()
	o.configure(site{more: "[tune.limits]\nas = 1000\n[tune.sysctl]\n\"net.core.somaxconn\" = 1024\n"})
	if out := o.want(ctx, 5, "tune", "prod"); !strings.Contains(out.stderr, "tune-undone") {
		t.Error("the lock-out is not told as tune-undone")
	}
	for _, name := range []string{"lb1", "app1"} {
		if out, err := o.fleet.SSH(ctx, "deploy", name, "sudo -n id -u"); err != nil || out != "0\n" {
			t.Errorf("%s after a lock-out: got %q, %v", name, out, err)
		}
	}
}
