package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
)

// messages gives one zero message of every type that arrives from outside.
func messages() []Checker {
	return []Checker{
		&Nothing{}, &HelloReply{}, &LockRequest{}, &LockReply{}, &UnlockRequest{}, &State{}, &StateRequest{},
		&PrepareRequest{}, &StageRequest{}, &StageReply{}, &SwitchRequest{}, &SwitchReply{}, &MarkRequest{},
		&RemoveRequest{}, &RemoveReply{}, &ExecRequest{}, &ExecReply{}, &ProcsRequest{}, &ProcsReply{},
		&SignalRequest{}, &FileRequest{}, &FileReply{}, &ErrorReply{}, &PlaceRequest{}, &PlaceReply{}, &NoteRequest{},
		&SocketsRequest{}, &SocketsReply{}, &KeyFileRequest{}, &KeyFileReply{},
	}
}

// FuzzMessages: decoding never panics, and what passes Check still passes after a round trip.
func FuzzMessages(f *testing.F) {
	site := `"site":{"app":"shop","path":"/srv/shop"}`
	for _, s := range []string{
		`{}`, `{` + site + `}`, `{` + site + `,"id":"20261123-104107-4f2c9e1","mark":"live"}`,
		`{"argv":["a"],"env":{"A":"b"},"user":"www-data:adm","dir":"/srv"}`, `{"path":"/etc/nginx/x","content":"eHg="}`,
		`{"code":"disk-full","msg":"x"}`, `{"pid":2,"signal":"HUP"}`, `{"releases":[{"id":"20261123-104107-4f2c9e1"}],"in_use":["x"]}`,
		`{"hash":"` + strings.Repeat("0", 64) + `","protocol":1,"cpus":1}`, `null`, `[]`, `{"seq":-1}`, `{"ports":[80]}`, `{"peers":[{"address":"10.0.0.1","port":80,"count":2}]}`,
		`{` + site + `,"id":"20261123-104107-4f2c9e1","note":{"once":{"host":"a","exit":0,"ended":true},"heads":["shop 0002"]}}`,
		`{"user":"deploy","path":".ssh/authorized_keys"}`, `{"write":true,"path":"/home/deploy/.ssh/authorized_keys","content":"eA=="}`,
		`{"path":"/home/deploy/k","home":"/home/deploy","way":[{"path":"/","mode":16877}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, m := range messages() {
			if decode(payload, m) != nil {
				continue
			}
			again, err := json.Marshal(m)
			if err != nil {
				t.Fatalf("%T accepted but not encodable: %v", m, err)
			}
			if err := decode(again, m); err != nil {
				t.Fatalf("%T accepted %q, then refused its own encoding %q: %v", m, payload, again, err)
			}
		}
	})
}

// FuzzSite: a path that passes is absolute, has no way up, and is not the system's.
func FuzzSite(f *testing.F) {
	for _, p := range []string{"/srv/shop", "/etc/shop", "/srv/../etc", "/usr/bin", "/var/lib", "/var/lib/shop", "//srv/shop", "/srv/shop/", "/a\nb/c", "/proc/1"} {
		f.Add("shop", p, "deploy:www-data")
	}
	f.Fuzz(func(t *testing.T, app, path, owner string) {
		s := Site{app, path, owner}
		if s.Check() != nil {
			return
		}
		if strings.ContainsAny(app, "/\x00") || app == ".." || strings.ContainsAny(path, "\x00\n") || strings.HasPrefix(owner, "-") {
			t.Errorf("accepted %+q", s)
		}
		for _, bad := range []string{"/../", "//", "/./"} {
			if strings.Contains(path+"/", bad) {
				t.Errorf("accepted %+q", s)
			}
		}
		for _, bad := range []string{"/etc/", "/proc/", "/bin/", "/usr/bin/"} {
			if strings.HasPrefix(path+"/", bad) {
				t.Errorf("accepted %+q", s)
			}
		}
	})
}

// FuzzReadFrame: reading never panics, and what was read is what AppendFrame writes.
func FuzzReadFrame(f *testing.F) {
	f.Add(AppendFrame(nil, Frame{KindPing, 1, []byte("{}")}))
	f.Add([]byte{1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := ReadFrame(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, AppendFrame(nil, fr)) {
			t.Errorf("read %+v from %x", fr, b)
		}
	})
}

// FuzzServer: whatever a controller says, the server ends without a panic.
func FuzzServer(f *testing.F) {
	var good []byte
	for i, k := range []Kind{KindPing, KindHello, KindStage, KindExec, 0x99} {
		good = AppendFrame(good, Frame{k, uint32(i + 1), []byte("{}")})
	}
	good = AppendFrame(good, Frame{KindData, 3, []byte("abc")})
	good = AppendFrame(good, Frame{KindCancel, 4, nil})
	f.Add(good)
	f.Fuzz(func(t *testing.T, frames []byte) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		go func() {
			_, _ = near.Write(preface())
			_, _ = near.Write(frames)
			_ = near.Close()
		}()
		h := func(ctx context.Context, r *Request) (any, error) {
			if st := r.Stream(); st != nil {
				_, err := io.Copy(st, st)
				return nil, err
			}
			return nil, r.Decode(&ExecRequest{})
		}
		_ = (&Server{Handler: h}).Serve(t.Context(), far)
	})
}

// FuzzMeeting: whatever a host says, the client ends without a panic.
func FuzzMeeting(f *testing.F) {
	f.Add([]byte("noise"), AppendFrame(nil, Frame{KindReply, 1, []byte("{}")}))
	f.Add([]byte("GODEPLOY-NEED a b raw c\n"), []byte{})
	f.Fuzz(func(t *testing.T, noise, frames []byte) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			_, _ = far.Write(noise)
			_, _ = far.Write(preface())
			_, _ = far.Write(frames)
			_ = far.Close()
		}()
		c, err := NewClient(t.Context(), near, Options{})
		if err != nil {
			return
		}
		_, _ = c.Exec(t.Context(), ExecRequest{Argv: []string{"x"}}, nil)
		_ = c.Close()
	})
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	site := Site{App: "shop", Path: "/srv/shop"}
	exec := func(change func(*ExecRequest)) Checker {
		r := ExecRequest{Argv: []string{"true"}}
		change(&r)
		return &r
	}
	bad := map[string]Checker{
		"no app":             &Site{Path: "/srv/shop"},
		"app with a slash":   &Site{App: "a/b", Path: "/srv/shop"},
		"app ..":             &Site{App: "..", Path: "/srv/shop"},
		"long app":           &Site{App: strings.Repeat("a", 65), Path: "/srv/shop"},
		"relative path":      &Site{App: "a", Path: "srv/shop"},
		"shallow path":       &Site{App: "a", Path: "/srv"},
		"path not clean":     &Site{App: "a", Path: "/srv//shop"},
		"path with ..":       &Site{App: "a", Path: "/srv/../etc"},
		"path ending in /":   &Site{App: "a", Path: "/srv/shop/"},
		"path in /etc":       &Site{App: "a", Path: "/etc/shop"},
		"path in /usr":       &Site{App: "a", Path: "/usr/lib"},
		"path /var/lib":      &Site{App: "a", Path: "/var/lib"},
		"path of a newline":  &Site{App: "a", Path: "/srv/sh\nop"},
		"endless path":       &Site{App: "a", Path: "/srv" + strings.Repeat("/a", 3000)},
		"endless component":  &Site{App: "a", Path: "/srv/" + strings.Repeat("a", 256)},
		"owner with a flag":  &Site{App: "a", Path: "/srv/a", Owner: "-R"},
		"owner with a space": &Site{App: "a", Path: "/srv/a", Owner: "a b"},
		"empty group":        &Site{App: "a", Path: "/srv/a", Owner: "a:"},
		"shared way up":      &PrepareRequest{Site: site, SharedDirs: []string{"../x"}},
		"shared absolute":    &PrepareRequest{Site: site, SharedDirs: []string{"/x"}},
		"shared dot":         &StateRequest{Site: site, SharedFiles: []string{"."}},
		"shared not clean":   &StateRequest{Site: site, SharedFiles: []string{"a/./b"}},
		"carry way up":       &StageRequest{Site: site, Release: Release{ID: testID}, Carry: []string{".."}},
		"links of no kind":   &StageRequest{Site: site, Release: Release{ID: testID}, Links: "soft"},
		"no release id":      &StageRequest{Site: site},
		"odd release id":     &RemoveRequest{Site: site, IDs: []string{"../../etc"}},
		"id in capitals":     &MarkRequest{Site: site, ID: "20261123-104107-4F2C9E1", Mark: MarkBad},
		"no mark":            &MarkRequest{Site: site, ID: testID},
		"no program":         exec(func(r *ExecRequest) { r.Argv = nil }),
		"NUL in argument":    exec(func(r *ExecRequest) { r.Argv = []string{"a", "b\x00c"} }),
		"env name with =":    exec(func(r *ExecRequest) { r.Env = map[string]string{"A=B": "c"} }),
		"env name of digits": exec(func(r *ExecRequest) { r.Env = map[string]string{"1A": "c"} }),
		"NUL in env":         exec(func(r *ExecRequest) { r.Env = map[string]string{"A": "\x00"} }),
		"relative dir":       exec(func(r *ExecRequest) { r.Dir = "srv" }),
		"negative timeout":   exec(func(r *ExecRequest) { r.Timeout = -1 }),
		"endless timeout":    exec(func(r *ExecRequest) { r.Timeout = MaxTimeout + 1 }),
		"too much input":     exec(func(r *ExecRequest) { r.Stdin = make([]byte, MaxStdin+1) }),
		"200 kB x 3 of args": exec(func(r *ExecRequest) { r.Argv = append(r.Argv, strings.Repeat("x", maxArgs)) }),
		"pid 1":              &ProcsRequest{PID: 1},
		"pid of a group":     &SignalRequest{PID: -5, Signal: "HUP"},
		"signal STOP":        &SignalRequest{PID: 5, Signal: "STOP"},
		"setuid mode":        &FileRequest{Path: "/srv/x", Mode: 0o4755},
		"large file":         &FileRequest{Path: "/srv/x", Content: make([]byte, MaxFile+1)},
		"error without code": &ErrorReply{Msg: "x"},
		"code of a terminal": &ErrorReply{Code: "\x1b[31m", Msg: "x"},
		"hash too short":     &HelloReply{Hash: "00", Protocol: 1, CPUs: 1},
	}
	for name, m := range bad {
		if m.Check() == nil {
			t.Errorf("%s: %+v passed", name, m)
		}
	}
	for _, p := range []string{"/opt/swiper", "/srv/a b/c", "/home/u/app", "/var/www/x", "/usr/local/app", "/dev/shm/x/y", "/srv/ü/x$y"} {
		if err := (&Site{App: "a", Path: p, Owner: "deploy:www-data"}).Check(); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestLargestMessagesFitAFrame: what Check allows must be sendable.
func TestLargestMessagesFitAFrame(t *testing.T) {
	t.Parallel()
	for _, m := range []Checker{
		&ExecRequest{Argv: []string{"x"}, Stdin: make([]byte, MaxStdin)},
		&FileRequest{Path: "/srv/x", Write: true, Content: make([]byte, MaxFile)},
		&FileReply{Exists: true, Content: make([]byte, MaxFile)},
	} {
		b, err := json.Marshal(m)
		if err != nil || m.Check() != nil || len(b) > MaxFrame {
			t.Errorf("%T: %d bytes, %v, %v", m, len(b), err, m.Check())
		}
	}
	worst := encodeError(&hugeError{})
	if b, _ := json.Marshal(worst); worst.Check() != nil || len(b) > MaxFrame {
		t.Errorf("error: %d bytes, %v", len(b), worst.Check())
	}
}

type hugeError struct{}

func (*hugeError) Error() string { return strings.Repeat("\xff\x00", 1<<20) }

// A length over the limit is refused before anything is read or allocated for it, however much follows.
func TestReadFrameRefusesLongFrames(t *testing.T) {
	t.Parallel()
	whole := AppendFrame(nil, Frame{Kind: KindData, ID: 1, Payload: make([]byte, MaxFrame+1)})
	if _, err := ReadFrame(bytes.NewReader(whole)); err == nil {
		t.Error("a frame of MaxFrame+1 bytes was taken")
	}
	if f, err := ReadFrame(bytes.NewReader(AppendFrame(nil, Frame{Kind: KindData, ID: 1, Payload: make([]byte, MaxFrame)}))); err != nil || len(f.Payload) != MaxFrame {
		t.Errorf("a frame of MaxFrame bytes: %v", err)
	}
}
