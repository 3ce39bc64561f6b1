package process

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	byGunicorn = "command = \"gunicorn --chdir {{.App.Current}} --bind 127.0.0.1:PORT --workers 2 --timeout 120 shopapp:app\"\n"
	byUWSGI    = "server = \"uwsgi\"\ncommand = \"uwsgi --plugin python3 --master --need-app --chdir {{.App.Current}} --http-socket 127.0.0.1:PORT --processes 2 --module shopapp:app\"\n"
	byIni      = "server = \"uwsgi\"\ncommand = \"uwsgi --ini {{.App.Current}}/site.ini\"\n"
)

// A staged release boots before anything is switched, on a socket of its own: the one at current, which is
// good, must not be what answers.
func TestTrialBootsTheStagedRelease(t *testing.T) {
	t.Parallel()
	const broken, ill = "raise RuntimeError('no such module of ours')\n", "import os\nos.environ['STATUS'] = '500 Broken'\n" + goodApp
	for _, server := range []struct{ name, tool, lines string }{{"gunicorn", "gunicorn", byGunicorn}, {"uwsgi", "uwsgi", byUWSGI}, {"ini", "uwsgi", byIni}} {
		for app, says := range map[string]string{goodApp: "", broken: "does not import", ill: "is not well"} {
			t.Run(server.name+strings.ReplaceAll(says, " ", "-"), func(t *testing.T) {
				t.Parallel()
				s := newShop(t, server.tool, server.lines, "")
				s.write("two", app)
				rooms := trialRooms(t)
				err := s.Check(t.Context(), local{}, "two")
				s.want(err, says)
				if says == "does not import" && !strings.Contains(explained(err), "no such module of ours") {
					t.Errorf("the reason is not told: %s", explained(err))
				}
				if told := s.log.text(); (says == "") != strings.Contains(told, "the new code boots and answers 200") {
					t.Errorf("told:\n%s", told)
				}
				if took := s.trials.of("here"); (says != "does not import") != (took > 0) {
					t.Errorf("noted a boot of %v", took)
				}
				gone(t, s, rooms)
			})
		}
	}
}

// With once hooks the schema may still be the old one: a release that boots goes on, and it is said.
func TestTrialDoesNotJudgeBeforeTheOnceHooks(t *testing.T) {
	t.Parallel()
	s := newShop(t, "gunicorn", byGunicorn, "[hooks]\nonce = [\"migrate\"]\n")
	s.write("two", "import os\nos.environ['STATUS'] = '500 Broken'\n"+goodApp)
	s.want(s.Check(t.Context(), local{}, "two"), "")
	if told := s.log.text(); !strings.Contains(told, "judged after the switch") {
		t.Errorf("told:\n%s", told)
	}
}

// gone waits until a trial has left nothing: no process in the release, no folder.
func gone(t *testing.T, s *shop, before []string) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		left := workingIn(s.path)
		for _, room := range trialRooms(t) {
			if !slices.Contains(before, room) && mentions(room, s.path) {
				left = append(left, room)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %v", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func trialRooms(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/tmp/godeploy-trial.*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// mentions reports whether a room of a trial is of an app: other tests have theirs at the same time.
func mentions(room, path string) bool {
	ini, err := os.ReadFile(room + "/app.ini")
	return err == nil && strings.Contains(string(ini), path)
}

func workingIn(path string) []string {
	var list []string
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		if cwd, err := os.Readlink(dir + "/cwd"); err == nil && strings.HasPrefix(cwd, path+"/") {
			list = append(list, dir)
		}
	}
	return list
}
