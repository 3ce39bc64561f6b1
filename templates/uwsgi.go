package templates

import (
	"fmt"
	"strings"
	"time"
)

// UWSGIListens are uWSGI's options that open a listener.
func UWSGIListens() []string {
	return []string{"--http-socket", "--http", "--https", "--socket", "-s", "--uwsgi-socket", "--fastcgi-socket",
		"--scgi-socket", "--http11-socket", "--suwsgi-socket", "--https-socket"}
}

// uwsgi puts into uWSGI's command line what it lacks. The listener stands there and not in the
// configuration, so that a trial can boot the same server on another one.
func (s Service) uwsgi(words []string) []string {
	list, own := s.begun(words, "--ini", s.absoluteIni)
	if _, has := Option(own, UWSGIListens()...); !has && s.Bind != "" && !s.Socket {
		list = append(list, "--http-socket", strings.TrimPrefix(s.Bind, "unix:"))
	}
	if s.Socket {
		list = append(list, "--protocol", "http") // what systemd hands over speaks uWSGI's own otherwise
	}
	return append(list, own...)
}

// absoluteIni names the user's own configuration by its place in Current; see absoluteConfig.
func (s Service) absoluteIni(words []string, name string) []string {
	if strings.HasPrefix(name, "/") || strings.Contains(name, "://") {
		return words
	}
	list := make([]string, len(words))
	for i, w := range words {
		if w == name || strings.HasSuffix(w, "="+name) {
			w = strings.TrimSuffix(w, name) + strings.TrimSuffix(s.Current, "/") + "/" + strings.TrimPrefix(name, "./")
		}
		list[i] = w
	}
	return list
}

// uwsgiConfig has three lines that are not a matter of taste: without a master there is no reload,
// without need-app a release that does not import is served as errors, and TERM would reload.
func (s Service) uwsgiConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which writes it anew. Settings of yours belong on the command line.\n", Marker)
	b.WriteString("[uwsgi]\nmaster = true\nneed-app = true\ndie-on-term = true\n" +
		"hook-master-start = unix_signal:15 gracefully_kill_them_all\n")
	fmt.Fprintf(&b, "processes = %d\n", max(s.Workers, 1))
	if s.Threads > 1 {
		fmt.Fprintf(&b, "threads = %d\n", s.Threads)
	}
	if s.Backlog > 0 {
		fmt.Fprintf(&b, "listen = %d\n", s.Backlog)
	}
	if s.Timeout > 0 {
		fmt.Fprintf(&b, "harakiri = %d\n", int(s.Timeout/time.Second))
	}
	if s.StopTimeout > 0 {
		seconds := int(s.StopTimeout / time.Second)
		fmt.Fprintf(&b, "reload-mercy = %d\nworker-reload-mercy = %d\n", seconds, seconds)
	}
	return b.String()
}
