package ledger_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestMissingListsExactly: what goes into a list comes out, and set operations
// agree with those on single indices.
func TestMissingListsExactly(t *testing.T) {
	rnd := rand.New(rand.NewPCG(6, 1))
	for range 200 {
		some := func() (map[int64]bool, []ledger.Span) {
			in, next := map[int64]bool{}, int64(0)
			var spans []ledger.Span
			for range rnd.IntN(6) {
				first := next + rnd.Int64N(4)
				last := first + rnd.Int64N(5)
				spans, next = append(spans, ledger.Span{First: first, Last: last}), last+2
				for i := first; i <= last; i++ {
					in[i] = true
				}
			}
			return in, spans
		}
		a, aSpans := some()
		b, bSpans := some()
		var m ledger.Missing
		if err := m.SetSpans(aSpans); err != nil {
			t.Fatal(err)
		}
		raw, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := ledger.ParseMissing(raw)
		if err != nil || !slices.Equal(got, aSpans) || m.Rows != int64(len(a)) {
			t.Fatalf("%v became %v (%d rows): %v", aSpans, got, m.Rows, err)
		}
		var set, both, without ledger.Indices
		set.Add(bSpans)
		both.Add(aSpans)
		both.Add(bSpans)
		without.Add(set.Without(aSpans))
		for i := range int64(50) {
			if both.Has(i) != (a[i] || b[i]) || without.Has(i) != (a[i] && !b[i]) {
				t.Fatalf("%d of %v and %v: both %v, without %v", i, aSpans, bSpans, both.Has(i), without.Has(i))
			}
		}
	}
}

func TestMissingRefuses(t *testing.T) {
	var m ledger.Missing
	for name, spans := range map[string][]ledger.Span{"backwards": {{5, 6}, {1, 2}}, "overlapping": {{1, 5}, {5, 6}}, "empty": {{5, 4}}} {
		if m.SetSpans(spans) == nil {
			t.Errorf("%s spans are taken", name)
		}
	}
	if err := m.SetSpans([]ledger.Span{{First: 3, Last: 9}}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ledger.Missing){
		"another count": func(m *ledger.Missing) { m.Rows++ },
		"no list":       func(m *ledger.Missing) { m.Indexes = nil },
		"half a list":   func(m *ledger.Missing) { m.Indexes = m.Indexes[:len(m.Indexes)-9] },
	} {
		c := m
		change(&c)
		if _, err := c.Spans(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
