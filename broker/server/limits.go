package server

import (
	"container/list"
	"math"
	"sync"
	"time"
)

// Rate is a token bucket: so many a second on average, so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits bound what strangers and nodes can make the broker do. A zero member
// takes its default.
type Limits struct {
	// MaxConns and MaxConnsPerIP bound open TCP connections (8 192, of which
	// newcomers have half; 256, because a rack may stand behind one address). An IPv6 /64 counts as one address.
	MaxConns      int
	MaxConnsPerIP int
	// Arrivals is the rate of new connections of one address (50, 512), Newcomers
	// that of all addresses together from which no client certificate was good yet
	// (50 a second and 200 at once for each core): a handshake costs the broker
	// half a millisecond and a stranger the replay of a recording.
	Arrivals  Rate
	Newcomers Rate
	// MaxStreams bounds concurrent requests of one HTTP/2 connection (32).
	MaxStreams int
	// MaxRequests and MaxBytes bound requests in work and the body bytes they
	// hold, for strangers and for nodes apart (1 024; 128 MiB).
	MaxRequests int
	MaxBytes    int64
	// Turns bounds challenges, attestations and later SVIDs that are computed at
	// once (two for each core, because each may wait for a read; who waits for a
	// commit has none), Queue how many more wait to begin (twice as many: more
	// would make everybody late where there is too much to do).
	Turns int
	Queue int
	// Strangers is the rate of challenges and attestations of everybody without
	// a valid SVID together (100 a second and 400 at once for each core), PerIP of one address of
	// them (20, 60).
	Strangers Rate
	PerIP     Rate
	// Nodes is that of all nodes together (4 000, 8 000), Node of one node: the
	// fast lane (10 a minute, 10 at once).
	Nodes Rate
	Node  Rate
	// Issue is that of one node's later SVIDs, X.509 and JWT together (120 a
	// minute, 60 at once), Operator that of one role certificate (20 a second,
	// 100 at once).
	Issue    Rate
	Operator Rate
	// Documents is the rate per address of everything that is read (20, 100).
	Documents Rate
	// Table is how many addresses, and how many nodes, are remembered (65 536,
	// about 10 MB); the longest unseen is forgotten first, so that an attacker
	// with many addresses costs memory only up to here, and what protects then is
	// the rate of all strangers together.
	Table int
}

// DefaultLimits are those of a machine with so many cores.
func DefaultLimits(cores int) Limits { return Limits{}.withDefaults(cores) }

func (l Limits) withDefaults(cores int) Limits {
	number := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	rate := func(v *Rate, perSecond float64, burst int) {
		if *v == (Rate{}) {
			*v = Rate{perSecond, burst}
		}
	}
	number(&l.MaxConns, 8192)
	number(&l.MaxConnsPerIP, 256)
	number(&l.MaxStreams, 32)
	number(&l.MaxRequests, 1024)
	number(&l.Turns, 2*cores)
	number(&l.Queue, 2*l.Turns)
	number(&l.Table, 65536)
	if l.MaxBytes == 0 {
		l.MaxBytes = 128 << 20
	}
	rate(&l.Arrivals, 50, 512)
	rate(&l.Newcomers, 50*float64(cores), 200*cores)
	rate(&l.Strangers, 100*float64(cores), 400*cores)
	rate(&l.PerIP, 20, 60)
	rate(&l.Nodes, 4000, 8000)
	rate(&l.Node, 10.0/60, 10)
	rate(&l.Issue, 2, 60)
	rate(&l.Operator, 20, 100)
	rate(&l.Documents, 20, 100)
	return l
}

// recent keeps what belongs to the keys seen last. It is guarded by its owner.
type recent[K comparable, V any] struct {
	max   int
	order list.List // of *kept[K, V], longest unseen at the back
	by    map[K]*list.Element
}

type kept[K comparable, V any] struct {
	key   K
	value V
}

// get returns what is kept of key, nil for nothing.
func (r *recent[K, V]) get(key K) *V {
	e, ok := r.by[key]
	if !ok {
		return nil
	}
	r.order.MoveToFront(e)
	return &e.Value.(*kept[K, V]).value
}

// put keeps v of a key that has nothing, in the place of the longest unseen where
// there is no room.
func (r *recent[K, V]) put(key K, v V) *V {
	if r.order.Len() >= r.max {
		delete(r.by, r.order.Remove(r.order.Back()).(*kept[K, V]).key)
	}
	if r.by == nil {
		r.by = make(map[K]*list.Element)
	}
	k := &kept[K, V]{key, v}
	r.by[key] = r.order.PushFront(k)
	return &k.value
}

// drop forgets a key.
func (r *recent[K, V]) drop(key K) {
	if e, ok := r.by[key]; ok {
		r.order.Remove(e)
		delete(r.by, key)
	}
}

// buckets holds a token bucket for each of the keys seen last.
type buckets[K comparable] struct {
	rate Rate

	mu    sync.Mutex
	byKey recent[K, bucket] // by mu
}

type bucket struct {
	tokens float64
	last   time.Time
}

func newBuckets[K comparable](rate Rate, limit int) *buckets[K] {
	return &buckets[K]{rate: rate, byKey: recent[K, bucket]{max: limit}}
}

// take takes one token of key, or says how long until there is one.
func (b *buckets[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.byKey.get(key)
	if k == nil {
		k = b.byKey.put(key, bucket{tokens: float64(b.rate.Burst), last: now})
	}
	// A clock that steps back must not take tokens away.
	if d := now.Sub(k.last).Seconds(); d > 0 {
		k.tokens = math.Min(float64(b.rate.Burst), k.tokens+d*b.rate.PerSecond)
		k.last = now
	}
	if k.tokens >= 1 {
		k.tokens--
		return 0, true
	}
	return time.Duration((1 - k.tokens) / b.rate.PerSecond * float64(time.Second)), false
}
