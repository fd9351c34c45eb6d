package broker_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// exported returns a record's evidence file as somebody elsewhere reads it.
func exported(t *testing.T, r *rig, id string) api.EvidenceFile {
	t.Helper()
	f, err := r.b.ExportEvidence(t.Context(), operator, id)
	r.must(err)
	raw, err := api.Encode(f)
	r.must(err)
	out, err := evidencefile.Parse(raw)
	r.must(err)
	return out
}

// TestExportedEvidenceIsJudgedTheSame: every record of every sort, by nothing
// but its file.
func TestExportedEvidenceIsJudgedTheSame(t *testing.T) {
	r, h := judged(t)
	withRoots := 0
	for i, body := range r.attestations(h.node) {
		f := exported(t, r, body.ID.String())
		v, err := evidencefile.Judge(f)
		r.must(err)
		if !v.Same || v.Appraisal != body.Appraisal || f.Recorded.ID != body.ID.String() {
			t.Errorf("record %d: %s, recorded %s", i, v.Appraisal, body.Appraisal)
		}
		want := ""
		if body.Verdict == ledger.VerdictDeny {
			want = body.Reasons[0].Code
		}
		if string(reason.Of(v.Refusal)) != want {
			t.Errorf("record %d: refused with %v, recorded as %q", i, v.Refusal, want)
		}
		if hasCert := len(f.Evidence.TPM2.EKCertificate) > 0; hasCert != (len(f.Context.Roots) > 0) {
			t.Errorf("record %d: EK certificate %t, %d bundles of roots", i, hasCert, len(f.Context.Roots))
		} else if hasCert {
			withRoots++
		}
		f.Context.Nonce[0] ^= 1
		if v, err := evidencefile.Judge(f); err != nil || v.Refusal == nil || v.Same {
			t.Errorf("record %d over another nonce: %v, %v", i, v.Refusal, err)
		}
	}
	if withRoots == 0 {
		t.Error("no record had an EK certificate")
	}
}

func TestExportEvidenceRefuses(t *testing.T) {
	r, h := judged(t)
	bodies := r.attestations(h.node)
	grants, err := r.b.History(t.Context(), operator, api.HistoryQuery{Type: ledger.TypeAdmission, Limit: 1})
	r.must(err)
	enrolment, renewal := bodies[0].ID.String(), bodies[1].ID.String()
	for name, tc := range map[string]struct {
		id   string
		want reason.Code
	}{
		"no id":          {"x", reason.RequestMalformed},
		"no record":      {"0192f0c1-2345-7abc-8def-0123456789ab", reason.RequestNotFound},
		"no attestation": {grants.Entries[0].ID, reason.RequestNotFound},
	} {
		if _, err := r.b.ExportEvidence(t.Context(), operator, tc.id); reason.Of(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	// Other trust data matters where an EK certificate was judged, and only there.
	r.cfg.Trust.Digest[0] ^= 1
	other, _ := r.newReplica("other")
	if _, err := other.ExportEvidence(t.Context(), operator, enrolment); reason.Of(err) != reason.PolicyReferenceMissing {
		t.Errorf("other roots: %v", err)
	}
	if _, err := other.ExportEvidence(t.Context(), operator, renewal); err != nil {
		t.Errorf("without EK certificate: %v", err)
	}
	clear(r.store.evidence)
	if _, err := r.b.ExportEvidence(t.Context(), operator, enrolment); reason.Of(err) != reason.RequestNotFound {
		t.Errorf("evidence that is gone: %v", err)
	}
}
