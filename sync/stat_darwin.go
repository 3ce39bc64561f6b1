package filesync

import (
	"io/fs"
	"syscall"
)

// identify fills in what tells a file from all others and when it was last changed.
func identify(info *Info, fi fs.FileInfo) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		info.Dev, info.Ino, info.CTime = uint64(uint32(st.Dev)), st.Ino, st.Ctimespec.Nano()
		info.UID, info.GID = int(st.Uid), int(st.Gid)
	}
}
