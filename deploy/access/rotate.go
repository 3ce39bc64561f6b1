package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// Stage is how far a rotation has come.
type Stage string

// The stages, in their order. A rotation that is over has none.
const (
	StageMade      Stage = "made"      // the new pair is on disk as PATH.new, and maybe on some hosts
	StageInstalled Stage = "installed" // the new key lets in everywhere; the old one too
	StageSwitched  Stage = "switched"  // PATH is the new key, PATH.old the old one; it may be off some hosts
)

// Rotation is one key that is being replaced by another on all hosts of an environment. It is kept in a file
// between runs; every stage can be done twice.
type Rotation struct {
	Path  string // of the private key that is replaced
	Old   Key
	New   Key
	Stage Stage
}

// NewPath is where the new pair is until the switch.
func (r *Rotation) NewPath() string { return r.Path + ".new" }

// OldPath is where the old pair is from the switch on.
func (r *Rotation) OldPath() string { return r.Path + ".old" }

// Rotate carries a rotation from its stage to its end: the new key is pushed to every host and proven there,
// then becomes the one at Path, then the old one is taken off, each host being entered with the new one first,
// and is seen to be refused. At every instant each host lets in the old key or the new one, and the one at Path.
// save is called after each stage; what it says stops the run, and so does the first stage that is not done on
// every host. Then the same rotation may be given again.
func (f *Fleet) Rotate(ctx context.Context, hosts []inventory.Host, r *Rotation, save func(Rotation) error) error {
	if r.Stage == StageMade {
		if _, err := f.Push(ctx, hosts, r.New, PushOptions{Prove: true}); err != nil {
			return err
		}
		if err := f.reached(r, StageInstalled, save, "the new key lets in on every host"); err != nil {
			return err
		}
	}
	if r.Stage == StageInstalled {
		if err := r.swap(os.Rename); err != nil {
			return fault.New(fault.Internal, "the new key cannot take the place of %s", r.Path).Wrap(err)
		}
		if err := f.reached(r, StageSwitched, save, r.Path+" is the new key"); err != nil {
			return err
		}
	}
	if _, err := f.Revoke(ctx, hosts, []Key{r.Old}, false); err != nil {
		return err
	}
	return f.each(ctx, hosts, func(ctx context.Context, _ int, h inventory.Host) error {
		return fault.OnHost(h.Name, f.refuses(ctx, h, r.Old))
	})
}

func (f *Fleet) reached(r *Rotation, stage Stage, save func(Rotation) error, said string) error {
	r.Stage = stage
	if err := save(*r); err != nil {
		return fmt.Errorf("keep the state of the rotation: %w", err)
	}
	f.Report.Report(event.Event{Type: event.Info, Phase: "keys", Msg: "keys: " + said})
	return nil
}

// swap gives the new pair the place of the old one, the private half first. Between the two there is no public
// half beside it: ssh tells it from the private one, and would refuse a pair that does not match. Each other name
// leads to a whole key at every instant. What a run before this one has done is not done again.
func (r *Rotation) swap(rename func(from, to string) error) error {
	for _, end := range []string{"", ".pub"} {
		if err := keepAs(r.NewPath(), r.Path+end, r.OldPath()+end); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(r.NewPath()); err == nil {
		if err := os.Remove(r.Path + ".pub"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, end := range []string{"", ".pub"} {
		if err := rename(r.NewPath()+end, r.Path+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(filepath.Dir(r.Path))
}

// keepAs gives a file of the old pair its second name, as long as the new pair waits at newPath. A file that is gone
// has had it before.
func keepAs(newPath, path, kept string) error {
	for _, needed := range []string{newPath, path} {
		if _, err := os.Lstat(needed); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, kept)
}

// refuses sees that a host does not let in a key any more.
func (f *Fleet) refuses(ctx context.Context, h inventory.Host, k Key) error {
	err := f.Door.Only(ctx, h, k)
	switch {
	case err == nil:
		return fault.New(fault.KeyUnproven, "the old key %s still lets in, though it stands in no file of keys", k.Fingerprint()).
			Hint("sshd may ask a program for keys: see AuthorizedKeysCommand")
	case fault.Is(err, fault.SSHAuth), fault.Is(err, fault.SSHJump):
		return nil
	}
	return err
}
