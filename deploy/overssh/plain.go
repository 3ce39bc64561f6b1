package overssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"godeploy/deploy"
	"godeploy/internal/fault"
	"godeploy/internal/helper"
	"godeploy/internal/wire"
	"godeploy/inventory"
	"godeploy/sshx"
	filesync "godeploy/sync"
)

// plain is a host without the helper: the same layout code runs here, over SFTP, and programs run
// under a watched shell. It implements deploy.Host.
type plain struct {
	site   wire.Site
	host   inventory.Host
	conn   *sshx.Conn
	client *sftp.Client
	facts  wire.HelloReply
	tools  tools
	locked bool
}

func newPlain(ctx context.Context, env *inventory.Env, h inventory.Host, conn *sshx.Conn) (deploy.Host, error) {
	client, err := conn.SFTP(ctx)
	if err != nil {
		return nil, err
	}
	p := &plain{site: deploy.SiteOf(env, h), host: h, conn: conn, client: client}
	if err = tune(client); err == nil {
		p.facts, p.tools, err = p.ask(ctx)
	}
	if err != nil {
		_ = client.Close() // err tells more
		return nil, err
	}
	return p, nil
}

// ask learns who and what the host is, and what it has to work with. An account that runs no commands,
// such as one that sshd gives internal-sftp alone, is no error: files can be brought there.
func (p *plain) ask(ctx context.Context) (wire.HelloReply, tools, error) {
	text, err := p.say(ctx, `id -u; id -un; uname -s; uname -m; date +%s; cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo none
`+toolProbe)
	if exit := (*sshx.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return wire.HelloReply{}, tools{}, err
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	found, ran := parseTools(lines[len(lines)-1])
	if !ran {
		return wire.HelloReply{UID: -1, OS: "linux", Now: time.Now(), BootID: "none", User: p.host.User}, tools{}, nil
	}
	if len(lines) < 7 {
		return wire.HelloReply{}, tools{}, fault.New(fault.Protocol, "the host does not answer as a POSIX shell would").Fact("| %.200s", text)
	}
	lines = lines[len(lines)-7:] // a login shell may have said something of its own before
	uid, err := strconv.Atoi(lines[0])
	seconds, err2 := strconv.ParseInt(lines[4], 10, 64)
	if err != nil || err2 != nil {
		return wire.HelloReply{}, tools{}, fault.New(fault.Protocol, "the host's answer to id and date makes no sense").Fact("| %.200s", text)
	}
	return wire.HelloReply{
		UID: uid, User: lines[1], OS: goos(lines[2]), Arch: goarch(lines[3]), Now: time.Unix(seconds, 0), BootID: lines[5],
	}, found, nil
}

// errNoShell says what an account for files alone cannot do.
func (p *plain) errNoShell() error {
	return fault.New(fault.RemoteToolMissing, "the account runs no commands: it is for files alone").
		Hint("give it a shell in sshd_config and /etc/passwd; without one a tree can be brought there, and no more")
}

// say runs constant shell text with arguments and gives its output.
func (p *plain) say(ctx context.Context, text string, args ...string) (string, error) {
	command, err := sshx.Quote(append([]string{"/bin/sh", "-c", text, "sh"}, args...)...)
	if err != nil {
		return "", err
	}
	var out, said bounded
	err = p.conn.Run(ctx, command, nil, &out, &said)
	if exit := (*sshx.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w", strings.TrimSpace(said.String()), err)
	}
	return out.String(), err
}

func (p *plain) Inventory() inventory.Host { return p.host }

func (p *plain) Facts() wire.HelloReply { return p.facts }

// tree is the app's folder, as fast as the host's programs let it be.
func (p *plain) tree(files sftpFS, compress bool) filesync.FS {
	if !p.tools.shell {
		return files
	}
	return shellFS{sftpFS: files, conn: p.conn, tools: p.tools, uid: p.facts.UID, compress: compress}
}

// layout is the app's folder as the helper would see it.
func (p *plain) layout() *helper.Site {
	return &helper.Site{FS: p.tree(newSFTPFS(p.client, p.site.Path), true), Path: p.site.Path, UID: -1, GID: -1}
}

func (p *plain) State(ctx context.Context, sharedFiles []string) (wire.State, error) {
	state := wire.State{FreeBytes: -1, FreeNodes: -1, Missing: sharedFiles}
	switch _, err := p.client.Stat(p.site.Path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return state, failed("stat", p.site.Path, err)
	default:
		if state, err = p.layout().State(ctx, sharedFiles); err != nil {
			return state, err
		}
		if state.Holder, err = p.holder(); err != nil {
			return state, err
		}
	}
	if state.Writable = true; !p.tools.shell { // SFTP cannot tell without writing
		return state, nil
	}
	_, no := p.say(ctx, `p=$1; while [ ! -e "$p" ]; do p=${p%/*}; [ -n "$p" ] || p=/; done; [ -w "$p" ]`, p.site.Path)
	state.Writable = no == nil
	return state, nil
}

func (p *plain) lockDir() string { return path.Join(p.site.Path, ".godeploy/lock.d") }

// Lock makes a folder, which only one can do. Nothing frees it when the run dies: the next one says
// who made it and how to remove it.
func (p *plain) Lock(_ context.Context, holder wire.Holder) (*wire.Holder, error) {
	if p.locked {
		return nil, nil
	}
	if err := p.client.MkdirAll(path.Dir(p.lockDir())); err != nil {
		return nil, failed("mkdir", path.Dir(p.lockDir()), err)
	}
	if err := p.client.Mkdir(p.lockDir()); err != nil {
		held, herr := p.holder()
		if held != nil || herr != nil {
			return held, herr
		}
		return nil, failed("mkdir", p.lockDir(), err)
	}
	p.locked = true
	content, err := json.Marshal(holder)
	if err != nil {
		return nil, err
	}
	f, err := p.client.Create(path.Join(p.lockDir(), "holder"))
	if err != nil {
		return nil, failed("create", p.lockDir(), err)
	}
	_, err = f.Write(content)
	return nil, errors.Join(err, f.Close())
}

// holder reads who has the lock, nil when nobody has.
func (p *plain) holder() (*wire.Holder, error) {
	if _, err := p.client.Lstat(p.lockDir()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, failed("lstat", p.lockDir(), err)
	}
	held := &wire.Holder{Who: "somebody unknown", Command: "an unfinished run"}
	f, err := p.client.Open(path.Join(p.lockDir(), "holder"))
	if err != nil {
		return held, nil // between the two steps of taking it
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err == nil {
		_ = json.Unmarshal(content, held) // half written: what stands above holds
	}
	return held, nil
}

// BreakLock removes the folder, whoever made it.
func (p *plain) BreakLock(context.Context) error {
	held, err := p.holder()
	if err != nil || held == nil {
		return err
	}
	p.locked = true
	p.unlock()
	if held, err = p.holder(); err == nil && held != nil {
		err = fault.New(fault.LockHeld, "%s cannot be removed", p.lockDir())
	}
	return err
}

func (p *plain) unlock() {
	if !p.locked {
		return
	}
	_ = p.client.Remove(path.Join(p.lockDir(), "holder")) // it may not have been written
	_ = p.client.RemoveDirectory(p.lockDir())             // what stays is told by the next run
	p.locked = false
}

func (p *plain) Prepare(ctx context.Context, sharedDirs []string) error {
	return p.layout().Prepare(ctx, sharedDirs)
}

// Stage runs both ends of the transfer here; what the receiving end writes goes over SFTP.
func (p *plain) Stage(ctx context.Context, req wire.StageRequest, src *filesync.Source, o filesync.SendOptions) (wire.StageReply, filesync.Stats, error) {
	here, there := net.Pipe()
	type sent struct {
		stats filesync.Stats
		err   error
	}
	done := make(chan sent, 1)
	site, files := p.layout(), newSFTPFS(p.client, p.site.Path)
	if site.FS = p.tree(files, o.Compress != "off"); p.tools.shell {
		site.FS = site.FS.(shellFS).behind(ctx)
	}
	defer site.FS.Close() // what was not finished shows in Stage's error
	o.Compress = "off"    // what goes through the pipe goes nowhere
	go func() {
		stats, err := filesync.Send(ctx, src, here, o)
		_ = here.Close() // unblocks the other end when this one failed
		done <- sent{stats, err}
	}()
	reply, err := site.Stage(ctx, req, there)
	_ = there.Close() // unblocks the sender
	s := <-done
	if err == nil {
		err = s.err
	}
	s.stats.Sent = files.sent.Load()
	return reply, s.stats, err
}

func (p *plain) Switch(ctx context.Context, id, expect string) (string, error) {
	return p.layout().Switch(ctx, id, expect)
}

func (p *plain) Mark(ctx context.Context, id string, mark wire.Mark, previous string) error {
	return p.layout().Mark(ctx, id, mark, previous)
}

func (p *plain) Remove(ctx context.Context, ids []string) ([]string, error) {
	return p.layout().Remove(ctx, ids, false)
}

func (p *plain) Exec(ctx context.Context, req wire.ExecRequest, output func(stream string, p []byte)) (wire.ExecReply, error) {
	if !p.tools.shell {
		return wire.ExecReply{}, p.errNoShell()
	}
	return watched(ctx, p.conn, req, p.facts.UID == 0, output)
}

// Signal checks who the process is and signals it in one shell, the closest to one step that a shell
// has.
func (p *plain) Signal(ctx context.Context, req wire.SignalRequest) error {
	if !p.tools.shell {
		return p.errNoShell()
	}
	_, err := p.say(ctx, `s=$(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20) && [ "$s" = "$2" ] && kill -s "$3" "$1"`,
		strconv.Itoa(req.PID), strconv.FormatUint(req.Start, 10), req.Signal)
	return err
}

func (p *plain) File(_ context.Context, req wire.FileRequest) (wire.FileReply, error) {
	if req.Write {
		return wire.FileReply{}, fault.New(fault.HelperArch, "writing %s needs the helper", req.Path)
	}
	f, err := p.client.Open(req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.FileReply{}, nil
	}
	if err != nil {
		return wire.FileReply{}, failed("open", req.Path, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(struct{ io.Reader }{f}, wire.MaxFrame))
	return wire.FileReply{Exists: true, Content: content}, failed("read", req.Path, err)
}

func (p *plain) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.conn.DialContext(ctx, network, address)
}

func (p *plain) Close() error {
	p.unlock()
	return errors.Join(p.client.Close(), p.conn.Close())
}
