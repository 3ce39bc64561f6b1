package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// disk is a file system of a host's own, in an image, so that its power can be cut: a copy of the image at
// any moment is what a disk would hold then, without all that was only in memory. A nil disk does nothing.
type disk struct {
	dir   string
	image string // mounted at
	at    string
	err   error // of the snapshot
}

// newDisk is for a lab whose points cut the power; it needs root and loop devices.
func (l *lab) newDisk() {
	l.disk = &disk{dir: filepath.Join(l.dir, "disk")}
	l.must(os.Mkdir(l.disk.dir, 0o755))
	l.t.Cleanup(func() {
		if err := l.disk.away(); err != nil {
			l.t.Error(err)
		}
	})
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// under makes a fresh disk of what is in a folder, puts it in the folder's place, and makes it durable. The
// kernel is told to write nothing by itself for as long as it lets itself be told.
func (d *disk) under(at string) error {
	if d == nil {
		return nil
	}
	image := filepath.Join(d.dir, "image")
	_ = os.Remove(image)
	for _, c := range [][]string{
		{"truncate", "-s", "24M", image},
		{"mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", at, image},
		{"rm", "-rf", at}, {"mkdir", at},
		{"mount", "-o", "loop,commit=300,noauto_da_alloc", image, at},
	} {
		if err := command(c[0], c[1:]...); err != nil {
			return err
		}
	}
	d.image, d.at = image, at
	// mkfs leaves a folder that no host of the lab has.
	return os.RemoveAll(filepath.Join(at, "lost+found"))
}

// snapshot keeps the image as it is at this moment. Who writes to it was killed before: a copy takes its
// time, and the end of a process writes nothing.
func (d *disk) snapshot() {
	d.err = command("cp", "--sparse=always", d.image, filepath.Join(d.dir, "cut"))
}

// cut puts the snapshot in the place of the disk, as after a start: the journal of the file system is
// played first.
func (d *disk) cut() error {
	if d.err != nil {
		return d.err
	}
	cut := filepath.Join(d.dir, "cut")
	if _, err := os.Stat(cut); err != nil {
		return nil // the fault never struck
	}
	at := d.at
	if err := d.away(); err != nil {
		return err
	}
	if out, err := exec.Command("e2fsck", "-fy", cut).CombinedOutput(); err != nil {
		if code := err.(*exec.ExitError).ExitCode(); code > 1 { // 1: what was to be repaired is
			return fmt.Errorf("e2fsck: %w: %s", err, out)
		}
	}
	if err := command("mount", "-o", "loop", cut, at); err != nil {
		return err
	}
	d.at = at
	// What the hooks of the lab note is cut anywhere, nobody makes it durable.
	return errors.Join(os.RemoveAll(filepath.Join(at, "lost+found")), os.RemoveAll(filepath.Join(at, "run/log")))
}

// away takes the disk out; what is in it is gone.
func (d *disk) away() error {
	if d == nil || d.at == "" {
		return nil
	}
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = command("umount", d.at); err == nil { // a program that was killed may hold it for a moment
			d.at = ""
			return nil
		}
	}
	return err
}

// TestPowerIsCut cuts the power of a host at frames of a release: what current leads to is whole.
func TestPowerIsCut(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root can mount disks of its own: no power is cut")
		return
	}
	book := openBook(t)
	l := newLab(t)
	lengths, err := l.lengths()
	if err != nil {
		t.Fatalf("%v\n%s", err, l.told())
	}
	l.newDisk()
	for i, p := range book.choose(t, sweep{who: "power", at: "frame"}.points(lengths), 3) {
		if i > 0 && book.late() {
			break
		}
		_ = os.Remove(filepath.Join(l.disk.dir, "cut"))
		if o, done := l.report(p); done {
			book.write(t, o)
		}
	}
}
