package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// narrow leaves the login of the app hosts with exactly the sudo rules that doctor prints, and sees that
// doctor finds nothing wrong with them, and something without.
func (o *operator) narrow(ctx context.Context) {
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
