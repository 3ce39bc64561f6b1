package filesync

import "strings"

// maxHops is how many links the system follows in one path before it gives up.
const maxHops = 40

// escapes reports whether following the link leads out of the tree, now or once a missing part of
// the way is there. It walks the tree's own entries, other links included, as the system would:
// "a/.." is not nothing when a is a link. A link that goes in circles stays inside.
func (m *Manifest) escapes(e *Entry) bool {
	dir, _ := split(e.Path)
	at := strings.Split(dir, "/")
	if dir == "." {
		at = nil
	}
	rest := e.Link
	for hops := 0; rest != ""; {
		if rest[0] == '/' {
			return true
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		rest = strings.TrimLeft(rest, "/")
		switch name {
		case ".":
		case "..":
			if len(at) == 0 {
				return true
			}
			at = at[:len(at)-1]
		default:
			at = append(at[:len(at):len(at)], name)
			next := m.Find(strings.Join(at, "/"))
			if next == nil || next.Kind != Link {
				continue
			}
			if hops++; hops > maxHops {
				return false
			}
			at = at[:len(at)-1]
			rest = next.Link + "/" + rest
		}
	}
	return false
}
