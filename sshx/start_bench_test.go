package sshx

import (
	"context"
	"testing"
)

// BenchmarkConnectAndRun is what every host costs before anything else: login and one command.
func BenchmarkConnectAndRun(b *testing.B) {
	key := newKey(b)
	server := startSSHD(b, key, nil)
	p, to := pool(b, key, nil), pinned(b, server)
	for b.Loop() {
		c, err := p.Dial(context.Background(), to)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Run(context.Background(), "true", nil, nil, nil); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
