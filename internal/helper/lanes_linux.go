package helper

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// door is where further sessions of the same user join this helper as lanes. It opens with the first
// request for it and is gone with the process: a socket in the abstract namespace leaves no file.
type door struct {
	once  sync.Once
	where wire.LanesReply
	err   error
	room  *os.File
	work  sync.WaitGroup
}

// joinTime is how long somebody who knocks may take to say the token.
const joinTime = 2 * time.Second

// lanes says where to join. add takes what joins.
func (h *host) lanes(_ context.Context, r *wire.Request) (any, error) {
	h.door.once.Do(func() { h.door.open(r.AddLane) })
	if h.door.err != nil {
		return nil, h.door.err
	}
	return h.door.where, nil
}

func (d *door) open(add func(io.ReadCloser) error) {
	secret := make([]byte, wire.TokenLen+8)
	if _, err := unix.Getrandom(secret, 0); err != nil {
		d.err = fmt.Errorf("make a token: %w", err)
		return
	}
	d.where = wire.LanesReply{
		PID: os.Getpid(), Token: secret[:wire.TokenLen],
		Socket: "@godeploy-" + hex.EncodeToString(secret[wire.TokenLen:]),
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		d.room = os.NewFile(uintptr(fd), "lanes")
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: d.where.Socket}), unix.Listen(fd, wire.MaxLanes))
	}
	if err != nil {
		d.err = fmt.Errorf("wait for lanes: %w", err)
		return
	}
	d.work.Go(func() { d.admitAll(add) })
}

// close lets nobody in any more and waits for who is at the door.
func (d *door) close() {
	if d.room != nil {
		_ = d.room.Close() // wakes admitAll
	}
	d.work.Wait()
}

func (d *door) admitAll(add func(io.ReadCloser) error) {
	for {
		guest, err := accept(d.room)
		if err != nil {
			return
		}
		d.work.Go(func() {
			if err := d.admit(guest, add); err != nil {
				_ = guest.Close() // whoever it is gets no reason
			}
		})
	}
}

// accept waits for the next connection of this very user.
func accept(room *os.File) (*os.File, error) {
	for {
		var fd int
		err := whenReady(room, func(at int) (err error) {
			fd, _, err = unix.Accept4(at, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return err
		})
		if errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		guest := os.NewFile(uintptr(fd), "lane")
		who, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil && int(who.Uid) == os.Geteuid() {
			return guest, nil
		}
		_ = guest.Close() // a stranger
	}
}

// whenReady calls do until it would not block.
func whenReady(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Read(func(fd uintptr) bool {
		result = do(int(fd))
		return !errors.Is(result, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return result
}

// admit takes the token and the descriptor of a session's standard input, and makes that a lane.
func (d *door) admit(guest *os.File, add func(io.ReadCloser) error) error {
	if err := guest.SetReadDeadline(time.Now().Add(joinTime)); err != nil {
		return err
	}
	said := make([]byte, wire.TokenLen+1)
	rights := make([]byte, unix.CmsgSpace(4))
	var n, room int
	err := whenReady(guest, func(fd int) (err error) {
		n, room, _, _, err = unix.Recvmsg(fd, said, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return err
	}
	input, err := received(rights[:room])
	if err != nil {
		return err
	}
	if n != wire.TokenLen || subtle.ConstantTimeCompare(said[:n], d.where.Token) != 1 {
		_ = input.Close() // not read from
		return fault.New(fault.Protocol, "a lane with another token")
	}
	if err := add(&laneInput{File: input, guest: guest}); err != nil {
		return err
	}
	_, err = guest.Write([]byte{'k'})
	return err
}

// received takes the one descriptor that came with a message: a pipe or a socket.
func received(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(err, errors.New("not one descriptor"))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	var info unix.Stat_t
	if len(fds) == 1 {
		err = unix.Fstat(fds[0], &info)
	}
	if kind := info.Mode & unix.S_IFMT; err == nil && (kind == unix.S_IFIFO || kind == unix.S_IFSOCK) {
		if err = unix.SetNonblock(fds[0], true); err == nil {
			return os.NewFile(uintptr(fds[0]), "lane"), nil
		}
	}
	for _, fd := range fds {
		_ = unix.Close(fd) // not wanted
	}
	return nil, errors.Join(err, errors.New("no pipe or socket"))
}

// laneInput is the standard input of a session that has joined. The end of guest ends that session.
type laneInput struct {
	*os.File
	guest *os.File
}

// Close ends the session too.
func (l *laneInput) Close() error { return errors.Join(l.File.Close(), l.guest.Close()) }

// joinHelper is a session that is a lane: it hands its standard input to the helper that runs already
// and stays until that lets go of it, because sshd ends a session with its process.
func joinHelper(stdin io.Reader, stdout io.Writer) error {
	input, ok := stdin.(*os.File)
	if !ok {
		return errors.New("standard input is no file")
	}
	to, err := wire.ReadJoin(input)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: to.Socket}); err != nil {
		return err
	}
	if err := unix.Sendmsg(fd, to.Token, unix.UnixRights(int(input.Fd())), nil, 0); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if n, err := untilDone(fd, answer); n != 1 {
		return errors.Join(err, errors.New("the helper refuses"))
	}
	if err := wire.WriteJoined(stdout); err != nil {
		return err
	}
	_, err = untilDone(fd, answer)
	return err
}

// untilDone reads, over the signals of Go's own scheduler.
func untilDone(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
