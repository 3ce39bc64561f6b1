package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// AppPath is where the project lives on the app hosts; deploy owns it.
const AppPath = "/opt/swiper"

// Dotenv is the shared file every release finds beside its manage.py.
const Dotenv = "SWIPER_SECRET=shared by all hosts, as sessions need it\n" +
	"SWIPER_DB_HOST=10.0.0.21\nSWIPER_DB_NAME=swiper\nSWIPER_DB_USER=swiper\nSWIPER_DB_PASSWORD=swiper\n"

// PrepareApp makes the app hosts what an administrator hands over before the first release: the
// project's systemd unit (from deploy/swiper.service in project), the folder with an empty shared/,
// and shared/.env, which points at db1. No release is there yet and the unit is not started.
func (f *Fleet) PrepareApp(ctx context.Context, project string) error {
	unit, err := os.ReadFile(filepath.Join(project, "deploy", "swiper.service"))
	if err != nil {
		return err
	}
	return f.each(func(h *Host) error {
		if h.Role() != "app" {
			return nil
		}
		return h.prepareApp(ctx, unit)
	})
}

func (h *Host) prepareApp(ctx context.Context, unit []byte) error {
	err := errors.Join(
		h.WriteFile(ctx, "/etc/systemd/system/swiper.service", unit, 0o644),
		h.WriteFile(ctx, AppPath+"/shared/.env", []byte(Dotenv), 0o600))
	if err != nil {
		return err
	}
	_, err = h.Sh(ctx, "cd "+AppPath+"; mkdir -p releases shared/medias shared/logs; chown -R deploy:deploy .; "+
		"systemctl daemon-reload; systemctl -q enable swiper.service")
	return err
}

// ReleaseByHand does on one app host what a careful person without a tool does: unpack, link the shared
// files, switch, restart. It is there to prove the fleet itself; godeploy has no part in it.
func (h *Host) ReleaseByHand(ctx context.Context, project, id string) error {
	packed, err := exec.CommandContext(ctx, "tar", "-C", project, "-cf", "-", ".").Output()
	if err != nil {
		return fmt.Errorf("pack %s: %w", project, err)
	}
	line := `dir=` + AppPath + `/releases/$1
mkdir -p "$dir"; tar -C "$dir" -xf -; ln -sfn ../../shared/.env "$dir/.env"; ln -sfn ../../shared/medias "$dir/medias"
chown -hR deploy:deploy "$dir"
ln -s "releases/$1" ` + AppPath + `/current.new; mv -T ` + AppPath + `/current.new ` + AppPath + `/current
systemctl restart swiper.service`
	_, err = h.exec(ctx, bytes.NewReader(packed), "sh", "-euc", line, "sh", id)
	return err
}

// Balance gives both nginx hosts a configuration for the app hosts, by weight, and sees that nginx
// took it. It is the tests' own until godeploy renders one.
func (f *Fleet) Balance(ctx context.Context) error {
	config := f.nginxConfig()
	return f.each(func(h *Host) error {
		if h.Role() != "nginx" {
			return nil
		}
		if err := h.WriteFile(ctx, "/etc/nginx/conf.d/swiper.conf", config, 0o644); err != nil {
			return err
		}
		_, err := h.Sh(ctx, "nginx -qt; systemctl reload-or-restart nginx")
		return err
	})
}

// nginxConfig has max_fails=0: with nginx's own 10 s of penalty, restarting one app host after
// another takes all of them out at once. A request that reached a host that was down is tried on
// the next, except when it may change something.
func (f *Fleet) nginxConfig() []byte {
	var b bytes.Buffer
	b.WriteString("upstream swiper_servers {\n")
	for _, h := range f.Role("app") {
		fmt.Fprintf(&b, "  server %s:9000 weight=%d max_fails=0;\n", h.Private(), h.Weight())
	}
	b.WriteString(`  keepalive 32;
}
server {
  listen 80 default_server;
  client_max_body_size 20m;
  location / {
    proxy_pass http://swiper_servers;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_connect_timeout 2s;
    proxy_next_upstream error timeout;
    add_header X-Upstream $upstream_addr;
  }
}
`)
	return b.Bytes()
}

// URLs gives a path's address on each nginx host.
func (f *Fleet) URLs(path string) []string {
	var urls []string
	for _, h := range f.Role("nginx") {
		urls = append(urls, "http://"+h.Public()+path)
	}
	return urls
}

// Answers waits until every nginx host answers 200 for a path, and gives the last error if the context
// ends first.
func (f *Fleet) Answers(ctx context.Context, path string) error {
	client := f.HTTP(5 * time.Second)
	for _, url := range f.URLs(path) {
		err := poll(ctx, func() error { return get(ctx, client, url) })
		if err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // only the status counts
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.ToLower(resp.Status))
	}
	return nil
}
