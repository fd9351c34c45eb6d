package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapFloor is the heap below which collecting buys nothing: a broker has some
// MiB of live data and makes new garbage of that size many times a second under
// load, so that the default, twice what lives, kept the collector running.
const heapFloor = 32 << 20

// paceCollector lets the heap grow to heapFloor before it is collected, and to
// twice what lives above that, as the runtime does by itself: a broker with many
// connections needs no more memory than without, once a tick has seen them. Who
// sets GOGC decides alone.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for now := gcNormal; ; {
		metrics.Read(live)
		if want := gcPercent(live[0].Value.Uint64()); want != now { // stops the world for a moment
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

const (
	gcNormal = 100 // of the runtime
	gcMost   = 400
)

// gcPercent is by how much live bytes may grow until the heap is collected, in
// steps that a heap which breathes does not cross at each tick. 0 is before the
// first collection.
func gcPercent(live uint64) int {
	if live == 0 || live >= heapFloor/2 {
		return gcNormal
	}
	return min(max(int(heapFloor*100/live)-100, gcNormal)/50*50, gcMost)
}
