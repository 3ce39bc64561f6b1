package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// play runs a row: n rounds, in each of which every side has its turn after the same change, in an
// order that shifts from round to round. A side that fails is out; the others go on.
func (b *bench) play(ctx context.Context, r row, n int) (outcome, error) {
	src, err := b.source(ctx, r.Tree)
	if err != nil {
		return outcome{}, err
	}
	disk, kind, err := newDisk(ctx, filepath.Join(b.dir, "hosts", r.ID))
	if err != nil {
		return outcome{}, err
	}
	if err := b.lab.buffers(r.Wide); err != nil {
		return outcome{}, errors.Join(err, disk.Close())
	}
	g := newGame(b, r, src)
	defer g.clear(ctx, disk)
	for _, t := range g.trials {
		b.tell("%s: preparing %s", r.ID, t.side.Name)
		g.note(ctx, t, t.prepare(ctx))
	}
	for round := 1; round <= n && ctx.Err() == nil; round++ {
		if err := r.Change.apply(ctx, src, round); err != nil {
			return outcome{}, err
		}
		g.round(ctx, round, n)
	}
	if err := g.finish(ctx, n+1); err != nil {
		return outcome{}, err
	}
	o := outcome{When: time.Now().UTC().Truncate(time.Second), Disk: kind, Tree: b.trees[r.Tree], Sides: map[string]figures{}}
	for name, f := range g.figures {
		o.Sides[name] = *f
	}
	return o, ctx.Err()
}

// game is a row being played.
type game struct {
	b       *bench
	row     row
	trials  []*trial
	figures map[string]*figures
}

func newGame(b *bench, r row, src string) *game {
	g := &game{b: b, row: r, figures: map[string]*figures{}}
	for i, s := range r.Sides {
		g.trials = append(g.trials, &trial{b: b, row: r, side: s, index: i, src: src, link: r.Link})
		if r.Link == "" {
			g.trials[i].link = linkFast
		}
		g.figures[s.Name] = &figures{}
	}
	return g
}

// note takes a side out of the game when it has failed.
func (g *game) note(ctx context.Context, t *trial, err error) {
	if err != nil && ctx.Err() == nil {
		g.figures[t.side.Name].Error = err.Error()
		g.b.tell("%s: %v", g.row.ID, err)
	}
}

// in gives those that have not failed, beginning with another one each time.
func (g *game) in(round int) []*trial {
	var in []*trial
	for i := range g.trials {
		if t := g.trials[(i+round)%len(g.trials)]; g.figures[t.side.Name].Error == "" {
			in = append(in, t)
		}
	}
	return in
}

func (g *game) round(ctx context.Context, round, n int) {
	for _, t := range g.in(round) {
		s, err := t.measured(ctx)
		if g.note(ctx, t, err); err != nil {
			continue
		}
		f := g.figures[t.side.Name]
		f.Samples = append(f.Samples, s)
		g.b.tell("%s: round %d of %d: %s %.3f s", g.row.ID, round, n, t.side.Name, s.Wall)
	}
}

// finish watches memory where the row wants it, after one more change, and compares what was copied.
func (g *game) finish(ctx context.Context, round int) error {
	if g.row.Memory && ctx.Err() == nil {
		if err := g.row.Change.apply(ctx, g.trials[0].src, round); err != nil {
			return err
		}
		for _, t := range g.in(0) {
			m, err := t.watched(ctx)
			g.note(ctx, t, err)
			g.figures[t.side.Name].Memory = &m
		}
	}
	for _, t := range g.in(0) {
		g.b.tell("%s: comparing %s", g.row.ID, t.side.Name)
		g.note(ctx, t, t.compare(ctx))
	}
	return nil
}

// clear lets go of what the row has held and copied.
func (g *game) clear(ctx context.Context, d *disk) {
	g.b.letGo(ctx)
	if err := errors.Join(g.b.remote.settle(ctx, 1), d.Close()); err != nil && ctx.Err() == nil {
		g.b.tell("%s: %v", g.row.ID, err)
	}
}
