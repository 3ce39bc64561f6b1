//go:build unix

package inventory

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// unixModes says whether permission bits mean something here.
const unixModes = true

// unsafeMode says who else may write a file, "" when nobody may but its owner and root.
func unsafeMode(info fs.FileInfo) string {
	if info.Mode().Perm()&0o002 != 0 {
		return "may be written by everybody"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Getuid() && os.Getuid() != 0 {
		return fmt.Sprintf("belongs to another user (uid %d)", st.Uid)
	}
	return ""
}
