package server

import (
	"net"
	"net/netip"
	"sync"
)

// limitListener closes connections above a total and above a number per
// address, before a byte of TLS is read: a handshake is the first dear thing
// that a stranger can ask for.
type limitListener struct {
	net.Listener
	total, perIP int
	metrics      *metrics

	mu    sync.Mutex
	count int                // by mu
	byIP  map[netip.Addr]int // by mu; has open connections only, so total bounds it
}

func newLimitListener(l net.Listener, lim Limits, m *metrics) *limitListener {
	return &limitListener{Listener: l, total: lim.MaxConns, perIP: lim.MaxConnsPerIP, metrics: m, byIP: map[netip.Addr]int{}}
}

// Accept returns the next connection that is within the limits.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := addressOf(c.RemoteAddr().String())
		if cause := l.enter(ip); cause != "" {
			l.metrics.refusedConns.WithLabelValues(cause).Inc()
			c.Close()
			continue
		}
		return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(ip) })}, nil
	}
}

func (l *limitListener) enter(ip netip.Addr) (cause string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.count >= l.total:
		return "total"
	case l.byIP[ip] >= l.perIP:
		return "per_ip"
	}
	l.count++
	l.byIP[ip]++
	l.metrics.conns.Set(float64(l.count))
	return ""
}

func (l *limitListener) leave(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if l.byIP[ip]--; l.byIP[ip] == 0 {
		delete(l.byIP, ip)
	}
	l.metrics.conns.Set(float64(l.count))
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// addressOf returns the address that limits count: an IPv4 address, or the /64
// of an IPv6 address, because a single host owns that many. The zero Addr
// stands for what does not parse.
func addressOf(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		p, err := ip.Prefix(64)
		if err != nil {
			return netip.Addr{}
		}
		return p.Addr()
	}
	return ip
}
