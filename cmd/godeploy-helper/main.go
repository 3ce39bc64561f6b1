// Command godeploy-helper is the small program that godeploy pushes to a host and speaks to over
// stdin and stdout. It is not made to be started by hand; docs/wire.md says what it answers.
package main

import (
	"context"
	"os"

	"godeploy/internal/helper"
)

func main() {
	os.Exit(helper.Main(context.Background(), os.Stdin, os.Stdout, os.Stderr))
}
