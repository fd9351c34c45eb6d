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

// take reports whether there was a token of that key.
func (b *budget) take(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	at, known := b.buckets[key]
	if !known {
		if len(b.buckets) >= maxBudgetKeys {
			clear(b.buckets)
		}
		at.since = now
	}
	if back := int(now.Sub(at.since) / b.every); back > 0 {
		at.taken = max(0, at.taken-back)
		at.since = at.since.Add(time.Duration(back) * b.every)
	}
	if at.taken >= b.burst {
		return false
	}
	if at.taken == 0 {
		at.since = now
	}
	at.taken++
	b.buckets[key] = at
	return true
}

// give returns a token that take gave.
func (b *budget) give(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.buckets[key]; ok && at.taken > 0 {
		at.taken--
		b.buckets[key] = at
	}
}
