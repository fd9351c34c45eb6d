package server

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// limitListener closes connections above a total and above a number per
// address, and those that come too fast, before a byte of TLS is read: a
// handshake is the first dear thing that a stranger can ask for.
type limitListener struct {
	net.Listener
	total, perIP int
	arrivals     *arrivals
	now          func() time.Time
	metrics      *metrics

	mu    sync.Mutex
	count int                // by mu
	byIP  map[netip.Addr]int // by mu; has open connections only, so total bounds it
}

func newLimitListener(l net.Listener, lim Limits, a *arrivals, now func() time.Time, m *metrics) *limitListener {
	return &limitListener{
		Listener: l, total: lim.MaxConns, perIP: lim.MaxConnsPerIP, arrivals: a, now: now, metrics: m, byIP: map[netip.Addr]int{},
	}
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
	if cause := l.arrivals.refuse(ip, l.now()); cause != "" {
		return cause
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

// arrivals bounds new connections. Newcomers share one rate, so that many
// addresses get no more handshakes than one, and the hosts of a fleet, whose
// addresses have shown a good certificate before, are not among them.
type arrivals struct {
	perIP     *buckets[netip.Addr]
	newcomers *buckets[struct{}]

	mu    sync.Mutex
	known recent[netip.Addr, struct{}] // by mu
}

func newArrivals(l Limits) *arrivals {
	return &arrivals{
		perIP:     newBuckets[netip.Addr](l.Arrivals, l.Table),
		newcomers: newBuckets[struct{}](l.Newcomers, 1),
		known:     recent[netip.Addr, struct{}]{max: l.Table},
	}
}

// refuse takes the tokens of a new connection, or says which are missing.
func (a *arrivals) refuse(ip netip.Addr, now time.Time) (cause string) {
	if _, ok := a.perIP.take(ip, now); !ok {
		return "arrivals"
	}
	if a.isKnown(ip) {
		return ""
	}
	if _, ok := a.newcomers.take(struct{}{}, now); !ok {
		return "newcomers"
	}
	return ""
}

func (a *arrivals) isKnown(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known.get(ip) != nil
}

// know notes an address whose client certificate is good.
func (a *arrivals) know(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known.get(ip) == nil {
		a.known.put(ip, struct{}{})
	}
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
