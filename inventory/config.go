package inventory

import "time"

// Config is every section that may stand at the top of the file and again below an environment,
// where it replaces what stands at the top key by key. The doc tags are the source of
// docs/config.md; the default tags are applied before anything is read.
type Config struct {
	App      App             `toml:"app"`
	Sync     Sync            `toml:"sync"`
	Shared   Shared          `toml:"shared"`
	Process  Process         `toml:"process"`
	Health   Health          `toml:"health"`
	Release  Release         `toml:"release"`
	Hooks    Hooks           `toml:"hooks"`
	SSH      SSH             `toml:"ssh"`
	Secrets  Secrets         `toml:"secrets"`
	Setup    Setup           `toml:"setup"`
	Balancer Balancer        `toml:"balancer"`
	Nginx    *Nginx          `toml:"nginx"` // nil without [nginx]
	Tune     Tune            `toml:"tune"`
	Role     map[string]Role `toml:"role"`
	People   []Person        `toml:"people"`
	Bench    Bench           `toml:"bench"`
}

// App says what is deployed and where it lies on its hosts.
type App struct {
	Name   string `toml:"name" rule:"appname" doc:"short name of the app; needed"`
	Path   string `toml:"path" rule:"apppath" doc:"folder of the app on every host, absolute; may hold {{.Host.Name}}; needed"`
	Layout string `toml:"layout" enum:"releases|inplace" default:"releases" doc:"releases/ with current and shared/, or code straight in path"`
	Keep   int    `toml:"keep" min:"1" max:"1000" default:"5" doc:"releases kept on each host for rollback"`
	Owner  string `toml:"owner" rule:"owner" doc:"user or user:group the files belong to; empty = the login user"`
}

// Sync says which local files make a release and how they travel. Patterns are rsync's.
type Sync struct {
	From          string   `toml:"from" rule:"line" default:"." doc:"local folder that is sent, relative to the file"`
	Exclude       []string `toml:"exclude" rule:"pattern" doc:"rsync exclude patterns; .git/ and .godeploy/ are never sent"`
	Include       []string `toml:"include" rule:"pattern" doc:"rsync include patterns, read before the excludes"`
	Filter        []string `toml:"filter" rule:"pattern" doc:"rsync filter rules, such as \"merge .deployfilter\""`
	ExcludeAdd    []string `toml:"exclude_add" rule:"pattern" doc:"excludes added to those above it, for use in an environment"`
	Gitignore     bool     `toml:"gitignore" doc:"also leave out what the .gitignore files name"`
	Delete        bool     `toml:"delete" default:"true" doc:"the new release holds exactly what the local folder has"`
	Verify        string   `toml:"verify" enum:"changed|all" default:"changed" doc:"which files are hashed again on the host before the switch"`
	Compress      string   `toml:"compress" enum:"auto|zstd|off" default:"auto" doc:"compression on the way"`
	Bandwidth     Rate     `toml:"bandwidth" default:"0" doc:"limit for a whole run, such as \"20MB/s\"; \"0\" = none"`
	Links         string   `toml:"links" enum:"auto|hard|reflink|copy" default:"auto" doc:"how unchanged files enter a new release"`
	Symlinks      string   `toml:"symlinks" enum:"inside|any|skip" default:"inside" doc:"links that leave the tree are refused, kept or left out"`
	Special       string   `toml:"special" enum:"error|skip" default:"error" doc:"devices, FIFOs and sockets are an error or left out"`
	MaxDelete     Share    `toml:"max_delete" default:"50%" doc:"most files one run may delete; layout inplace and sync --to only"`
	OneFileSystem bool     `toml:"one_file_system" default:"true" doc:"do not enter other file systems"`
}

// Excludes gives exclude and exclude_add as one list, in the order in which they are read.
func (s Sync) Excludes() []string {
	return append(append([]string(nil), s.Exclude...), s.ExcludeAdd...)
}

// Shared names what lies in PATH/shared and is linked into every release. Paths are relative.
type Shared struct {
	Dirs  []string `toml:"dirs" rule:"relpath" doc:"folders shared by all releases, made when missing"`
	Files []string `toml:"files" rule:"relpath" doc:"files shared by all releases; a missing one is an error"`
}

// Process says how the app runs. Bind, Command and Check are templates: render them with Env.Render.
type Process struct {
	Server      string        `toml:"server" enum:"gunicorn|uwsgi|custom" default:"gunicorn" doc:"kind of server"`
	Manager     string        `toml:"manager" enum:"systemd|pidfile|command" default:"systemd" doc:"who starts and stops it"`
	Unit        string        `toml:"unit" rule:"unit" doc:"systemd unit; empty = NAME.service"`
	Pidfile     string        `toml:"pidfile" rule:"pidfile" doc:"pid file, absolute or below current; needed by manager pidfile"`
	Bind        string        `toml:"bind" rule:"template" doc:"address the app listens on, such as \"{{.Host.Address}}:9000\""`
	Command     string        `toml:"command" rule:"template" doc:"the server's command line, run in current; empty = the unit's ExecStart"`
	Check       string        `toml:"check" rule:"template" doc:"own check of new code before the switch; empty = derived from command"`
	Graceful    string        `toml:"graceful" enum:"auto|hup|usr2|reload|socket|restart" fold:"true" default:"auto" doc:"what restart --graceful does; any case"`
	StopTimeout time.Duration `toml:"stop_timeout" min:"1s" max:"1h" default:"30s" doc:"wait for the processes to end"`
	Workers     Workers       `toml:"workers" doc:"number of workers, such as 4 or \"2*cpu+1\""`
	Class       string        `toml:"class" rule:"word" default:"sync" doc:"gunicorn worker class"`
	Threads     int           `toml:"threads" min:"1" max:"1024" default:"1" doc:"threads of each worker"`
	Backlog     int           `toml:"backlog" min:"1" max:"65535" default:"2048" doc:"connections that may wait for a worker"`
	Timeout     time.Duration `toml:"timeout" min:"1s" max:"24h" default:"30s" doc:"a worker silent for longer is killed"`
	Socket      bool          `toml:"socket" doc:"systemd socket activation"`
}

// Health says when a host is well. URL is a template: render it with Env.Render.
type Health struct {
	URL           string        `toml:"url" rule:"template" doc:"asked on the host itself; empty = proof by the processes only"`
	Status        StatusRange   `toml:"status" default:"200-299" doc:"statuses that are well: 200, \"200-299\", \"200,204\""`
	Interval      time.Duration `toml:"interval" min:"10ms" max:"10m" default:"1s" doc:"time between two questions"`
	Timeout       time.Duration `toml:"timeout" min:"10ms" max:"10m" default:"2s" doc:"longest wait for one answer"`
	Tries         int           `toml:"tries" min:"1" max:"10000" default:"20" doc:"questions before the host counts as ill"`
	ReleaseHeader string        `toml:"release_header" rule:"header" doc:"answer header that holds the release id; empty = proof by the processes only"`
	Settle        time.Duration `toml:"settle" min:"0s" max:"1h" default:"3s" doc:"must stay well for so long"`
}

// Release says how a release goes over the hosts.
type Release struct {
	Strategy       string        `toml:"strategy" enum:"rolling|canary|all" default:"rolling" doc:"in batches; one host first; or all at once"`
	Canary         string        `toml:"canary" rule:"hostname" doc:"the host that goes first; needed by strategy canary"`
	Batch          Batch         `toml:"batch" default:"1" doc:"hosts at a time: \"1\", \"25%\", or a ramp [1, \"30%\", \"100%\"]"`
	Drain          string        `toml:"drain" enum:"auto|nginx|haproxy|off" default:"auto" doc:"take a host out of the balancer before its restart; auto = the balancer that the file has"`
	DrainWait      time.Duration `toml:"drain_wait" min:"0s" max:"1h" default:"10s" doc:"time for open requests to end"`
	OnFailure      string        `toml:"on_failure" enum:"rollback|stop|continue" default:"rollback" doc:"undo every host, leave them as they are, or undo those that failed and go on"`
	MaxFailures    int           `toml:"max_failures" min:"0" max:"100000" default:"0" doc:"hosts that may fail before on_failure applies"`
	Roles          []string      `toml:"roles" rule:"word" default:"app" doc:"roles a release goes to"`
	Restart        string        `toml:"restart" enum:"graceful|full" default:"graceful" doc:"by [process] graceful, or stop and start"`
	MaxUnavailable Share         `toml:"max_unavailable" doc:"hosts out of service at once, those of earlier runs counted; default: the batch, with a ramp 25%"`
	StallBudget    time.Duration `toml:"stall_budget" min:"0s" max:"10m" default:"500ms" doc:"a boot for longer than this is not waited for by requests: where the server is not drained, gunicorn is then replaced beside itself (usr2) and not by HUP"`
	Carry          []string      `toml:"carry" rule:"relpath" doc:"paths copied from the previous release; not also in [shared] dirs"`
	Migrations     string        `toml:"migrations" rule:"command" doc:"run on one host as the app's owner; prints the heads of the database schema, one a line, so that a rollback can refuse an older release"`
	Gate           string        `toml:"gate" rule:"gate" doc:"goals that new hosts must meet beside old ones, such as \"5xx < 0.5%, p95 < 1.5x\""`
	Bake           time.Duration `toml:"bake" min:"0s" max:"24h" default:"30s" doc:"time the gate is watched"`
}

// Hooks are the user's own commands, in the order in which they stand.
type Hooks struct {
	LocalBefore []Hook        `toml:"local_before" doc:"here, before anything else"`
	Setup       []Hook        `toml:"setup" doc:"on each host, by godeploy setup only"`
	Release     []Hook        `toml:"release" doc:"on each host, in the new release, before the switch"`
	Once        []Hook        `toml:"once" doc:"on one host only, before any switch"`
	Start       []Hook        `toml:"start" doc:"yours instead of the manager's start"`
	Stop        []Hook        `toml:"stop" doc:"yours instead of the manager's stop"`
	Restart     []Hook        `toml:"restart" doc:"yours instead of the manager's restart; GODEPLOY_GRACEFUL=1 for a graceful one"`
	After       []Hook        `toml:"after" doc:"on each host, after its health check"`
	LocalAfter  []Hook        `toml:"local_after" doc:"here, when the release is done"`
	LocalFailed []Hook        `toml:"local_failed" doc:"here, when the release has failed"`
	Timeout     time.Duration `toml:"timeout" min:"1s" max:"24h" default:"10m" doc:"longest run of one hook"`
}

// Hook is one command: a string in the file, or a table { run, as, timeout, on }.
type Hook struct {
	Run     string        `toml:"run" need:"true" rule:"command" doc:"the command, given to sh; needed"`
	As      string        `toml:"as" rule:"user" default:"owner" doc:"owner, root, or a user"`
	Timeout time.Duration `toml:"timeout" min:"1s" max:"24h" doc:"longest run; default: [hooks] timeout"`
	On      string        `toml:"on" rule:"limit" doc:"only on these hosts, written like --limit"`
}

// SSH says how hosts are reached. A role or a host may say otherwise.
type SSH struct {
	User      string   `toml:"user" rule:"user" doc:"login user; empty = your name on this machine"`
	Port      int      `toml:"port" min:"1" max:"65535" default:"22" doc:"port of sshd"`
	Keys      []string `toml:"keys" rule:"line" doc:"private keys, ~ allowed; empty = the agent's and the usual files"`
	Sudo      bool     `toml:"sudo" doc:"use sudo -n where root is needed"`
	Helper    bool     `toml:"helper" default:"true" doc:"false = SFTP and sh only"`
	SSHConfig bool     `toml:"ssh_config" default:"true" doc:"also use ~/.ssh/config, as ssh(1) reads it"`
	// AuthorizedKeys is where the hosts keep who may log in.
	AuthorizedKeys string `toml:"authorized_keys" rule:"line" doc:"file of keys on the hosts, absolute or below the home, %u and %h filled in; empty asks sshd, else .ssh/authorized_keys"`
}

// Secrets says where the app's secrets come from.
type Secrets struct {
	Command string `toml:"command" rule:"command" doc:"run here by sh, once a release; prints NAME=VALUE lines or a JSON object"`
	File    string `toml:"file" rule:"relpath" default:".env.secrets" doc:"where a release links to its file of secrets, which is the app owner's, mode 0600"`
}

// Setup says what `godeploy setup` may install.
type Setup struct {
	Packages []string `toml:"packages" rule:"word" doc:"packages to install; empty = checked, never installed"`
	Venv     string   `toml:"venv" rule:"relpath" doc:"virtual environment that is made in shared/ with python3 -m venv, such as \".venv\"; name it in [shared] dirs too; empty = none"`
}

// Balancer says what stands before the app hosts. Its other keys are for HAProxy; nginx has [nginx].
type Balancer struct {
	Kind            string        `toml:"kind" enum:"nginx|haproxy" default:"nginx" doc:"kind of balancer; its hosts have the role of that name; the keys below are for haproxy"`
	Method          string        `toml:"method" rule:"method" default:"rr" doc:"as [nginx] method: rr or weight, ip_hash, least_conn, \"hash KEY\", \"random two\""`
	Backend         string        `toml:"backend" rule:"nginxword" doc:"name of the backend; empty = NAME_servers"`
	Listen          string        `toml:"listen" rule:"listen" default:"80" doc:"ports or address:port, with commas between them; with a certificate they speak TLS"`
	Redirect        int           `toml:"redirect" min:"0" max:"65535" default:"0" doc:"port whose requests are sent to https, such as 80; 0 = none; needs certificate"`
	Certificate     string        `toml:"certificate" rule:"nginxpath" doc:"file on the host with TLS certificate and key"`
	File            string        `toml:"file" rule:"nginxpath" default:"/etc/haproxy/haproxy.cfg" doc:"file written; HAProxy has to be started with it, or with its folder"`
	Whole           bool          `toml:"whole" default:"true" doc:"the file is all that HAProxy reads, and sets user, chroot and log too; false = a file beside others"`
	Headers         []string      `toml:"headers" rule:"nginxheader" doc:"headers of every answer, such as \"X-Frame-Options: DENY\""`
	ProxyHeaders    []string      `toml:"proxy_headers" rule:"nginxheader" doc:"headers of every request to the app, beside X-Real-IP, X-Forwarded-For and X-Forwarded-Proto"`
	ConnectTimeout  time.Duration `toml:"connect_timeout" min:"1ms" max:"24h" default:"2s" doc:"longest wait for a connection to an app host"`
	ClientTimeout   time.Duration `toml:"client_timeout" min:"1ms" max:"24h" default:"60s" doc:"longest pause of a visitor"`
	ServerTimeout   time.Duration `toml:"server_timeout" min:"1ms" max:"24h" default:"60s" doc:"longest pause in the answer of an app host"`
	ErrorPage       string        `toml:"error_page" rule:"nginxpath" doc:"HTML file on the HAProxy hosts, at most 8 KiB, that is shown when no app host answers"`
	Keepalive       int           `toml:"keepalive" min:"0" max:"65535" default:"64" doc:"idle connections kept to each app host"`
	MaxFails        int           `toml:"max_fails" min:"0" max:"65535" default:"3" doc:"failures before a server is left out; 0 = it never is, and is not checked"`
	FailTimeout     time.Duration `toml:"fail_timeout" min:"1s" max:"24h" default:"10s" doc:"time over which failures count: so long a dead server is asked on"`
	Socket          string        `toml:"socket" rule:"nginxsocket" doc:"runtime socket; empty = /run/haproxy/godeploy-NAME.sock"`
	ShutdownTimeout time.Duration `toml:"shutdown_timeout" min:"0s" max:"24h" default:"30s" doc:"old workers end after so long; \"0s\" = never"`
	MaxConnections  int           `toml:"max_connections" min:"0" max:"10000000" default:"0" doc:"connections at a time; 0 = what HAProxy finds right"`
}

// Nginx is the nginx file that godeploy writes, and with main_file a second one.
type Nginx struct {
	Method                string        `toml:"method" rule:"method" default:"rr" doc:"rr or weight (round robin by weight), ip_hash, least_conn, \"hash KEY consistent\", \"random two\"; KEY is uri, addr, host, cookie_NAME, header_NAME or arg_NAME"`
	Upstream              string        `toml:"upstream" rule:"nginxword" doc:"name of the upstream block; empty = NAME_servers"`
	Listen                string        `toml:"listen" rule:"listen" default:"80" doc:"ports or address:port, with commas between them; with a certificate they speak TLS"`
	Redirect              int           `toml:"redirect" min:"0" max:"65535" default:"0" doc:"port whose requests are sent to https, such as 80; 0 = none; needs certificate"`
	Names                 []string      `toml:"names" rule:"servername" doc:"server names, such as \"www.example.com\" or \"*.example.com\"; empty = every name"`
	File                  string        `toml:"file" rule:"nginxpath" doc:"file written; empty = /etc/nginx/conf.d/godeploy-NAME.conf"`
	MainFile              string        `toml:"main_file" rule:"nginxpath" doc:"file for lines of the main context, such as /etc/nginx/modules-enabled/60-godeploy.conf; empty = none are written"`
	Conf                  string        `toml:"conf" rule:"nginxpath" default:"/etc/nginx/nginx.conf" doc:"nginx's main file, which is read and never written"`
	WorkerShutdownTimeout time.Duration `toml:"worker_shutdown_timeout" min:"0s" max:"24h" default:"30s" doc:"old workers end after so long; \"0s\" = never; needs main_file"`
	WorkerRlimitNofile    int           `toml:"worker_rlimit_nofile" min:"0" max:"1073741824" default:"0" doc:"files that a worker may have open; 0 = as nginx.conf has it; needs main_file"`
	Certificate           string        `toml:"certificate" rule:"nginxpath" doc:"TLS certificate on the host; needs key"`
	Key                   string        `toml:"key" rule:"nginxpath" doc:"TLS key on the host; needs certificate"`
	Template              string        `toml:"template" rule:"line" doc:"template of your own for the file, relative to godeploy.toml (docs/nginx.md)"`
	ClientMaxBodySize     string        `toml:"client_max_body_size" rule:"nginxsize" default:"20m" doc:"largest request body"`
	Headers               []string      `toml:"headers" rule:"nginxheader" doc:"headers of every answer, such as \"X-Frame-Options: DENY\""`
	ProxyHeaders          []string      `toml:"proxy_headers" rule:"nginxheader" doc:"headers of every request to the app, beside Host, X-Real-IP, X-Forwarded-For and X-Forwarded-Proto"`
	ConnectTimeout        time.Duration `toml:"connect_timeout" min:"1ms" max:"75s" default:"2s" doc:"longest wait for a connection to an app host"`
	SendTimeout           time.Duration `toml:"send_timeout" min:"1ms" max:"24h" default:"60s" doc:"longest pause while a request is sent to an app host"`
	ReadTimeout           time.Duration `toml:"read_timeout" min:"1ms" max:"24h" default:"60s" doc:"longest pause in the answer of an app host"`
	Gzip                  bool          `toml:"gzip" doc:"compress text answers"`
	ErrorPage             string        `toml:"error_page" rule:"nginxpath" doc:"file on the nginx hosts that is shown when no app host answers"`
	Maintenance           string        `toml:"maintenance" rule:"nginxpath" doc:"file on the nginx hosts: while it is there, it is what the app's visitors get, with 503"`
	AccessLog             string        `toml:"access_log" rule:"nginxpath" doc:"access log on the nginx hosts; empty = /var/log/nginx/godeploy-NAME.log"`
	Keepalive             int           `toml:"keepalive" min:"0" max:"65535" default:"64" doc:"idle connections kept to the app hosts, by each worker"`
	MaxFails              int           `toml:"max_fails" min:"0" max:"65535" default:"3" doc:"failures before a server is left out"`
	FailTimeout           time.Duration `toml:"fail_timeout" min:"1s" max:"24h" default:"10s" doc:"time over which failures count, and for which a server is left out"`
	Location              []Location    `toml:"location"`
}

// Location is one [[nginx.location]].
type Location struct {
	Path      string `toml:"path" need:"true" rule:"locationpath" doc:"path of the location, such as \"/statics/\" or \"= /favicon.ico\"; needed"`
	Alias     string `toml:"alias" rule:"nginxfolder" doc:"folder that stands in the place of path"`
	Root      string `toml:"root" rule:"nginxfolder" doc:"folder that path is looked for in"`
	Proxy     string `toml:"proxy" rule:"nginxword" doc:"upstream it is passed to"`
	WebSocket bool   `toml:"websocket" doc:"let requests become web sockets; with proxy"`
	Expires   string `toml:"expires" rule:"nginxtime" doc:"caching time, such as \"30d\""`
	AccessLog bool   `toml:"access_log" default:"true" doc:"write the access log"`
	Sync      string `toml:"sync" rule:"relpath" doc:"local folder pushed to alias on the nginx hosts before any switch"`
}

// Tune is what `godeploy tune` sets; nil maps set nothing.
type Tune struct {
	Limits map[string]int    `toml:"limits" rule:"limit-name" min:"0" max:"2147483647" doc:"resource limits, such as nofile"`
	Sysctl map[string]Sysctl `toml:"sysctl" rule:"sysctl" doc:"kernel settings, in quotes"`
}

// Role gives the hosts of a role what they do not say themselves.
type Role struct {
	User string  `toml:"user" rule:"user" doc:"login user of these hosts"`
	Port int     `toml:"port" min:"1" max:"65535" doc:"port of their sshd"`
	Jump []Chain `toml:"jump" doc:"hosts to go through: alternatives, each a chain \"a,b\""`
	Tune Tune    `toml:"tune"`
}

// Person is one of [[people]], who may log in.
type Person struct {
	Name string   `toml:"name" need:"true" rule:"word" doc:"who; needed"`
	Keys []string `toml:"keys" rule:"line" doc:"public keys, as in a .pub file: type, base64, comment"`
}

// Bench is what `godeploy bench` does without flags.
type Bench struct {
	Path     string        `toml:"path" rule:"urlpath" default:"/" doc:"path asked for"`
	Rate     int           `toml:"rate" min:"1" max:"100000" default:"200" doc:"requests a second, whatever the answer time"`
	Duration time.Duration `toml:"duration" min:"1s" max:"1h" default:"30s" doc:"how long"`
	FailOn   []string      `toml:"fail_on" rule:"line" doc:"goals, such as \"p99 > 300ms\""`
}
