//go:build embedhelper

package overssh

import _ "embed" // the helpers of a release build, made by `make helper`

//go:embed blobs/helper-linux-amd64.gz
var linuxAMD64 []byte

//go:embed blobs/helper-linux-amd64.xz
var linuxAMD64XZ []byte

//go:embed blobs/helper-linux-amd64.sha256
var linuxAMD64Sum string

//go:embed blobs/helper-linux-arm64.gz
var linuxARM64 []byte

//go:embed blobs/helper-linux-arm64.xz
var linuxARM64XZ []byte

//go:embed blobs/helper-linux-arm64.sha256
var linuxARM64Sum string

func embedded() []blob {
	return []blob{
		{"linux", "amd64", linuxAMD64, linuxAMD64XZ, linuxAMD64Sum},
		{"linux", "arm64", linuxARM64, linuxARM64XZ, linuxARM64Sum},
	}
}
