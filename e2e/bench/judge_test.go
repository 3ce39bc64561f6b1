package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sided is an outcome in which every side took so many seconds.
func sided(walls map[string][]float64) outcome {
	o := outcome{Sides: map[string]figures{}}
	for name, all := range walls {
		var f figures
		for _, w := range all {
			f.Samples = append(f.Samples, sample{Wall: w, Sent: 1000, Received: 24})
		}
		o.Sides[name] = f
	}
	return o
}

func TestGoalsAreJudgedByMediansAndNeverRounded(t *testing.T) {
	t.Parallel()
	r := row{Sides: []side{{Name: "a"}, {Name: "b"}, {Name: "ours", Argv: ours}}}
	o := sided(map[string][]float64{"a": {2, 1, 9}, "b": {4, 4, 4}, "ours": {1.4008, 0.1, 1.5}})
	broken := sided(map[string][]float64{"a": {1}, "ours": {1}})
	broken.Sides["ours"] = figures{Samples: broken.Sides["ours"].Samples, Error: "the copy is not the source"}
	for _, tt := range []struct {
		o      outcome
		g      goal
		word   string
		figure string
	}{
		{o, goal{Of: ofWall, Against: []string{"a", "b"}, Ratio: 0.71}, "PASS", "0.70"},
		{o, goal{Of: ofWall, Against: []string{"a"}, Ratio: 0.70}, "missed", "0.7004"},
		{o, goal{Of: ofWall, Against: []string{"b"}, Ratio: 0.5, Stretch: 0.4}, "PASS+", "0.35"},
		{o, goal{Of: ofWall, Against: []string{"b"}, Ratio: 0.5, Stretch: 0.3}, "PASS", "0.35"},
		{o, goal{Of: ofBytes, Most: 1024}, "PASS", "1.0 KB"},
		{o, goal{Of: ofBytes, Most: 1023}, "missed", "1.0 KB"},
		{o, goal{Of: ofBytes, Against: []string{"a"}, Most: 10}, "PASS", "0 B"},
		{o, goal{Of: ofMemory, Most: 1e9}, "no run", "–"},
		{broken, goal{Of: ofWall, Against: []string{"a"}, Ratio: 2}, "no run", "–"},
		{sided(map[string][]float64{"ours": {1}}), goal{Of: ofWall, Against: []string{"a"}, Ratio: 2}, "no run", "–"},
	} {
		if v := judge(r, tt.o, tt.g); v.word() != tt.word || v.figure() != tt.figure {
			t.Errorf("%+v: got %s, %s, want %s, %s", tt.g, v.word(), v.figure(), tt.word, tt.figure)
		}
	}
}

func TestMedians(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{3, 1}, spread{2, 1, 3}},
		{[]float64{9, 1, 2}, spread{2, 1, 9}},
		{[]float64{4, 1, 3, 2}, spread{2.5, 1, 4}},
	} {
		if got, ok := spreadOf(tt.values); !ok || got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.values, got, tt.want)
		}
	}
}

// Every row has its lines on the page, what failed too, and the pictures are XML.
func TestThePageShowsEveryRow(t *testing.T) {
	t.Parallel()
	kept := results{Rows: map[string]outcome{}}
	for _, r := range rows() {
		walls := map[string][]float64{}
		for _, s := range r.Sides {
			walls[s.Name] = []float64{1}
		}
		kept.Rows[r.ID] = sided(walls)
	}
	kept.Rows["rename"].Sides["godeploy --to"] = figures{Error: "unknown flag --to | <here>"}
	files, err := pages(kept)
	if err != nil {
		t.Fatal(err)
	}
	page := string(files["performance.md"])
	for _, r := range rows() {
		if r.ID != "smoke" && strings.Count(page, "(`"+r.ID+"`)") != 2 {
			t.Errorf("%s is not on the page twice, among the goals and among the figures", r.ID)
		}
	}
	if !strings.Contains(page, `did not run: unknown flag --to \| <here>`) || !strings.Contains(page, "**no run**") {
		t.Error("the page does not say what did not run")
	}
	if !strings.Contains(page, "| `noop` | rsync, ControlMaster | 0.0 |") {
		t.Error("the page does not count round trips")
	}
	if strings.Contains(page, "{{") {
		t.Error("a place of the page is not filled in")
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, text)
		}
	}
}

func wellFormed(t *testing.T, name string, text []byte) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// docs/performance.md is what the kept results say, and nobody has written into it.
func TestThePageIsWhatIsKept(t *testing.T) {
	t.Parallel()
	docs := filepath.Join("..", "..", "docs")
	kept, err := readResults(filepath.Join(docs, "performance.json"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := pages(kept)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("docs/%s is not what docs/performance.json says (%v): make bench PAGE=1", name, err)
		}
	}
}

func TestAMeasuredRowStands(t *testing.T) {
	t.Parallel()
	here, r := machine{CPU: "a", Godeploy: "1"}, row{Sides: []side{{Name: "one"}, {Name: "two"}}}
	made := func(one, two int, problem string, m machine) outcome {
		return outcome{Machine: m, Sides: map[string]figures{
			"one": {Samples: make([]sample, one)}, "two": {Samples: make([]sample, two), Error: problem},
		}}
	}
	for name, c := range map[string]struct {
		o    outcome
		want bool
	}{
		"all of it":       {made(5, 6, "", here), true},
		"too few runs":    {made(5, 4, "", here), false},
		"a failed side":   {made(5, 5, "no", here), false},
		"another version": {made(5, 5, "", machine{CPU: "a", Godeploy: "2"}), false},
		"nothing":         {outcome{}, false},
	} {
		if got := c.o.stands(r, here, 5); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	if made(5, 5, "", machine{}).stands(r, machine{}, 5) {
		t.Error("an unknown version stands")
	}
}
