package overssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"godeploy/internal/wire"
)

// Procs reads /proc by SFTP: what the helper would see, file by file.
func (p *plain) Procs(_ context.Context, pid int) ([]wire.Proc, error) {
	main, err := p.proc(pid)
	if err != nil || main == nil {
		return nil, err
	}
	procs := []wire.Proc{*main}
	for _, child := range strings.Fields(p.procText(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))) {
		id, err := strconv.Atoi(child)
		if err != nil {
			continue
		}
		one, err := p.proc(id)
		if err != nil {
			return nil, err
		}
		if one != nil && one.PPID == pid {
			procs = append(procs, *one)
		}
	}
	return procs, nil
}

// proc reads one process, nil when it is gone.
func (p *plain) proc(pid int) (*wire.Proc, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	info, err := p.client.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed("lstat", dir, err)
	}
	out := &wire.Proc{PID: pid, UID: infoOf(info).UID}
	// The name in parentheses may hold anything; the fields begin after the last one.
	text := p.procText(dir + "/stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" {
		return nil, nil
	}
	if out.PPID, err = strconv.Atoi(fields[1]); err != nil {
		return nil, nil
	}
	if out.Start, err = strconv.ParseUint(fields[19], 10, 64); err != nil {
		return nil, nil
	}
	out.CWD, _ = p.client.ReadLink(dir + "/cwd") // another user's cannot be seen
	if args := strings.TrimRight(p.procText(dir+"/cmdline"), "\x00"); args != "" {
		out.Args = strings.Split(args, "\x00")
	}
	return out, nil
}

// procText reads a file that the kernel makes up; one that is gone is empty.
func (p *plain) procText(name string) string {
	f, err := p.client.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(struct{ io.Reader }{f}, 64<<10))
	if err != nil {
		return ""
	}
	return string(text)
}
