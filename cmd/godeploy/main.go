// Command godeploy deploys web applications to a fleet of servers over SSH.
package main

import (
	"os"

	"godeploy/cmd"
)

func main() {
	os.Exit(cmd.Main(os.Args, cmd.RealSystem()))
}
