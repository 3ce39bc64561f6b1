package cmd

import (
	"fmt"
	"slices"
	"strings"

	"godeploy/internal/fault"
)

// explanation is what `godeploy help CODE` and docs/errors.md say about a code.
type explanation struct {
	Code  fault.Code
	Means string
	Do    string
}

// explain gives the page of a code.
func explain(code string) (string, bool) {
	for _, e := range explanations() {
		if string(e.Code) == code {
			return fmt.Sprintf("%s (exit %s)\n\n%s\n\nWhat to do: %s", e.Code, exitText(e.Code), e.Means, e.Do), true
		}
	}
	return "", false
}

// exitText is the exit code of a fault that ends a run before it has changed anything; later ones say in
// which state the fleet is.
func exitText(code fault.Code) string {
	switch n := codeOfFault(code); {
	case code == fault.Interrupted:
		return "130 or 143"
	case n == exitUnexpected && slices.Contains(midRelease(), code):
		return "1 before any change, else 5 or 6"
	default:
		return fmt.Sprint(n)
	}
}

// midRelease lists the faults that mostly come when hosts have been changed already.
func midRelease() []fault.Code {
	return []fault.Code{fault.LockLost, fault.SyncVerify, fault.HookFailed, fault.HookTimeout, fault.CheckFailed, fault.OnceFailed,
		fault.SwitchFailed, fault.RestartFailed, fault.ReleaseNotLive, fault.HealthFailed, fault.GateFailed, fault.RollbackFailed, fault.DiskFull, fault.InodeFull}
}

func explanations() []explanation {
	return slices.Concat(callExplanations(), reachExplanations(), hostExplanations(), releaseExplanations(), nginxExplanations(), haproxyExplanations(), ownExplanations())
}

// errorsPage is docs/errors.md.
func errorsPage() string {
	var b strings.Builder
	b.WriteString("# Error codes\n\nEvery error has a code that never changes its meaning. `godeploy help CODE` prints the same text.\n")
	for _, e := range explanations() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nExit code: %s. What to do: %s\n", e.Code, e.Means, exitText(e.Code), e.Do)
	}
	return b.String()
}

func callExplanations() []explanation {
	return []explanation{
		{fault.Usage, "The command line could not be read: an unknown command or flag, a value that a flag cannot take, or a word too many. Nothing was touched.",
			"read the hint, or godeploy help COMMAND."},
		{fault.ConfigSyntax, "godeploy.toml is not valid TOML. The picture shows the line and the place in it.",
			"correct the place that the carets mark; a missing quote often shows one line late."},
		{fault.ConfigUnknownKey, "godeploy.toml has a key that godeploy does not know. It is refused, because a setting that is silently ignored is worse than none.",
			"correct the name; the hint has the nearest one. docs/config.md lists all keys."},
		{fault.ConfigValue, "A key has a value it cannot take, or two keys contradict each other.",
			"see the key in docs/config.md."},
		{fault.ConfigNotBuilt, "The file uses a key whose feature this version does not have, and the command would need it.",
			"remove the key, or use a version that has the feature. godeploy check lists all such keys."},
		{fault.ConfigMissing, "There is no godeploy.toml in this folder or any folder above it, or the one that --config names is not there.",
			"go to your project's folder, or name the file with --config FILE."},
		{fault.EnvUnknown, "The environment is not in godeploy.toml, or none was named and the file has several.",
			"use one of the names that the message lists, or set default_env."},
		{fault.HostUnknown, "A host was named that the environment does not have.",
			"godeploy inventory show ENV lists the hosts."},
		{fault.LimitEmpty, "--limit leaves no host over, or contradicts itself.",
			"try the pattern with godeploy inventory show ENV -l PATTERN."},
		{fault.ConfirmNeeded, "The command asks for confirmation and did not get it: the answer was no, or there is no terminal to ask on.",
			"add --yes where nobody can answer."},
		{fault.BranchRefused, "The environment may only be released from another branch.",
			"switch the branch, or override it once with --any-branch."},
		{fault.TreeDirty, "The working tree has changes that are not committed.",
			"commit them, or release them knowingly with --allow-dirty."},
	}
}

func reachExplanations() []explanation {
	return []explanation{
		{fault.SSHRefused, "No SSH connection came about: the port is closed, the name has no address, or what answers does not speak SSH.",
			"check address and port in godeploy.toml, and whether sshd runs."},
		{fault.SSHTimeout, "The host did not answer within the time for connecting and logging in.",
			"check the address, the firewall and the jump hosts; -vvv shows each step."},
		{fault.SSHAuth, "The host answered and refused every key that was offered.",
			"put the public key into ~/.ssh/authorized_keys of that user, or name another key in [env.NAME.ssh] keys."},
		{fault.SSHHostKeyUnknown, "The host shows a key that no known_hosts file has. godeploy never accepts one by itself.",
			"compare the fingerprint with one from the host itself, then godeploy keys trust ENV."},
		{fault.SSHHostKeyChanged, "The host shows another key than the known one. Either it was installed anew, or somebody sits between you and it.",
			"ask whoever runs the host; then godeploy keys trust ENV -l HOST."},
		{fault.SSHJump, "None of the jump hosts led to the host, or the jump host does not forward connections.",
			"try ssh -J JUMP HOST by hand; sshd on the jump host needs AllowTcpForwarding."},
		{fault.SSHLost, "A connection that stood was lost. Hooks on the host are ended and its lock is free.",
			"run the command again; godeploy status ENV says what the host serves."},
		{fault.KeyRefused, "A file is no public key that godeploy lets in with, or a key pair that should be made is there already. Nothing was touched.",
			"see the reason in the message; godeploy keys generate makes a key that every sshd takes."},
		{fault.KeyUnproven, "A key was brought to a host, and a new login with it alone was refused. The host's file is as it was before.",
			"the facts say what sshd has against it: its settings, or the modes of the home and .ssh. docs/keys.md has the list."},
		{fault.LockoutRefused, "The key is the one that you log in with, or the last one that lets anybody in. It was not removed.",
			"bring another key first: godeploy keys push ENV --key FILE."},
		{fault.AccountRefused, "The file of keys of an account cannot be edited: it is no plain file, a link that leads out of the home, another account's, or write-protected. It was not changed.",
			"the message names the file and what is wrong with it."},
		{fault.SudoNeeded, "Something needs root on the host, and the login user may not become root without a password.",
			"add the sudoers line that the message shows, or set sudo = true with such a user."},
	}
}

func hostExplanations() []explanation {
	return []explanation{
		{fault.DiskFull, "The host has no room for the new release.", "free some space, or lower [app] keep."},
		{fault.InodeFull, "The host's file system has no inodes left for the new release's files.", "remove files there, or lower [app] keep."},
		{fault.ClockSkew, "The host's clock differs too much from yours.", "start its time synchronisation."},
		{fault.LayoutRefused, "The app's folder on the host does not look as the layout needs it, for example because current is a real folder.",
			"see the hint: the old folder has to be moved away once, by you."},
		{fault.DeleteRefused, "A sync in place would delete more of what is on the host than max_delete allows. Nothing was changed.",
			"look at godeploy sync --dry-run --list; if all of it is right, allow it with --max-delete."},
		{fault.SharedMissing, "A file that [shared] files names is not on the host.", "put it into shared/ under the app's path."},
		{fault.LockHeld, "Somebody else is changing these hosts. The lock belongs to a live connection and ends with it.",
			"wait, or ask the holder that the message names."},
		{fault.Frozen, "Somebody wants no changes for now, and has said so on these hosts with godeploy lock acquire. Nothing was changed.",
			"wait, or ask who the message names; godeploy lock release ENV lifts it."},
		{fault.LockLost, "The lock was lost in the middle of a run, with the connection that held it.", "run godeploy status ENV, then the command again."},
		{fault.RemoteToolMissing, "A program that godeploy needs is not on the host.", "install it; the message names it."},
		{fault.HelperArch, "No helper program exists for this system or processor.", "set helper = false in [env.NAME.ssh] to go on with SFTP."},
		{fault.Protocol, "The host's end of the connection did not speak as agreed, for example because a login script prints text.",
			"make the shell's start-up files silent for logins without a terminal."},
	}
}

func releaseExplanations() []explanation {
	return []explanation{
		{fault.SyncSource, "A local file cannot be sent: it cannot be read, is a device, or a link that leaves the tree.", "exclude it, or see [sync] symlinks and special."},
		{fault.SyncSourceChanged, "A local file changed while it was being read, again and again.", "stop whatever writes into the tree, then run again."},
		{fault.SyncVerify, "A file on the host is not what was sent. The release was not switched to.", "run again; if it comes back, look at the host's disk."},
		{fault.HookFailed, "One of your hooks ended with an error.", "its last lines stand in the message."},
		{fault.HookTimeout, "One of your hooks ran longer than its limit and was ended with everything it had started.", "raise timeout, or see what it waits for."},
		{fault.CheckFailed, "The new code does not start: the trial before the switch failed. The old release still serves.", "see the lines in the message; correct the code."},
		{fault.MaxUnavailable, "Going on would take more hosts out of service at once than [release] max_unavailable allows. Hosts that an earlier run left out of service count.",
			"bring those back first, see godeploy status ENV; or raise max_unavailable."},
		{fault.SecretsFailed, "The [secrets] command failed, or what it printed is neither NAME=VALUE lines nor a JSON object. Nothing was changed.",
			"run the command by hand here; docs/release.md says what it may print."},
		{fault.SchemaAhead, "The database was migrated since the release that a rollback should go to, or its schema could not be asked for. Nothing was changed.",
			"go to a later release, or undo the migration first; --accept-schema-ahead goes back all the same."},
		{fault.OnceFailed, "The hook that runs on one host only, such as a migration, failed. Nothing was switched.", "see its last lines."},
		{fault.SwitchFailed, "The link current could not be set to the new release on a host.", "see the message; godeploy status ENV shows what is served."},
		{fault.RestartFailed, "The service did not restart.", "see the service's own log on the host."},
		{fault.ReleaseNotLive, "The service runs, but its processes still run the old code.", "gunicorn must be started with --chdir PATH/current."},
		{fault.GateFailed, "The new servers miss [release] gate beside the old ones, by more than chance explains. The release was undone.", "see the figures in the message, and the log of the app; a goal that is too tight is changed in godeploy.toml."},
		{fault.DrainOpen, "The servers are out of the balancer, but requests were still open there when the time to wait was up.", "run the same line again to go on waiting, or go on: a graceful restart lets them end."},
		{fault.HealthFailed, "The host did not become healthy with the new release.", "see the lines in the message, and the service's log."},
		{fault.RollbackFailed, "A host could not be brought back to the release before. A person is needed.", "godeploy status ENV, then the host's service log."},
		{fault.RollbackNone, "There is no earlier release to go back to.", "godeploy releases ENV lists what there is."},
		{fault.ReleaseUnknown, "The release that was named is not on every host.", "godeploy releases ENV lists what there is."},
		{fault.TuneUndone, "The settings of tune did not take, or nobody could log in to the host with them. The host has put back what it had before.",
			"see the lines in the message; correct the value in [tune] and run again."},
		{fault.ExecFailed, "A command of yours ended with an error on a host.", "its output stands above the message."},
	}
}

func nginxExplanations() []explanation {
	return []explanation{
		{fault.NginxDrift, "A file that godeploy would write on an nginx host was edited since, belongs to another app, or was never godeploy's. Nothing was changed.",
			"see godeploy nginx diff ENV; bring the change into godeploy.toml, or drop it with godeploy nginx push ENV --overwrite."},
		{fault.NginxOutdated, "The file on an nginx host is as godeploy left it, but godeploy.toml, or a newer godeploy, makes another one now. A drain changes who is in service and nothing else, so nothing was changed.",
			"see godeploy nginx diff ENV, then godeploy nginx push ENV; or go without a drain, by --no-drain."},
		{fault.NginxBroken, "nginx would refuse the files that a host has now, as nginx -t says, before godeploy has changed anything.",
			"correct the place that the message names; it may be another site's file."},
		{fault.NginxStopped, "nginx does not run on a host, or more than one master runs with the same main file. Nothing was changed.",
			"start it, or end the master that the system did not start."},
		{fault.NginxPort, "Another program listens where nginx is to listen. A reload would end well and change nothing, so it was not tried.",
			"stop that program, or change [nginx] listen."},
		{fault.NginxRefused, "nginx refuses the new configuration, or does not read the file. It was tested beside the live one, which is as it was on every host.",
			"see nginx's own words in the message."},
		{fault.NginxReload, "A host has not taken the new configuration: no new workers came, or they do not answer with it. Every host is back on what it had, unless the message says otherwise.",
			"see nginx's error log on the host."},
		{fault.NginxFailed, "A step on an nginx host failed for a reason of that host, such as a full disk.", "see the lines in the message."},
	}
}

func haproxyExplanations() []explanation {
	return []explanation{
		{fault.HaproxyDrift, "The file that godeploy would write on a HAProxy host was edited since, belongs to another app, or was never godeploy's. Nothing was changed.",
			"see godeploy balancer diff ENV; bring the change into godeploy.toml, or drop it with godeploy balancer push ENV --overwrite."},
		{fault.HaproxyOutdated, "The file on a HAProxy host is as godeploy left it, but godeploy.toml, or a newer godeploy, makes another one now. A drain changes who is in service and nothing else, so nothing was changed.",
			"see godeploy balancer diff ENV, then godeploy balancer push ENV; or go without a drain, by --no-drain."},
		{fault.HaproxyBroken, "HAProxy would refuse the files that a host has now, as haproxy -c says, before godeploy has changed anything.",
			"correct the place that the message names; it may be in another file."},
		{fault.HaproxyStopped, "HAProxy does not run on a host as a master with workers that reads [balancer] file, or more than one does. Nothing was changed.",
			"start it, or end the master that the system did not start; see docs/haproxy.md."},
		{fault.HaproxyPort, "Another program listens where HAProxy is to listen. Nothing was changed.", "stop that program, or change [balancer] listen."},
		{fault.HaproxyRefused, "HAProxy refuses the new configuration. It was tested beside the live one, which is as it was on every host.", "see HAProxy's own words in the message."},
		{fault.HaproxyReload, "A host has not taken the new configuration: no new worker came, or it does not answer with it. Every host is back on what it had, unless the message says otherwise.",
			"see journalctl -u haproxy on the host."},
		{fault.HaproxyFailed, "A step on a HAProxy host failed for a reason of that host, such as a full disk.", "see the lines in the message."},
	}
}

func ownExplanations() []explanation {
	return []explanation{
		{fault.Interrupted, "The run was ended by Ctrl-C, by a signal or by --timeout. The message and the last event say in which state the fleet is.",
			"godeploy status ENV, then the command again."},
		{fault.Internal, "Something happened that godeploy has no words for. This may be a defect.", "please report it, with the run file of .godeploy/runs."},
	}
}
