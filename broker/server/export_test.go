package server

import (
	"context"
	"net/netip"
	"time"
)

// RouteInfo shows a line of the table to tests.
type RouteInfo struct {
	Method, Path   string
	Role           string
	OnTCP, OnAdmin bool
	Body           int64
	Timeout        time.Duration
}

var roleNames = map[role]string{
	anyone: "anyone", agents: "agents", node: "node", auditor: "auditor", operator: "operator", admin: "admin",
}

// Routes returns the table.
func Routes() []RouteInfo {
	var out []RouteInfo
	for _, r := range routes {
		out = append(out, RouteInfo{
			r.method, r.path, roleNames[r.roles], onTCP.has(r.roles), onAdmin.has(r.roles), r.body, r.timeout,
		})
	}
	return out
}

// LetOperate replaces the check of the peer's uid.
func (s *Server) LetOperate(f func(uid int64) bool) { s.mayOperate = f }

// Remembered returns how many addresses and nodes the limiters hold.
func (s *Server) Remembered() (addresses, nodes int) {
	return s.lanes.perIP.Size(), s.lanes.perNode.Size()
}

// RememberedChains is how many client chains need no signatures checked.
func (s *Server) RememberedChains() int {
	r := s.cfg.Bundles.(*remembering)
	r.chains.mu.Lock()
	defer r.chains.mu.Unlock()
	return len(r.chains.by)
}

// InWork tries to take everything of the strangers' lane: what fails is in work.
func (s *Server) InWork() (free bool) {
	l := s.lanes.stranger
	if !l.requests.TryAcquire(int64(s.cfg.Limits.MaxRequests)) {
		return false
	}
	l.requests.Release(int64(s.cfg.Limits.MaxRequests))
	if !l.bytes.TryAcquire(s.cfg.Limits.MaxBytes) {
		return false
	}
	l.bytes.Release(s.cfg.Limits.MaxBytes)
	return true
}

// Buckets shows the limiter.
type Buckets = buckets[netip.Addr]

// NewBuckets makes one.
func NewBuckets(rate Rate, limit int) *Buckets { return newBuckets[netip.Addr](rate, limit) }

// Take takes a token.
func (b *buckets[K]) Take(key K, now time.Time) (time.Duration, bool) { return b.take(key, now) }

// Size is the number of keys.
func (b *buckets[K]) Size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byKey.order.Len() != len(b.byKey.by) {
		panic("list and map differ")
	}
	return b.byKey.order.Len()
}

// AddressOf shows what counts as one address.
func AddressOf(hostport string) netip.Addr { return addressOf(hostport) }

// Turns shows who computes next.
type Turns = turns

// Urgency is that of a request, most urgent first.
type Urgency = urgency

// All urgencies.
const (
	NodeAttests     = nodeAttests
	StrangerAttests = strangerAttests
	NodeBegins      = nodeBegins
	NodeIssues      = nodeIssues
	StrangerBegins  = strangerBegins
	MaxWait         = maxWait
)

// NewTurns makes some.
func NewTurns(n, room int) *Turns { return newTurns(n, room) }

// Take waits for one.
func (t *turns) Take(ctx context.Context, u Urgency) (func(), error) { return t.take(ctx, u) }

// Waiting is how many wait.
func (t *turns) Waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.queues {
		n += t.queues[i].Len()
	}
	return n
}

// Turns are those of s.
func (s *Server) Turns() *Turns { return s.lanes.turns }

// Arrivals shows the limits of new connections.
type Arrivals = arrivals

// NewArrivals makes them.
func NewArrivals(l Limits) *Arrivals { return newArrivals(l.withDefaults(2)) }

// Refuse says which limit a new connection meets, "" for none.
func (a *arrivals) Refuse(ip netip.Addr, now time.Time) string {
	return a.refuse(ip, !a.isKnown(ip), now)
}

// IsKnown says whether an address is none of a newcomer.
func (a *arrivals) IsKnown(ip netip.Addr) bool { return a.isKnown(ip) }

// Arrivals are those of s.
func (s *Server) Arrivals() *Arrivals { return s.arrivals }

// Know notes an address.
func (a *arrivals) Know(ip netip.Addr, who string) { a.know(ip, who) }
