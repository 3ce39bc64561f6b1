package templates

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// gunicorn puts into gunicorn's command line what it lacks. The user's own words come after, and what
// stands there is never doubled: --bind would listen twice.
func (s Service) gunicorn(words []string) []string {
	list, own := s.begun(words, "--config", s.absoluteConfig)
	if _, has := Option(own, "--bind", "-b"); !has && s.Bind != "" && !s.Socket {
		list = append(list, "--bind", s.Bind)
	}
	list = append(list, "--pid", s.PIDFile())
	return append(list, Without(own, "--pid", "-p")...)
}

// begun is the beginning of a server's command line, with godeploy's configuration and the folder where the
// user's words have none, and what is left of those words. A configuration of the user's own is named by its
// place.
func (s Service) begun(words []string, option string, absolute func(own []string, name string) []string) (list, own []string) {
	list, own = []string{words[0]}, words[1:]
	if name, ours := s.config(); ours {
		list = append(list, option, name)
	} else {
		own = absolute(own, name)
	}
	if _, has := Option(own, "--chdir"); !has {
		list = append(list, "--chdir", s.Current)
	}
	return list, own
}

// absoluteConfig names the user's own configuration by its place in Current: gunicorn reads it before it
// goes there, and again on HUP, when its folder is the old release's.
func (s Service) absoluteConfig(words []string, name string) []string {
	if strings.Contains(name, ":") { // python:MODULE is looked for elsewhere
		return words
	}
	if !strings.HasPrefix(name, "/") {
		name = strings.TrimSuffix(s.Current, "/") + "/" + strings.TrimPrefix(name, "./")
	}
	return append([]string{"--config", name}, Without(words, "--config", "-c")...)
}

// config is the name of the server's configuration, and whether it is godeploy's.
func (s Service) config() (name string, ours bool) {
	words, _ := Words(s.Command)
	switch s.Server {
	case "gunicorn":
		if own, has := Option(words, "--config", "-c"); has {
			return own, false
		}
		return "/etc/godeploy/" + s.App + ".gunicorn.py", true
	case "uwsgi":
		for _, option := range []string{"--ini", "--xml", "--yaml", "--yml", "--json", "--emperor"} {
			if own, has := Option(words, option); has {
				return own, false
			}
		}
		for _, word := range words {
			if strings.HasSuffix(word, ".ini") && !strings.HasPrefix(word, "-") {
				return word, false
			}
		}
		return "/etc/godeploy/" + s.App + ".uwsgi.ini", true
	}
	return "", false
}

// ServerConfig renders the server's configuration and says where it belongs; "" when the server has none,
// or the command line names one of the user's own, which then stands alone.
func ServerConfig(s Service) (name, text string) {
	name, ours := s.config()
	switch {
	case !ours:
		return "", ""
	case s.Server == "gunicorn":
		return name, s.gunicornConfig()
	}
	return name, s.uwsgiConfig()
}

func (s Service) gunicornConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, which writes it anew. Settings of yours belong on the command line, where they win.\n", Marker)
	if s.Workers > 0 {
		fmt.Fprintf(&b, "workers = %d\n", s.Workers)
	}
	if s.Class != "" && s.Class != "sync" {
		fmt.Fprintf(&b, "worker_class = %s\n", strconv.QuoteToASCII(s.Class))
	}
	if s.Threads > 1 {
		fmt.Fprintf(&b, "threads = %d\n", s.Threads)
	}
	if s.Backlog > 0 {
		fmt.Fprintf(&b, "backlog = %d\n", s.Backlog)
	}
	if s.Timeout > 0 {
		fmt.Fprintf(&b, "timeout = %d\n", int(s.Timeout/time.Second))
	}
	if s.StopTimeout > 0 {
		fmt.Fprintf(&b, "graceful_timeout = %d\n", int(s.StopTimeout/time.Second))
	}
	return b.String()
}
