package main

import "slices"

// product is the table of defects in godeploy itself. A row is easiest made from a bug that was fixed:
// the old text is the fix, the new text the bug.
func product() []mutant {
	return slices.Concat(release(), transaction(), rooms(), halfWay())
}

// release are defects in how a release goes over the fleet.
func release() []mutant {
	const deploy = "go test -count=1 ./deploy"
	return []mutant{
		{
			Name: "deploy: a failed check does not hold the release up",
			File: "deploy/release.go", Old: "	if err := r.build(ctx); err != nil {\n		return r.abandon(ctx, err)\n	}\n", New: "	_ = r.build(ctx)\n",
			Test: deploy, Says: "FAIL: TestNoHostSwitchesWhenTheCheckFailsAnywhere",
		},
		{
			Name: "deploy: hosts that were switched are not undone",
			File: "deploy/undo.go", Old: "	r.undo(ctx, touched)\n", New: "",
			Test: deploy, Says: "want everything undone",
		},
		{
			Name: "deploy: the same tree counts as served without a proof",
			File: "deploy/resume.go", Old: "	if err := r.Service.Serves(ctx, m.Host, id); err != nil {\n		return err\n	}\n", New: "",
			Test: deploy, Says: "FAIL: TestNothingNewIsProvenNotAssumed",
		},
		{
			Name: "deploy: any answer is healthy",
			File: "deploy/health.go", Old: "if !p.Status.Has(res.StatusCode) {", New: "if false {",
			Test: deploy, Says: "FAIL: TestHealthDecides",
		},
		{
			Name: "deploy: the lock is not looked at",
			File: "deploy/run.go", Old: "		if held != nil {\n			return r.heldBy(m, *held)\n		}\n", New: "		_ = held\n",
			Test: deploy, Says: "FAIL: TestAHeldLockChangesNothing",
		},
		{
			Name: "process: --preload does not matter",
			File: "deploy/process/choose.go", Old: "case p.Server == \"gunicorn\" && f.Preloads:", New: "case false && f.Preloads:",
			Test: "go test -count=1 ./deploy/process", Says: "preload_keeps_old_code",
		},
		{
			Name: "e2e: the check before the switch reads the old code",
			File: "deploy/process/check.go", Old: "strings.ReplaceAll(line, current+\"/\", dir+\"/\")", New: "line",
			Test: "go test -count=1 -run 'TestReleaseEndToEnd$' ./e2e", Says: "the new code does not import",
		},
		{
			Name: "e2e: a restart is believed, not proven",
			File: "deploy/process/prove.go", Old: "	if err := s.manager.signal(ctx, h, master, \"HUP\"); err != nil {\n", New: "	if true {\n		return nil\n	}\n	if err := s.manager.signal(ctx, h, master, \"HUP\"); err != nil {\n",
			Test: "go test -count=1 -run 'TestReleaseEndToEnd$' ./e2e", Says: "FAIL: TestReleaseEndToEnd",
		},
	}
}

// transaction are defects in what makes a release one step over the fleet.
func transaction() []mutant {
	const model = "go test -count=1 -run 'TestNoFaultBreaksAPromise|Undo|Lost|StaysAway|Fail|Resume' ./deploy -rapid.checks=1000"
	return []mutant{
		{
			Name: "deploy: an undo restarts nothing",
			File: "deploy/undo.go", Old: "	err := r.serve(ctx, m, id, true)\n", New: "	err := error(nil)\n",
			Test: model, Says: "FAIL: TestNoFaultBreaksAPromise",
		},
		{
			Name: "deploy: a host switches before all are staged",
			File: "deploy/release.go", Old: "	if err := r.stageAll(ctx); err != nil {\n		return r.abandon(ctx, err)\n	}\n", New: "	_ = r.stageAll(ctx)\n",
			Test: model, Says: "FAIL: TestNoFaultBreaksAPromise",
		},
		{
			Name: "deploy: hosts that are out of service do not count",
			File: "deploy/waves.go", Old: "spare = max(p.Most-len(s.Out), 0)", New: "spare = p.Most",
			Test: "go test -count=1 -run 'TestWaves|TestARollout' ./deploy", Says: "FAIL: TestWaves",
		},
		{
			Name: "deploy: what could not be asked counts as back",
			File: "deploy/undo.go", Old: "	case lost(err):\n		result = Unknown\n", New: "	case lost(err):\n",
			Test: model, Says: "FAIL: TestAHostThatStaysAwayIsUnknown",
		},
		{
			Name: "deploy: a failed release pushes good ones out",
			File: "deploy/pick.go", Old: "	drop(false)\n	drop(true)\n", New: "	drop(true)\n	drop(false)\n",
			Test: "go test -count=1 -run Prunable ./deploy", Says: "FAIL: TestPrunable",
		},
		{
			Name: "deploy: a resumed release is sent again",
			File: "deploy/stage.go", Old: "if _, has := find(m.state, r.release.ID); has {", New: "if _, has := find(m.state, r.release.ID); has && false {",
			Test: model, Says: "(*run).stageAll", // there is no source to send from
		},
	}
}

// rooms are defects in the rooms below.
func rooms() []mutant {
	return []mutant{
		{
			Name: "cmd: an unknown flag is let through",
			File: "cmd/permute.go", Old: "	if len(found.bad) > 0 && !found.line.help {\n		return found.line, found.bad[0]\n	}\n", New: "",
			Test: "go test -count=1 -run 'Permute|Flag|Line|Usage' ./cmd", Says: "FAIL",
		},
		{
			Name: "sshx: every host key is good",
			File: "sshx/attempt.go", Old: "			return a.judged(key, known.verify(a.target, viaOf(a.hop), key))\n", New: "			return a.judged(key, nil)\n",
			Test: "go test -count=1 -run 'Key|Known|Verify' ./sshx", Says: "FAIL",
		},
		{
			Name: "wire: a frame may be of any length",
			File: "internal/wire/frame.go", Old: "	if n > MaxFrame {\n", New: "	if false {\n",
			Test: "go test -count=1 -timeout 2m ./internal/wire", Says: "FAIL",
		},
		{
			Name: "helper: there is a moment without current",
			File: "internal/helper/switch.go", Old: "	return s.FS.Rename(newLink, currentLink)\n", New: "	_ = s.FS.RemoveAll(currentLink)\n	return s.FS.Rename(newLink, currentLink)\n",
			Test: "go test -count=1 -run 'Switch' ./internal/helper", Says: "FAIL",
		},
		{
			Name: "hooks: only the shell of a cancelled hook is ended",
			File: "hooks/group_unix.go", Old: "		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // no such group: all gone already\n", New: "",
			Test: "go test -count=1 -timeout 30s ./hooks", Says: "TestCancelEndsTheGrandchild",
		},
		{
			Name: "inventory: an unknown key is nothing to speak of",
			File: "inventory/decode.go", Old: "			d.unknown(at, append(slices.Sorted(maps.Keys(fields)), extra...))\n", New: "			_ = at\n",
			Test: "go test -count=1 ./inventory", Says: "unknown key",
		},
		{
			Name: "sync: a chunk is taken for what it says it is",
			File: "sync/delta/delta.go", Old: "	return p.broken\n}\n\n// patch is", New: "	return nil\n}\n\n// patch is",
			Test: "go test -count=1 ./sync/...", Says: "FAIL",
		},
	}
}

// halfWay are defects that show when something is killed in the middle.
func halfWay() []mutant {
	const chaos = "go test -count=1 -timeout 20m ./e2e/chaos "
	return []mutant{
		{
			Name: "chaos: a release is switched to before it is on disk",
			File: "sync/finish.go", Old: "	if err := fsys.Sync(); err != nil {\n		return err\n	}\n	if err := ctx.Err()", New: "	if err := ctx.Err()",
			Test: "GODEPLOY_CHAOS=release/power " + chaos + "-run 'TestPowerIsCut$'", Says: "I1: ",
		},
		{
			Name: "chaos: hosts switch before all of them are staged",
			File: "deploy/release.go", Old: "	if err := r.stageAll(ctx); err != nil {\n		return r.abandon(ctx, err)\n	}\n	if err := r.build(ctx); err != nil {\n		return r.abandon(ctx, err)\n	}\n",
			New:  "	_ = r.stageAll(ctx)\n	_ = r.build(ctx)\n",
			Test: "GODEPLOY_CHAOS=release/helper/frame/4 " + chaos + "-run TestNothingIsLeftHalfWay/helper_at_a_frame", Says: "I4: ",
		},
		{
			Name: "helper: the lock goes before the hook has died",
			File: "internal/helper/host_linux.go", Old: "	h.programs.killAll()\n	h.under.Lock()\n", New: "	h.under.Lock()\n",
			Test: "go test -count=1 -run 'TestUnlockEndsWhatRunsUnderTheLock$' ./internal/helper", Says: "FAIL",
		},
		{
			Name: "chaos: a host that goes back restarts nothing",
			File: "internal/helper/journal.go", Old: "	return do.serve(a, back, j.To)\n", New: "	return nil\n",
			Test: "GODEPLOY_CHAOS=release/controller/frame/8 " + chaos + "-run TestNothingIsLeftHalfWay/controller_at_a_frame", Says: "half-way: ",
		},
		{
			Name: "chaos: nothing is written down before the switch",
			File: "internal/helper/journal.go", Old: "	if err := s.note(j); err != nil {\n		s.disarm(req.Holder.Run)\n		return explain(err, \"write the journal\")\n	}\n", New: "",
			Test: "GODEPLOY_CHAOS=release/controller/frame/8 " + chaos + "-run TestNothingIsLeftHalfWay/controller_at_a_frame", Says: "half-way: ",
		},
	}
}
