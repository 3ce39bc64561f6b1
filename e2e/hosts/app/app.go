// Package app writes versions of the Django project in e2e/testdata/app: the source trees that the
// end-to-end tests release. For tests only.
package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Variant says how one version differs from the project as it lies in the repository. The zero value,
// with a Version, is a version that works.
type Variant struct {
	// Version is what pages, headers and /statics/version.txt show.
	Version string
	// ImportTime is how long the import of the project takes.
	ImportTime time.Duration
	// BreakImport makes the import raise.
	BreakImport bool
	// BreakHealth makes /healthz answer 500.
	BreakHealth bool
	// FailEvery makes each worker answer 500 to every so many requests for the page, 0 to none.
	FailEvery int
	// FailHookOn names the host on which scripts/release.sh exits 7.
	FailHookOn string
}

// Named gives the variants the tests speak of: v1, v2, v3-import, v3-health, v3-hook (fails on
// app3), slow, a version whose import takes 3 s, and flaky, which answers 500 to 2 % of the requests for its
// page while its health check passes.
func Named(name string) (Variant, error) {
	switch name {
	case "v1", "v2":
		return Variant{Version: name}, nil
	case "v3-import":
		return Variant{Version: name, BreakImport: true}, nil
	case "v3-health":
		return Variant{Version: name, BreakHealth: true}, nil
	case "v3-hook":
		return Variant{Version: name, FailHookOn: "app3"}, nil
	case "flaky":
		return Variant{Version: name, FailEvery: 50}, nil
	case "slow":
		return Variant{Version: name, ImportTime: 3 * time.Second}, nil
	}
	return Variant{}, fmt.Errorf("no variant %q", name)
}

// Write makes dir hold the project in one variant, and nothing else of it: files of an earlier
// variant that this one lacks are removed, a godeploy.toml and other files of the caller's stay.
func Write(dir string, v Variant) error {
	source, err := projectDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err = filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return copyEntry(filepath.Join(dir, rel), path, d)
	})
	if err != nil {
		return err
	}
	return writeDifferences(dir, v)
}

func copyEntry(to, from string, d fs.DirEntry) error {
	if d.IsDir() {
		if d.Name() == "__pycache__" {
			return filepath.SkipDir
		}
		return os.MkdirAll(to, 0o755)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	// The clone's umask shall not show in a release: only the x bit is the project's own.
	return os.WriteFile(to, text, 0o644|info.Mode().Perm()&0o111)
}

// writeDifferences also adds one file that only this version has, so that going from one version
// to the next adds, changes and removes.
func writeDifferences(dir string, v Variant) error {
	settings := fmt.Sprintf("VERSION = %q\nIMPORT_SECONDS = %g\nIMPORT_WORKS = %s\nHEALTHY = %s\nFAIL_EVERY = %d\n",
		v.Version, v.ImportTime.Seconds(), python(!v.BreakImport), python(!v.BreakHealth), v.FailEvery)
	statics := filepath.Join(dir, "frontend", "statics")
	own, err := filepath.Glob(filepath.Join(statics, "only-*.txt"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range append(own, filepath.Join(dir, "deploy", "fail-on")) {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	files := map[string]string{
		filepath.Join(dir, "swiper", "variant.py"):       settings,
		filepath.Join(statics, "version.txt"):            v.Version + "\n",
		filepath.Join(statics, "only-"+v.Version+".txt"): "this file came with " + v.Version + "\n",
	}
	if v.FailHookOn != "" {
		files[filepath.Join(dir, "deploy", "fail-on")] = v.FailHookOn + "\n"
	}
	for path, text := range files {
		errs = append(errs, os.WriteFile(path, []byte(text), 0o644))
	}
	return errors.Join(errs...)
}

func python(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// projectDir finds the project from wherever in the module the test runs.
func projectDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "e2e", "testdata", "app"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}
