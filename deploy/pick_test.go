package deploy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// rel names a release by its sequence number: "h3" is healthy, "b3" bad, "s3" staged.
func rel(text string) wire.Release {
	marks := map[byte]wire.Mark{'h': wire.MarkHealthy, 'b': wire.MarkBad, 's': wire.MarkStaged, 'l': wire.MarkLive}
	seq := int(text[1] - '0')
	return wire.Release{ID: idOf(seq), Seq: seq, Mark: marks[text[0]]}
}

func idOf(seq int) string { return "2026112" + string(rune('0'+seq)) + "-104107-4f2c9e1" }

func state(current int, texts string) wire.State {
	s := wire.State{Exists: true}
	if current > 0 {
		s.Current = idOf(current)
	}
	for _, text := range strings.Fields(texts) {
		s.Releases = append(s.Releases, rel(text))
	}
	return s
}

func TestTargetOfARollback(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		states []wire.State
		ask    string
		want   int
		code   fault.Code
	}{
		{"the healthy one before", []wire.State{state(3, "h1 h2 h3")}, "", 2, ""},
		{"a bad one is passed over", []wire.State{state(3, "h1 b2 h3")}, "", 1, ""},
		{"an unfinished one is passed over", []wire.State{state(3, "h1 s2 l3")}, "", 1, ""},
		{"two steps", []wire.State{state(4, "h1 h2 h3 h4")}, "~2", 2, ""},
		{"too many steps", []wire.State{state(2, "h1 h2")}, "~2", 0, fault.RollbackNone},
		{"none before", []wire.State{state(1, "h1")}, "", 0, fault.RollbackNone},
		{"nothing at all", []wire.State{state(0, "")}, "", 0, fault.RollbackNone},
		{"every host must have it", []wire.State{state(3, "h1 h2 h3"), state(3, "h1 h3")}, "", 1, ""},
		{"healthy on every host", []wire.State{state(3, "h1 h2 h3"), state(3, "h1 b2 h3")}, "", 1, ""},
		{"from where the newest host is", []wire.State{state(2, "h1 h2 h3"), state(3, "h1 h2 h3")}, "", 2, ""},
		{"by id", []wire.State{state(3, "h1 b2 h3")}, idOf(1), 1, ""},
		{"an id that one host lacks", []wire.State{state(3, "h1 h3"), state(3, "h3")}, idOf(1), 0, fault.ReleaseUnknown},
		{"neither id nor distance", []wire.State{state(3, "h1 h3")}, "yesterday", 0, fault.Usage},
		{"a distance that is none", []wire.State{state(3, "h1 h3")}, "~0", 0, fault.Usage},
		{"forward after a rollback needs the id", []wire.State{state(1, "h1 h2")}, idOf(2), 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			names := []string{"app1", "app2"}[:len(tt.states)]
			got, err := Target(names, tt.states, tt.ask)
			if tt.code != "" {
				if !fault.Is(err, tt.code) {
					t.Fatalf("got %v, %v, want code %s", got.ID, err, tt.code)
				}
				return
			}
			if err != nil || got.Seq != tt.want {
				t.Errorf("got %d, %v, want %d", got.Seq, err, tt.want)
			}
		})
	}
}

func TestPrunable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		releases string
		keep     int
		previous int
		want     []int
	}{
		{"few enough", "h1 h2", 4, 2, nil},
		{"the oldest go", "h1 h2 h3 h4 h5", 3, 5, []int{1, 2}},
		{"failed ones go first", "h1 b2 h3 b4 h5", 3, 5, []int{2, 4}},
		{"previous stays though old", "h1 h2 h3", 1, 1, []int{2, 3}},
		{"the last healthy one stays", "h1 b2 b3", 0, 0, []int{2, 3}},
		{"keep none but previous", "h1 h2", 0, 2, []int{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Prunable(state(0, tt.releases).Releases, tt.keep, idOf(tt.previous))
			var want []string
			for _, seq := range tt.want {
				want = append(want, idOf(seq))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("east", 9*3600)
	id := NewID(time.Date(2026, 11, 24, 3, 4, 5, 0, east), filesync.Hash{0x4f, 0x2c, 0x9e, 0x1a})
	if id != "20261123-180405-4f2c9e1" || !ValidID(id) {
		t.Errorf("got %q, want UTC time and seven digits", id)
	}
	for _, bad := range []string{"", "current", "20261123-180405-4F2C9E1", "../20261123-180405-4f2c9e1", id + "\n"} {
		if ValidID(bad) {
			t.Errorf("%q counts as an id", bad)
		}
	}
}
