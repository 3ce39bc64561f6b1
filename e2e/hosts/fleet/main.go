// Command fleet boots the test hosts for a person and keeps them: `make hosts-up`, `make hosts-down`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/e2e/hosts"
	"godeploy/e2e/hosts/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "up":
		return up(ctx)
	case len(args) == 2 && args[0] == "down":
		return hosts.Remove(args[1])
	case len(args) == 1 && args[0] == "list":
		ids, err := hosts.Kept()
		for _, id := range ids {
			fmt.Println(id)
		}
		return err
	case len(args) == 1 && args[0] == "base":
		dir, err := hosts.Base(ctx, hosts.CacheDir())
		fmt.Println(dir)
		return err
	}
	return errors.New("usage: fleet up | list | down ID | base")
}

// up leaves a fleet with the project's first version installed by hand on every app host.
func up(ctx context.Context) error {
	f, err := hosts.Start(ctx, hosts.Options{Keep: true, Log: func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
	}})
	if err != nil {
		return err
	}
	defer f.Close()
	project := filepath.Join(filepath.Dir(f.KeyFile), "project")
	if err := install(ctx, f, project); err != nil {
		_ = f.Close() // lets go of it, so that Remove may take it
		return errors.Join(err, hosts.Remove(f.ID))
	}
	in := "ip netns exec " + f.ID + "-op "
	fmt.Printf("fleet %s stands. From the operator's place:\n  %sssh -F %s app1\n  %scurl -i http://203.0.113.11/\n"+
		"A project to release lies in %s.\nRemove it all with: make hosts-down FLEET=%s\n", f.ID, in, f.SSHConfig, in, project, f.ID)
	return nil
}

func install(ctx context.Context, f *hosts.Fleet, project string) error {
	if err := app.Write(project, app.Variant{Version: "v1"}); err != nil {
		return err
	}
	if err := f.PrepareApp(ctx, project); err != nil {
		return err
	}
	for _, h := range f.Role("app") {
		if err := h.ReleaseByHand(ctx, project, "20260101-000000-0000001"); err != nil {
			return err
		}
	}
	// One host migrates: the database is one for all.
	if _, err := f.Host("app1").Sh(ctx, "cd "+hosts.AppPath+"/current; runuser -u deploy -- python3 manage.py migrate --noinput"); err != nil {
		return err
	}
	if err := f.Balance(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return f.Answers(ctx, "/healthz")
}
