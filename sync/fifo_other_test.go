//go:build !unix

package filesync

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
