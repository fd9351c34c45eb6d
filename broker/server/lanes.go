package server

import (
	"io"
	"net/netip"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// lane is a share of the broker: requests in work, and bytes of bodies that
// they hold. Strangers and nodes have one each, so that no crowd of strangers
// keeps a node from renewing; role certificates have one beside the admin
// socket's, so that a stolen one cannot keep the socket from revoking it.
type lane struct {
	name     string
	requests *semaphore.Weighted
	bytes    *semaphore.Weighted
}

// lanes hold all limits above the connection.
type lanes struct {
	stranger, node, role, admin *lane
	turns                       *turns

	perIP     *buckets[netip.Addr]
	documents *buckets[netip.Addr]
	perNode   *buckets[string]
	issue     *buckets[string] // by node
	operators *buckets[string] // by name
	strangers *buckets[struct{}]
	nodes     *buckets[struct{}]
}

func newLanes(l Limits) lanes {
	newLane := func(name string) *lane {
		return &lane{name, semaphore.NewWeighted(int64(l.MaxRequests)), semaphore.NewWeighted(l.MaxBytes)}
	}
	return lanes{
		stranger: newLane("stranger"), node: newLane("node"), role: newLane("role"), admin: newLane("admin"),
		turns:     newTurns(l.Turns, l.Queue),
		perIP:     newBuckets[netip.Addr](l.PerIP, l.Table),
		documents: newBuckets[netip.Addr](l.Documents, l.Table),
		perNode:   newBuckets[string](l.Node, l.Table),
		issue:     newBuckets[string](l.Issue, l.Table),
		operators: newBuckets[string](l.Operator, l.Table),
		strangers: newBuckets[struct{}](l.Strangers, 1),
		nodes:     newBuckets[struct{}](l.Nodes, 1),
	}
}

// limited is a refusal that knows when to come back.
type limited struct {
	reason *reason.Error
	limit  string // metrics label
	after  time.Duration
}

// Error is that of the reason.
func (l *limited) Error() string { return l.reason.Error() }

// Unwrap shows the reason to errors.As.
func (l *limited) Unwrap() error { return l.reason }

func rateLimited(limit string, after time.Duration) error {
	return &limited{reason.New(reason.RequestRateLimited, "too many requests"), limit, after}
}

func overloaded(limit, detail string) error {
	return &limited{reason.New(reason.RequestOverloaded, detail), limit, time.Second}
}

// ask takes a token for one request. The address comes first and the crowd
// second, so that one address cannot use up what all share. A role certificate
// pays for everything at its own rate; whoever tries an operators' route without
// one pays as for a document.
func (l *lanes) ask(class rateClass, p peer, ip netip.Addr, now time.Time) error {
	switch {
	case p.operator != "":
		return take(l.operators, p.operator, "operator", now)
	case class == rateDocument, class == rateOperator:
		return take(l.documents, ip, "documents", now)
	case p.node != "":
		own, limit := l.perNode, "node"
		if class == rateIssue {
			own, limit = l.issue, "issue"
		}
		if err := take(own, p.node, limit, now); err != nil {
			return err
		}
		return take(l.nodes, struct{}{}, "nodes", now)
	}
	if err := take(l.perIP, ip, "per_ip", now); err != nil {
		return err
	}
	return take(l.strangers, struct{}{}, "strangers", now)
}

func take[K comparable](b *buckets[K], key K, limit string, now time.Time) error {
	if wait, ok := b.take(key, now); !ok {
		return rateLimited(limit, wait)
	}
	return nil
}

// meteredBody pays for the bytes of a body as they arrive. Whoever declares two
// megabytes and sends one byte a second holds one step of the lane, not two
// megabytes of it.
type meteredBody struct {
	r    io.Reader
	lane *lane
	paid int64
	used int64
}

const bodyStep = 16 << 10

// Read reads no more than is paid for.
func (m *meteredBody) Read(p []byte) (int, error) {
	if m.used == m.paid {
		if !m.lane.bytes.TryAcquire(bodyStep) {
			return 0, overloaded("bytes_"+m.lane.name, "too many bytes in work")
		}
		m.paid += bodyStep
	}
	if room := m.paid - m.used; int64(len(p)) > room {
		p = p[:room]
	}
	n, err := m.r.Read(p)
	m.used += int64(n)
	return n, err
}

// release gives the bytes back when the request is answered.
func (m *meteredBody) release() { m.lane.bytes.Release(m.paid) }
