package filesync

import (
	"strings"

	"godeploy/internal/fault"
)

// check refuses options that lead to no release.
func (o *ReceiveOptions) check() error {
	for _, id := range []string{o.ID, o.Parent} {
		if id == "" && o.ID != "" {
			continue
		}
		if err := checkRelease(id); err != nil {
			return err
		}
	}
	if o.Spare != "" && checkName(o.Spare) != nil {
		return fault.New(fault.LayoutRefused, "spare tree %q is no name of a folder", o.Spare)
	}
	for _, path := range o.Carry {
		if path == "." || checkPath(path) != nil {
			return fault.New(fault.LayoutRefused, "path to carry %q is not a clean relative one", path)
		}
	}
	switch o.Links {
	case "", "auto", "hard", "copy", "reflink":
		return nil
	}
	return fault.New(fault.ConfigValue, "links %q is unknown", o.Links).Hint("auto, hard, reflink or copy")
}

// checkRelease refuses what is no id of a release.
func checkRelease(id string) error {
	if checkName(id) != nil || strings.HasPrefix(id, ".") || len(id) > 200 {
		return fault.New(fault.LayoutRefused, "release id %q is no name of a folder", id)
	}
	return nil
}
