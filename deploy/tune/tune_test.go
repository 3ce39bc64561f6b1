package tune

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"godeploy/internal/fault"
	"godeploy/inventory"
)

// host is a server before it was ever tuned.
func host() Have {
	return Have{
		NrOpen: 1 << 20, PidMax: 32768, MemTotal: 4 << 30,
		Hard: map[string]uint64{}, ReadOnly: map[string]bool{}, Files: map[string]string{},
		Sysctl: map[string]string{"net.core.somaxconn": "128", "net.ipv4.ip_local_port_range": "32768 60999",
			"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.ipv4.tcp_wmem": "4096 16384 4194304", "net.ipv4.tcp_congestion_control": "cubic"},
		Units:     map[string]Unit{"shop.service": {Load: "loaded", Active: "active", PID: 10}},
		Processes: []Process{worker(10, 0, 1024), worker(11, 10, 1024)},
		Queues:    []Queue{{Address: "0.0.0.0:9000", Max: 128, PIDs: []int{11, 10}}, {Address: "0.0.0.0:22", Max: 128, PIDs: []int{3}}},
	}
}

func worker(pid, parent int, files uint64) Process {
	return Process{Unit: "shop.service", PID: pid, Parent: parent, Limits: map[string]uint64{"nofile": files}, Soft: map[string]uint64{"nofile": files}}
}

func wanted() Want {
	return Want{App: "shop", Limits: map[string]uint64{"nofile": 4096}, Sysctl: map[string]string{"net.core.somaxconn": "4096"},
		Units: []string{"shop.service"}, Backlog: 2048}
}

// apply does to a host in memory what a plan says.
func apply(h Have, p Plan) Have {
	for _, f := range p.Files {
		if f.After == "" {
			delete(h.Files, f.Path)
		} else {
			h.Files[f.Path] = f.After
		}
	}
	for _, s := range p.Sysctl {
		h.Sysctl[s.Key] = s.After
	}
	return h
}

func decide(t *testing.T, w Want, h Have) Plan {
	t.Helper()
	p, err := Decide(w, h)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlanWritesOwnFilesAndASecondOneNothing(t *testing.T) {
	t.Parallel()
	h := host()
	p := decide(t, wanted(), h)
	got := map[string]string{}
	for _, f := range p.Files {
		got[f.Path] = f.After
	}
	const head = "# Written by godeploy tune for shop; the next run overwrites what is changed here.\n"
	want := map[string]string{
		SysctlFile: head + "# before: net.core.somaxconn = 128\nnet.core.somaxconn = 4096\n",
		LimitsFile: head + "* soft nofile 4096\n* hard nofile 4096\nroot soft nofile 4096\nroot hard nofile 4096\n",
		"/etc/systemd/system/shop.service.d/60-godeploy.conf": head + "[Service]\nLimitNOFILE=4096\n",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, last := p.inOrder(); len(last) != 1 || last[0].Path != LimitsFile {
		t.Errorf("the file that sudo obeys at once is not the last: %v", last)
	}
	if again := decide(t, wanted(), apply(h, p)); !again.Nothing() || len(again.Changes) != 0 {
		t.Errorf("a second run would do %+v", again)
	}
}

func TestWhatIsNotWantedAnyMoreBecomesWhatItWas(t *testing.T) {
	t.Parallel()
	h := apply(host(), decide(t, wanted(), host()))
	w := wanted()
	w.Sysctl["net.core.somaxconn"] = "8192"
	h = apply(h, decide(t, w, h)) // what was before the first run stays known
	h = apply(h, decide(t, w.Nothing(), h))
	if h.Sysctl["net.core.somaxconn"] != "128" || len(h.Files) != 0 {
		t.Errorf("after a revert: %v, files %v", h.Sysctl, h.Files)
	}
	h = apply(host(), decide(t, wanted(), host()))
	h.Sysctl["net.core.somaxconn"] = "777" // somebody else's since
	if p := decide(t, wanted().Nothing(), h); len(p.Sysctl) != 0 {
		t.Errorf("a value that is not ours is changed: %v", p.Sysctl)
	}
}

func TestBadValuesAreRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	bounded := host()
	bounded.Hard["nofile"] = 2000
	readOnly := host()
	readOnly.ReadOnly["net.core.somaxconn"] = true
	for _, tt := range []struct {
		name, part string
		have       Have
		limits     map[string]uint64
		sysctl     map[string]string
	}{
		{"no files", "keep everybody out", host(), map[string]uint64{"nofile": 0}, nil},
		{"no processes", "keep everybody out", host(), map[string]uint64{"nproc": 0}, nil},
		{"above fs.nr_open", "more than fs.nr_open allows: 1048576", host(), map[string]uint64{"nofile": 1<<20 + 1}, nil},
		{"above pid_max", "more than kernel.pid_max allows", host(), map[string]uint64{"nproc": 32769}, nil},
		{"above the container", "no CAP_SYS_RESOURCE", bounded, map[string]uint64{"nofile": 2001}, nil},
		{"unknown limit", "is no limit that godeploy sets", host(), map[string]uint64{"nice": 1}, nil},
		{"unknown setting", "is no setting of this kernel", host(), nil, map[string]string{"net.core.nosuch": "1"}},
		{"word for a number", "has another form", host(), nil, map[string]string{"net.core.somaxconn": "abc"}},
		{"too few numbers", "has another form", host(), nil, map[string]string{"net.ipv4.ip_local_port_range": "1024"}},
		{"wrong order", "must not go down", host(), nil, map[string]string{"net.ipv4.ip_local_port_range": "60000 1024"}},
		{"out of range", "outside of what the kernel takes", host(), nil, map[string]string{"net.core.somaxconn": "0"}},
		{"read-only", "cannot be written on this host", readOnly, nil, map[string]string{"net.core.somaxconn": "4096"}},
	} {
		_, err := Decide(Want{App: "shop", Limits: tt.limits, Sysctl: tt.sysctl}, tt.have)
		if all := fault.All(err); len(all) != 1 || all[0].Code != fault.ConfigValue || !strings.Contains(all[0].Msg, tt.part) {
			t.Errorf("%s: got %v, want config-value with %q", tt.name, err, tt.part)
		}
	}
	_, err := Decide(Want{Limits: map[string]uint64{"nofile": 0, "nproc": 0}, Sysctl: map[string]string{"a.b": "1"}}, host())
	if n := len(fault.All(err)); n != 3 {
		t.Errorf("three bad values gave %d faults: %v", n, err)
	}
	w := Want{Limits: map[string]uint64{"nofile": 2 << 20}, Sysctl: map[string]string{"fs.nr_open": "4194304"}}
	h := host()
	h.Sysctl["fs.nr_open"] = "1048576"
	decide(t, w, h) // the ceiling that the same file raises
	if h.ReadOnly["net.core.somaxconn"] = true; len(decide(t, Want{Sysctl: map[string]string{"net.core.somaxconn": "128"}}, h).Sysctl) != 0 {
		t.Error("a read-only setting that is right already was to be set")
	}
	decide(t, Want{Sysctl: map[string]string{"net.ipv4.tcp_congestion_control": "bbr"}}, host()) // words are the kernel's to judge
}

func TestAFileThatIsNotOursIsNotWritten(t *testing.T) {
	t.Parallel()
	h := host()
	h.Files[LimitsFile] = "* hard nofile 1\n"
	if _, err := Decide(wanted(), h); !fault.Is(err, fault.LayoutRefused) {
		t.Errorf("got %v", err)
	}
	h = host()
	h.Files[SysctlFile] = header("blog") + "net.core.somaxconn = 4096\n"
	if p := decide(t, wanted(), h); len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "was written for blog") {
		t.Errorf("notes are %q", p.Notes)
	}
}

func TestLaterFilesAreNamed(t *testing.T) {
	t.Parallel()
	h := host()
	h.Others = []Other{
		{"/etc/sysctl.d/10-early.conf", []string{"net.core.somaxconn = 1"}},
		{"/etc/sysctl.d/70-same.conf", []string{"net.core.somaxconn=4096"}},
		{"/etc/sysctl.d/99-late.conf", []string{"-net/core/somaxconn = 256", "kernel.x = 1"}},
		{"/usr/lib/sysctl.d/99-late.conf", []string{"net.core.somaxconn = 1"}}, // hidden by the one of that name in /etc
		{"/etc/sysctl.conf", []string{"net.core.somaxconn = 512"}},
		{"/etc/security/limits.conf", []string{"* hard nofile 10", "deploy hard nofile 20"}},
		{"/etc/security/limits.d/99-x.conf", []string{"*  soft nofile 30", "* hard nproc 1", "* hard nofile 4096"}},
		{"/etc/systemd/system/shop.service.d/99-x.conf", []string{"LimitNOFILE=1024"}},
		{"/etc/systemd/system/shop.service.d/10-x.conf", []string{"LimitNOFILE=1024"}},
	}
	want := []string{
		"/etc/security/limits.conf sets deploy hard nofile 20, which counts before ours",
		"/etc/security/limits.d/99-x.conf sets * soft nofile 30, which counts before ours",
		"/etc/sysctl.conf comes later and sets net.core.somaxconn = 512: at the next boot that counts, not 4096",
		"/etc/sysctl.d/99-late.conf comes later and sets net.core.somaxconn = 256: at the next boot that counts, not 4096",
		"/etc/systemd/system/shop.service.d/99-x.conf sets LimitNOFILE=1024, which counts before ours",
	}
	if d := cmp.Diff(want, decide(t, wanted(), h).Notes); d != "" {
		t.Error(d)
	}
}

func TestMemoryIsWarnedOf(t *testing.T) {
	t.Parallel()
	w := wanted()
	w.Limits["nofile"] = 65535
	if p := decide(t, w, host()); len(p.Notes) != 1 || p.Notes[0] != "65535 connections with 144 KiB of buffers each would take 9.7 GB; this host has 4.3 GB" {
		t.Errorf("notes are %q", p.Notes)
	}
	w.Sysctl["net.ipv4.tcp_rmem"] = "4096 16384 65536"
	if p := decide(t, w, host()); len(p.Notes) != 0 {
		t.Errorf("with small buffers: %q", p.Notes)
	}
}

func TestVerifySaysWhereAValueDoesNotHold(t *testing.T) {
	t.Parallel()
	h := host()
	h.Sysctl["net.core.somaxconn"] = "4096"
	h.Login = map[string]uint64{"nofile": 1024}
	h.Processes[0] = worker(10, 0, 4096) // a master that was given more; its worker was not
	var got []string
	for _, f := range Verify(wanted(), h) {
		got = append(got, fmt.Sprintf("%s: %s of %s %v %s", f.What, f.Live, f.Want, f.OK, f.Start))
	}
	want := []string{
		"net.core.somaxconn: 4096 of 4096 true ",
		"nofile of a new login: 1024 of 4096 false ",
		"nofile of shop.service: 1024 of 4096 false shop.service",
		"queue of 0.0.0.0:9000 (shop.service): 128 of 2048 false shop.service",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"shop.service"}, Restarts(Verify(wanted(), h))); d != "" {
		t.Error(d)
	}
	h.Processes, h.Queues = nil, nil
	for _, f := range Verify(wanted(), h) {
		if f.Start != "" {
			t.Errorf("%s: what does not run need not be restarted", f.What)
		}
	}
}

func TestNginxNeedsTwoFilesForAConnection(t *testing.T) {
	t.Parallel()
	h := host()
	h.Nginx = Nginx{Connections: 4096}
	child := worker(21, 20, 4096)
	child.Unit = NginxUnit
	h.Processes = []Process{child}
	w := wanted()
	w.Units = []string{NginxUnit}
	ok := func() bool {
		all := Verify(w, h)
		return all[slices.IndexFunc(all, func(f Finding) bool { return f.What == "files of an nginx worker" })].OK
	}
	if ok() {
		t.Error("4096 files are enough for 4096 proxied connections?")
	}
	h.Processes[0].Soft["nofile"] = 8192
	if !ok() {
		t.Error("8192 files are not enough for 4096 proxied connections?")
	}
}

func TestParseReadsWhatARealHostSaid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/look.txt")
	if err != nil {
		t.Fatal(err)
	}
	h := parse(string(text))
	if h.NrOpen != 1048576 || h.Hard["nofile"] != 20000 || h.CPUs != 2 || h.Load == "" || h.MemTotal == 0 || h.Disk.Total == 0 || h.Disk.Free == 0 {
		t.Errorf("the machine is read as %+v", h)
	}
	if len(h.Processes) < 2 || h.Processes[0].Unit != "swiper.service" || h.Processes[1].Parent != h.Processes[0].PID ||
		h.Processes[0].Limits["nofile"] != 16384 || h.Processes[0].Age < 0 || h.Units["swiper.service"].PID != h.Processes[0].PID {
		t.Errorf("processes are read as %+v, units as %+v", h.Processes, h.Units)
	}
	i := slices.IndexFunc(h.Queues, func(q Queue) bool { return q.Address == "0.0.0.0:9000" })
	if i < 0 || h.Queues[i].Max != 512 || ownerOf(h.Queues[i], h) != "swiper.service" {
		t.Errorf("queues are read as %+v", h.Queues)
	}
	if _, ours := Ours(h.Files[SysctlFile]); !ours || settings(h.Files[SysctlFile])["net.core.somaxconn"] != "1024" {
		t.Errorf("our file is read as %q", h.Files[SysctlFile])
	}
	if h.Sysctl["net.ipv4.ip_local_port_range"] != "10240 65000" || h.ReadOnly["net.core.somaxconn"] {
		t.Errorf("settings are read as %v, read-only %v", h.Sysctl, h.ReadOnly)
	}
}

// A host may say anything: nothing of it may end the program, and what is decided from it is finite.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/look.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("limit 1 x\n| x\n< y\nproc a b c d\nqueue LISTEN 1\nTcpExt: a ListenOverflows\nTcpExt: 1\ncapbnd zz\nunit\nnginx a b\n")
	f.Fuzz(func(t *testing.T, out string) {
		h := parse(out)
		if _, err := Decide(wanted(), h); err == nil {
			Verify(wanted(), h)
		}
	})
}

func TestWantOfAHost(t *testing.T) {
	t.Parallel()
	file, err := inventory.Parse("godeploy.toml", []byte(`[app]
name = "shop"
path = "/opt/shop"
[tune.limits]
nofile = 65535
[tune.sysctl]
"net/core/somaxconn" = 4096
"net.ipv4.ip_local_port_range" = "10240	  65000"
[role.db.tune.limits]
nofile = 1000
[role.db.tune.sysctl]
"net.core.somaxconn" = 128
[env.prod.hosts]
a = { roles = ["app", "nginx"], address = "10.0.0.1" }
b = { role = "db", address = "10.0.0.2" }
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	got := []Want{WantOf(env, env.Hosts[0]), WantOf(env, env.Hosts[1])}
	ports := "10240 65000"
	want := []Want{
		{App: "shop", Limits: map[string]uint64{"nofile": 65535}, Sysctl: map[string]string{"net.core.somaxconn": "4096", "net.ipv4.ip_local_port_range": ports},
			Units: []string{"shop.service", "nginx.service"}, Backlog: 2048},
		{App: "shop", Limits: map[string]uint64{"nofile": 1000}, Sysctl: map[string]string{"net.core.somaxconn": "128", "net.ipv4.ip_local_port_range": ports}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if p := sysctlPath("net.ipv4.conf.eth0/100.rp_filter"); p != "/proc/sys/net/ipv4/conf/eth0.100/rp_filter" {
		t.Errorf("got %s", p)
	}
}
