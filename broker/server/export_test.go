package server

import (
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
	if b.order.Len() != len(b.byKey) {
		panic("list and map differ")
	}
	return b.order.Len()
}

// AddressOf shows what counts as one address.
func AddressOf(hostport string) netip.Addr { return addressOf(hostport) }
