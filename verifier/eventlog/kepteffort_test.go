package eventlog_test

import (
	"maps"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// TestKeptRemembersFourSelections: ten thousand hosts that show the same four
// selections of PCRs cost next to nothing each, and who asks for more of them
// than that cannot make the log grow.
func TestKeptRemembersFourSelections(t *testing.T) {
	events, quoted := machine(build.Machine{})
	kept := eventlog.Keep(build.New(events...).Bytes())
	cost := func(selections int) float64 {
		return testing.AllocsPerRun(5, func() {
			for without := range selections {
				some := maps.Clone(quoted)
				delete(some, without)
				if _, err := kept.Explain(some); err != nil {
					t.Fatal(err)
				}
			}
		}) / float64(selections)
	}
	four, five := cost(4), cost(5)
	if 3*four > five {
		t.Errorf("%.0f allocations for each of four selections, %.0f for each of five", four, five)
	}
}
