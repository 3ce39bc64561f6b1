package process

import (
	"godeploy/deploy"
	"godeploy/inventory"
)

// Stray says why the unit whose properties `systemctl show` has printed can never serve a release, ""
// when nothing is known against it.
func Stray(env *inventory.Env, show string) string {
	if env.Process.Server != "gunicorn" {
		return ""
	}
	props := properties(show)
	return strays(deploy.ExecStart(props["ExecStart"]), workingDir(props), env.App.Path+"/current")
}
