package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

const (
	shopBoot   = 10 * time.Second // a worker has to serve by then
	shopFinish = 10 * time.Second // open requests have to end by then
	maxPage    = 1 << 20
)

// demoAppCommand is the shop that the demo's servers run: a server of the kind of gunicorn, with a main
// process that holds the port and a worker that serves the code. People never type it.
func demoAppCommand() *command {
	return &command{
		Name: "demo-app", Usage: "the shop that the demo releases",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` to serve on"},
			&cli.StringFlag{Name: "chdir", Usage: "`FOLDER` that holds the code; looked up again on HUP"},
			&cli.StringFlag{Name: "lifeline", Usage: "end when the connection to this `ADDRESS` does"},
			&cli.BoolFlag{Name: "worker", Usage: "serve on descriptor 3 until stdin ends"},
		},
		Run: func(_ context.Context, c *call) error {
			if c.flags.Bool("worker") {
				return shopWorker(c.sys.Stdin, c.sys.Stdout)
			}
			return runShop(c)
		},
	}
}

// shop is the main process.
type shop struct {
	dir      string
	listener *os.File // the workers inherit it; connections wait in it while none accepts
	said     io.Writer
	worker   *shopChild
}

// runShop takes the signals over: for a server HUP means new code, not the end.
func runShop(c *call) error {
	signal.Reset(syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	line, err := net.Dial("tcp", c.flags.String("lifeline"))
	if err != nil {
		return err
	}
	defer line.Close()
	over := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, line); close(over) }() // however it ends, it has ended
	s := &shop{dir: c.flags.String("chdir"), said: c.sys.Stderr}
	if s.listener, err = listenFile(c.flags.String("listen")); err != nil {
		return err
	}
	defer s.listener.Close()
	if s.worker, err = s.hire(); err != nil {
		return err
	}
	return s.serve(signals, over)
}

// serve goes on until it is told to end, or the worker ends by itself.
func (s *shop) serve(signals <-chan os.Signal, over <-chan struct{}) error {
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return s.worker.finish()
			}
			s.renew()
		case <-over:
			return s.worker.finish()
		case <-s.worker.ended:
			return fmt.Errorf("the worker has ended: %v", s.worker.cmd.ProcessState)
		}
	}
}

// renew puts a worker on the code that is current by now. The old one stays until the new one serves,
// and for good when it does not.
func (s *shop) renew() {
	next, err := s.hire()
	if err != nil {
		fmt.Fprintln(s.said, err)
		return
	}
	if err := s.worker.finish(); err != nil {
		fmt.Fprintln(s.said, err)
	}
	s.worker = next
}

// listenFile opens the port as a file, which is what a child can inherit.
func listenFile(address string) (*os.File, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	defer listener.Close() // the file is a descriptor of its own
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("%s is no TCP address", address)
	}
	return tcp.File()
}

// shopChild is a worker as the main process sees it. Closing its stdin asks it to end; the death of the
// main process closes it too.
type shopChild struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{}
}

// hire starts a worker in the folder that the link points to now, and waits until it serves.
func (s *shop) hire() (*shopChild, error) {
	if err := os.Chdir(s.dir); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "demo-app", "--worker")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{s.listener}, s.said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &shopChild{cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	late := time.AfterFunc(shopBoot, func() { _ = cmd.Process.Kill() }) // it may have ended
	word, _ := bufio.NewReader(io.LimitReader(stdout, 64)).ReadString('\n')
	late.Stop()
	go func() { _ = cmd.Wait(); close(w.ended) }() // the state says how
	if word != "serving\n" {
		return nil, errors.Join(errors.New("the new worker did not come up"), w.finish())
	}
	return w, nil
}

// finish lets the worker end its requests and waits for it.
func (w *shopChild) finish() error {
	_ = w.stdin.Close()                                                                 // closed twice is closed
	late := time.AfterFunc(shopFinish+time.Second, func() { _ = w.cmd.Process.Kill() }) // it may have ended
	defer late.Stop()
	<-w.ended
	if !w.cmd.ProcessState.Success() {
		return fmt.Errorf("the worker ended badly: %v", w.cmd.ProcessState)
	}
	return nil
}

// shopWorker serves the code of its working folder until stdin ends, then lets open requests end.
func shopWorker(stdin io.Reader, stdout io.Writer) error {
	file := os.NewFile(3, "listener")
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	_ = file.Close() // the listener has its own
	handler, err := shopHandler()
	if err != nil {
		return err
	}
	var open sync.WaitGroup
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ConnState: counting(&open)}
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end is what counts
		server.SetKeepAlivesEnabled(false)
		_ = listener.Close() // Serve tells
	}()
	fmt.Fprintln(stdout, "serving")
	if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return within(shopFinish, &open)
}

// counting counts open connections. http.Server.Shutdown would not do: it hangs up on connections that
// were accepted and whose request is read after it was called, and so loses customers.
func counting(open *sync.WaitGroup) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Done()
		}
	}
}

// within waits for the open connections, but not for ever.
func within(limit time.Duration, open *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { open.Wait(); close(done) }()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-done:
		return nil
	case <-late.C:
		return fmt.Errorf("requests are still open after %s", limit)
	}
}

// shopHandler reads the code once, as a Python server imports its own: what is released later shows only
// when a new worker starts.
func shopHandler() (http.Handler, error) {
	dir, err := syscall.Getwd() // not os.Getwd: that one believes $PWD, which names the link
	if err != nil {
		return nil, err
	}
	page, err := readBounded("page.html", maxPage)
	if err != nil {
		return nil, err
	}
	version, err := readBounded("VERSION", 100)
	if err != nil {
		return nil, err
	}
	release := filepath.Base(dir)
	text := strings.NewReplacer("{{VERSION}}", strings.TrimSpace(version), "{{RELEASE}}", release).Replace(page)
	_, missing := os.Stat("broken")
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServer(http.Dir(filepath.Join(dir, "static")))))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Release", release)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, text) // a client may go
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Release", release)
		if missing == nil {
			http.Error(w, "the shop is broken", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux, nil
}

func readBounded(name string, limit int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return string(b), err
}
