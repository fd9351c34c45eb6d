package verifier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	eventbuild "github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// measuringEdge is a renewal with PCR 10: a violation among three attested entries,
// and one that the quote does not cover yet.
func measuringEdge(t *testing.T, padded bool) *attempt {
	t.Helper()
	a := newRenew(t)
	a.tpm.Clock.ResetCount, a.tpm.Clock.RestartCount = a.tpm.Clock.ResetCount+1, 1
	a.want.Selection = tpm2.SelectionOf(append(evidencetest.Selection.Indexes(), 10)...)
	l := build.New(build.Aggregate(a.tpm.Values(evidencetest.Selection)), build.File("/bin/sh", []byte("sh")), build.Violation("/var/log/x"))
	extends := l.Extends()
	if padded {
		extends = l.PaddedExtends()
	}
	a.tpm.PCRs[10] = [32]byte(build.PCR10(extends))
	a.answer(t)
	a.ev.TPM2.IMA = &ima.Segment{Raw: build.New(append(l.Entries(), build.File("/bin/ls", []byte("ls")))...).Bytes()}
	return a
}

// TestIMAIsCommittedTo: every fact that a list proves is in the canonical form,
// whose hash the history records.
func TestIMAIsCommittedTo(t *testing.T) {
	a := measuringEdge(t, false)
	got := mustAppraise(t, a)
	text, err := got.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`"ima":{"boot":"%d/1","first":"0","entries":"3","carried":"1","violations":"1","extend":"bank","pcr10":"%x"}`,
		a.tpm.Clock.ResetCount, a.tpm.PCRs[10])
	if !strings.Contains(string(text), want) {
		t.Errorf("want %s in\n%s", want, text)
	}
	says := func(got verifier.Appraisal, what string) bool {
		return slices.ContainsFunc(got.Findings(), func(f verifier.Finding) bool { return f.Check == "ima" && strings.Contains(f.Detail, what) })
	}
	if !says(got, "1 more wait for the next quote") || says(got, "padded") {
		t.Errorf("%+v", got.Findings())
	}
	if got := mustAppraise(t, measuringEdge(t, true)); !says(got, "padded SHA-1") {
		t.Errorf("%+v", got.Findings())
	}
}

// TestIMAExplainsNoOtherPCR: a list for PCR 10 leaves the others to the log.
func TestIMAExplainsNoOtherPCR(t *testing.T) {
	a := measuringEdge(t, false)
	events := slices.DeleteFunc(eventbuild.Machine{}.Log().Events(), func(e eventbuild.Event) bool { return e.PCR == 4 })
	a.ev.TPM2.EventLog = eventbuild.New(events...).Bytes()
	if _, err := a.appraise(); reason.Of(err) != reason.TPM2PCRUnexplained {
		t.Errorf("%v", err)
	}
}

// TestUserspaceLogThatDoesNotParse is refused, whatever the firmware's log says.
func TestUserspaceLogThatDoesNotParse(t *testing.T) {
	a := newRenew(t)
	a.ev.TPM2.UserspaceLog = []byte("no log")
	if _, err := a.appraise(); err == nil || reason.Of(err) == reason.Internal {
		t.Errorf("%v", err)
	}
}
