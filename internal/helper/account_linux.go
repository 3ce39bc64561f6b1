package helper

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"godeploy/internal/fault"
)

// account is a user and the group to act as.
type account struct {
	name, home string
	uid, gid   int
	groups     []uint32
}

// self is the user this helper runs as.
func self() account {
	a := account{uid: os.Geteuid(), gid: os.Getegid(), name: os.Getenv("USER"), home: os.Getenv("HOME")}
	if u, err := user.Current(); err == nil {
		a.name, a.home = u.Username, u.HomeDir
	}
	if a.home == "" || a.home[0] != '/' {
		a.home = "/"
	}
	return a
}

// lookup finds "user" or "user:group".
func lookup(ctx context.Context, name string) (account, error) {
	name, group, named := strings.Cut(name, ":")
	a, err := lookupUser(ctx, name)
	if err != nil || !named {
		return a, err
	}
	a.gid, err = lookupGroup(ctx, group)
	return a, err
}

func lookupUser(ctx context.Context, name string) (account, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		u, err = ask(ctx, name)
	}
	if err != nil {
		return account{}, fault.New(fault.ConfigValue, "user %s is not known on this host", name).Wrap(err)
	}
	a := account{name: u.Username, home: u.HomeDir}
	var err1, err2 error
	a.uid, err1 = strconv.Atoi(u.Uid)
	a.gid, err2 = strconv.Atoi(u.Gid)
	ids, err3 := u.GroupIds()
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	return a, errors.Join(err1, err2, err3)
}

// ask finds a user that does not stand in /etc/passwd: a directory service's.
func ask(ctx context.Context, name string) (*user.User, error) {
	f, err := getent(ctx, "passwd", name, 7)
	if err != nil {
		return nil, err
	}
	return &user.User{Username: f[0], Uid: f[2], Gid: f[3], HomeDir: f[5]}, nil
}

func lookupGroup(ctx context.Context, name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err == nil {
		return strconv.Atoi(g.Gid)
	}
	f, err := getent(ctx, "group", name, 4)
	if err != nil {
		return 0, fault.New(fault.ConfigValue, "group %s is not known on this host", name).Wrap(err)
	}
	return strconv.Atoi(f[2])
}

// getent asks the system's own resolver, which knows directory services.
func getent(ctx context.Context, table, name string, fields int) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, "getent", table, name).Output()
	if err != nil {
		return nil, err
	}
	f := strings.Split(strings.TrimSpace(string(out)), ":")
	if len(f) != fields || f[0] != name {
		return nil, errors.New("getent gave no entry")
	}
	return f, nil
}

// become gives what makes a child another user. Only root can; to become oneself nothing is needed.
func become(who account) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		if who.uid == os.Geteuid() {
			return nil, nil
		}
		return nil, fault.New(fault.SudoNeeded, "only root can run a program as %s", who.name).
			Hint("connect as root, or set sudo = true")
	}
	return &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid), Groups: who.groups}, nil
}
