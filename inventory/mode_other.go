//go:build !unix

package inventory

import "io/fs"

// unixModes says whether permission bits mean something here.
const unixModes = false

// unsafeMode knows no rule for this system's permissions.
func unsafeMode(fs.FileInfo) string { return "" }
