package setup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"godeploy/deploy"
	"godeploy/internal/fault"
)

// packageTime bounds one step: packages come from far away.
const packageTime = 15 * time.Minute

// Setter sets hosts up. It is safe for concurrent use on different hosts.
type Setter struct {
	// Root acts on the host.
	Root func(h deploy.Host) deploy.Root
	// Hook runs the setup hooks on a host and tells how many there are.
	Hook func(ctx context.Context, h deploy.Host) (int, error)
	// Tell is told what is done, in one line; it may be called from several goroutines.
	Tell func(h deploy.Host, format string, args ...any)
}

// Outcome is what became of one host.
type Outcome struct {
	Plan  Plan
	Done  int // steps that were done
	Hooks int // that ran
}

// Plan looks at a host and decides, and changes nothing.
func (s *Setter) Plan(ctx context.Context, h deploy.Host, w Want, groups []string) (Outcome, error) {
	have, err := look(ctx, s.Root(h), w, w.files(h.Facts().User))
	if err != nil {
		return Outcome{}, err
	}
	if at := have.Unit["FragmentPath"]; at != "" {
		if _, asked := have.Files[at]; !asked {
			if have, err = look(ctx, s.Root(h), w, append(w.files(have.Login), at)); err != nil {
				return Outcome{}, err
			}
		}
	}
	plan, err := Decide(w, have, groups)
	return Outcome{Plan: plan}, err
}

// files are those that setup might write, and so must read.
func (w Want) files(login string) []string {
	if !w.Managed {
		return nil
	}
	service, err := w.Service(1, login)
	if err != nil {
		return nil // Decide says it
	}
	files, err := service.Files()
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
	}
	return names
}

// Apply does what Plan gives, step by step, and then runs the setup hooks. It stops at the first step that
// fails; what was done stays, and the next run goes on from there.
func (s *Setter) Apply(ctx context.Context, h deploy.Host, w Want, groups []string) (Outcome, error) {
	out, err := s.Plan(ctx, h, w, groups)
	if err == nil {
		err = s.Steps(ctx, h, &out)
	}
	if err != nil {
		return out, err
	}
	if !w.IsApp || !slices.Contains(groups, Hooks) {
		return out, nil
	}
	out.Hooks, err = s.Hook(ctx, h)
	return out, err
}

// Steps does the steps of a plan that was just made, and counts them. It stops at the first that fails.
func (s *Setter) Steps(ctx context.Context, h deploy.Host, out *Outcome) error {
	for _, step := range out.Plan.Steps {
		if err := s.do(ctx, h, step); err != nil {
			return fmt.Errorf("%s: %w", step.What, err)
		}
		out.Done++
		s.Tell(h, "%s: %s -> %s", step.What, orNone(step.Before), step.After)
	}
	return nil
}

func (s *Setter) do(ctx context.Context, h deploy.Host, step Step) error {
	root := s.Root(h)
	root.Timeout = packageTime
	for _, c := range step.run {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var err error
		switch {
		case c.file != nil:
			err = root.Write(ctx, c.file.Path, c.file.Mode, c.file.Text)
		case c.as != "":
			_, err = root.MustAs(ctx, c.as, c.argv...)
		default:
			_, err = root.Must(ctx, c.argv...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckGroups refuses a word that is no group.
func CheckGroups(words []string) error {
	for _, word := range words {
		if !slices.Contains(Groups(), word) {
			return fault.New(fault.Usage, "--only %q is none of %v", word, Groups())
		}
	}
	return nil
}
