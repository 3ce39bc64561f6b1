package inventory

import (
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// vcase is one row of the table of nasty inputs. want is the text that the problem's position
// points to and msg a part of its message; an empty msg means that the file is good.
type vcase struct {
	row, src  string
	code      fault.Code
	want, msg string
}

func (c vcase) run(t *testing.T) {
	if c.msg == "" {
		mustParse(t, c.src)
		return
	}
	code := c.code
	if code == "" {
		code = fault.ConfigValue
	}
	e := oneProblem(t, c.src)
	if e.Code != code || !strings.Contains(e.Msg, c.msg) {
		t.Errorf("got %s %q, want %s %q, in\n%.300s", e.Code, e.Msg, code, c.msg, c.src)
	}
	if e.Pos.File != "godeploy.toml" || !strings.HasPrefix(at(c.src, e.Pos), c.want) {
		t.Errorf("%q points to %v, %.60q, want %q, in\n%.300s", e.Msg, e.Pos, at(c.src, e.Pos), c.want, c.src)
	}
}

func runCases(t *testing.T, cases []vcase) {
	t.Helper()
	t.Parallel()
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) { t.Parallel(); c.run(t) })
	}
}

func TestHostRows(t *testing.T) {
	runCases(t, []vcase{
		{"V1 duplicate", head + "[env.prod.hosts]\na = {}\na = {}\n", fault.ConfigSyntax, "a = {}", "defined"},
		{"V1 case", head + "[env.prod.hosts]\nApp = {}\napp = {}\n", "", "app = {}", "upper and lower case"},
		{"V1 env", head + "[env.prod.hosts]\nprod = {}\n", "", "prod = {}", "name of an environment"},
		{"V1 odd name", head + "[env.prod.hosts]\n\"a b\" = { address = \"h\" }\n", "", `"a b" =`, "name of host"},
		{"V2 typo", oneHost("prot = 22"), fault.ConfigUnknownKey, "prot = 22", `unknown key "prot" in [env.prod.hosts] app1`},
		{"V2 type", oneHost(`port = "22"`), "", `"22"`, "port is a string"},
		{"V2 table", head + "[env.prod]\nhosts = \"a\"\n", "", `"a"`, "hosts is a string"},
		{"V2 host", head + "[env.prod.hosts]\na = \"10.0.0.1\"\n", "", `"10.0.0.1"`, "must be a table"},
		{"V2 mixed", oneHost(`roles = ["a", 1]`), "", "1]", "roles is a whole number"},
		{"V3 zero", oneHost("port = 0"), "", "0 }", "from 1 to 65535"},
		{"V3 high", oneHost("port = 65536"), "", "65536", "from 1 to 65535"},
		{"V3 low", oneHost("port = -1"), "", "-1", "from 1 to 65535"},
		{"V3 fraction", oneHost("port = 22.0"), "", "22.0", "with a fraction"},
		{"V3 power", oneHost("port = 2e1"), "", "2e1", "with a fraction"},
		{"V3 hex", oneHost("port = 0x16"), "", "", ""},
		{"V4 bare", oneHost(`address = "::1"`), "", "", ""},
		{"V4 brackets", oneHost(`address = "[::1]"`), "", "", ""},
		{"V4 zone", oneHost(`address = "fe80::1%eth0"`), "", "", ""},
		{"V4 port", oneHost(`address = "[::1]:22"`), "", `"[::1]:22"`, "without a port"},
		{"V4 port 4", oneHost(`address = "10.0.0.1:22"`), "", `"10.0.0.1:22"`, "without a port"},
		{"V5 unicode", oneHost(`address = "пример.рф"`), "", `"пример.рф"`, "must be ASCII"},
		{"V5 homoglyph", oneHost(`address = "аpp.example.com"`), "", `"а`, "U+0430"},
		{"V5 xn", oneHost(`address = "xn--e1afmkfd.xn--p1ai"`), "", "", ""},
		{"V5 dot and case", oneHost(`address = "WEB1.Example.com."`), "", "", ""},
		{"V5 label", oneHost(`address = "` + strings.Repeat("a", 64) + `.com"`), "", `"a`, "63 characters"},
		{"V5 long", oneHost(`address = "` + strings.Repeat("aaaaaa.", 36) + `aa"`), "", `"a`, "253 characters"},
		{"V5 empty", oneHost(`address = ["x"]`), "", `["x"]`, "is a list"},
		{"V5 space", oneHost(`address = "a b"`), "", `"a b"`, "not an IP address or a host name"},
		{"V5 option", oneHost(`address = "-x"`), "", `"-x"`, "not an IP address or a host name"},
		{"V5 shell", oneHost(`address = "a;b"`), "", `"a;b"`, "not an IP address or a host name"},
		{"V5 newline", oneHost(`address = "a\nb"`), "", `"a\nb"`, "not an IP address or a host name"},
		{"V5 user", oneHost(`address = "user@host"`), "", `"user@host"`, "without a user"},
		{"V5 user option", oneHost(`user = "-oProxyCommand=x"`), "", `"-o`, "user name"},
		{"V5 number", oneHost(`address = "300.1.1.1"`), "", `"300`, "not an IP address"},
		{"V6 zero", oneHost("weight = 0"), "", "0 }", "from 1 to 65535"},
		{"V6 low", oneHost("weight = -1"), "", "-1", "from 1 to 65535"},
		{"V6 fraction", oneHost("weight = 1.5"), "", "1.5", "whole number"},
		{"V6 string", oneHost(`weight = "5"`), "", `"5"`, "whole number"},
		{"V6 high", oneHost("weight = 1_000_000_000"), "", "1_000", "from 1 to 65535"},
		{"V7 both", oneHost(`role = "a", roles = ["b"]`), "", "app1", "role and roles"},
	})
}

func TestJumpRows(t *testing.T) {
	chain := head + "[env.prod.hosts]\nh0 = {}\n"
	for i := 1; i <= 9; i++ {
		chain += "h" + string(rune('0'+i)) + " = { jump = \"h" + string(rune('0'+i-1)) + "\" }\n"
	}
	hosts := head + "[env.prod.hosts]\n"
	runCases(t, []vcase{
		{"V8 self", hosts + "a = { jump = \"a\" }\n", "", `"a"`, "through itself"},
		{"V8 unknown", hosts + "gate = {}\na = { jump = \"gaet\" }\n", "", `"gaet"`, "unknown host"},
		{"V8 long", chain, "", `"h8"`, "more than 8"},
		{"V8 one chain", hosts + "a = { jump = \"b,c,d,e,f,g,h,i,j\" }\n", "", `"b,`, "more than 8"},
		{"V8 empty hop", hosts + "a = { jump = \"b,,c\" }\n", "", `"b,,c"`, "names of hosts"},
		{"V8 eight", strings.Replace(chain, "h9 = { jump = \"h8\" }\n", "", 1), "", "", ""},
	})
}

func TestJumpCycleIsFoundAtEveryHostOfIt(t *testing.T) {
	t.Parallel()
	_, err := Parse("godeploy.toml", []byte(head+"[env.prod.hosts]\na = { jump = \"b\" }\nb = { jump = [\"c\"] }\nc = { jump = \"a\" }\nok = {}\n"), nil)
	if all := fault.All(err); len(all) != 3 || !strings.Contains(all[0].Msg, "leads back") || all[1].Pos.Line != 6 {
		t.Errorf("got %v, want three ways that lead back", err)
	}
}

func TestPathRows(t *testing.T) {
	var cases []vcase
	for _, c := range []struct{ path, msg string }{
		{"relative/app", "absolute"}, {"~/app", "must not start with ~"}, {"/opt/../etc/x", "without .."}, {"/opt/app/", "without .."},
		{"/", "two levels"}, {"/opt", "two levels"}, {"/etc", "two levels"}, {"/etc/app", "of the system"}, {"/usr/bin", "of the system"},
		{"/var/lib", "of the system"}, {"/home/u", "home"}, {"/opt/my app", "must not hold ' '"}, {"/opt/$APP", "must not hold '$'"},
		{`/opt/a\nb`, `must not hold '\n'`}, {"/opt/{{.App.Name}}", "must not hold {{"}, {"/opt/" + strings.Repeat("a/", 600) + "b", "longer than"},
		{"/opt/" + strings.Repeat("a/", 3000) + "b", "longer than"}, {"/opt/a;b", "must not hold ';'"}, {"/opt/swiper", ""},
		{"/home/u/app", ""}, {"/srv/www/app-1.2_x", ""}, {"/var/www/app", ""}, {"/opt/приложение", ""}, {"/usr/local/app", ""},
	} {
		cases = append(cases, vcase{"V10 " + c.path[:min(len(c.path), 20)], withKey("app", `path = "`+c.path+`"`), "", `"` + c.path, c.msg})
	}
	runCases(t, cases)
}

func TestFileRows(t *testing.T) {
	good := oneHost(`role = "app"`)
	runCases(t, []vcase{
		{"V12 BOM", "\xef\xbb\xbf" + good, "", "", ""},
		{"V12 CRLF", strings.ReplaceAll(good, "\n", "\r\n"), "", "", ""},
		{"V12 BOM place", "\xef\xbb\xbfx = 1\n" + good, fault.ConfigUnknownKey, "", "unknown key"},
		{"V12 Latin-1", good + "# caf\xe9\n", fault.ConfigSyntax, "\xe9", "not UTF-8"},
		{"V12 NUL", good + "x = \"\x00\"\n", fault.ConfigSyntax, "\x00", "control character U+0000"},
		{"V12 nested", good + "x = " + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), fault.ConfigSyntax, "[", "nested more than 64"},
		{"V12 nested tables", good + strings.Repeat("x = {", 10_000), fault.ConfigSyntax, "{", "nested more than 64"},
		{"V12 dotted", good + strings.Repeat("a.", 10_000) + "b = 1", fault.ConfigSyntax, "", "more than 32 parts"},
		{"V12 table twice", good + "[app]\n", fault.ConfigSyntax, "app]", "already"},
		{"V12 array", "people = [1]\n" + good + "[[people]]\n", fault.ConfigSyntax, "people]]", "already"},
		{"V12 cut off", head + "[sync]\nexclude = [\"a\",", fault.ConfigSyntax, "", "EOF"},
		{"V12 empty", "", fault.ConfigMissing, "", "no environment"},
		{"version", "version = 2\n" + good, "", "2", "version 1"},
	})
}

func TestFileThatIsTooLargeIsNotParsed(t *testing.T) {
	t.Parallel()
	e := oneProblem(t, strings.Repeat("#", maxFile+1))
	if e.Code != fault.ConfigSyntax || !strings.Contains(e.Msg, "larger than 16 MiB") {
		t.Errorf("got %v", e)
	}
}

func TestScalarRows(t *testing.T) {
	key := func(section, line string) string { return withKey(section, line) }
	runCases(t, []vcase{
		{"V9 dollar", key("process", `command = "run ${MISSING} ${A:-d} $$ ${"`), "", "", ""},
		{"V9 NUL", key("process", `command = "a\u0000b"`), "", `"a`, "U+0000"},
		{"V13 bare", key("health", "interval = 10"), "", "10", "needs a unit"},
		{"V13 bare string", key("health", `interval = "10"`), "", `"10"`, "needs a unit"},
		{"V13 unit", key("health", `interval = "10s"`), "", "", ""},
		{"V13 negative", key("health", `interval = "-1s"`), "", `"-1s"`, "from 10ms to 10m"},
		{"V13 huge", key("health", `interval = "1e9h"`), "", `"1e9h"`, "must be a time"},
		{"V13 overflow", key("health", `interval = "9999999999h"`), "", `"9999`, "must be a time"},
		{"V13 zero", key("health", `settle = "0"`), "", `"0"`, "needs a unit"},
		{"V13 zero unit", key("health", `settle = "0s"`), "", "", ""},
		{"V13 words", key("health", `interval = "5 secs"`), "", `"5 secs"`, "must be a time"},
		{"V13 percent", key("release", `max_unavailable = "150%"`), "", `"150%"`, "percentage"},
		{"V13 none", key("release", "max_unavailable = 0"), "", "0", "percentage"},
		{"V13 hosts", key("release", "max_unavailable = 2"), "", "2", "more than the hosts"},
		{"V13 size", key("sync", `bandwidth = "20 bananas"`), "", `"20 b`, "not a rate"},
		{"V13 size unit", key("sync", `bandwidth = 20`), "", "20", "not a rate"},
		{"V13 batch", key("release", `batch = "0%"`), "", `"0%"`, "percentage"},
		{"V13 batch sign", key("release", `batch = "+1"`), "", `"+1"`, "percentage"},
		{"V13 ramp down", key("release", `batch = ["30%", "20%", "100%"]`), "", `"20%"`, "larger"},
		{"V13 ramp still", key("release", `batch = ["20%", "20%", "100%"]`), "", `"20%", "100%"`, "larger"},
		{"V13 ramp end", key("release", `batch = [1, "30%"]`), "", `"30%"`, "must end"},
		{"V13 ramp", key("release", `batch = [1, "30%", "100%"]`), "", "", ""},
		{"V15 scheme", key("health", `url = "file:///etc/passwd"`), "", `"file`, "http://"},
		{"V15 user", key("health", `url = "http://u:p@h/"`), "", `"http`, "user or a password"},
		{"V15 no host", key("health", `url = "http:///x"`), "", `"http`, "names no host"},
		{"V15 port", key("health", `url = "http://h:99999/"`), "", `"http`, "port"},
		{"V15 IPv6", key("health", `url = "http://[::1]:8000/"`), "", "", ""},
		{"V15 field", key("health", `url = "http://{{.Host.Adress}}/"`), "", "{{.Host.Adress}}"[2:], "unknown field"},
		{"V15 status", key("health", `status = "200-99"`), "", `"200-99"`, "HTTP statuses"},
		{"V16 empty", key("hooks", `release = ["true", ""]`), "", `""]`, "empty command"},
		{"V16 blank", key("hooks", `release = " "`), "", `" "`, "empty command"},
		{"V16 NUL", key("hooks", `release = "a\u0000"`), "", `"a`, "U+0000"},
		{"V16 long", key("hooks", `release = "`+strings.Repeat("a", 200_000)+`"`), "", `"a`, "longer than"},
		{"V16 lines", key("hooks", "release = \"\"\"\nset -e\n\ttrue\n\"\"\""), "", "", ""},
		{"V16 no run", key("hooks", `release = { as = "root" }`), fault.ConfigMissing, "", "hooks.release.run is not set"},
		{"V16 local as", key("hooks", `local_after = { run = "x", as = "root" }`), "", "{ run", "runs on this machine"},
		{"V16 on", key("hooks", `release = [{ run = "x", on = "rle:app" }]`), "", `"rle:app"`, "unknown word"},
	})
}

func TestKeysTogether(t *testing.T) {
	key := withKey
	runCases(t, []vcase{
		{"word", key("release", `strategy = "roling"`), "", `"roling"`, "must be one of rolling, canary, all"},
		{"graceful in any case", key("process", `graceful = "HUP"`), "", "", ""},
		{"canary unset", key("release", `strategy = "canary"`), fault.ConfigMissing, "release]", "release.canary is not set"},
		{"canary unknown", key("release", "strategy = \"canary\"\ncanary = \"ap1\""), "", `"ap1"`, "unknown host"},
		{"pidfile", key("process", `manager = "pidfile"`), fault.ConfigMissing, "process]", "process.pidfile is not set"},
		{"command", key("process", `manager = "command"`), fault.ConfigMissing, "process]", "process.command is not set"},
		{"shared twice", key("shared", "dirs = [\"logs\"]\nfiles = [\"logs\"]"), "", `"logs"`, "[shared] dirs names too"},
		{"shared outside", key("shared", `dirs = ["../x"]`), "", `"../x"`, "without .."},
		{"carry and shared", key("shared", "dirs = [\".venv\"]\n[release]\ncarry = [\".venv/\"]"), "", `".venv/"`, "[shared] dirs names too"},
		{"secrets and shared", key("secrets", "command = \"x\"\nfile = \".env\"\n[shared]\nfiles = [\".env\"]"), "", `".env"`, "[shared] files names too"},
		{"secrets in shared", key("secrets", "command = \"x\"\nfile = \"conf/.env\"\n[shared]\ndirs = [\"conf/\"]"), "", `"conf/.env"`, "which is not the release's own"},
		{"secrets above carry", key("secrets", "command = \"x\"\nfile = \"conf\"\n[release]\ncarry = [\"conf/a\"]"), "", `"conf"`, "is a folder for"},
		{"secrets outside", key("secrets", "command = \"x\"\nfile = \"../.env\""), "", `"../.env"`, "without .."},
		{"secrets without a file", key("secrets", "command = \"x\"\nfile = \"\""), fault.ConfigMissing, "file", "secrets.file is not set"},
		{"secrets, no command", key("secrets", "file = \".env\"\n[shared]\nfiles = [\".env\"]"), "", "", ""},
		{"secrets of several lines", key("secrets", "command = \"\"\"\nset -e\nx\n\"\"\""), "", "", ""},
		{"secrets command", key("secrets", "command = \"  \""), "", `"  "`, "empty command"},
		{"default_env", "default_env = \"prd\"\n" + oneHost(""), "", `"prd"`, "unknown environment"},
		{"hosts at the top", head + "[hosts]\na = {}\n[env.prod.hosts]\nb = {}\n", fault.ConfigUnknownKey, "hosts]", `unknown key "hosts"`},
		{"key of another section", key("app", `batch = 2`), fault.ConfigUnknownKey, "batch", `unknown key "batch" in [app]`},
		{"no name", "[app]\npath = \"/opt/x\"\n[env.prod.hosts]\na = {}\n", fault.ConfigMissing, "app]", "app.name is not set"},
		{"location", key("nginx", "[[nginx.location]]\npath = \"/\"\nalias = \"/srv/x/\"\nproxy = \"swiper_servers\""), "", "location]]", "needs one of alias, root and proxy"},
		{"second location", key("nginx", "[[nginx.location]]\npath = \"/\"\nproxy = \"swiper_servers\"\n[[nginx.location]]\npath = \"/\"\nproxy = \"swiper_servers\""), "", `"/"`, "two locations"},
		{"people", key("tune", "[[people]]\nname = \"a\"\n[[people]]\nname = \"a\""), "", `"a"`, "stands twice"},
		{"TLS", key("nginx", `certificate = "/etc/x.pem"`), fault.ConfigMissing, "nginx]", "nginx.key is not set"},
		{"sysctl", key("tune.sysctl", `"vm swappiness" = 1`), "", `1`, "must be a setting"},
		{"env name", head + "[env.\"a b\".hosts]\nx = {}\n", "", `"a b"`, "name of environment"},
		{"env value", head + "[env]\nprod = 1\nx = {}\n", "", "1", "prod is a whole number"},
	})
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	src := `[app]
name = "swiper"
path = "opt/swiper"
[helth]
url = "x"
[release]
batch = "no"
[env.prod.hosts]
app1 = { address = "10.0.0.1", wieght = 5 }
app2 = { address = "10.0.0.2", port = 0, weight = "x" }
[env.dev.release]
strategy = "some"
`
	_, err := Parse("godeploy.toml", []byte(src), nil)
	var got []string
	for _, e := range fault.All(err) {
		got = append(got, e.Pos.String()[len("godeploy.toml:"):]+" "+e.Cause)
	}
	want := []string{
		`3:8  [app] path `, `4:2 did you mean "health"?`, `7:9  [release] batch `, `9:32 did you mean "weight"?`,
		`10:39  [env.prod.hosts] app2 `, `10:51  [env.prod.hosts] app2 `, `12:12  [env.dev.release] strategy `,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPictures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, want string }{
		{withKey("health", "interval =\t\"5 secs\""), "     5 | interval = \"5 secs\"\n       |            ^^^^^^^^"},
		{withKey("health", `url = "http://{{.Host.Adress}}/" # ж`), "     5 | url = \"http://{{.Host.Adress}}/\" # ж\n       |                 ^"},
		{oneHost(`address = "рф", port = 0`), "     5 | app1 = { address = \"рф\", port = 0 }\n       |                    ^^^^"},
		{head + "x = [1,, 2]\n", "     2 | name = \"swiper\"\n     3 | path = \"/opt/swiper\"\n     4 | x = [1,, 2]\n       |        ^"},
	} {
		_, err := Parse("godeploy.toml", []byte(c.src), nil)
		if got := strings.Join(fault.All(err)[0].Facts, "\n"); got != c.want {
			t.Errorf("got\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head + "[env.prod.hosts]\n")
	for i := range 3 * maxProblems {
		b.WriteString("h" + strings.Repeat("x", i%200) + string(rune('a'+i/200)) + " = { address = \"h\", weight = 0 }\n")
	}
	_, err := Parse("godeploy.toml", []byte(b.String()), nil)
	all := fault.All(err)
	if len(all) != maxProblems+1 || !strings.Contains(all[maxProblems].Msg, "200 more problems") {
		t.Errorf("got %d problems, the last %q", len(all), all[len(all)-1].Msg)
	}
}
