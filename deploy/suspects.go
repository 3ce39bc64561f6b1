package deploy

import (
	"fmt"
	"path"
	"strings"

	filesync "godeploy/sync"
)

// Suspects names what servers seldom need and secrets often are: .env files, private keys, node_modules.
// It is one line of text at most, for people to judge; nothing is left out because of it.
func Suspects(src *filesync.Source) []string {
	const most = 4
	var found []string
	more := 0
	skip := ""
	for i := range src.Manifest.Entries {
		e := &src.Manifest.Entries[i]
		if skip != "" && strings.HasPrefix(e.Path, skip) {
			continue
		}
		name := path.Base(e.Path)
		shown := e.Path
		switch {
		case e.Kind == filesync.Dir && name == "node_modules":
			skip = e.Path + "/"
			shown = fmt.Sprintf("%s (%s)", skip, plurals(filesBelow(src.Manifest, i), "file"))
		case e.Kind == filesync.File && suspectName(name):
		default:
			continue
		}
		if len(found) == most {
			more++
			continue
		}
		found = append(found, shown)
	}
	if len(found) == 0 {
		return nil
	}
	text := strings.Join(found, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return []string{text + ` would be sent; [sync] exclude = ["…"] leaves such things out`}
}

// filesBelow counts the files below a folder, which is the i-th entry.
func filesBelow(m *filesync.Manifest, i int) int {
	prefix, n := m.Entries[i].Path+"/", 0
	for j := i + 1; j < len(m.Entries); j++ {
		e := &m.Entries[j]
		if strings.HasPrefix(e.Path, prefix) {
			if e.Kind == filesync.File {
				n++
			}
		} else if e.Path > prefix && !strings.HasPrefix(e.Path, m.Entries[i].Path) {
			break
		}
	}
	return n
}

// suspectName reports whether a file of that name holds secrets as a rule.
func suspectName(name string) bool {
	lower := strings.ToLower(name)
	for _, harmless := range []string{".pub", ".example", ".sample", ".template", ".dist"} {
		if strings.HasSuffix(lower, harmless) {
			return false
		}
	}
	if lower == ".env" || strings.HasPrefix(lower, ".env.") || lower == ".netrc" || lower == ".pypirc" || lower == ".npmrc" {
		return true
	}
	for _, key := range []string{"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"} {
		if lower == key || strings.HasPrefix(lower, key+"_") {
			return true
		}
	}
	for _, end := range []string{".key", ".p12", ".pfx", ".ppk"} {
		if strings.HasSuffix(lower, end) && len(lower) > len(end) {
			return true
		}
	}
	return false
}
