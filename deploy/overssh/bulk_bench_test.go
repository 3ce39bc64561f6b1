package overssh

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"godeploy/internal/wire"
	filesync "godeploy/sync"
)

// manyFiles makes 10,000 small files, 27 MB in all.
func manyFiles(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 2700)
	for i := range 10_000 {
		folder := filepath.Join(dir, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.Mkdir(folder, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		for k := range text {
			text[k] = "abcdefghijklmnop"[r.IntN(16)]
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("f%d", i)), text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// BenchmarkFirstRelease brings many small files to a real sshd on loopback, each time to a new folder.
func BenchmarkFirstRelease(b *testing.B) {
	dir := manyFiles(b)
	src, err := filesync.Scan(b.Context(), dir, filesync.ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	server := startOpenSSH(b)
	release := wire.Release{ID: "20261123-100000-4f2c9e1"}
	for _, way := range []string{"tar", "sftp"} {
		b.Run(way, func(b *testing.B) {
			h := unaided(b, server.login(b, me(b)), "/nowhere")
			if way == "sftp" {
				h.tools = tools{}
			}
			for b.Loop() {
				h.site.Path = b.TempDir()
				_, stats, err := h.Stage(b.Context(), wire.StageRequest{Site: h.site, Release: release}, src, filesync.SendOptions{})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(stats.Sent), "sent-B")
			}
		})
	}
	b.Run("rsync", func(b *testing.B) {
		for b.Loop() {
			to := me(b) + "@127.0.0.1:" + b.TempDir() + "/"
			if out, err := exec.Command(program(b, "rsync"), "-a", "-e", server.client(), dir+"/", to).CombinedOutput(); err != nil {
				b.Fatal(err, string(out))
			}
		}
	})
}

// client is the command line of ssh for this server.
func (s *openSSH) client() string {
	return "ssh -q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i " + s.dir + "/id -p " + strconv.Itoa(s.port)
}

// BenchmarkPut writes one large file by SFTP, beside sftp's own put.
func BenchmarkPut(b *testing.B) {
	const size = 256 << 20
	root := b.TempDir()
	block := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8(sha256.Sum256(nil)).Read(block)
	server := startOpenSSH(b)
	b.Run("ours", func(b *testing.B) {
		h := unaided(b, server.login(b, me(b)), root)
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			f, err := newSFTPFS(h.client, root).Make(fmt.Sprint("f", i), 0o644, 0, size)
			if err != nil {
				b.Fatal(err)
			}
			for range size / len(block) {
				if _, err := f.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sftp", func(b *testing.B) {
		batch := filepath.Join(root, "batch")
		if err := os.WriteFile(batch, []byte("put "+root+"/f0 "+root+"/theirs\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		for b.Loop() {
			out, err := exec.Command(program(b, "sftp"), "-q", "-b", batch, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
				"-i", server.dir+"/id", "-P", strconv.Itoa(server.port), me(b)+"@127.0.0.1").CombinedOutput()
			if err != nil {
				b.Fatal(err, string(out))
			}
		}
	})
}
