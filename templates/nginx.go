package templates

import (
	"net/netip"
	"time"
)

// NginxSite is everything that the nginx file of one app says, as typed values. Check says whether all
// of them can stand in a file; RenderNginx refuses a site that does not pass.
type NginxSite struct {
	App, Env string
	Upstream NginxUpstream

	Listen      []NginxListen
	Names       []string // server names; "_" and wildcards as nginx has them, no regular expressions
	Certificate string   // path on the nginx host, "" without TLS
	Key         string
	Redirect    int // port whose requests are sent to https, 0 for none

	BodySize       string // as nginx writes sizes, "20m"
	Headers        []NginxHeader
	ProxyHeaders   []NginxHeader
	ConnectTimeout time.Duration
	SendTimeout    time.Duration
	ReadTimeout    time.Duration
	Gzip           bool
	ErrorPage      string // file on the nginx host that is shown for 502, 503 and 504; "" is nginx's own
	Maintenance    string // file on the nginx host: while it is there, it is what everybody gets, with 503
	AccessLog      string // path on the nginx host
	Locations      []NginxLocation
	Main           NginxMain
	Template       *NginxTemplate // the user's own, which then makes the file; nil is godeploy's
}

// NginxUpstream is the group of servers that requests are spread over.
type NginxUpstream struct {
	Name      string
	Method    string // as godeploy.toml has it, see NginxMethod
	Keepalive int    // idle connections that each worker keeps, 0 for none
	Servers   []NginxServer
}

// NginxServer is one app host. Address is an IP address: a name that does not resolve would make nginx
// refuse every later reload.
type NginxServer struct {
	Name        string // the host's name, for people
	Address     netip.Addr
	Port        int
	Weight      int
	MaxFails    int
	FailTimeout time.Duration // whole seconds
	Backup      bool
	Down        bool // drained: gets no new request, and keeps its place in ip_hash
	Warm        int  // weight while it warms in, 0 when it has its own
}

// Endpoint is address and port as nginx writes them.
func (s NginxServer) Endpoint() string {
	return netip.AddrPortFrom(s.Address, uint16(s.Port)).String()
}

// NginxListen is one address that the server block listens on.
type NginxListen struct {
	Address netip.Addr // the zero Addr is every IPv4 address
	Port    int
}

// NginxHeader is a header with a constant value.
type NginxHeader struct{ Name, Value string }

// NginxLocation is one location: files from Alias or Root, or requests passed to the upstream.
type NginxLocation struct {
	Path      string // "/x/", "= /x", "^~ /x/"
	Alias     string
	Synced    bool // godeploy brings the files of Alias, and keeps its own folder in it
	Root      string
	Proxy     bool
	WebSocket bool
	Expires   string
	NoLog     bool
}

// NginxMain is what nginx reads in its main context only, in a file of its own.
type NginxMain struct {
	ShutdownTimeout time.Duration // 0 sets none
	OpenFiles       int           // worker_rlimit_nofile, 0 sets none
}

// NginxProbePath is answered by every rendered server block itself, with 204 and the header
// NginxMarkHeader: by its value it is known which file the workers that answer have loaded.
const (
	NginxProbePath  = "/.godeploy/nginx"
	NginxMarkHeader = "X-Godeploy"
)

// NginxLogTail ends each line of the access log that is rendered: nginx writes `\x22` for a quote in a
// value, so that the last ` upstream="` of a line begins this part whatever a client sent. Several
// servers that were tried for one request stand with ", " between them, as do their statuses and times.
const NginxLogTail = ` upstream="$upstream_addr" upstream_status="$upstream_status" upstream_time="$upstream_response_time" time=$request_time at=$msec`
