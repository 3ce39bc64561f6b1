package hosts

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// DialIn connects from inside a named network namespace. address must be an IP and a port. The
// connection may then be used like any other: a socket stays in the namespace it was made in.
func DialIn(ctx context.Context, netns, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inNamespace("/run/netns/"+netns, func() (err error) {
		// A literal address of one family is dialled on this very goroutine, and so on this thread.
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// inNamespace runs do on a thread that stands in another network namespace.
func inNamespace(path string, do func() error) error {
	target, err := os.Open(path)
	if err != nil {
		return err
	}
	defer target.Close()
	runtime.LockOSThread()
	own, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer own.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", path, err)
	}
	err = do()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so Go ends it with this goroutine and nobody else runs there.
		return fmt.Errorf("leave %s: %w", path, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Dial connects from the operator's namespace; it fits http.Transport.DialContext.
func (f *Fleet) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return DialIn(ctx, f.ID+"-"+operatorName, network, address)
}

// HTTP gives a client that stands in the operator's namespace and opens a connection for each request,
// as a new visitor's browser does. It follows no redirects and gives up after the time-out.
func (f *Fleet) HTTP(timeout time.Duration) *http.Client {
	return oneShot(f.Dial, timeout)
}

func oneShot(dial func(ctx context.Context, network, address string) (net.Conn, error), timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
