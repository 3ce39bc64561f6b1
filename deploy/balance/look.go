package balance

import (
	"bytes"
	"context"
	"maps"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/templates"
)

// Live is what one nginx host has.
type Live struct {
	Host  string
	Files []LiveFile // as Render gives them, in that order
	// Running is the mark of the file that the workers have loaded, by what they answer; "" when they do
	// not say.
	Running string
	// Problem is why nothing could be pushed there: nginx is stopped, or what it would load now is broken.
	Problem error
	Leaving int // workers of before the last reload that still finish what they have

	master  process
	workers []process
}

// LiveFile is one of the files on a host.
type LiveFile struct {
	Path    string
	Exists  bool
	Content []byte
	Ours    bool // godeploy has written it, for this app
	Stamp   templates.Stamp

	root root
}

// Drift says what somebody else has done to the file, nil when it is as godeploy left it or not there.
func (f LiveFile) Drift() error {
	switch {
	case !f.Exists || f.Ours && f.Stamp.Intact:
		return nil
	case f.Stamp.App != "" && !f.Ours:
		return fault.New(f.root.code(fault.NginxDrift), "%s is the file of another app, %s", f.Path, f.Stamp.App).
			Hint("give each app a file of its own: [%s] file", f.root.section())
	case f.Ours:
		return fault.New(f.root.code(fault.NginxDrift), "%s was edited since godeploy wrote it", f.Path).
			Hint("bring what was changed into godeploy.toml; godeploy %s push --overwrite drops it", f.root.section())
	}
	return fault.New(f.root.code(fault.NginxDrift), "%s was not written by godeploy", f.Path).
		Hint("name another file in [%s] file; godeploy %s push --overwrite takes this one over", f.root.section(), f.root.section())
}

// State is who is out of service by the file on this host; a file that was edited says nothing.
func (l Live) State() State {
	state := State{}.Clone()
	if len(l.Files) == 0 || !l.Files[0].Ours || !l.Files[0].Stamp.Intact {
		return state
	}
	for _, name := range l.Files[0].Stamp.Down {
		state.Down[name] = true
	}
	maps.Copy(state.Warm, l.Files[0].Stamp.Warm)
	return state
}

// StateOf is who is out of service on any of the hosts. A push that was killed leaves them apart: the one
// that had taken a server out counts.
func StateOf(live []Live) State {
	sum := State{}.Clone()
	for _, l := range live {
		one := l.State()
		maps.Copy(sum.Down, one.Down)
		maps.Copy(sum.Warm, one.Warm)
	}
	return sum
}

// Look asks every host what it has, and changes nothing. A host's own troubles stand in its Live; the
// error is about hosts that could not be asked.
func (n *Tier) Look(ctx context.Context) ([]Live, error) {
	files, err := n.render(State{})
	if err != nil {
		return nil, err
	}
	live := make([]Live, len(n.Hosts))
	err = n.each(ctx, func(ctx context.Context, i int, h deploy.Host) (err error) {
		live[i], err = n.lookAt(ctx, h, files)
		return err
	})
	return live, err
}

func (n *Tier) lookAt(ctx context.Context, h deploy.Host, files []File) (Live, error) {
	l := Live{Host: h.Inventory().Name}
	for _, f := range files {
		one, err := n.readLive(ctx, h, f.Path)
		if err != nil {
			return l, err
		}
		l.Files = append(l.Files, one)
	}
	err := n.engine().look(ctx, h, &l)
	return l, err
}

func (n *Tier) readLive(ctx context.Context, h deploy.Host, path string) (LiveFile, error) {
	f := LiveFile{Path: path, root: n.root()}
	s, err := n.root().sh(ctx, h, nil, readScript, path)
	switch {
	case err != nil || s.exit == 44:
		return f, err
	case s.exit == 45:
		return f, fault.New(n.root().code(fault.NginxDrift), "%s is a link", path).Hint("name the file that it leads to in [%s]", n.root().section())
	case s.exit != 0:
		return f, testFault(n.root().code(fault.NginxFailed), s, "%s cannot be read", path)
	}
	f.Exists, f.Content = true, []byte(s.out)
	stamp, ok := templates.ReadStamp(f.Content)
	f.Stamp, f.Ours = stamp, ok && stamp.App == n.Env.App.Name
	return f, nil
}

// Has reports whether a host has these files and its workers have loaded them.
func (l Live) Has(files []File) bool {
	for i, f := range files {
		if !l.Files[i].Exists || !bytes.Equal(l.Files[i].Content, f.Content) {
			return false
		}
	}
	stamp, _ := templates.ReadStamp(files[0].Content)
	return stamp.Mark != "" && l.Running == stamp.Mark
}
