package inventory

import (
	"strings"
	"testing"

	"godeploy/internal/fault"
)

// head is the part of a file that tests about something else need.
const head = "[app]\nname = \"swiper\"\npath = \"/opt/swiper\"\n"

// oneHost makes a file with one host whose table has the text.
func oneHost(host string) string { return head + "[env.prod.hosts]\napp1 = { " + host + " }\n" }

// withKey makes a file with one more line below a section.
func withKey(section, line string) string {
	src := head
	if section == "app" {
		src = "[app]\nname = \"swiper\"\n" + line + "\n"
		if !strings.HasPrefix(line, "path") {
			src += "path = \"/opt/swiper\"\n"
		}
	} else {
		src += "[" + section + "]\n" + line + "\n"
	}
	return src + "[env.prod.hosts]\napp1 = { role = \"app\", address = \"10.0.0.1\" }\n"
}

func mustParse(t *testing.T, src string) *File {
	t.Helper()
	f, err := Parse("godeploy.toml", []byte(src), nil)
	if err != nil {
		t.Fatalf("parse:\n%s\n%v", src, err)
	}
	return f
}

func mustEnv(t *testing.T, f *File, name string) *Env {
	t.Helper()
	e, err := f.Env(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// oneProblem parses a file that has exactly one problem.
func oneProblem(t *testing.T, src string) *fault.Error {
	t.Helper()
	f, err := Parse("godeploy.toml", []byte(src), nil)
	all := fault.All(err)
	if len(all) != 1 || f != nil {
		t.Fatalf("got %d problems (%v), want one, in\n%.300s", len(all), err, src)
	}
	return all[0]
}

// at gives the text that a position points to.
func at(src string, p fault.Pos) string {
	lines := strings.Split(src, "\n")
	if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > len(lines[p.Line-1])+1 {
		return "(nowhere)"
	}
	return lines[p.Line-1][p.Col-1:]
}
