package server

import (
	"net"
	"net/netip"
	"slices"
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
	fresh int                // by mu; of count, those of newcomers
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
		newcomer := !l.arrivals.isKnown(ip)
		if cause := l.enter(ip, newcomer); cause != "" {
			l.metrics.refusedConns.WithLabelValues(cause).Inc()
			c.Close()
			continue
		}
		return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(ip, newcomer) })}, nil
	}
}

// enter counts a connection, or says which limit it meets. Newcomers have half of
// the total, so that strangers who keep theirs open leave room for the fleet.
func (l *limitListener) enter(ip netip.Addr, newcomer bool) (cause string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.count >= l.total, newcomer && l.fresh >= (l.total+1)/2:
		return "total"
	case l.byIP[ip] >= l.perIP:
		return "per_ip"
	}
	if cause := l.arrivals.refuse(ip, newcomer, l.now()); cause != "" {
		return cause
	}
	l.count++
	l.byIP[ip]++
	if newcomer {
		l.fresh++
	}
	l.metrics.conns.Set(float64(l.count))
	return ""
}

func (l *limitListener) leave(ip netip.Addr, newcomer bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if newcomer {
		l.fresh--
	}
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
	known recent[netip.Addr, string]   // by mu; by whose certificate
	shown recent[string, []netip.Addr] // by mu; where a certificate made them known, the longest ago first
}

// addressesOf bounds how many addresses one node or operator makes known: else
// one stolen SVID would open the door to all addresses that present it.
const addressesOf = 4

func newArrivals(l Limits) *arrivals {
	return &arrivals{
		perIP:     newBuckets[netip.Addr](l.Arrivals, l.Table),
		newcomers: newBuckets[struct{}](l.Newcomers, 1),
		known:     recent[netip.Addr, string]{max: l.Table},
		shown:     recent[string, []netip.Addr]{max: l.Table},
	}
}

// refuse takes the tokens of a new connection, or says which are missing.
func (a *arrivals) refuse(ip netip.Addr, newcomer bool, now time.Time) (cause string) {
	if _, ok := a.perIP.take(ip, now); !ok {
		return "arrivals"
	}
	if !newcomer {
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

// know notes the address of somebody whose client certificate is good.
func (a *arrivals) know(ip netip.Addr, who string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known.get(ip) != nil {
		return
	}
	a.known.put(ip, who)
	at := a.shown.get(who)
	if at == nil {
		at = a.shown.put(who, nil)
	}
	if *at = append(*at, ip); len(*at) > addressesOf {
		a.known.drop((*at)[0])
		*at = slices.Delete(*at, 0, 1)
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
