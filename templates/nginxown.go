package templates

import (
	"slices"
	"strconv"
	"strings"

	"godeploy/internal/fault"
)

// The kinds of values that a template of the user's own sees; the lint knows by them where each may stand.
type (
	nginxWord  string // nothing in it means anything to nginx
	nginxWords string // such words, with spaces
	nginxText  string // one line of anything but $
	nginxBlock string // whole directives, ready to be written
)

// nginxValues is the dot of a template of the user's own. docs/nginx.md lists its fields.
type nginxValues struct {
	App, Env, Upstream nginxWord
	Keepalive          int
	Servers            []nginxServerValues
	Listen             []nginxWords // "443 ssl"
	Names              []nginxWord  // never empty: "_" is every name
	Certificate, Key   nginxWord
	Redirect           int
	BodySize           nginxWord
	Headers            []nginxHeaderValues
	ProxyHeaders       []nginxHeaderValues
	ConnectTimeout     nginxWord
	SendTimeout        nginxWord
	ReadTimeout        nginxWord
	Gzip               bool
	ErrorPage          nginxWord
	Maintenance        nginxWord
	AccessLog          nginxWord
	LogFormat          nginxWord // the name of the format that Blocks.LogFormat makes
	Locations          []nginxLocationValues
	Blocks             nginxBlocks
}

type nginxServerValues struct {
	Name        nginxWord
	Address     nginxWord // with the port
	Weight      int       // the one that counts now
	MaxFails    int
	FailTimeout nginxWord
	Backup      bool
	Down        bool
}

type nginxHeaderValues struct {
	Name  nginxWord
	Value nginxText
}

type nginxLocationValues struct {
	Path        nginxWords
	Alias, Root nginxWord
	Proxy       bool
	WebSocket   bool
	Expires     nginxWord
	NoLog       bool
}

// nginxBlocks are parts as godeploy writes them itself.
type nginxBlocks struct {
	Upstream  nginxBlock
	LogFormat nginxBlock
	Probe     nginxBlock
	Locations nginxBlock
}

// values gives a site that has passed its Check as a template sees it.
func (s *NginxSite) values(mark string) (nginxValues, error) {
	log := "godeploy_" + s.App
	v := nginxValues{App: nginxWord(s.App), Env: nginxWord(s.Env), Upstream: nginxWord(s.Upstream.Name), Keepalive: s.Upstream.Keepalive,
		Certificate: nginxWord(s.Certificate), Key: nginxWord(s.Key), Redirect: s.Redirect, BodySize: nginxWord(s.BodySize),
		ConnectTimeout: nginxWord(nginxTime(s.ConnectTimeout)), SendTimeout: nginxWord(nginxTime(s.SendTimeout)), ReadTimeout: nginxWord(nginxTime(s.ReadTimeout)),
		Gzip: s.Gzip, ErrorPage: nginxWord(s.ErrorPage), Maintenance: nginxWord(s.Maintenance), AccessLog: nginxWord(s.AccessLog), LogFormat: nginxWord(log)}
	for i := range s.Upstream.Servers {
		one := &s.Upstream.Servers[i]
		v.Servers = append(v.Servers, nginxServerValues{nginxWord(one.Name), nginxWord(one.Endpoint()), one.Effective(), one.MaxFails,
			nginxWord(nginxTime(one.FailTimeout)), one.Backup, one.Down})
	}
	for _, l := range s.Listen {
		v.Listen = append(v.Listen, nginxWords(strings.Join(l.directive(s.Certificate != "").Args[1:], " ")))
	}
	for _, n := range s.names().Args[1:] {
		v.Names = append(v.Names, nginxWord(n))
	}
	v.Headers, v.ProxyHeaders = headerValues(s.Headers), headerValues(s.ProxyHeaders)
	var places []Directive
	for _, l := range s.Locations {
		v.Locations = append(v.Locations, nginxLocationValues{nginxWords(l.Path), nginxWord(l.Alias), nginxWord(l.Root), l.Proxy, l.WebSocket, nginxWord(l.Expires), l.NoLog})
		places = append(places, s.locations(l)...)
	}
	for _, b := range []struct {
		to   *nginxBlock
		list []Directive
	}{{&v.Blocks.Upstream, []Directive{s.Upstream.directive()}}, {&v.Blocks.LogFormat, []Directive{logFormat(log)}},
		{&v.Blocks.Probe, []Directive{probe(mark)}}, {&v.Blocks.Locations, places}} {
		var text strings.Builder
		if err := emit(&text, b.list, 0); err != nil {
			return v, problem("nginx", err)
		}
		*b.to = nginxBlock(text.String())
	}
	return v, nil
}

func headerValues(list []NginxHeader) []nginxHeaderValues {
	var all []nginxHeaderValues
	for _, h := range list {
		all = append(all, nginxHeaderValues{nginxWord(h.Name), nginxText(h.Value)})
	}
	return all
}

// own is the body by the user's own template.
func (s *NginxSite) own(mark string) (string, error) {
	values, err := s.values(mark)
	if err != nil {
		return "", err
	}
	out := &bounded{}
	if err := s.Template.tree.Execute(out, values); err != nil {
		return "", s.Template.refuse(execCause(err).Error())
	}
	text := strings.TrimSuffix(out.String(), "\n") + "\n"
	scan := newScanner()
	if err := scan.feed(text); err != nil {
		return "", s.Template.refuse(err.Error())
	}
	tree, err := scan.end()
	if err != nil {
		return "", s.Template.refuse(err.Error())
	}
	return text, s.holds(tree)
}

func (t *NginxTemplate) refuse(msg string) *fault.Error {
	return fault.New(fault.ConfigValue, "nginx.template %s", msg).At(fault.Pos{File: t.name, Line: 1})
}

// holds says what a rendered file lacks without which a push could not be proven, or a drain be done.
func (s *NginxSite) holds(tree []Directive) error {
	i := slices.IndexFunc(tree, func(d Directive) bool { return d.block && slices.Equal(d.Args, []string{"upstream", s.Upstream.Name}) })
	if i < 0 {
		return s.Template.refuse("has no upstream " + s.Upstream.Name).Hint("write {{.Blocks.Upstream}}, or a block of your own with {{range .Servers}}")
	}
	for k := range s.Upstream.Servers {
		if one := &s.Upstream.Servers[k]; !slices.ContainsFunc(tree[i].Block, one.is) {
			return s.Template.refuse("does not give the server " + one.Name + " the weight and the state that it has").
				Hint("each server needs: server {{.Address}} weight={{.Weight}}{{if .Down}} down{{end}}; without down it could not be drained")
		}
	}
	port := strconv.Itoa(s.Listen[0].Port)
	for _, d := range tree {
		if d.Args[0] == "server" && slices.ContainsFunc(d.Block, isProbe) && slices.ContainsFunc(d.Block, func(l Directive) bool {
			return l.Args[0] == "listen" && len(l.Args) > 1 && (l.Args[1] == port || strings.HasSuffix(l.Args[1], ":"+port))
		}) {
			return nil
		}
	}
	return s.Template.refuse("has no server block that listens on " + port + " and holds {{.Blocks.Probe}}").
		Hint("by its answer it is known that nginx has loaded the file; {{range .Listen}}listen {{.}};{{end}} has the ports")
}

// is reports whether a directive is this server with its weight and its state.
func (s *NginxServer) is(d Directive) bool {
	if len(d.Args) < 2 || d.Args[0] != "server" || d.Args[1] != s.Endpoint() || slices.Contains(d.Args, "down") != s.Down {
		return false
	}
	weight := "1"
	for _, a := range d.Args[2:] {
		if w, ok := strings.CutPrefix(a, "weight="); ok {
			weight = w
		}
	}
	return weight == strconv.Itoa(s.Effective())
}

func isProbe(d Directive) bool {
	return d.block && slices.Equal(d.Args, []string{"location", "=", NginxProbePath})
}

// CheckTemplate says what a user's own template does not do that it has to; nil without one. It is looked at
// with all servers in service, and with one that is alone and has another weight: by that it is known that a
// drain can be done with it. The site must have passed Check. Errors are faults with the template's place.
func (s NginxSite) CheckTemplate() error {
	if s.Template == nil {
		return nil
	}
	if _, err := s.own(""); err != nil {
		return err
	}
	s.Upstream.Servers = slices.Clone(s.Upstream.Servers)
	for i := range s.Upstream.Servers {
		one := &s.Upstream.Servers[i]
		one.Down, one.Warm = i > 0, one.Weight%65535+1
	}
	_, err := s.own("")
	return err
}
