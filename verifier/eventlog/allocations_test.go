package eventlog_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestAllocationsDoNotGrowWithTheLog: a log of eight times as many events is
// parsed, replayed and explained with as many allocations. What is allocated for
// each event of a stranger is a way to make a verifier slow.
func TestAllocationsDoNotGrowWithTheLog(t *testing.T) {
	count := func(n int) float64 {
		var events []build.Event
		for range n {
			events = append(events, measured(9, eventlog.TypeIPL, []byte("a file that was loaded\x00")))
		}
		raw, quoted := build.New(events...).Bytes(), extend(events)
		return testing.AllocsPerRun(10, func() {
			if _, err := explain(raw, map[int][]byte{9: quoted[9]}); err != nil {
				t.Fatal(err)
			}
		})
	}
	few, many := count(500), count(4000)
	if many > few {
		t.Errorf("%.0f allocations for 500 events, %.0f for 4000", few, many)
	}
	t.Logf("%.0f allocations for 500 events, %.0f for 4000", few, many)
}
