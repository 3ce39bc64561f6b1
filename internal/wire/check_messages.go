package wire

import (
	"errors"
	"fmt"
)

// Check wants an app's short name, a path fit for an app and a plain owner.
func (s *Site) Check() error {
	if s.App == "" || len(s.App) > 64 || s.App == "." || s.App == ".." || !only(s.App, lower+upper+digit+"._-") {
		return fmt.Errorf("app %.80q", s.App)
	}
	return firstError(checkTree(s.Path), checkUser(s.Owner))
}

// Check wants a hash, plausible numbers and absolute folders.
func (r *HelloReply) Check() error {
	if len(r.Hash) != 64 || !only(r.Hash, digit+"abcdef") {
		return fmt.Errorf("hash %.80q", r.Hash)
	}
	if r.Protocol < 1 || r.CPUs < 1 || r.UID < 0 {
		return errors.New("impossible numbers")
	}
	return firstError(checkShort(r.OS, r.Arch, r.User, r.BootID), optional(r.Home, checkPath))
}

// Check bounds the texts.
func (h *Holder) Check() error { return checkShort(h.Who, h.Run, h.Command, h.Release) }

// Check checks site and holder.
func (r *LockRequest) Check() error { return firstError(r.Site.Check(), r.Holder.Check()) }

// Check checks the holder, if there is one.
func (r *LockReply) Check() error {
	if r.Held == nil {
		return nil
	}
	return r.Held.Check()
}

// Check checks the site.
func (r *UnlockRequest) Check() error { return r.Site.Check() }

// Check wants one of the four marks.
func (m Mark) Check() error {
	switch m {
	case MarkStaged, MarkLive, MarkHealthy, MarkBad:
		return nil
	}
	return fmt.Errorf("mark %.40q", string(m))
}

// Check wants ids, a mark or none, and bounded texts.
func (r *Release) Check() error {
	if r.Seq < 0 {
		return errors.New("negative sequence number")
	}
	return firstError(
		CheckID(r.ID),
		optional(r.Previous, CheckID),
		optional(string(r.Mark), func(string) error { return r.Mark.Check() }),
		checkShort(r.Root, r.Commit, r.Branch, r.Message, r.By, r.Config, r.Secrets),
		r.Once.Check(), CheckHeads(r.Heads),
		validUTF8(r.Message))
}

// Check checks every release, current and what is listed.
func (s *State) Check() error {
	if len(s.Releases) > maxList {
		return fmt.Errorf("%d releases", len(s.Releases))
	}
	for i := range s.Releases {
		if err := s.Releases[i].Check(); err != nil {
			return err
		}
	}
	if s.Holder != nil {
		if err := s.Holder.Check(); err != nil {
			return err
		}
	}
	if s.Journal != nil {
		if err := s.Journal.Check(); err != nil {
			return err
		}
	}
	if s.Drained != nil {
		if err := s.Drained.Check(); err != nil {
			return err
		}
	}
	if s.Freeze != nil {
		if err := s.Freeze.Check(); err != nil {
			return err
		}
	}
	return firstError(
		optional(s.Current, CheckID),
		checkShort(s.Refusal),
		checkList("missing", s.Missing, checkRelative),
		checkList("in use", s.InUse, CheckID))
}

// Check checks site and paths.
func (r *StateRequest) Check() error {
	return firstError(r.Site.Check(), checkList("shared files", r.SharedFiles, checkRelative))
}

// Check checks site and paths.
func (r *PrepareRequest) Check() error {
	return firstError(r.Site.Check(), checkList("shared dirs", r.SharedDirs, checkRelative))
}

// Check checks site, release, parent, paths and the way of linking.
func (r *StageRequest) Check() error {
	switch r.Links {
	case "", "auto", "hard", "reflink", "copy":
	default:
		return fmt.Errorf("links %.40q", r.Links)
	}
	switch r.Verify {
	case "", "changed", "all":
	default:
		return fmt.Errorf("verify %.40q", r.Verify)
	}
	if r.Holder != nil {
		if err := r.Holder.Check(); err != nil {
			return err
		}
	}
	return firstError(
		r.Site.Check(), r.Release.Check(), optional(r.Parent, CheckID),
		checkList("shared dirs", r.SharedDirs, checkRelative),
		checkList("shared files", r.SharedFiles, checkRelative),
		checkList("carry", r.Carry, checkRelative), r.Env.Check())
}

// Check wants counts that can be.
func (r *StageReply) Check() error {
	if r.Files < 0 || r.Linked < 0 || r.Written < 0 || r.Received < 0 || r.Bytes < 0 {
		return errors.New("negative count")
	}
	return optional(r.Parent, CheckID)
}

// Check checks the site; both ids may be empty.
func (r *SwitchRequest) Check() error {
	return firstError(r.Site.Check(), optional(r.ID, CheckID), optional(r.Expect, CheckID))
}

// Check checks the id, if there is one.
func (r *SwitchReply) Check() error { return optional(r.Previous, CheckID) }

// Check checks site, id and mark.
func (r *MarkRequest) Check() error {
	return firstError(r.Site.Check(), CheckID(r.ID), r.Mark.Check(), optional(r.Previous, CheckID))
}

// Check checks site and ids.
func (r *RemoveRequest) Check() error {
	return firstError(r.Site.Check(), checkList("ids", r.IDs, CheckID))
}

// Check checks the ids.
func (r *RemoveReply) Check() error { return checkList("kept", r.Kept, CheckID) }

// Check wants a program, clean folders and names, and bounded sizes.
func (r *ExecRequest) Check() error {
	if len(r.Stdin) > MaxStdin {
		return fmt.Errorf("%d bytes of input", len(r.Stdin))
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		return fmt.Errorf("timeout %s", r.Timeout)
	}
	return firstError(checkArgs(r.Argv), optional(r.Dir, checkPath), checkEnv(r.Env), checkUser(r.User))
}

// Check wants an exit status.
func (r *ExecReply) Check() error {
	if r.Exit < -1 || r.Exit > 255 || r.Dropped < 0 || r.MS < 0 {
		return errors.New("impossible end of a program")
	}
	return checkShort(r.Signal)
}

// Check wants a process of the app's, not 0 or 1.
func (r *ProcsRequest) Check() error { return checkPID(r.PID) }

func checkPID(pid int) error {
	if pid < 2 || pid > 1<<30 {
		return fmt.Errorf("process id %d", pid)
	}
	return nil
}

// Check bounds the list.
func (r *ProcsReply) Check() error {
	if len(r.Procs) > maxList {
		return fmt.Errorf("%d processes", len(r.Procs))
	}
	return nil
}

// Check wants a process and one of the signals that are meant for services.
func (r *SignalRequest) Check() error {
	switch r.Signal {
	case "HUP", "TERM", "QUIT", "INT", "KILL", "USR1", "USR2", "WINCH", "TTIN", "TTOU":
		return checkPID(r.PID)
	}
	return fmt.Errorf("signal %.40q", r.Signal)
}

// Check wants a clean path, permission bits only, and a bounded content.
func (r *FileRequest) Check() error {
	if len(r.Content) > MaxFile {
		return fmt.Errorf("%d bytes of content", len(r.Content))
	}
	if r.Mode&^0o777 != 0 {
		return fmt.Errorf("mode %o", r.Mode)
	}
	return checkPath(r.Path)
}

// Check bounds the content.
func (r *FileReply) Check() error {
	if len(r.Content) > MaxFile {
		return fmt.Errorf("%d bytes of content", len(r.Content))
	}
	return nil
}
