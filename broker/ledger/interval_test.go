package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Wednesday of a week that begins on 16 November.
var noon = time.Date(2026, 11, 18, 12, 0, 0, 0, time.UTC)

func spanID(n byte) uuid.UUID { return uuid.UUID{15: n} }

// openSpan began at noon, was renewed once at 12:03 and is fresh until 12:08.
func openSpan() (*ledger.Interval, *ledger.NodeState) {
	return &ledger.Interval{
		Node: "n", Zone: "payments", Measured: [32]byte{1}, PolicyVersion: 3, From: noon, Until: noon.Add(8 * time.Minute),
		Expires: noon.Add(time.Hour), First: spanID(1), Last: spanID(2), Renewals: 1,
	}, &ledger.NodeState{
		Node: "n", Last: spanID(2), Verdict: ledger.VerdictAllow, LastOKAt: noon.Add(3 * time.Minute), LastAttemptAt: noon.Add(3 * time.Minute),
	}
}

func TestEarn(t *testing.T) {
	later := noon.Add(6 * time.Minute)
	for name, tt := range map[string]struct {
		change   func(open *ledger.Interval, st *ledger.NodeState, e *ledger.Earned)
		ended    string
		until    time.Time // of the one that ended
		renewals int64
		from     time.Time
	}{
		"renewed":        {nil, "", time.Time{}, 2, noon},
		"at the last ms": {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.At = noon.Add(8 * time.Minute) }, "", time.Time{}, 2, noon},
		"zone":           {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.Zone = "batch" }, ledger.EndedChanged, later, 0, later},
		"measured":       {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.Measured[0]++ }, ledger.EndedChanged, later, 0, later},
		"policy":         {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.PolicyVersion++ }, ledger.EndedChanged, later, 0, later},
		"lapsed": {
			func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.At = noon.Add(9 * time.Minute) },
			ledger.EndedLapsed, noon.Add(8 * time.Minute), 0, noon.Add(9 * time.Minute),
		},
		"lapsed before another week": {
			func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.At = noon.AddDate(0, 1, 0) },
			ledger.EndedLapsed, noon.Add(8 * time.Minute), 0, noon.AddDate(0, 1, 0),
		},
		"the week ends": {func(o *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) {
			o.Until, e.At = time.Date(2026, 11, 23, 0, 3, 0, 0, time.UTC), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		}, ledger.EndedSplit, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), 0, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)},
		"the clock was put back": {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) { e.At = noon.Add(-time.Hour) }, "", time.Time{}, 2, noon},
		"changed while the clock was put back": {func(_ *ledger.Interval, _ *ledger.NodeState, e *ledger.Earned) {
			e.At, e.Zone = noon.Add(-time.Hour), "batch"
		}, ledger.EndedChanged, noon, 0, noon.Add(-time.Hour)},
		"an older program accepted meanwhile": {func(_ *ledger.Interval, st *ledger.NodeState, _ *ledger.Earned) {
			st.Last, st.LastOKAt = spanID(7), noon.Add(5*time.Minute)
		}, ledger.EndedChanged, noon.Add(5 * time.Minute), 0, later},
		"an older program accepted after it had lapsed": {func(_ *ledger.Interval, st *ledger.NodeState, e *ledger.Earned) {
			st.Last, st.LastOKAt, e.At = spanID(7), noon.Add(20*time.Minute), noon.Add(21*time.Minute)
		}, ledger.EndedLapsed, noon.Add(8 * time.Minute), 0, noon.Add(21 * time.Minute)},
		"an older program denied meanwhile": {func(_ *ledger.Interval, st *ledger.NodeState, _ *ledger.Earned) {
			st.Verdict, st.LastAttemptAt = ledger.VerdictDeny, noon.Add(4*time.Minute)
		}, ledger.EndedDenied, noon.Add(4 * time.Minute), 0, later},
	} {
		t.Run(name, func(t *testing.T) {
			open, st := openSpan()
			e := ledger.Earned{
				Node: "n", Zone: open.Zone, Measured: open.Measured, PolicyVersion: open.PolicyVersion, At: later,
				FreshUntil: later.Add(5 * time.Minute), Expires: noon.Add(30 * time.Minute), Record: spanID(9),
			}
			if tt.change != nil {
				tt.change(open, st, &e)
			}
			next, closed := ledger.Earn(open, st, e)
			want := &ledger.Interval{
				Node: "n", Zone: e.Zone, Measured: e.Measured, PolicyVersion: e.PolicyVersion, From: tt.from, Until: e.FreshUntil,
				Expires: e.Expires, First: e.Record, Last: e.Record, Renewals: tt.renewals,
			}
			if tt.ended == "" {
				want.First, want.Expires = open.First, open.Expires
			}
			if diff := cmp.Diff(want, next); diff != "" {
				t.Errorf("next: %s", diff)
			}
			var end *ledger.Interval
			if tt.ended != "" {
				ended := *open
				ended.Ended, ended.Until = tt.ended, tt.until
				end = &ended
			}
			if diff := cmp.Diff(end, closed); diff != "" {
				t.Errorf("closed: %s", diff)
			}
		})
	}
}

func TestEarnFirst(t *testing.T) {
	next, closed := ledger.Earn(nil, &ledger.NodeState{}, ledger.Earned{Zone: "z", At: noon, Record: spanID(1)})
	if closed != nil || next.Renewals != 0 || next.First != spanID(1) || next.Last != spanID(1) || next.From != noon {
		t.Errorf("%+v after %+v", next, closed)
	}
}

func TestDeny(t *testing.T) {
	for name, tt := range map[string]struct {
		at    time.Time
		older func(*ledger.NodeState)
		ended string
		until time.Time
	}{
		"in time":                {noon.Add(5 * time.Minute), nil, ledger.EndedDenied, noon.Add(5 * time.Minute)},
		"late":                   {noon.Add(time.Hour), nil, ledger.EndedLapsed, noon.Add(8 * time.Minute)},
		"the clock was put back": {noon.Add(-time.Hour), nil, ledger.EndedDenied, noon},
		"an older program denied first": {noon.Add(5 * time.Minute), func(st *ledger.NodeState) {
			st.Verdict, st.LastAttemptAt = ledger.VerdictDeny, noon.Add(4*time.Minute)
		}, ledger.EndedDenied, noon.Add(4 * time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			open, st := openSpan()
			if tt.older != nil {
				tt.older(st)
			}
			got := ledger.Deny(open, st, tt.at)
			want := *open
			want.Ended, want.Until = tt.ended, tt.until
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
			if open.Ended != "" {
				t.Error("the open interval itself was changed")
			}
		})
	}
	if got := ledger.Deny(nil, &ledger.NodeState{}, noon); got != nil {
		t.Errorf("%+v of a node without one", got)
	}
}

func TestWeek(t *testing.T) {
	for in, want := range map[string]string{
		"2026-11-16T00:00:00Z": "2026-11-16", "2026-11-22T23:59:59.999999Z": "2026-11-16", "2026-11-23T00:00:00Z": "2026-11-23",
		"2026-11-23T00:30:00+01:00": "2026-11-16", "2027-01-01T12:00:00Z": "2026-12-28",
	} {
		at, err := time.Parse(time.RFC3339Nano, in)
		if err != nil {
			t.Fatal(err)
		}
		if got := ledger.Week(at).Format(time.DateTime); got != want+" 00:00:00" {
			t.Errorf("week of %s = %s, want %s", in, got, want)
		}
	}
}

func TestMeasurement(t *testing.T) {
	a, err := ledger.NewMeasurement(map[string]string{"pcr.4": "aa", "boot.command_line": strings.Repeat("x", 513)})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ledger.NewMeasurement(map[string]string{"boot.command_line": strings.Repeat("x", 513), "pcr.4": "aa"})
	if a.Digest != b.Digest {
		t.Error("the order of facts counts")
	}
	facts, err := a.ByName()
	if err != nil || facts["pcr.4"] != "aa" || !strings.HasPrefix(facts["boot.command_line"], "sha256:") || len(facts["boot.command_line"]) != 71 {
		t.Errorf("%v, %v", facts, err)
	}
	many := map[string]string{}
	for i := range ledger.MaxFacts + 1 {
		many[spanID(byte(i)).String()] = "x"
	}
	if _, err := ledger.NewMeasurement(many); err == nil {
		t.Error("no bound")
	}
}
