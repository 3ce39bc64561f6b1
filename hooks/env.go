package hooks

import "strconv"

// Told is what a hook is told about the run, as GODEPLOY_* variables (docs/config.md). Values are
// data in the environment and never become part of the hook's text.
type Told struct {
	Env, App, Release, Previous   string
	Path, Current, Shared         string
	Host, Role                    string
	Weight                        int
	Commit, Branch, Message, User string
	Phase, Status, RunLog         string
	Secrets                       string
	DryRun, Graceful, Retry       bool
}

// Environ gives the variables. Every name is always present, empty where there is nothing to tell,
// so that a script under `set -u` works.
func (t Told) Environ() map[string]string {
	return map[string]string{
		"GODEPLOY":          "1",
		"GODEPLOY_ENV":      t.Env,
		"GODEPLOY_APP":      t.App,
		"GODEPLOY_RELEASE":  t.Release,
		"GODEPLOY_PREVIOUS": t.Previous,
		"GODEPLOY_PATH":     t.Path,
		"GODEPLOY_CURRENT":  t.Current,
		"GODEPLOY_SHARED":   t.Shared,
		"GODEPLOY_HOST":     t.Host,
		"GODEPLOY_ROLE":     t.Role,
		"GODEPLOY_WEIGHT":   strconv.Itoa(t.Weight),
		"GODEPLOY_COMMIT":   t.Commit,
		"GODEPLOY_BRANCH":   t.Branch,
		"GODEPLOY_MESSAGE":  t.Message,
		"GODEPLOY_USER":     t.User,
		"GODEPLOY_PHASE":    t.Phase,
		"GODEPLOY_STATUS":   t.Status,
		"GODEPLOY_RUN_LOG":  t.RunLog,
		"GODEPLOY_DRY_RUN":  flag(t.DryRun),
		"GODEPLOY_GRACEFUL": flag(t.Graceful),
		"GODEPLOY_RETRY":    flag(t.Retry),
		"GODEPLOY_SECRETS":  t.Secrets,
	}
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}
