package inventory

import "maps"

// TuneOf gives what a host shall be tuned to: [tune], and over it the tunes of the host's roles in the order
// in which the host names them, key by key. The maps are the caller's own.
func (e *Env) TuneOf(h Host) Tune {
	t := Tune{Limits: map[string]int{}, Sysctl: map[string]Sysctl{}}
	over := func(o Tune) {
		maps.Copy(t.Limits, o.Limits)
		for key, value := range o.Sysctl {
			t.Sysctl[sysctlName(key)] = value
		}
	}
	over(e.Tune)
	for _, role := range h.Roles {
		over(e.Role[role].Tune)
	}
	return t
}

// sysctlName gives a setting the one name it has here: sysctl(8) takes a/b.c for what it also calls a.b/c.
func sysctlName(key string) string {
	first := -1
	for i, c := range key {
		if c == '.' || c == '/' {
			first = i
			break
		}
	}
	if first < 0 || key[first] == '.' {
		return key
	}
	swapped := []byte(key)
	for i, c := range swapped {
		switch c {
		case '/':
			swapped[i] = '.'
		case '.':
			swapped[i] = '/'
		}
	}
	return string(swapped)
}
