package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// bench is everything that rows need: the two ends, the trees made so far, and a folder for all of it.
type bench struct {
	dir            string
	godeploy       string // the binary; "" when rows of rsync alone are run
	lab            *lab
	server         *server
	client, remote *cgroup
	trees          map[string]treeFacts
	tell           func(format string, args ...any)
}

// treeFacts is what a tree came to on this machine.
type treeFacts struct {
	What  string `json:"what"`
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"`
}

// room is the space that a whole run may fill.
const room = 30 << 30

// newBench makes the folder, the namespaces and the server. Close removes all of it.
func newBench(ctx context.Context, parent, godeploy string, tell func(string, ...any)) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed for namespaces, links and counters: sudo make bench")
	}
	dir, err := newFolder(ctx, parent)
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, godeploy: godeploy, trees: map[string]treeFacts{}, tell: tell}
	if err := b.open(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *bench) open(ctx context.Context) (err error) {
	if b.client, err = newCgroup("client"); err != nil {
		return err
	}
	if b.remote, err = newCgroup("server"); err != nil {
		return err
	}
	if b.lab, err = newLab(ctx); err != nil {
		return err
	}
	b.server, err = newServer(ctx, b.lab, b.dir, b.remote)
	return err
}

// Close ends what runs and removes what was made.
func (b *bench) Close() error {
	var errs []error
	if b.server != nil {
		errs = append(errs, b.server.Close())
	}
	if b.lab != nil {
		errs = append(errs, b.lab.Close())
	}
	for _, g := range []*cgroup{b.client, b.remote} {
		if g != nil {
			errs = append(errs, g.Close())
		}
	}
	// A row that was cut off may have left its disk.
	errs = append(errs, unmountBelow(context.Background(), b.dir), os.RemoveAll(b.dir))
	return errors.Join(errs...)
}

// free fails when the disk may not hold a whole run.
func (b *bench) free() error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(b.dir, &s); err != nil {
		return err
	}
	if free := int64(s.Bavail) * s.Bsize; free < room {
		return fmt.Errorf("%s has %s free, a whole run may need %s: choose another folder with DIR=", b.dir, amount(float64(free)), amount(room))
	}
	return nil
}

// source gives the folder of a tree, which is made when it is first asked for, and reads it so that
// it is in the page cache.
func (b *bench) source(ctx context.Context, name string) (string, error) {
	dir := filepath.Join(b.dir, "src", name)
	if _, ok := b.trees[name]; !ok {
		b.tell("making %s", treeSpecs()[name].What)
		if err := makeTree(ctx, name, dir); err != nil {
			return "", err
		}
	}
	files, size, err := warm(ctx, dir)
	b.trees[name] = treeFacts{treeSpecs()[name].What, files, size}
	return dir, err
}
