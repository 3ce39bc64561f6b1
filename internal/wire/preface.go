package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Protocol is the version of the protocol spoken here. Both sides must speak the same one.
const Protocol = 1

// magic begins both directions. Its first byte is no ASCII and no start of UTF-8 text, and its last
// one is a newline, so that neither a login message nor a line-changing path can pass for it.
var magic = [4]byte{0x89, 'g', 'd', '\n'}

const (
	maxNoise        = 64 << 10 // bytes of login noise before the magic
	maxCapabilities = 1 << 10
)

// Preface is what each side says first: the protocol it speaks and what it can beyond that.
type Preface struct {
	Protocol     uint16
	Capabilities []string // words of [a-z0-9-]
}

// Can reports whether the capability was announced.
func (p Preface) Can(capability string) bool { return slices.Contains(p.Capabilities, capability) }

// WritePreface writes the magic, the protocol and the capabilities.
func WritePreface(w io.Writer, p Preface) error {
	if n := len(strings.Join(p.Capabilities, " ")); n > maxCapabilities {
		return fmt.Errorf("capability list of %d bytes", n)
	}
	_, err := w.Write(p.encode())
	return err
}

func (p Preface) encode() []byte {
	list := strings.Join(p.Capabilities, " ")
	b := append([]byte(nil), magic[:]...)
	b = binary.BigEndian.AppendUint16(b, p.Protocol)
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	return append(b, list...)
}

// greets is the capability of a helper that says who it is right behind its preface.
const greets = "greets"

// readPreface reads a preface that must stand at the very start.
func readPreface(r io.Reader) (Preface, error) {
	var m [4]byte
	if _, err := io.ReadFull(r, m[:]); err != nil {
		return Preface{}, err
	}
	if m != magic {
		return Preface{}, errNoMagic
	}
	return readPrefaceRest(r)
}

func readPrefaceRest(r io.Reader) (Preface, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Preface{}, noEOF(err)
	}
	p := Preface{Protocol: binary.BigEndian.Uint16(h[:])}
	n := binary.BigEndian.Uint16(h[2:])
	if n > maxCapabilities {
		return p, fmt.Errorf("capability list of %d bytes, more than the %d allowed", n, maxCapabilities)
	}
	list := make([]byte, n)
	if _, err := io.ReadFull(r, list); err != nil {
		return p, noEOF(err)
	}
	p.Capabilities = strings.Fields(string(list))
	for _, c := range p.Capabilities {
		if strings.Trim(c, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return p, fmt.Errorf("capability %q", c)
		}
	}
	return p, nil
}

// skipNoise reads up to and with the magic and returns what stood before it, at most limit bytes. It
// stops with errNeed behind a line in which the bootstrap says what it needs.
func skipNoise(r *bufio.Reader, limit int) (noise []byte, err error) {
	for len(noise) < limit+len(magic) {
		b, err := r.ReadByte()
		if err != nil {
			return noise, err
		}
		noise = append(noise, b)
		if b == magic[3] && bytes.HasSuffix(noise, magic[:]) {
			return noise[:len(noise)-len(magic)], nil
		}
		if b == '\n' && bytes.HasPrefix(noise[bytes.LastIndexByte(noise[:len(noise)-1], '\n')+1:], []byte(needWord+" ")) {
			return noise, errNeed
		}
	}
	return noise, errNoMagic
}

var (
	errNoMagic  = errors.New("no helper answered")
	errNeed     = errors.New("no helper is there")
	errTooLarge = fmt.Errorf("message larger than %d bytes", MaxFrame)
)

// NeedError says that the host has no usable helper yet: it answered BootstrapCommand with what it
// is instead of starting one.
type NeedError struct {
	OS   string // as uname -s says: Linux
	Arch string // as uname -m says: x86_64
	// Unpacks are the ways of packing that the host can undo, joined by commas: raw,gzip,xz.
	Unpacks string
	Dir     string // the folder a helper can be installed in and run from; "" when there is none
}

// Error names the system.
func (e *NeedError) Error() string {
	if e.Dir == "" {
		return fmt.Sprintf("no folder on this host (%s %s) can keep and run a helper", e.OS, e.Arch)
	}
	return fmt.Sprintf("no helper is installed yet on this host (%s %s)", e.OS, e.Arch)
}

// parseNeed finds the bootstrap's answer in what a host printed.
func parseNeed(noise []byte) *NeedError {
	for line := range bytes.Lines(noise) {
		rest, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte(needWord+" "))
		if !ok {
			continue
		}
		f := strings.SplitN(string(rest), " ", 4)
		if len(f) != 4 || f[0] == "" || f[1] == "" || f[2] == "" {
			continue
		}
		if f[3] == "-" {
			f[3] = ""
		}
		return &NeedError{OS: f[0], Arch: f[1], Unpacks: f[2], Dir: f[3]}
	}
	return nil
}

// Unpack reports whether the host can undo a way of packing.
func (e *NeedError) Unpack(packing string) bool {
	return slices.Contains(strings.Split(e.Unpacks, ","), packing)
}

// parseFail finds the reason why the bootstrap could not install a helper.
func parseFail(noise []byte) string {
	for line := range bytes.Lines(noise) {
		if rest, ok := bytes.CutPrefix(line, []byte(failWord+" ")); ok {
			return string(bytes.TrimRight(rest, "\r\n"))
		}
	}
	return ""
}
