package filesync

import (
	"errors"
	"io"
	"io/fs"
)

// Where things lie below the app's path. internal/helper's layout uses the same names.
const (
	releasesDir  = "releases"
	manifestsDir = ".godeploy/manifests"
)

// partialMark ends the name of what is not finished; a dot begins it.
const partialMark = ".partial"

func partialName(id string) string { return "." + id + partialMark }

// maxManifestFile bounds a stored manifest; the largest tree within the limits stays below it.
const maxManifestFile = 1 << 30

// ReadManifest reads the manifest that Receive stored for a release. An error that satisfies
// errors.Is with fs.ErrNotExist says that there is none.
func ReadManifest(fsys FS, id string) (*Manifest, error) {
	m, _, err := readRooted(fsys, id)
	return m, err
}

// readRooted is ReadManifest, and gives the root.
func readRooted(fsys FS, id string) (*Manifest, Hash, error) {
	f, err := fsys.Open(manifestsDir + "/" + id)
	if err != nil {
		return nil, Hash{}, err
	}
	defer f.Close()
	return decodeStored(io.LimitReader(f, maxManifestFile))
}

// writeManifest stores a manifest under a temporary name, durably, and moves it into place.
func writeManifest(fsys FS, id string, m *Manifest) error {
	temp := "." + id + ".new"
	f, err := createManifest(fsys, temp)
	if err != nil {
		return err
	}
	temp = manifestsDir + "/" + temp
	if err := errors.Join(m.Encode(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, fsys.RemoveAll(temp))
	}
	return fsys.Rename(temp, manifestsDir+"/"+id)
}

// notePartial stores what a release that is being made will be, so that its contents are of use
// when it is not finished. They are verified then: nothing need be durable.
func notePartial(fsys FS, id string, m *Manifest) error {
	f, err := createManifest(fsys, partialName(id))
	if err != nil {
		return err
	}
	return errors.Join(m.Encode(f), f.Close())
}

// createManifest makes a file for a manifest. Hashes of secrets could be guessed from: nobody else
// reads it.
func createManifest(fsys FS, name string) (FileWriter, error) {
	if _, err := MkdirAll(fsys, manifestsDir, 0o755); err != nil {
		return nil, err
	}
	path := manifestsDir + "/" + name
	if err := fsys.RemoveAll(path); err != nil {
		return nil, err
	}
	return fsys.Create(path, 0o600)
}

// missing reports whether nothing is at path.
func missing(fsys FS, path string) (bool, error) {
	_, err := fsys.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
