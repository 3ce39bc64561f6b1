package process

import (
	"context"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// scripts is manager = "command": the user's hooks start, stop and restart do it all, and the health
// check is the only proof.
type scripts struct{ *Service }

func (m scripts) ready(context.Context, deploy.Host) error {
	if k := m.env.Hooks; len(k.Restart) == 0 && (len(k.Start) == 0 || len(k.Stop) == 0) {
		return m.lacking("restart", "write a restart hook, or start and stop hooks")
	}
	return nil
}

func (m scripts) lacking(hook, hint string) error {
	return fault.New(fault.ConfigValue, "manager = \"command\" needs a %s hook", hook).Hint("%s", hint)
}

func (m scripts) find(context.Context, deploy.Host) (found, error) {
	return found{State: "unknown"}, nil
}

func (m scripts) start(context.Context, deploy.Host) error {
	return m.lacking("start", "[hooks] start says how the service is started")
}

func (m scripts) stop(context.Context, deploy.Host) error {
	return m.lacking("stop", "[hooks] stop says how the service is stopped")
}

func (m scripts) restart(context.Context, deploy.Host) error {
	return m.lacking("restart", "[hooks] restart says how the service is restarted")
}

func (m scripts) signal(context.Context, deploy.Host, wire.Proc, string) error { return nil }

func (m scripts) why(context.Context, deploy.Host) []string { return nil }
