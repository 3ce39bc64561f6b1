package helper

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/wire"
)

const (
	maxHealth    = 64 << 10 // bytes read of an answer's head
	maxRedirects = 5
)

// healthy asks for the release's health until it is well, or was not for as many tries as there are. The
// few lines of HTTP are written out here: the packages of the standard library would be half as large as
// the helper again.
func healthy(ctx context.Context, a *wire.Aftermath, id string) error {
	if a.URL == "" {
		return nil
	}
	for try := 1; ; try++ {
		err := askHealth(ctx, a, id)
		if err == nil {
			return nil
		}
		if try >= max(a.Tries, 1) {
			return fmt.Errorf("%w (%d tries)", err, try)
		}
		if pause(ctx, a.Interval) != nil {
			return fmt.Errorf("%w (%d tries, and the time was up)", err, try)
		}
	}
}

// askHealth asks once, and follows redirects to the same host.
func askHealth(ctx context.Context, a *wire.Aftermath, id string) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.Timeout, 5*time.Second))
	defer cancel()
	url := a.URL
	for hop := 0; ; hop++ {
		head, err := get(ctx, url)
		if err != nil {
			return fmt.Errorf("GET %s: %w", a.URL, err)
		}
		if to := redirected(url, head); to != "" && hop < maxRedirects {
			url = to
			continue
		}
		return head.judge(a, id)
	}
}

// head is the part of an answer that counts.
type head struct {
	status int // 0 where only the connection was asked for
	fields map[string]string
}

func (h head) judge(a *wire.Aftermath, id string) error {
	low, high := a.Low, a.High
	if low == 0 && high == 0 {
		low, high = 200, 299
	}
	if h.status != 0 && (h.status < low || h.status > high) {
		return fmt.Errorf("GET %s -> %d", a.URL, h.status)
	}
	if got := h.fields[strings.ToLower(a.Header)]; h.status != 0 && a.Header != "" && id != "" && got != id {
		return fmt.Errorf("GET %s -> %d, %s is %.80q, want %q", a.URL, h.status, a.Header, got, id)
	}
	return nil
}

// redirected gives where an answer of 3xx leads on the same host, "" when it does not.
func redirected(url string, h head) string {
	to := h.fields["location"]
	if h.status < 300 || h.status > 399 || to == "" || strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return ""
	}
	host, _ := split(url)
	if strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") {
		return "http://" + host + to
	}
	if there, _ := split(to); strings.HasPrefix(to, "http://") && there == host {
		return to
	}
	return ""
}

// split gives host and path of a URL.
func split(url string) (host, path string) {
	_, rest, _ := strings.Cut(url, "://")
	host, path, _ = strings.Cut(rest, "/")
	host, _, _ = strings.Cut(host, "?")
	_, query, ok := strings.Cut(rest, "?")
	if !strings.Contains(rest, "/") && ok {
		return host, "/?" + query
	}
	path, _, _ = strings.Cut("/"+path, "#")
	return host, path
}

// get sends one request on a connection of its own.
func get(ctx context.Context, url string) (head, error) {
	host, path := split(url)
	port := uint16(80)
	tls := strings.HasPrefix(url, "https://")
	if tls {
		port = 443
	}
	f, err := connect(ctx, host, port)
	if err != nil || tls {
		if f != nil {
			_ = f.Close() // that somebody listens is all there is to learn
		}
		return head{}, err
	}
	defer func() { _ = f.Close() }() // read from only
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: godeploy-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(f, request); err != nil {
		return head{}, err
	}
	return readHead(f)
}

// readHead reads status and fields of an answer.
func readHead(r io.Reader) (head, error) {
	var b []byte
	piece := make([]byte, 4<<10)
	for !bytes.Contains(b, []byte("\r\n\r\n")) && len(b) < maxHealth {
		n, err := r.Read(piece)
		b = append(b, piece[:n]...)
		if errors.Is(err, io.EOF) {
			break // what came tells
		}
		if err != nil {
			return head{}, err
		}
	}
	top, _, _ := strings.Cut(string(b), "\r\n\r\n")
	lines := strings.Split(top, "\r\n")
	words := strings.Fields(lines[0])
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return head{}, errors.New("no answer in HTTP")
	}
	status, err := strconv.Atoi(words[1])
	if err != nil || status < 100 || status > 999 {
		return head{}, fmt.Errorf("status %.20q", words[1])
	}
	h := head{status: status, fields: map[string]string{}}
	for _, line := range lines[1:] {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.fields[strings.ToLower(name)] = strings.TrimSpace(value)
		}
	}
	return h, nil
}

// connect reaches host, which may have a port, at the first of its addresses that answers.
func connect(ctx context.Context, host string, port uint16) (*os.File, error) {
	name := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") && (strings.Count(host, ":") == 1 || host[0] == '[') {
		n, err := strconv.ParseUint(host[i+1:], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %.20q", host[i+1:])
		}
		name, port = host[:i], uint16(n)
	}
	list, err := addresses(ctx, strings.Trim(name, "[]"))
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		var f *os.File
		if f, err = dial(ctx, netip.AddrPortFrom(one, port)); err == nil {
			return f, nil
		}
	}
	return nil, err
}

// addresses resolves a name as the host's own resolver does.
func addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	if name == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	if name == "" || strings.HasPrefix(name, "-") {
		return nil, fmt.Errorf("host %.80q", name)
	}
	out, err := exec.CommandContext(ctx, "getent", "ahosts", name).Output()
	if err != nil {
		return nil, fmt.Errorf("host %.80q is not known here", name)
	}
	var list []netip.Addr
	for line := range strings.Lines(string(out)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if a, err := netip.ParseAddr(word); err == nil && len(list) < 8 && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("host %.80q has no address", name)
	}
	return list, nil
}

// dial opens a TCP connection whose reads and writes end with the context's deadline.
func dial(ctx context.Context, to netip.AddrPort) (*os.File, error) {
	family, where := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if a := to.Addr().Unmap(); a.Is4() {
		family, where = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, where)
	f := os.NewFile(uintptr(fd), "health")
	if err == nil || err == unix.EINPROGRESS {
		deadline, _ := ctx.Deadline() // the zero time is none
		if err = f.SetDeadline(deadline); err == nil {
			err = connected(f)
		}
	}
	if err != nil {
		_ = f.Close() // never used
		return nil, fmt.Errorf("connect %s: %w", to, err)
	}
	return f, nil
}

// connected waits until the connection stands or has failed.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err == nil {
			_, err = unix.Getpeername(int(fd))
		}
		result = err
		return err != unix.ENOTCONN
	})
	return errors.Join(err, result)
}
