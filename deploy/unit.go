package deploy

import (
	"strings"

	"godeploy/inventory"
)

// UnitName is the systemd unit of the app.
func UnitName(env *inventory.Env) string {
	if env.Process.Unit != "" {
		return env.Process.Unit
	}
	return env.App.Name + ".service"
}

// ExecStart takes the words of a unit's command out of what systemctl shows of it, "{ path=… ; argv[]=… ;
// ignore_errors=… }"; nil when there is none. systemctl joins them by blanks without quotes, so a word with a
// blank in it comes apart.
func ExecStart(value string) []string {
	_, rest, ok := strings.Cut(value, "argv[]=")
	if !ok {
		return nil
	}
	argv, _, _ := strings.Cut(rest, " ; ")
	return strings.Fields(argv)
}
