// Package inventory reads godeploy.toml: decodes and checks every key of it, applies the overlays
// of an environment, and selects hosts. Whoever reads a file gets all of its problems at once, each
// with its file, line and column. Nothing here touches a network.
package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// DefaultName is what the file is called.
const DefaultName = "godeploy.toml"

// File is a whole configuration: godeploy.toml and the godeploy.NAME.toml beside it. It is read-only
// and safe for concurrent use.
type File struct {
	Path string // as it was given to Load
	Dir  string // the folder it lies in, absolute when it was loaded from disk
	Hash string // hex SHA-256 over the content of all its files, to know when one changed

	defaultEnv string
	main       *document
	extra      map[string]*document
	envs       map[string]*Env
	order      []string
	modes      []fileMode
}

// fileMode is what findings need to know of a file on disk.
type fileMode struct {
	name string
	info fs.FileInfo
}

// Find gives the path of the nearest godeploy.toml, in dir or above it.
func Find(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", DefaultName, err)
	}
	for at := start; ; at = filepath.Dir(at) {
		path := filepath.Join(at, DefaultName)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
		if at == filepath.Dir(at) {
			return "", fault.New(fault.ConfigMissing, "no %s in %s or above it", DefaultName, start).Try("godeploy init")
		}
	}
}

// Load reads a file and its godeploy.NAME.toml neighbours. The error joins every problem found, as
// *fault.Error with their positions.
func Load(path string) (*File, error) {
	src, info, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	modes := []fileMode{{path, info}}
	stem := strings.TrimSuffix(filepath.Base(path), ".toml")
	extra := map[string][]byte{}
	neighbours, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fault.New(fault.ConfigMissing, "folder of %s cannot be listed", path).Wrap(err)
	}
	for _, n := range neighbours {
		env, ok := envOfFile(stem, n.Name())
		if !ok {
			continue
		}
		beside := filepath.Join(filepath.Dir(path), n.Name())
		content, info, err := readBounded(beside)
		if err != nil {
			return nil, err
		}
		extra[env], modes = content, append(modes, fileMode{beside, info})
	}
	f, err := Parse(path, src, extra)
	if f == nil {
		return nil, err
	}
	f.modes = modes
	f.readTemplates()
	if f.Dir, err = filepath.Abs(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("folder of %s: %w", path, err)
	}
	return f, nil
}

// envOfFile gives NAME for STEM.NAME.toml.
func envOfFile(stem, name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, stem+".")
	if !ok {
		return "", false
	}
	env, ok := strings.CutSuffix(rest, ".toml")
	return env, ok && env != ""
}

func readBounded(path string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault.New(fault.ConfigMissing, "no file %s", path).Try("godeploy init")
	}
	if err != nil {
		return nil, nil, fault.New(fault.ConfigMissing, "file cannot be read").Wrap(err)
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return nil, nil, fault.New(fault.ConfigMissing, "%s is not a file", path)
	}
	src, err2 := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, fault.New(fault.ConfigMissing, "file cannot be read").Wrap(err)
	}
	if len(src) > maxFile {
		return nil, nil, fault.New(fault.ConfigSyntax, "%s is larger than %d MiB", path, maxFile>>20).At(fault.Pos{File: path})
	}
	return src, info, nil
}

// Parse reads a configuration from memory. The name stands in positions; extra has the contents of
// the godeploy.NAME.toml files by NAME. Errors are those of Load.
func Parse(name string, src []byte, extra map[string][]byte) (*File, error) {
	f := &File{Path: name, Dir: filepath.Dir(name), extra: map[string]*document{}, envs: map[string]*Env{}}
	bad := &problems{}
	var err *fault.Error
	if f.main, err = readDocument(name, "", src); err != nil {
		bad.add(err)
	}
	for _, env := range slices.Sorted(maps.Keys(extra)) {
		doc, err := readDocument(strings.TrimSuffix(name, ".toml")+"."+env+".toml", env, extra[env])
		if err != nil {
			bad.add(err)
			continue
		}
		f.extra[env] = doc
	}
	if len(bad.list) == 0 {
		f.Hash = hashOf(src, extra)
		newBuilder(f, bad).build()
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return f, nil
}

func hashOf(src []byte, extra map[string][]byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", len(src))
	h.Write(src)
	for _, env := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(h, "%q %d\n", env, len(extra[env]))
		h.Write(extra[env])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// EnvNames gives the names of the environments: those of the file in its order, then those with a
// file of their own.
func (f *File) EnvNames() []string { return slices.Clone(f.order) }

// DefaultEnv gives the environment that is meant when none is named: default_env, or the only one;
// "" when neither decides.
func (f *File) DefaultEnv() string {
	if f.defaultEnv == "" && len(f.order) == 1 {
		return f.order[0]
	}
	return f.defaultEnv
}

// Env gives an environment with its overlays applied; "" means DefaultEnv. An unknown name is a
// fault with code env-unknown that says which exist.
func (f *File) Env(name string) (*Env, error) {
	if name == "" {
		name = f.DefaultEnv()
	}
	if e, ok := f.envs[name]; ok {
		return e, nil
	}
	has := strings.Join(f.order, ", ")
	if name == "" {
		return nil, fault.New(fault.EnvUnknown, "no environment named, and %s has more than one: %s", filepath.Base(f.Path), has).
			Hint("name one on the command line, or set default_env")
	}
	e := fault.New(fault.EnvUnknown, "no environment %q in %s (has: %s)", name, filepath.Base(f.Path), has)
	if near := nearest(name, f.order); near != "" {
		e.Hint("did you mean %q?", near)
	}
	return nil, e
}

// Origin says where the value of a key came from: the environment's own line, or the one at the
// top of the file. The key is written as in the file: "release.batch", "hosts.app1.port",
// `tune.sysctl."vm.swappiness"`, "nginx.location[0].path". A default has the zero Pos.
func (f *File) Origin(env, key string) fault.Pos {
	doc, path := f.source(env, splitKey(key))
	if doc == nil {
		return fault.Pos{}
	}
	return doc.keyPos(path)
}

// source finds the document that sets a key for an environment, and the key's whole path in it.
func (f *File) source(env string, path []string) (*document, []string) {
	own := append([]string{"env", env}, path...)
	for _, doc := range []*document{f.extra[env], f.main} {
		if doc == nil {
			continue
		}
		if doc.has(own) {
			return doc, own
		}
		// A list replaces the list above it as a whole.
		if i := slices.IndexFunc(own, isElement); i > 0 && doc.has(own[:i]) {
			return nil, nil
		}
	}
	if env != "" && len(path) > 0 && f.main.has(path) {
		return f.main, path
	}
	return nil, nil
}

// splitKey takes a key apart: dots, quotes, and [numbers].
func splitKey(key string) []string {
	var path []string
	for key != "" {
		part := key
		switch {
		case key[0] == '.':
			key = key[1:]
			continue
		case key[0] == '"' && strings.Contains(key[1:], `"`):
			end := strings.Index(key[1:], `"`) + 1
			part, key = key[1:end], key[end+1:]
		case key[0] == '[' && strings.Contains(key, "]"):
			end := strings.Index(key, "]")
			part, key = "\x01"+key[1:end], key[end+1:]
		default:
			if end := strings.IndexAny(key[1:], ".["); end >= 0 {
				part, key = key[:end+1], key[end+1:]
			} else {
				key = ""
			}
		}
		path = append(path, part)
	}
	return path
}
