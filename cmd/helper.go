package cmd

import (
	"context"

	"godeploy/internal/helper"
)

// helperCommand is what a development build runs on a host that it has pushed itself to; released
// builds push the small godeploy-helper. People never type it.
func helperCommand() *command {
	return &command{
		Name: "helper", Usage: "serve the helper's protocol on stdin and stdout", MaxArgs: -1,
		Run: func(ctx context.Context, c *call) error {
			return exitWith(helper.Main(ctx, c.sys.Stdin, c.sys.Stdout, c.sys.Stderr), nil)
		},
	}
}
