package workloadapi

import (
	"sync"
	"time"
)

// maxBudgetKeys bounds the memory of a budget; keys are names of workloads of
// one zone, or constants.
const maxBudgetKeys = 1024

// budget is a token bucket for each key.
type budget struct {
	burst int
	every time.Duration // one token comes back
	now   func() time.Time

	mu      sync.Mutex
	buckets map[string]bucket
}

// bucket counts what was taken; zero is a full one.
type bucket struct {
	taken int
	since time.Time // up to when tokens came back
}

func newBudget(burst int, every time.Duration, now func() time.Time) *budget {
	return &budget{burst: burst, every: every, now: now, buckets: map[string]bucket{}}
}

// take takes a token of that key, and reports whether there was one.
func (b *budget) take(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at(key)
	if at.taken >= b.burst {
		return false
	}
	if len(b.buckets) >= maxBudgetKeys {
		clear(b.buckets)
	}
	if at.taken == 0 {
		at.since = b.now()
	}
	at.taken++
	b.buckets[key] = at
	return true
}

// left reports whether there is a token of that key, and leaves it there.
func (b *budget) left(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at(key).taken < b.burst
}

// at returns the bucket of a key after what came back; b.mu is held.
func (b *budget) at(key string) bucket {
	at, known := b.buckets[key]
	if !known {
		return bucket{}
	}
	if back := int(b.now().Sub(at.since) / b.every); back > 0 {
		at.taken = max(0, at.taken-back)
		at.since = at.since.Add(time.Duration(back) * b.every)
	}
	return at
}
