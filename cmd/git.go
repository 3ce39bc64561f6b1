package cmd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gitState is what git says of the folder that is released; empty where there is no git.
type gitState struct {
	commit string // full hash; "-dirty" behind it when the work tree differs
	branch string // "" when detached
}

// readGit asks git. A folder without a repository, or a machine without git, is no error: a release
// does not need either.
func readGit(ctx context.Context, dir string) gitState {
	if !inRepository(dir) {
		return gitState{} // git would say the same, later
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ask := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	var g gitState
	commit, err := ask("rev-parse", "--verify", "HEAD")
	if err != nil {
		return g
	}
	g.commit = commit
	g.branch, _ = ask("symbolic-ref", "--short", "--quiet", "HEAD") // detached: no branch
	if changed, err := ask("status", "--porcelain", "--untracked-files=no", "--", "."); err == nil && changed != "" {
		g.commit += "-dirty"
	}
	return g
}

// inRepository reports whether a folder, or one it lies in, has a .git.
func inRepository(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return true
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return true
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}
