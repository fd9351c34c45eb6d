package main

import "testing"

// TestGCPercent: the heap that it allows is never above the floor or twice what
// lives, whichever is more.
func TestGCPercent(t *testing.T) {
	if got := gcPercent(0); got != gcNormal {
		t.Errorf("%d before the first collection", got)
	}
	if got := gcPercent(4 << 20); got != gcMost {
		t.Errorf("%d for 4 MiB", got)
	}
	for live := uint64(1 << 20); live < 1<<30; live += 1 << 20 {
		p := gcPercent(live)
		if p < gcNormal || p > gcMost {
			t.Fatalf("%d for %d MiB", p, live>>20)
		}
		if heap := live + live*uint64(p)/100; heap > max(heapFloor, 2*live) {
			t.Errorf("%d MiB may grow to %d", live>>20, heap>>20)
		}
	}
}
