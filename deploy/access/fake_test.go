package access

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"godeploy/internal/event"
	"godeploy/internal/fault"
	"godeploy/internal/wire"
	"godeploy/inventory"
)

// errKilled is what every call says after the run was killed.
var errKilled = errors.New("killed")

// hostsOf is a fleet in memory: a file of keys for each host, and this machine's key at path. Its door lets in by
// what stands in the files, jump hosts included.
type hostsOf struct {
	t     *testing.T
	env   *inventory.Env
	path  string // of the private key that this machine logs in with
	mu    sync.Mutex
	files map[string]string
	calls int
	kill  int // before which call the run is killed; 0 is never
	// refused are hosts whose sshd takes no key that came later.
	refused map[string]Key
}

const fleetFile = `version = 1
[app]
name = "shop"
path = "/opt/shop"
[process]
manager = "command"
[hooks]
restart = ["true"]
[health]
url = "http://127.0.0.1:9000/"
[env.prod.hosts]
gate = { role = "nginx", address = "192.0.2.1" }
app1 = { role = "app", address = "10.0.0.1", jump = "gate" }
app2 = { role = "app", address = "10.0.0.2", jump = "gate", port = 2222 }
`

func newHostsOf(t *testing.T) *hostsOf {
	t.Helper()
	file, err := inventory.Parse("godeploy.toml", []byte(fleetFile), nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := file.Env("prod")
	if err != nil {
		t.Fatal(err)
	}
	h := &hostsOf{t: t, env: env, path: filepath.Join(t.TempDir(), "id"), files: map[string]string{}}
	return h
}

func (h *hostsOf) fleet() *Fleet {
	return &Fleet{Env: h.env, Door: h, Report: event.Discard{}, Parallel: 1}
}

// mine is the key at path.
func (h *hostsOf) mine() Key {
	b, err := os.ReadFile(h.path) // the fake's private half is the public line
	if err != nil {
		h.t.Fatalf("there is no key at %s: %v", h.path, err)
	}
	k, err := ParseKey(b, h.path)
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

// lets reports whether a key gets to a host, all the way.
func (h *hostsOf) lets(host inventory.Host, k Key) bool {
	way := []string{host.Name}
	for _, chain := range host.Jump {
		way = append(way, chain...)
	}
	for _, name := range way {
		if no, is := h.refused[name]; len(readSheet([]byte(h.files[name])).find(k.Blob)) == 0 || is && no.Same(k) {
			return false
		}
	}
	return true
}

func (h *hostsOf) step() error {
	if h.calls++; h.kill > 0 && h.calls >= h.kill {
		return errKilled
	}
	return nil
}

func (h *hostsOf) enter(host inventory.Host, keys ...Key) (Account, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.step(); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if h.lets(host, k) {
			return &fakeAccount{h, host.Name}, nil
		}
	}
	return nil, fault.New(fault.SSHAuth, "%s refuses", host.Name)
}

func (h *hostsOf) Any(_ context.Context, host inventory.Host) (Account, error) {
	return h.enter(host, h.mine())
}

func (h *hostsOf) Without(_ context.Context, host inventory.Host, gone func([]byte) bool) (Account, error) {
	if k := h.mine(); !gone(k.Blob) {
		return h.enter(host, k)
	}
	return h.enter(host)
}

func (h *hostsOf) Only(_ context.Context, host inventory.Host, k Key) error {
	_, err := h.enter(host, k)
	return err
}

type fakeAccount struct {
	h    *hostsOf
	name string
}

func (a *fakeAccount) KeyFile(_ context.Context, req wire.KeyFileRequest) (wire.KeyFileReply, error) {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	if err := a.h.step(); err != nil {
		return wire.KeyFileReply{}, err
	}
	const home, file = "/home/deploy", "/home/deploy/.ssh/authorized_keys"
	reply := wire.KeyFileReply{Path: file, Home: home}
	if req.Path != "" && !strings.HasSuffix(req.Path, "authorized_keys") {
		return reply, nil
	}
	now := a.h.files[a.name]
	reply.Exists, reply.Content = true, []byte(now)
	reply.Way = []wire.KeyPart{{Path: file, Mode: modeRegular | 0o600}}
	if req.Write {
		if reply.Stale = req.Expect != sumOf(reply); !reply.Stale {
			a.h.files[a.name] = string(req.Content)
		}
	}
	return reply, nil
}

func (a *fakeAccount) Exec(context.Context, wire.ExecRequest, func(string, []byte)) (wire.ExecReply, error) {
	return wire.ExecReply{Exit: 1}, nil
}

func (a *fakeAccount) Facts() wire.HelloReply { return wire.HelloReply{UID: 1000, User: "deploy"} }

func (a *fakeAccount) Close() error { return nil }

// pair writes a key at a path; the fake's private half is the public line too.
func (h *hostsOf) pair(path string) Key {
	h.t.Helper()
	dir := h.t.TempDir()
	k, err := Generate(filepath.Join(dir, "k"), GenerateOptions{Comment: filepath.Base(path)})
	if err == nil {
		err = errors.Join(os.WriteFile(path, []byte(k.Public()), 0o600), os.WriteFile(path+".pub", []byte(k.Public()), 0o600))
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

func (h *hostsOf) give(k Key) {
	for _, host := range h.env.Hosts {
		h.files[host.Name] = fmt.Sprintf("# %s\n%s\n", host.Name, k.Public())
	}
}
