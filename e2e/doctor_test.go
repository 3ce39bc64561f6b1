package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"godeploy/e2e/hosts"
)

// narrow leaves the login of the app hosts with exactly the sudo rules that doctor prints, and sees that
// doctor finds nothing wrong with them, and something without. What it returns sees, by what sudo has logged on
// the hosts since, that godeploy was refused nothing.
func (o *operator) narrow(ctx context.Context) (allowed func()) {
	o.t.Helper()
	if found := o.doctor(ctx, 0); len(found) != 0 {
		o.t.Errorf("doctor finds on a sound fleet: %q", found)
	}
	rules := o.want(ctx, 0, "doctor", "prod", "-l", "role:app", "--sudoers").stdout
	for _, h := range o.fleet.Role("app") {
		o.sudoers(ctx, h.Name, rules)
	}
	o.sudoers(ctx, "app2", "# none\n")
	if found := o.doctor(ctx, 8); len(found) != 1 || !strings.HasPrefix(found[0], "app2 sudo deploy may not run") {
		o.t.Errorf("doctor finds %q where sudo is refused", found)
	}
	o.sudoers(ctx, "app2", rules)
	if found := o.doctor(ctx, 0); len(found) != 0 {
		o.t.Errorf("doctor finds with its own rules: %q", found)
	}
	before := map[string]int{}
	for _, h := range o.fleet.Role("app") {
		before[h.Name] = len(o.sudoLog(ctx, h))
	}
	return func() {
		o.t.Helper()
		for _, h := range o.fleet.Role("app") {
			lines := o.sudoLog(ctx, h)[before[h.Name]:]
			if len(lines) == 0 {
				o.t.Errorf("%s: sudo has logged nothing", h.Name)
			}
			for _, line := range lines {
				if strings.Contains(line, "not allowed") || strings.Contains(line, "password is required") {
					o.t.Errorf("%s: sudo says: %s", h.Name, line)
				}
			}
		}
	}
}

// sudoLog gives what sudo has logged on a host of godeploy's login, without the lines about its sessions.
func (o *operator) sudoLog(ctx context.Context, h *hosts.Host) []string {
	o.t.Helper()
	out, err := h.Sh(ctx, "journalctl -q -t sudo -o cat --no-pager | grep -v pam_unix || :")
	must(o.t, err)
	return slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return !strings.Contains(line, "deploy :") })
}

// sudoers writes the rules of a host's login, as root.
func (o *operator) sudoers(ctx context.Context, host, text string) {
	o.t.Helper()
	_, err := o.fleet.SSH(ctx, "root", host, "echo "+base64.StdEncoding.EncodeToString([]byte(text))+" | base64 -d >/etc/sudoers.d/deploy && visudo -cq")
	must(o.t, err)
}

// doctor gives "HOST TOPIC MESSAGE" of each finding but the notes.
func (o *operator) doctor(ctx context.Context, code int) []string {
	o.t.Helper()
	var r struct {
		Findings []struct {
			Host, Topic, Msg string
			Note             bool
		}
	}
	must(o.t, json.Unmarshal([]byte(o.want(ctx, code, "doctor", "prod", "--json").stdout), &r))
	var found []string
	for _, f := range r.Findings {
		if !f.Note {
			found = append(found, f.Host+" "+f.Topic+" "+f.Msg)
		}
	}
	return found
}
