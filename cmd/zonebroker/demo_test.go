package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDemoFleetSpreads: three zones as soon as there are three hosts, and names
// that sort.
func TestDemoFleetSpreads(t *testing.T) {
	for n, want := range map[int][]int{1: {1, 0, 0}, 2: {1, 1, 0}, 3: {1, 1, 1}, 12: {4, 4, 4}, 14: {5, 5, 4}, 100: {34, 34, 32}} {
		got, names := make([]int, len(demoZones)), map[string]bool{}
		for _, h := range demoFleet("/dir", n) {
			names[h.name] = true
			for i := range demoZones {
				if h.zone == &demoZones[i] {
					got[i]++
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || len(names) != n {
			t.Errorf("%d hosts have %d names; zones (-want +got):\n%s", n, len(names), diff)
		}
	}
}

func TestLatencyIsNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100-i) * time.Millisecond
	}
	for _, tt := range []struct {
		took []time.Duration
		want latency
	}{
		{hundred[:1], latency{1, 100, 100}},
		{hundred[:12], latency{12, 94, 100}},
		{hundred, latency{100, 50, 99}},
	} {
		if got := latencyOf(append([]time.Duration(nil), tt.took...)); got != tt.want {
			t.Errorf("%d: %+v, want %+v", len(tt.took), got, tt.want)
		}
	}
}

// TestProgressShows: on a terminal one line changes and is gone before the next
// step; elsewhere a line comes only where work is long.
func TestProgressShows(t *testing.T) {
	var out bytes.Buffer
	n := newNarrator(&out, false)
	n.working("1 of 2")
	if out.Len() > 0 {
		t.Errorf("short work shows %q where no line can change", &out)
	}
	n.progress = n.progress.Add(-progressEvery)
	n.working("1 of 2")
	n.working("2 of 2")
	if got := out.String(); got != "   0.0s    … 1 of 2\n" {
		t.Errorf("long work shows %q", got)
	}
	out.Reset()
	n.live = true
	n.working("1 of 2")
	n.working("2 of 2")
	n.step("done %s", "\x1b[2J")
	n.step("next")
	if got, want := out.String(), "\r\x1b[K   0.0s  1 of 2\r\x1b[K   0.0s  2 of 2\r\x1b[K   0.0s  done [2J\n   0.0s  next\n"; got != want {
		t.Errorf("a terminal gets %q, want %q", got, want)
	}
	out.Reset()
	n = newNarrator(&out, true)
	n.progress = n.progress.Add(-progressEvery)
	n.working("1 of 2")
	n.text("for people")
	n.step("a & b")
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"text":"a & b"`) {
		t.Errorf("a program gets %q", got)
	}
}
