package main

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// openTUN makes a network device in this thread's namespace whose packets are read from and written
// to the file. Packets may be as large as the kernel's own pieces (TSO), with the small header that
// tells how to cut them: TCP then behaves as over any network card, and the relay stays cheap.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /dev/net/tun", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		const checksum, tso4 = 0x01, 0x02 // TUN_F_CSUM, TUN_F_TSO4
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, checksum|tso4)
	}
	if err != nil {
		_ = unix.Close(fd) // the other error tells more
		return nil, os.NewSyscallError("make the device "+name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// relay carries packets between two files, each packet for a while on its way.
type relay struct {
	ends  [2]*os.File
	delay time.Duration
	work  sync.WaitGroup
}

// packet is one on its way.
type packet struct {
	data []byte
	due  time.Time
}

// onTheWay is how many packets a relay holds each way; when there are more it reads no further, and
// the kernel's queue before it drops as a router's would.
const onTheWay = 8192

func newRelay(a, b *os.File, delay time.Duration) *relay {
	r := &relay{ends: [2]*os.File{a, b}, delay: delay}
	for i := range 2 {
		packets := make(chan packet, onTheWay)
		r.work.Go(func() { defer close(packets); r.read(r.ends[i], packets) })
		r.work.Go(func() { write(r.ends[1-i], packets) })
	}
	return r
}

// Close ends the relay and removes both devices.
func (r *relay) Close() error {
	err := errors.Join(r.ends[0].Close(), r.ends[1].Close())
	r.work.Wait()
	return err
}

func (r *relay) read(from *os.File, packets chan<- packet) {
	buf := make([]byte, 66<<10)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil && n > 0 {
			packets <- packet{append([]byte(nil), buf[:n]...), time.Now().Add(r.delay)}
		}
	}
}

// write sends each packet on when it is due. One that the kernel does not take is lost, as on a wire.
func write(to *os.File, packets <-chan packet) {
	for p := range packets {
		time.Sleep(time.Until(p.due))
		_, _ = to.Write(p.data)
	}
}
