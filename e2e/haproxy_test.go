package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// front is what differs between the two kinds of balancer, for tests that hold for both.
type front struct {
	kind   string // and role of its hosts
	group  string // of commands
	file   string // what a push writes
	table  func(method string) string
	first  []string // further words of the first push
	spoils []spoil
	begin  func(ctx context.Context, o *operator)
}

// spoil is what stands against a push on lb2, and the code by which it is told.
type spoil struct{ spoil, heal, code, more string }

// says names the kind in a row of figures.
func (f front) says(tried string) string {
	if f.kind == "nginx" {
		return tried
	}
	return "HAProxy: " + strings.ReplaceAll(tried, "nginx hosts", "HAProxy hosts")
}

func nginxFront() front {
	return front{
		kind: "nginx", group: "nginx", file: "/etc/nginx/conf.d/godeploy-swiper.conf",
		table: func(method string) string {
			return fmt.Sprintf("[nginx]\nmethod = %q\nmain_file = \"/etc/nginx/modules-enabled/60-godeploy.conf\"\nkeepalive = 16\n", method)
		},
		spoils: []spoil{
			editing("/etc/nginx/conf.d/godeploy-swiper.conf", "nginx-drift"),
			{"echo 'server { lisen 81; }' >/etc/nginx/conf.d/neighbour.conf", "rm /etc/nginx/conf.d/neighbour.conf", "nginx-broken", ""},
			{"systemctl stop nginx", "systemctl start nginx", "nginx-stopped", ""},
			taking("nginx-port"),
		},
		begin: func(context.Context, *operator) {},
	}
}

func editing(file, code string) spoil {
	return spoil{"cp -p " + file + " /root/kept; echo '# mine' >>" + file, "cp -p /root/kept " + file, code, ""}
}

// taking lets another program listen where the balancer is to listen.
func taking(code string) spoil {
	return spoil{"systemd-run -q --unit=taken python3 -m http.server 81; until curl -s -o /dev/null http://127.0.0.1:81/; do sleep 0.1; done",
		"systemctl stop taken", code, "listen = \"81\"\n"}
}

// errorPage is a file that HAProxy's file names: where it is missing, HAProxy would not start again.
const errorPage = "/srv/error.html"

func haproxyFront() front {
	const file = "/etc/haproxy/haproxy.cfg"
	return front{
		kind: "haproxy", group: "balancer", file: file, first: []string{"--overwrite"}, // the package brings a file
		table: func(method string) string {
			return fmt.Sprintf("[balancer]\nkind = \"haproxy\"\nmethod = %q\nkeepalive = 16\nerror_page = %q\n", method, errorPage)
		},
		spoils: []spoil{
			editing(file, "haproxy-drift"),
			{"mv " + errorPage + " /root/page", "mv /root/page " + errorPage, "haproxy-broken", ""},
			{"systemctl stop haproxy", "systemctl start haproxy", "haproxy-stopped", ""},
			taking("haproxy-port"),
		},
		begin: beginHaproxy,
	}
}

// beginHaproxy lets HAProxy run on the balancers in the place of nginx, with the file of its package.
func beginHaproxy(ctx context.Context, o *operator) {
	o.t.Helper()
	for _, h := range o.fleet.Role("nginx") {
		must(o.t, h.WriteFile(ctx, errorPage, []byte("<p>back soon</p>\n"), 0o644))
		_, err := h.Sh(ctx, "systemctl -q disable --now nginx; systemctl -q enable haproxy; systemctl start haproxy")
		must(o.t, err)
	}
}

// What TestNginxTier says holds with HAProxy.
func TestHaproxyTier(t *testing.T) {
	t.Parallel()
	tierHolds(t, haproxyFront())
}
