package overssh

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
)

const (
	// plainPacket is what every server takes; largePacket what OpenSSH's does: its messages go to 256 KiB.
	plainPacket = 32 << 10
	largePacket = 255 << 10
	// bytesInFlight bounds what one file has under way: more than any line holds.
	bytesInFlight = 8 << 20
)

// packetSize is how much one write request to this server may carry. Servers that say limits@openssh.com
// are OpenSSH's of 8.5 and later.
func packetSize(client *sftp.Client) int {
	if _, ok := client.HasExtension("limits@openssh.com"); ok {
		return largePacket
	}
	return plainPacket
}

// tune lets a client's requests be as large as its server takes them.
func tune(client *sftp.Client) error {
	return errors.Join(sftp.MaxPacketUnchecked(packetSize(client))(client), sftp.MaxConcurrentRequestsPerFile(256)(client))
}

// sftpWriter writes a new file with many requests under way. Every one is answered before Sync or Close
// returns, so that no hole is left by a write that was refused: then they return its error. It is for one
// goroutine.
type sftpWriter struct {
	file   *sftp.File
	client *sftp.Client
	sent   *atomic.Int64
	part   []byte // what is not sent yet, less than a packet
	at     int64  // where part begins
	packet int

	told        bool // Make told of these
	mtime, size int64

	slots chan []byte // buffers of writes under way may be had again from here
	free  int         // buffers not made yet
	work  sync.WaitGroup
	mu    sync.Mutex
	bad   error
}

func newSFTPWriter(f *sftp.File, s sftpFS) *sftpWriter {
	packet := packetSize(s.client)
	n := bytesInFlight / packet
	return &sftpWriter{file: f, client: s.client, sent: s.sent, packet: packet, slots: make(chan []byte, n), free: n}
}

// chmod gives the file its bits. What others may not read gets them before its content; all else beside
// it.
func (w *sftpWriter) chmod(perm uint32) error {
	if perm&0o044 != 0o044 {
		return w.file.Chmod(fs.FileMode(perm))
	}
	w.work.Go(func() { w.note(w.file.Chmod(fs.FileMode(perm))) })
	return nil
}

func (w *sftpWriter) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bad == nil {
		w.bad = err
	}
}

func (w *sftpWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bad
}

// Write sends whole packets on and keeps the rest. An error may be that of an earlier write.
func (w *sftpWriter) Write(p []byte) (int, error) {
	n := len(p)
	if w.told && int64(n) > w.size-w.at-int64(len(w.part)) {
		return 0, &fs.PathError{Op: "write", Path: w.file.Name(), Err: fmt.Errorf("it is longer than %d bytes", w.size)}
	}
	w.sent.Add(int64(n))
	for len(p) > 0 {
		take := min(len(p), w.packet-len(w.part))
		w.part = append(w.part, p[:take]...)
		if p = p[take:]; len(w.part) == w.packet {
			w.send()
		}
	}
	return n, w.failed()
}

// send starts the write of what is kept.
func (w *sftpWriter) send() {
	data, at := w.part, w.at
	w.at += int64(len(data))
	w.part = w.buffer()
	w.work.Go(func() {
		_, err := w.file.WriteAt(data, at) // it is one request: shorter than an answer tells is an error
		w.note(err)
		w.slots <- data[:0]
	})
}

// buffer gives an empty one, and waits for it when as many as may be are under way.
func (w *sftpWriter) buffer() []byte {
	if w.free > 0 {
		w.free--
		return nil
	}
	return <-w.slots
}

// flush waits until everything written so far is answered.
func (w *sftpWriter) flush() error {
	if len(w.part) > 0 {
		_, err := w.file.WriteAt(w.part, w.at)
		w.note(err)
		w.at += int64(len(w.part))
		w.part = w.part[:0]
	}
	w.work.Wait()
	return w.failed()
}

// Chtimes is by the file's path: SFTP's clients know no other way. Whoever can write in its folder may have
// put something else there.
func (w *sftpWriter) Chtimes(mtime int64) error {
	if err := w.flush(); err != nil { // a write that comes later would change the time again
		return err
	}
	when := time.Unix(0, mtime)
	return w.client.Chtimes(w.file.Name(), when, when)
}

// Sync makes the content durable where the server can; others are trusted to write it in time.
func (w *sftpWriter) Sync() error {
	if err := w.flush(); err != nil {
		return err
	}
	if _, ok := w.client.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	return w.file.Sync()
}

func (w *sftpWriter) Close() error {
	err := w.flush()
	switch {
	case err != nil || !w.told:
	case w.at < w.size:
		err = &fs.PathError{Op: "close", Path: w.file.Name(), Err: io.ErrUnexpectedEOF}
	default:
		err = w.Chtimes(w.mtime)
	}
	return errors.Join(err, w.file.Close())
}
