package ledger_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestReadingRecord: a reading concerns no node, comes back from its body as it
// was, and is bounded: who asks cannot fill the log with one question.
func TestReadingRecord(t *testing.T) {
	good := ledger.Reading{
		Type: ledger.TypeHistoryRead, ID: testID(t), By: "operator:audit", Role: "auditor", What: "members",
		Filter: map[string]string{"zone": "z", "value": strings.Repeat("v", ledger.MaxFilter)}, At: 7,
	}
	rec, err := good.Record([32]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Record{ID: good.ID, Type: ledger.TypeHistoryRead, Salt: [32]byte{5}, Body: rec.Body}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
	back, err := ledger.RecordOf(rec.ID, rec.Body, rec.Salt)
	if diff := cmp.Diff(rec, back); diff != "" || err != nil {
		t.Error(diff, err)
	}
	good.Filter = nil
	if rec, err = good.Record([32]byte{}); err != nil || !strings.Contains(string(rec.Body), `"filter":{}`) {
		t.Errorf("without filters: %s, %v", rec.Body, err)
	}
	many := map[string]string{}
	for i := range ledger.MaxFilters + 1 {
		many[strings.Repeat("x", i)] = ""
	}
	for name, change := range map[string]func(*ledger.Reading){
		"of another type": func(r *ledger.Reading) { r.Type = ledger.TypeIssuance },
		"by nobody":       func(r *ledger.Reading) { r.By = "" },
		"of nothing":      func(r *ledger.Reading) { r.What = "" },
		"too many":        func(r *ledger.Reading) { r.Filter = many },
		"too long":        func(r *ledger.Reading) { r.Filter = map[string]string{"a": strings.Repeat("v", ledger.MaxFilter+1)} },
	} {
		bad := good
		change(&bad)
		if rec, err := bad.Record([32]byte{}); err == nil {
			t.Errorf("%s: %s", name, rec.Body)
		}
	}
}
