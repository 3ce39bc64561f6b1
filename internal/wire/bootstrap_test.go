package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the helper that the bootstrap finds and starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "helper" {
		if os.Getenv(ProbeEnv) != "" {
			fmt.Println(ProbeAnswer)
			os.Exit(0)
		}
		_ = (&Server{Capabilities: []string{"real"}, Handler: func(context.Context, *Request) (any, error) { return nil, nil }}).
			Serve(context.Background(), &std{os.Stdin, os.Stdout})
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type std struct {
	io.Reader
	io.Writer
}

func (*std) Close() error { return os.Stdin.Close() }

// account is a home folder, and the login shell that gets the commands.
type account struct{ shell, home string }

// shells are those of this machine; each must do.
func shells(t *testing.T) []string {
	var list []string
	for _, s := range []string{"dash", "bash", "busybox", "zsh", "ksh", "tcsh", "fish"} {
		if p, err := exec.LookPath(s); err == nil {
			list = append(list, p)
		}
	}
	if len(list) < 2 {
		t.Fatalf("found only %v", list)
	}
	return list
}

// start starts a command as sshd does, by the login shell.
func (a account) start(command string) *exec.Cmd {
	cmd := exec.Command(a.shell, "-c", command)
	if filepath.Base(a.shell) == "busybox" {
		cmd = exec.Command(a.shell, "sh", "-c", command)
	}
	cmd.Env = []string{"HOME=" + a.home, "PATH=/usr/bin:/bin", "SHELL=" + a.shell}
	return cmd
}

// ask runs the bootstrap and tells what a client makes of the answer.
func (a account) ask(t *testing.T, hash ...string) error {
	t.Helper()
	cmd := a.start(BootstrapCommand(hash...))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		t.Fatal(err1, err2)
	}
	c, err := NewClient(t.Context(), &talk{out, in}, Options{})
	if err == nil {
		if !c.Can("real") {
			t.Error("something else answered")
		}
		err = c.Call(t.Context(), KindPing, &Nothing{}, nil)
		_ = c.Close()
	}
	_ = cmd.Wait()
	return err
}

type talk struct {
	io.ReadCloser
	io.WriteCloser
}

func (p *talk) Close() error {
	_ = p.WriteCloser.Close()
	return p.ReadCloser.Close()
}

// install pushes a helper the way a client does, only all in one go, and tells what the host said.
func (a account) install(content []byte, hash string) (string, error) {
	cmd := a.start(BootstrapCommand())
	cmd.Stdin = pushed("raw", content, hash)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func pushed(packing string, content []byte, hash string) io.Reader {
	return io.MultiReader(strings.NewReader(fmt.Sprintf("%s %d %s\n", packing, len(content), hash)), bytes.NewReader(content))
}

// started reports whether a helper has spoken.
func started(out string) bool { return strings.Contains(out, string(magic[:])) }

// program is this very program: content and hash.
func program(t *testing.T) ([]byte, string) {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return b, hex.EncodeToString(sum[:])
}

func TestBootstrapNeedsThenInstallsThenStarts(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	other := strings.Repeat("0", 64)
	for _, shell := range shells(t) {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			t.Parallel()
			// A space, a dollar and a star must not matter.
			a := account{shell, filepath.Join(t.TempDir(), "a b$c*")}
			if err := os.Mkdir(a.home, 0o755); err != nil {
				t.Fatal(err)
			}
			need, ok := a.ask(t, other, hash).(*NeedError)
			if !ok || need.OS != "Linux" || need.Arch == "" || need.Dir != a.home+"/.cache/godeploy" {
				t.Fatalf("at first: got %+v, want a NeedError", need)
			}
			if out, err := a.install(content, hash); err != nil || !started(out) {
				t.Fatalf("install: %q, %v", out, err)
			}
			if err := a.ask(t, other, hash); err != nil {
				t.Errorf("then: %v", err)
			}
			left, _ := filepath.Glob(need.Dir + "/.*")
			if info, err := os.Stat(need.Dir); err != nil || info.Mode().Perm() != 0o700 || len(left) > 0 {
				t.Errorf("folder: %v, %v with %v left", info.Mode(), err, left)
			}
		})
	}
}

func TestInstallRefusesWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	script := []byte("#!/bin/sh\necho ok\n")
	foreign := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00" + strings.Repeat("\x00", 100))
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	for _, shell := range shells(t) {
		a := account{shell, t.TempDir()}
		for name, tc := range map[string]struct {
			b    []byte
			hash string
		}{
			"truncated":                   {content[:len(content)/2], hash},
			"empty":                       {nil, hash},
			"empty with its own hash":     {nil, sum(nil)},
			"another file":                {append([]byte("x"), content...), hash},
			"a script with its own hash":  {script, sum(script)},
			"another machine's with hash": {foreign, sum(foreign)},
			"no hash":                     {content, "$(touch /tmp/pwn)"},
		} {
			if out, err := a.install(tc.b, tc.hash); err == nil || started(out) || !strings.Contains(out, failWord) {
				t.Errorf("%s, %s: got %q, want it refused", shell, name, out)
			}
		}
		if left, _ := filepath.Glob(a.home + "/.cache/godeploy/*"); len(left) > 0 {
			t.Errorf("%s: left %v", shell, left)
		}
	}
}

func TestHelperIsUnpackedOnTheHost(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	for _, packing := range []string{"gzip", "xz"} {
		pack := exec.Command(packing, "-1c")
		pack.Stdin = bytes.NewReader(content)
		packed, err := pack.Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd := account{"/bin/sh", t.TempDir()}.start(BootstrapCommand())
		cmd.Stdin = pushed(packing, packed, hash)
		out, err := cmd.CombinedOutput()
		if err != nil || !started(string(out)) || !parseNeed(out).Unpack(packing) {
			t.Errorf("%s: got %.300q, %v", packing, out, err)
		}
	}
}

// A helper that has passed the checks is not checked again while it is the same file, and is when it is
// another or the note is not its own.
func TestSealedHelperStartsWithoutTheLongChecks(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	a := account{"/bin/sh", t.TempDir()}
	if out, err := a.install(content, hash); err != nil || !started(out) {
		t.Fatalf("install: %.300q, %v", out, err)
	}
	dir := a.home + "/.cache/godeploy/"
	seal, err := os.ReadFile(dir + "seal-" + hash)
	if err != nil || len(bytes.Fields(seal)) < 10 {
		t.Fatalf("the note: %q, %v", seal, err)
	}
	cmd := a.start(BootstrapCommand(hash))
	cmd.Env = append(cmd.Env, "PATH="+a.home) // with a tool for sums that would fail
	if err := os.WriteFile(a.home+"/sha256sum", []byte("#!/bin/sh\necho >>$HOME/summed\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !started(string(out)) {
		t.Errorf("sealed: %.300q, %v", out, err)
	}
	if _, err := os.Stat(a.home + "/summed"); err == nil {
		t.Error("it was summed again")
	}
	if err := os.Rename(dir+"helper-"+hash, dir+"old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"helper-"+hash, append(content, 0), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.ask(t, hash).(*NeedError); !ok {
		t.Error("another file was taken by the note of the first")
	}
}

// TestBootstrapTakesNothingStrange puts things in the helper's place that must not be run. Each
// would leave a mark if it was.
func TestBootstrapTakesNothingStrange(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	for _, shell := range shells(t) {
		cases := map[string]func(dir, file string) error{
			"truncated": func(_, f string) error { return os.Truncate(f, int64(len(content)/2)) },
			"empty":     func(_, f string) error { return os.Truncate(f, 0) },
			"a script": func(_, f string) error {
				return os.WriteFile(f, []byte("#!/bin/sh\necho pwn >"+f+".ran\necho '"+ProbeAnswer+"'\n"), 0o700)
			},
			"writable for others":   func(_, f string) error { return os.Chmod(f, 0o777) },
			"folder for others":     func(d, _ string) error { return os.Chmod(d, 0o777) },
			"not to be run":         func(_, f string) error { return os.Chmod(f, 0o600) },
			"a link":                func(_, f string) error { return relink(f) },
			"folder is a link":      func(d, _ string) error { return relink(d) },
			"somebody else's":       func(_, f string) error { return os.Chown(f, 65534, 65534) },
			"somebody else's house": func(d, _ string) error { return os.Chown(d, 65534, 65534) },
		}
		for name, spoil := range cases {
			if strings.Contains(name, "somebody") && os.Getuid() != 0 {
				continue // only root can give files away
			}
			t.Run(filepath.Base(shell)+"/"+name, func(t *testing.T) {
				t.Parallel()
				a := account{shell, t.TempDir()}
				dir := a.home + "/.cache/godeploy"
				file := dir + "/helper-" + hash
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, content, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := spoil(dir, file); err != nil {
					t.Fatal(err)
				}
				if err, ok := a.ask(t, hash).(*NeedError); !ok {
					t.Errorf("got %v, want a NeedError", err)
				}
				if _, err := os.Stat(file + ".ran"); err == nil {
					t.Error("it was run")
				}
			})
		}
	}
}

// relink moves a thing away and puts a link to it in its place.
func relink(p string) error {
	if err := os.Rename(p, p+".real"); err != nil {
		return err
	}
	return os.Symlink(p+".real", p)
}

// TestBootstrapPassesOverNoexec mounts the home folder so that nothing runs from it, in a mount
// namespace of its own.
func TestBootstrapPassesOverNoexec(t *testing.T) {
	t.Parallel()
	content, hash := program(t)
	if !mountable(t) {
		t.Skip("cannot make a mount namespace")
	}
	home := t.TempDir()
	in := func(stdin io.Reader, mounts, command string) string {
		cmd := exec.Command("unshare", "-m", "sh", "-c", mounts+` && exec sh -c "$1"`, "-", command)
		cmd.Env = []string{"HOME=" + home, "PATH=/usr/bin:/bin"}
		cmd.Stdin = stdin
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	noexec := `mount -t tmpfs -o noexec,mode=700 none "$HOME"`
	elsewhere := ` && mount -t tmpfs -o mode=1777 none /var/tmp`
	out := in(nil, noexec+elsewhere, BootstrapCommand(hash))
	if want := fmt.Sprintf("/var/tmp/godeploy-%d\n", os.Getuid()); !strings.HasPrefix(out, needWord) || !strings.HasSuffix(out, want) {
		t.Errorf("home noexec: got %q, want the other folder", out)
	}
	if out := in(pushed("raw", content, hash), noexec+elsewhere, BootstrapCommand()); !started(out) {
		t.Errorf("install: got %q", out)
	}
	nowhere := noexec + ` && mount -t tmpfs -o noexec,mode=1777 none /var/tmp`
	if out := in(nil, nowhere, BootstrapCommand(hash)); !strings.HasSuffix(out, " -\n") {
		t.Errorf("noexec everywhere: got %q", out)
	}
	if out := in(pushed("raw", content, hash), nowhere, BootstrapCommand()); started(out) {
		t.Errorf("install with noexec everywhere: got %q", out)
	}
}

// TestBootstrapPassesOverWhatIsWholeButCannotRun: a home folder shared by machines of two kinds, and
// one that was mounted noexec after the helper came there.
func TestBootstrapPassesOverWhatIsWholeButCannotRun(t *testing.T) {
	t.Parallel()
	foreign := []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00" + strings.Repeat("\x00", 100))
	sum := sha256.Sum256(foreign)
	hash := hex.EncodeToString(sum[:])
	for _, shell := range shells(t) {
		a := account{shell, t.TempDir()}
		dir := a.home + "/.cache/godeploy"
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/helper-"+hash, foreign, 0o700); err != nil {
			t.Fatal(err)
		}
		if err, ok := a.ask(t, hash).(*NeedError); !ok {
			t.Errorf("%s, another machine's: got %v, want a NeedError", shell, err)
		}
	}
	content, hash := program(t)
	home := t.TempDir()
	if out, err := (account{"/bin/sh", home}).install(content, hash); err != nil {
		t.Fatalf("install: %q, %v", out, err)
	}
	text := `mount --bind "$HOME" "$HOME" && mount -o remount,bind,noexec "$HOME" && exec sh -c "$1"`
	cmd := exec.Command("unshare", "-m", "sh", "-c", text, "-", BootstrapCommand(hash))
	cmd.Env = []string{"HOME=" + home, "PATH=/usr/bin:/bin"}
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), needWord) && mountable(t) {
		t.Errorf("noexec: got %q, %v, want the host's need", out, err)
	}
}

// mountable reports whether this test may mount; where it must, it may.
func mountable(t *testing.T) bool {
	err := exec.Command("unshare", "-m", "true").Run()
	if err != nil && os.Getenv("GODEPLOY_TEST_MUST_RUN") != "" {
		t.Fatalf("cannot make a mount namespace: %v", err)
	}
	return err == nil
}

// TestCommandsAreConstantText: nothing but hashes enters, and no character that a login shell
// could change.
func TestCommandsAreConstantText(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a", 64)
	texts := strings.Split(RootBootstrapCommand(hash, "'; touch /tmp/pwn; '"), "'")
	if len(texts) != 5 || strings.ContainsAny(strings.Join(texts, ""), "!\n") || strings.Contains(texts[1], "pwn") || strings.Contains(texts[1]+texts[3], `\\`) {
		t.Errorf("not fit for every login shell: %q", texts)
	}
	for _, c := range []string{BootstrapCommand(hash, "'; touch /tmp/pwn; '"), JoinCommand(4711), BootstrapCommand()} {
		inner := strings.TrimSuffix(strings.TrimPrefix(c, "exec /bin/sh -c '"), "'")
		if strings.ContainsAny(inner, "'!\n") || strings.Contains(inner, "pwn") || strings.Contains(inner, `\\`) {
			t.Errorf("not fit for every login shell: %s", c)
		}
	}
}
