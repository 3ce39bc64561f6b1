package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// results is what the bench keeps: the last outcome of every row.
type results struct {
	Rows map[string]outcome `json:"rows"`
}

// outcome is what a row came to, and where and when.
type outcome struct {
	When    time.Time          `json:"when"`
	Machine machine            `json:"machine"`
	Tree    treeFacts          `json:"tree"`
	Disk    string             `json:"disk"` // of the copies
	Sides   map[string]figures `json:"sides"`
}

// stands reports whether it need not be measured again: every side has n runs, by the same version on the
// same machine.
func (o outcome) stands(r row, now machine, n int) bool {
	for _, s := range r.Sides {
		if f := o.Sides[s.Name]; f.Error != "" || len(f.Samples) < n {
			return false
		}
	}
	return o.Machine == now && now.Godeploy != ""
}

// figures are one side's.
type figures struct {
	Samples []sample `json:"samples,omitempty"`
	Memory  *memory  `json:"memory,omitempty"`
	// Error says why there are no figures, or that the copy was wrong.
	Error string `json:"error,omitempty"`
}

// values are the measure in every sample; nil when there are no valid ones.
func (f figures) values(of measure) []float64 {
	if f.Error != "" {
		return nil
	}
	switch of {
	case ofMemory, ofHelper:
		if f.Memory == nil {
			return nil
		}
		if of == ofMemory {
			return []float64{float64(f.Memory.Client)}
		}
		return []float64{float64(f.Memory.Server)}
	}
	var all []float64
	for _, s := range f.Samples {
		switch of {
		case ofWall:
			all = append(all, s.Wall)
		case ofBytes:
			all = append(all, float64(s.Sent+s.Received))
		case ofCPU:
			all = append(all, s.ClientCPU)
		case ofServer:
			all = append(all, s.ServerCPU)
		}
	}
	return all
}

// spread is a median with the least and the most.
type spread struct{ Median, Min, Max float64 }

func spreadOf(values []float64) (spread, bool) {
	if len(values) == 0 {
		return spread{}, false
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return spread{middle, v[0], v[len(v)-1]}, true
}

// verdict is what became of a goal.
type verdict struct {
	Goal goal
	// Value is a quotient, or an amount.
	Value     float64
	Measured  bool
	Met       bool
	Stretched bool
	Best      string // the side it was compared with
}

// judge compares medians as they are; nothing is rounded before.
func judge(r row, o outcome, g goal) verdict {
	s, ok := r.side(g.Side)
	v := verdict{Goal: g}
	mine, measured := spreadOf(o.Sides[s.Name].values(g.Of))
	if !ok || !measured {
		return v
	}
	v.Value = mine.Median
	if len(g.Against) > 0 {
		best, name, ok := bestOf(o, g)
		if !ok {
			return v
		}
		v.Best = name
		if g.Ratio > 0 {
			v.Value /= best
		} else {
			v.Value -= best
		}
	}
	v.Measured = true
	limit := g.Ratio
	if limit == 0 {
		limit = g.Most
	}
	v.Met, v.Stretched = v.Value <= limit, g.Stretch > 0 && v.Value <= g.Stretch
	return v
}

func bestOf(o outcome, g goal) (best float64, name string, ok bool) {
	for _, other := range g.Against {
		s, measured := spreadOf(o.Sides[other].values(g.Of))
		if measured && (!ok || s.Median < best) {
			best, name, ok = s.Median, other, true
		}
	}
	return best, name, ok && best > 0
}

// readResults gives what is kept in the file; one that is not there is empty.
func readResults(path string) (results, error) {
	all := results{Rows: map[string]outcome{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return all, fmt.Errorf("read %s: %w", path, err)
	}
	return all, nil
}

// write keeps the results, under a temporary name first.
func (r results) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(text, '\n'))
}

// replaceFile writes a file so that readers see the old one or the new one.
func replaceFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
