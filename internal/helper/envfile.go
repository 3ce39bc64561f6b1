package helper

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// envDir holds the secrets of the releases, a file for each.
const envDir = stateDir + "/env"

func envPath(id string) string { return envDir + "/" + id }

// secrets writes the secrets of a release that is not recorded yet and links it to them; it names the
// folders of the release that it changed. The file is its owner's alone from the moment it is there, and
// its folder lists its names to nobody else.
func (s *Site) secrets(id string, f *wire.EnvFile) (touched []string, err error) {
	if f == nil {
		return nil, nil
	}
	if err := s.envFolder(); err != nil {
		return nil, explain(err, "make %s", envDir)
	}
	if err := s.writeEnv(envPath(id), f.Content); err != nil {
		return nil, explain(err, "write the secrets of %s", id)
	}
	return s.links(id, []string{f.Path}, func(string) string { return envPath(id) })
}

// envFolder makes the folder. What stands in its place and is no folder is nothing of ours.
func (s *Site) envFolder() error {
	info, err := s.FS.Lstat(envDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.FS.Mkdir(envDir, 0o711); err != nil {
			return err
		}
		return s.FS.SyncDir(stateDir)
	case err != nil:
		return err
	case info.Kind != filesync.Dir:
		return fault.New(fault.LayoutRefused, "%s is no folder", path.Join(s.Path, envDir)).
			Hint("move it away; godeploy keeps the secrets of each release there")
	case info.Mode != 0o711:
		return s.FS.Chmod(envDir, 0o711)
	}
	return nil
}

// writeEnv puts the file in place, whole and durable.
func (s *Site) writeEnv(p string, content []byte) error {
	temp := p + ".new"
	if err := s.FS.RemoveAll(temp); err != nil { // of a run that died
		return err
	}
	f, err := s.FS.Create(temp, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.own(temp); err != nil {
		return err
	}
	if err := s.FS.Rename(temp, p); err != nil {
		return err
	}
	return s.FS.SyncDir(envDir)
}

// linkTo replaces what is at p in the release by a link to a path below the app's folder. It is
// relative, so that the app's folder can be moved or mounted elsewhere.
func (s *Site) linkTo(root, p, target string) error {
	at := root + "/" + p
	if err := s.FS.RemoveAll(at); err != nil {
		return err
	}
	up := strings.Repeat("../", strings.Count(at, "/"))
	if err := s.FS.Symlink(up+target, at); err != nil {
		return err
	}
	return s.own(at)
}

// envLitter names the secrets whose release is not there, and what was never put in place.
func envLitter(names, trees []string) []string {
	there := map[string]bool{}
	for _, t := range trees {
		there[t] = true
	}
	var out []string
	for _, n := range names {
		id := strings.TrimSuffix(n, ".new")
		if wire.CheckID(id) == nil && (n != id || !there[id]) {
			out = append(out, envDir+"/"+n)
		}
	}
	return out
}

// keepsSecrets refuses a release that was recorded with secrets and has them no more.
func (s *Site) keepsSecrets(r wire.Release) error {
	if r.Secrets == "" || s.has(envPath(r.ID)) {
		return nil
	}
	return fault.New(fault.LayoutRefused, "the secrets of release %s are gone", r.ID).
		Fact("%s is not there", path.Join(s.Path, envPath(r.ID))).
		Hint("godeploy keeps them with the release; without them it would not serve")
}

// Annotate adds to the record of a release; what the note leaves out stays.
func (s *Site) Annotate(_ context.Context, id string, note wire.Note) error {
	r, err := s.record(id)
	if err != nil {
		return s.unknown(id, err)
	}
	if note.Once != nil {
		r.Once = note.Once
	}
	if note.Heads != nil {
		r.Heads = note.Heads
	}
	return explain(s.write(r), "write the record of %s", id)
}
