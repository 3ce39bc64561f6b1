package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// disk is a file system of a row's own, in a file: what rows before have deleted does not slow it
// down (ext4 looks for recently freed inodes whenever it makes a file), syncing it waits for nobody
// else's writes, and it goes away in one piece.
type disk struct {
	image string
	dir   string // "" without one
}

// diskSize is what it may hold; the file takes only what is written.
const diskSize = "60G"

// newDisk makes one and mounts it at the new folder dir. Where the machine does not allow that, dir is
// a plain folder, and kind says so.
func newDisk(ctx context.Context, dir string) (d *disk, kind string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", err
	}
	d = &disk{image: dir + ".img"}
	made := runAll(ctx, "truncate -s "+diskSize+" "+d.image,
		"mkfs.ext4 -q -F -N 6000000 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "+d.image,
		"mount -o loop,noinit_itable "+d.image+" "+dir)
	if made != nil {
		return d, "the machine's file system", ctx.Err()
	}
	d.dir = dir
	// Without it the machine would keep every page twice.
	loop := firstLine(ctx, "findmnt", "-n", "-o", "SOURCE", dir)
	_ = run(ctx, "losetup", "--direct-io=on", loop) // else it is only slower
	return d, "ext4 in a file, for each row anew", os.RemoveAll(filepath.Join(dir, "lost+found"))
}

// Close unmounts and removes it.
func (d *disk) Close() error {
	if d.dir != "" {
		if err := run(context.Background(), "umount", d.dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.image)
}

const folderPrefix = "godeploy-bench-"

// newFolder makes the folder of this process below parent, after it has removed what killed runs have
// left there.
func newFolder(ctx context.Context, parent string) (string, error) {
	left, err := filepath.Glob(filepath.Join(parent, folderPrefix+"*"))
	if err != nil {
		return "", fmt.Errorf("look for old folders: %w", err)
	}
	for _, old := range left {
		if gone(strings.TrimPrefix(filepath.Base(old), folderPrefix)) {
			if err := errors.Join(unmountBelow(ctx, old), os.RemoveAll(old)); err != nil {
				return "", err
			}
		}
	}
	dir := filepath.Join(parent, folderPrefix+strconv.Itoa(os.Getpid()))
	return dir, os.Mkdir(dir, 0o755)
}

// gone tells that a process has ended.
func gone(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return errors.Is(err, os.ErrNotExist)
}

func unmountBelow(ctx context.Context, dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 1 && strings.HasPrefix(words[1], dir+"/") {
			err = errors.Join(err, run(ctx, "umount", words[1]))
		}
	}
	return err
}
