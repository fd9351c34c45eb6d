package verifier_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestInvariant4_CanonicalIsTheSameWhenJudgedAgain: the same evidence, expected
// and judged the same, gives the same bytes; whatever it proves differently
// gives others.
func TestInvariant4_CanonicalIsTheSameWhenJudgedAgain(t *testing.T) {
	a := newEnrol(t)
	first := canonical(t, a)
	for range 20 {
		if again := canonical(t, a); !bytes.Equal(first, again) {
			t.Fatalf("judged again:\n%s\n%s", first, again)
		}
	}
	seen := map[string]string{string(first): "nothing"}
	for name, change := range map[string]func(a *attempt){
		"clock":          func(a *attempt) { a.tpm.Clock.Millis++ },
		"reset count":    func(a *attempt) { a.tpm.Clock.ResetCount++ },
		"restart count":  func(a *attempt) { a.tpm.Clock.RestartCount++ },
		"firmware":       func(a *attempt) { a.tpm.Firmware++ },
		"a PCR":          func(a *attempt) { a.tpm.PCRs[9] = [32]byte{1} },
		"a boot":         func(a *attempt) { a.tpm.Boot(build.Machine{SecureBootOff: true}.Log()) },
		"no certificate": func(a *attempt) { a.tpm.EKCertificate = nil },
		"another AK":     func(a *attempt) { a.tpm.AK = evidencetest.NewAK(t) },
	} {
		b := *a
		tpm := *a.tpm
		b.tpm = &tpm
		change(&b)
		b.answer(t)
		got := string(canonical(t, &b))
		if other, ok := seen[got]; ok {
			t.Errorf("changing %s says the same as changing %s", name, other)
		}
		seen[got] = name
	}
	b := *a
	b.useCSR(a.key.CSR(t))
	if other, ok := seen[string(canonical(t, &b))]; ok {
		t.Errorf("a software key says the same as changing %s", other)
	}
}

// TestAppraisalFindings lists what is found, passed checks too: operators read
// it, and the history commits to it.
func TestAppraisalFindings(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(a *attempt)
		want   []verifier.Finding
	}{
		"accepted": {func(*attempt) {}, []verifier.Finding{
			{Check: "tpm2.quote"},
			{Check: "tpm2.clock"},
			{Check: "tpm2.firmware", Outcome: reason.Noted, Code: reason.TPM2FirmwareChanged},
			{Check: "tpm2.pcrs"},
			{Check: "eventlog"},
			{Check: "ekcert", Outcome: reason.Noted, Code: reason.EKCertUntrusted},
			{Check: "key"},
		}},
		"refused": {func(a *attempt) {
			a.ev.TPM2.EventLog = a.ev.TPM2.EventLog[:100]
			a.useCSR(nil)
		}, []verifier.Finding{
			{Check: "tpm2.quote"},
			{Check: "tpm2.clock"},
			{Check: "tpm2.firmware", Outcome: reason.Noted, Code: reason.TPM2FirmwareChanged},
			{Check: "tpm2.pcrs"},
			{Check: "eventlog", Outcome: reason.Refused, Code: reason.EventLogTruncated},
			{Check: "ekcert", Outcome: reason.Noted, Code: reason.EKCertUntrusted},
			{Check: "key", Outcome: reason.Refused, Code: reason.RequestMalformed},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newEnrol(t)
			a.want.Baseline = &verifier.Baseline{Clock: a.tpm.Clock, ClockAt: noon}
			a.trust.EKRoots = evidencetest.NewMaker(t).Roots(t)
			a.useCSR(a.key.CSR(t))
			tt.change(a)
			got, _ := a.appraise()
			findings := got.Findings()
			if last := findings[len(findings)-1]; last.Code != "" && !strings.Contains(last.Detail, "neither certify nor csr") {
				t.Errorf("what is missing is not said: %s", last.Detail)
			}
			for i := range findings {
				if findings[i].Detail == "" {
					t.Errorf("%s says nothing for people", findings[i].Check)
				}
				findings[i].Detail = ""
			}
			if diff := cmp.Diff(tt.want, findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCanonicalSaysEverything: each fact stands in the bytes that the history
// commits to. What is published against the TPM is no fact of the evidence.
func TestCanonicalSaysEverything(t *testing.T) {
	a := newEnrol(t)
	a.want.Selection = tpm2.SelectionOf(7)
	a.answer(t)
	a.want.RequireGenuine = true
	var got map[string]any
	if err := json.Unmarshal(canonical(t, a), &got); err != nil {
		t.Fatal(err)
	}
	appraised, _ := a.appraise()
	if len(appraised.Advisories()) == 0 {
		t.Fatal("nothing is published against this TPM")
	}
	boot := appraised.Boot().Digest()
	finding := func(check, detail string) map[string]any {
		return map[string]any{"check": check, "code": "", "detail": detail, "deny": false}
	}
	want := map[string]any{
		"tpm":    map[string]any{"model": "ST33", "version": "id:00490004", "expired": false},
		"format": "tpm2", "class": "A", "key": "tpm", "authentic": true, "genuine": true, "manufacturer": "STM",
		"pcrs": map[string]any{"7": hex.EncodeToString(a.tpm.PCRs[7][:])}, "clock": "100000/3/0/true",
		"firmware": "2312897626142815798", "secure_boot": "on", "boot": hex.EncodeToString(boot[:]),
		"findings": []any{
			finding("tpm2.quote", "signed by the AK over this challenge"), finding("tpm2.pcrs", "values are those quoted"),
			finding("eventlog", "every quoted PCR is explained"), finding("ekcert", "chain verified"),
			finding("key", "lives in the TPM that quoted"),
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("canonical form (-want +got):\n%s", diff)
	}
}

func canonical(t testing.TB, a *attempt) []byte {
	t.Helper()
	got, _ := a.appraise()
	b, err := got.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAppraisalIsClosed: a caller that changes what it was given changes nothing
// in the Appraisal.
func TestAppraisalIsClosed(t *testing.T) {
	got := mustAppraise(t, newEnrol(t))
	before, err := got.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	got.Findings()[0].Code = reason.Internal
	clear(got.PCRs()[0])
	delete(got.PCRs(), 1)
	v, _ := got.PCR(2)
	clear(v)
	clear(got.EventDigests(4)[0])
	after, err := got.Canonical()
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the appraisal changed from outside (%v)", err)
	}
}

func TestZeroAppraisalProvesNothing(t *testing.T) {
	var a verifier.Appraisal
	expectNoFacts(t, a)
	if a.Authentic() || a.Format() != "" || a.BindingClass() != "" || a.Events() != nil || a.Refusals() != nil || a.SecureBootUnproved() != nil {
		t.Error("the zero value proves something")
	}
}
