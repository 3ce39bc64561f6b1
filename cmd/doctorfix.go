package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"godeploy/deploy"
	"godeploy/deploy/doctor"
	"godeploy/deploy/overssh"
	"godeploy/internal/fault"
	"godeploy/inventory"
)

// sudoers is the file for the logins of the hosts that are not root.
func (c *call) sudoers(hosts []inventory.Host) (string, error) {
	if c.opt.AskSudo {
		return c.helperSudoers(hosts)
	}
	var users []string
	rules := map[string][]deploy.Sudo{}
	for _, h := range hosts {
		user := orElse(h.User, c.sys.User)
		for _, r := range deploy.SudoRules(c.env, h) {
			if user == "root" || r.As == user || slices.Contains(rules[user], r) {
				continue
			}
			if rules[user] == nil {
				users = append(users, user)
			}
			rules[user] = append(rules[user], r)
		}
	}
	if len(users) == 0 {
		return "# godeploy: the logins of these hosts need no sudo\n", nil
	}
	var files []string
	for _, user := range users {
		files = append(files, doctor.Sudoers(user, rules[user]))
	}
	return strings.Join(files, "\n"), nil
}

// helperSudoers is the file for logins that start the helper with --ask-sudo.
func (c *call) helperSudoers(hosts []inventory.Host) (string, error) {
	list, err := overssh.Helpers().All()
	if err != nil {
		return "", err
	}
	var hashes, users, files []string
	for _, b := range list {
		hashes = append(hashes, b.Hash)
	}
	for _, h := range hosts {
		if user := orElse(h.User, c.sys.User); user != "root" && !slices.Contains(users, user) {
			users = append(users, user)
			files = append(files, doctor.HelperSudoers(user, hashes))
		}
	}
	return strings.Join(files, "\n"), nil
}

// fixAll runs the commands that the findings name, each once and after a question. Findings that need a
// person's hands are left.
func (c *call) fixAll(ctx context.Context, findings []doctor.Finding) error {
	var done []string
	for _, f := range findings {
		line := strings.Join(f.Command, " ")
		if f.Command == nil || f.Note || slices.Contains(done, line) {
			continue
		}
		done = append(done, line)
		err := c.confirm(ctx, fmt.Sprintf("%s: %s. Run godeploy %s?", orElse(f.Host, c.env.Name), clean(f.Msg), line))
		if refused(err) {
			continue
		}
		if err == nil {
			err = c.another(ctx, f.Command)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused reports whether the answer to a question was no.
func refused(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Code == fault.ConfirmNeeded && len(f.Next) == 0
}

// another runs one more command line of godeploy's with the same file. Its own questions are asked.
func (c *call) another(ctx context.Context, words []string) error {
	next := &call{sys: c.sys, cancel: c.cancel}
	next.settleLook(options{})
	err := next.execute(ctx, append(slices.Clone(words), "--config", c.file.Path))
	if code := next.finish(err, nil); code != exitDone {
		return exitWith(exitFindings, nil)
	}
	return nil
}
