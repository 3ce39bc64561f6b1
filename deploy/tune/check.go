package tune

import (
	"fmt"
	"strconv"
	"strings"

	"godeploy/internal/fault"
)

// refuse is the fault for a value that is not written.
func refuse(key, format string, args ...any) *fault.Error {
	return fault.New(fault.ConfigValue, "%s %s", key, fmt.Sprintf(format, args...))
}

// checkLimits holds the limits against what a host needs to be logged in to, and against the kernel's
// ceilings.
func checkLimits(w Want, h Have) []error {
	var errs []error
	for _, name := range sortedKeys(w.Limits) {
		key, value := "tune.limits."+name, w.Limits[name]
		l, known := limitNamed(name)
		ceiling, why := ceilingOf(name, w, h)
		switch {
		case !known:
			errs = append(errs, refuse(key, "is no limit that godeploy sets").Hint("it sets %s", limitNames()))
		case value < l.least:
			errs = append(errs, refuse(key, "= %d would keep everybody out of the host", value).Hint("it needs at least %d", l.least))
		case value > ceiling:
			errs = append(errs, refuse(key, "= %d is more than %s allows: %d", value, why, ceiling))
		}
	}
	return errs
}

// ceilingOf is the most that a limit may be on the host, and what says so. A ceiling that the same file
// raises counts as raised.
func ceilingOf(name string, w Want, h Have) (uint64, string) {
	ceiling, why := Unlimited, ""
	under := func(n uint64, what string) {
		if n > 0 && n < ceiling {
			ceiling, why = n, what
		}
	}
	switch name {
	case "nofile":
		under(raised(w, "fs.nr_open", h.NrOpen), "fs.nr_open")
	case "nproc":
		under(raised(w, "kernel.pid_max", h.PidMax), "kernel.pid_max")
	case "rtprio":
		under(99, "the kernel")
	}
	if hard, bounded := h.Hard[name]; bounded {
		under(hard, "the container that the host is (its first process has no more, and no CAP_SYS_RESOURCE)")
	}
	return ceiling, why
}

func raised(w Want, key string, live uint64) uint64 {
	if value, ok := w.Sysctl[key]; ok {
		return number(value)
	}
	return live
}

// checkSysctl holds the settings against what the kernel has: the setting must be there, be writable, and
// take a value of the kind that it has now.
func checkSysctl(w Want, h Have) []error {
	var errs []error
	for _, key := range sortedKeys(w.Sysctl) {
		name, value := `tune.sysctl."`+key+`"`, w.Sysctl[key]
		live, there := h.Sysctl[key]
		switch {
		case !there:
			errs = append(errs, refuse(name, "is no setting of this kernel").Hint("sysctl -a lists them; some come with a module, or are not for a container to set"))
		case h.ReadOnly[key] && live != value:
			errs = append(errs, refuse(name, "cannot be written on this host: it is %s", live))
		default:
			if err := checkValue(key, name, value, live); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// checkValue wants numbers where the kernel has numbers, as many, and within what is known of the key.
func checkValue(key, name, value, live string) error {
	have, numeric := integers(live)
	want, ok := integers(value)
	if !numeric {
		return nil // words: only the kernel knows them, and it is asked when the value is set
	}
	if !ok || len(want) != len(have) {
		return refuse(name, "= %q has another form than what the kernel has: %q", value, live)
	}
	r, known := ranges()[key]
	for _, n := range want {
		if known && (n < r.least || n > r.most) {
			return refuse(name, "= %s is outside of what the kernel takes: %d to %d", value, r.least, r.most)
		}
	}
	if increases(key) {
		for i := 1; i < len(want); i++ {
			if want[i] < want[i-1] {
				return refuse(name, "= %q must not go down from one number to the next", value)
			}
		}
	}
	return nil
}

func integers(s string) ([]int64, bool) {
	var list []int64
	for _, f := range strings.Fields(s) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, false
		}
		list = append(list, n)
	}
	return list, len(list) > 0
}

type span struct{ least, most int64 }

// ranges are the bounds of settings that do harm outside of them or that the kernel cuts without a word; see
// Documentation/admin-guide/sysctl and networking/ip-sysctl.rst of Linux.
func ranges() map[string]span {
	return map[string]span{
		"net.core.somaxconn":           {16, 1<<31 - 1},
		"net.core.netdev_max_backlog":  {1, 1<<31 - 1},
		"net.ipv4.tcp_max_syn_backlog": {16, 1<<31 - 1},
		"net.ipv4.ip_local_port_range": {1, 65535},
		"net.ipv4.tcp_tw_reuse":        {0, 2},
		"net.ipv4.tcp_fin_timeout":     {1, 600},
		"fs.nr_open":                   {1024, 1<<31 - 64},
		"fs.file-max":                  {8192, 1<<63 - 1},
		"kernel.pid_max":               {1024, 4194304},
		"kernel.threads-max":           {1024, 1<<31 - 1},
		"vm.swappiness":                {0, 200},
		"vm.overcommit_memory":         {0, 2},
		"vm.max_map_count":             {1024, 1<<31 - 1},
	}
}

func increases(key string) bool {
	switch key {
	case "net.ipv4.ip_local_port_range", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_mem":
		return true
	}
	return false
}
