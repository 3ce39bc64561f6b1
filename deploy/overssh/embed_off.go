//go:build !embedhelper

package overssh

// embedded is empty in a development build, so that `go build` needs nothing made beforehand.
func embedded() []blob { return nil }
