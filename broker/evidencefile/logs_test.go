package evidencefile_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/ima/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

var withIMA = tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14)

// measured boots a machine whose kernel measured a file.
func measured(t testing.TB) (*evidencetest.TPM, []byte) {
	t.Helper()
	p := evidencetest.New(t)
	list := build.New(build.Aggregate(p.Values(tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))), build.File("/usr/bin/true", []byte("true")))
	for _, d := range list.Extends() {
		p.Extend(10, d)
	}
	return p, list.Bytes()
}

func TestCaptureWithMeasuredFiles(t *testing.T) {
	p, list := measured(t)
	bound := bytes.Repeat([]byte{7}, 32)
	attest, sig := p.Quote(t, withIMA, bound)
	file := func(seg *ima.Segment) api.EvidenceFile {
		ev := verifier.Evidence{Format: verifier.FormatTPM2, TPM2: &verifier.TPM2Evidence{
			AKPublic: p.AK.Public, Quote: attest, Signature: sig, PCRs: p.Values(withIMA), EventLog: p.EventLog, IMA: seg,
		}}
		return api.EvidenceFile{
			Version: api.EvidenceFileVersion, Format: ev.Format, Evidence: evidencefile.Members(ev),
			Context: api.EvidenceContext{Time: evidencetest.Noon, Qualifying: bound, Select: withIMA.String()},
		}
	}
	for name, c := range map[string]struct {
		seg       *ima.Segment
		want      reason.Code
		ima, boot string
	}{
		"whole":    {&ima.Segment{Raw: list}, "", "passed", "passed"},
		"none":     {nil, reason.TPM2PCRUnexplained, "not listed", "refused"},
		"cut":      {&ima.Segment{Raw: list[:len(list)-1]}, reason.IMATruncated, "refused", "not listed"},
		"not of 0": {&ima.Segment{First: 1, Raw: list}, reason.IMAOffset, "refused", "not listed"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := evidencefile.Judge(read(t, file(c.seg)))
			if err != nil || reason.Of(v.Refusal) != c.want {
				t.Fatalf("%v %v, want %q", err, v.Refusal, c.want)
			}
			if got := outcome(v.Findings, "ima"); got != c.ima {
				t.Errorf("ima: %s", got)
			}
			if got := outcome(v.Findings, "eventlog"); got != c.boot {
				t.Errorf("eventlog: %s", got)
			}
		})
	}
	f := file(&ima.Segment{Raw: list})
	f.Evidence.TPM2.EventLog = nil
	if v, _ := evidencefile.Judge(f); reason.Of(v.Refusal) != reason.EventLogMissing {
		t.Errorf("files without a boot: %v", v.Refusal)
	}
	f = file(&ima.Segment{Raw: list})
	f.Evidence.TPM2.UserspaceLog = []byte("no CEL")
	if v, _ := evidencefile.Judge(f); v.Refusal == nil || outcome(v.Findings, "eventlog") != "refused" {
		t.Errorf("a userspace log that is none: %v", v.Refusal)
	}
}

// TestAttestationWithMeasuredFiles: the list of a renewal goes on from what the
// baseline says.
func TestAttestationWithMeasuredFiles(t *testing.T) {
	p, list := measured(t)
	key := evidencetest.NewSVIDKey(t)
	want := verifier.Expectation{
		TrustDomain: "example.org", Purpose: verifier.PurposeRenew, Nonce: bytes.Repeat([]byte{1}, 32), AKName: p.AK.Name(),
		Selection: withIMA, IssuedAt: evidencetest.Noon,
	}
	ev := p.Evidence(t, want, key)
	ev.TPM2.IMA = &ima.Segment{Raw: list}
	first, err := verifier.Appraise(ev, want, verifier.Trust{}, evidencetest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	want.Baseline = &verifier.Baseline{Clock: p.Clock, ClockAt: evidencetest.Noon, Firmware: p.Firmware, IMA: first.IMA().State(ima.Judged{})}
	ev.TPM2.IMA = &ima.Segment{First: first.IMA().Entries()}
	again, err := verifier.Appraise(ev, want, verifier.Trust{}, evidencetest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	f, err := evidencefile.New(ev, want, evidencefile.Trust{}, evidencetest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	v, err := evidencefile.Judge(read(t, f))
	if err != nil || v.Refusal != nil {
		t.Fatal(err, v.Refusal)
	}
	canonical, err := again.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if want := digest(canonical); v.Appraisal != want {
		t.Errorf("%s, judged at first %s", v.Appraisal, want)
	}
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }
