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
	// MaxConns and MaxConnsPerIP bound open TCP connections (8 192; 256, because
	// a rack may stand behind one address). An IPv6 /64 counts as one address.
	MaxConns      int
	MaxConnsPerIP int
	// MaxStreams bounds concurrent requests of one HTTP/2 connection (32).
	MaxStreams int
	// MaxRequests and MaxBytes bound requests in work and the body bytes they
	// hold, for strangers and for nodes apart (1 024; 128 MiB).
	MaxRequests int
	MaxBytes    int64
	// Strangers is the rate of challenges and attestations of everybody without
	// a valid SVID together (400 a second, 800 at once), PerIP of one address of
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

func (l Limits) withDefaults() Limits {
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
	number(&l.Table, 65536)
	if l.MaxBytes == 0 {
		l.MaxBytes = 128 << 20
	}
	rate(&l.Strangers, 400, 800)
	rate(&l.PerIP, 20, 60)
	rate(&l.Nodes, 4000, 8000)
	rate(&l.Node, 10.0/60, 10)
	rate(&l.Issue, 2, 60)
	rate(&l.Operator, 20, 100)
	rate(&l.Documents, 20, 100)
	return l
}

// buckets holds a token bucket for each of the keys seen last.
type buckets[K comparable] struct {
	rate Rate
	max  int

	mu    sync.Mutex
	order *list.List // of *bucket[K], longest unseen at the back; by mu
	byKey map[K]*list.Element
}

type bucket[K comparable] struct {
	key    K
	tokens float64
	last   time.Time
}

func newBuckets[K comparable](rate Rate, limit int) *buckets[K] {
	return &buckets[K]{rate: rate, max: limit, order: list.New(), byKey: map[K]*list.Element{}}
}

// take takes one token of key, or says how long until there is one.
func (b *buckets[K]) take(key K, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.get(key, now)
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

func (b *buckets[K]) get(key K, now time.Time) *bucket[K] {
	if e, ok := b.byKey[key]; ok {
		b.order.MoveToFront(e)
		return e.Value.(*bucket[K])
	}
	if b.order.Len() >= b.max {
		oldest := b.order.Back()
		delete(b.byKey, b.order.Remove(oldest).(*bucket[K]).key)
	}
	k := &bucket[K]{key: key, tokens: float64(b.rate.Burst), last: now}
	b.byKey[key] = b.order.PushFront(k)
	return k
}
