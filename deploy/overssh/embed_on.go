//go:build embedhelper

package overssh

import _ "embed" // the helpers of a release build, made by `make helper`

//go:embed blobs/helper-linux-amd64.gz
var linuxAMD64 []byte

//go:embed blobs/helper-linux-amd64.sha256
var linuxAMD64Sum string

//go:embed blobs/helper-linux-arm64.gz
var linuxARM64 []byte

//go:embed blobs/helper-linux-arm64.sha256
var linuxARM64Sum string

func embedded() []blob {
	return []blob{
		{"linux", "amd64", linuxAMD64, linuxAMD64Sum},
		{"linux", "arm64", linuxARM64, linuxARM64Sum},
	}
}
