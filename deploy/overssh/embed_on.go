//go:build embedhelper

package overssh

import _ "embed" // the helpers of a release build, made by `make helper`

//go:embed blobs/helper-linux-amd64.zst
var linuxAMD64 []byte

//go:embed blobs/helper-linux-arm64.zst
var linuxARM64 []byte

func embedded() []blob {
	return []blob{{"linux", "amd64", linuxAMD64}, {"linux", "arm64", linuxARM64}}
}
