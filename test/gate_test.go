package test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// gate is a balancer in front of a replica: agents keep its address while the
// replica behind it dies and comes back at another port. TLS ends at the
// replica; the gate sees bytes.
type gate struct {
	url string

	mu     sync.Mutex
	target string // host:port; "" lets nobody in
	open   map[net.Conn]bool
	passed int // connections that were let in since the last open
}

func newGate(t testing.TB, p *replica) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := &gate{url: "https://" + l.Addr().String(), open: map[net.Conn]bool{}}
	g.let(p)
	var owner sync.WaitGroup
	owner.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			owner.Go(func() { g.pass(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); g.shut(); owner.Wait() })
	return g
}

// let leads to a replica.
func (g *gate) let(p *replica) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target, g.passed = strings.TrimPrefix(p.url, "https://"), 0
}

// shut ends every connection and lets nobody in.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target = ""
	for c := range g.open {
		_ = c.Close()
	}
}

func (g *gate) connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed
}

func (g *gate) pass(in net.Conn) {
	defer in.Close()
	g.mu.Lock()
	target := g.target
	g.mu.Unlock()
	if target == "" {
		return
	}
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	g.mu.Lock()
	if g.target != target {
		g.mu.Unlock()
		return
	}
	g.open[in], g.open[out] = true, true
	g.passed++
	g.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // the end of one way ends the other
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
	g.mu.Lock()
	delete(g.open, in)
	delete(g.open, out)
	g.mu.Unlock()
}
