package verifier_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// measuring is a TPM whose kernel measured a file, and its answer to a quote that
// selects PCR 10.
func measuring(t testing.TB) (*attempt, *build.List) {
	t.Helper()
	a := newEnrol(t)
	pcrs := map[int][]byte{}
	for i := range 10 {
		pcrs[i] = a.tpm.PCRs[i][:]
	}
	l := build.New(build.Aggregate(pcrs), build.File("/bin/sh", []byte("sh")))
	for _, with := range l.Extends() {
		a.tpm.Extend(10, with)
	}
	a.want.Selection = tpm2.SelectionOf(append(a.want.Selection.Indexes(), 10)...)
	a.answer(t)
	a.ev.TPM2.IMA = &ima.Segment{Raw: l.Bytes()}
	return a, l
}

// TestAppraiseIMA: PCR 10 is explained by the list alone, the rest by the log.
func TestAppraiseIMA(t *testing.T) {
	a, _ := measuring(t)
	got := mustAppraise(t, a)
	if at := got.IMA(); !at.Known() || at.Entries() != 2 || at.Boot().Resets != a.tpm.Clock.ResetCount {
		t.Fatalf("%d entries", at.Entries())
	}
	if _, ok := got.PCR(10); !ok {
		t.Error("PCR 10 was quoted")
	}
	found := false
	for _, f := range got.Findings() {
		found = found || f.Check == "ima" && strings.Contains(f.Detail, "2 entries, 2 of them new; the boot aggregate is over PCR 0 to 9")
	}
	if !found {
		t.Errorf("findings: %+v", got.Findings())
	}
	var canonicalForm struct {
		IMA map[string]string `json:"ima"`
	}
	if err := json.Unmarshal(canonical(t, a), &canonicalForm); err != nil || canonicalForm.IMA["entries"] != "2" || len(canonicalForm.IMA["pcr10"]) != 64 {
		t.Errorf("%+v (%v)", canonicalForm, err)
	}

	a.moveOn(t, got)
	a.want.Selection = tpm2.SelectionOf(append(a.want.Selection.Indexes(), 10)...)
	a.answer(t)
	a.ev.TPM2.EventLog = nil
	a.want.Baseline.IMA = got.IMA().State(ima.Judged{})
	a.ev.TPM2.IMA = &ima.Segment{First: 2}
	if at := mustAppraise(t, a).IMA(); at.Entries() != 2 || at.New() != 0 {
		t.Errorf("%d entries, %d new", at.Entries(), at.New())
	}
	a.want.Baseline = nil
	a.ev.TPM2.EventLog = a.tpm.EventLog
	if got, err := a.appraise(); reason.Of(err) != reason.IMAOffset || got.IMA().Known() || !got.Authentic() {
		t.Errorf("without a baseline: %v", err)
	}
}

// TestAppraiseIMARefuses: a list that does not lead to the quote, or none.
func TestAppraiseIMARefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *attempt, l *build.List)
		want   reason.Code
	}{
		"none":      {func(a *attempt, _ *build.List) { a.ev.TPM2.IMA = nil }, reason.IMAMissing},
		"shorter":   {func(a *attempt, l *build.List) { a.ev.TPM2.IMA.Raw = build.New(l.Entries()[:1]...).Bytes() }, reason.IMATruncated},
		"cut":       {func(a *attempt, l *build.List) { a.ev.TPM2.IMA.Raw = l.Bytes()[:100] }, reason.IMATruncated},
		"first_log": {func(a *attempt, _ *build.List) { a.ev.TPM2.EventLog = a.ev.TPM2.EventLog[:100] }, reason.EventLogTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			a, l := measuring(t)
			tc.change(a, l)
			if _, err := a.appraise(); reason.Of(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
	t.Run("not_selected", func(t *testing.T) {
		a, _ := measuring(t)
		plain := newEnrol(t)
		before := canonical(t, plain)
		plain.ev.TPM2.IMA = a.ev.TPM2.IMA
		if got := mustAppraise(t, plain); got.IMA().Known() || !bytes.Equal(before, canonical(t, plain)) {
			t.Error("a list without a quoted PCR 10 says something")
		}
		if (verifier.Appraisal{}).IMA().Known() {
			t.Error("nothing says something")
		}
	})
}
