package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ExportEvidence returns a recorded attestation with all that it had to match,
// so that anybody judges it again without this broker. A record that is no
// attestation, or whose evidence is no longer kept, is request.not_found; one
// whose EK certificate was judged with roots that are not kept is
// policy.reference_missing.
func (b *Broker) ExportEvidence(ctx context.Context, c Caller, id string) (api.EvidenceFile, error) {
	r, _, err := b.readRecord(ctx, c, readEvidence, id)
	if err != nil {
		return api.EvidenceFile{}, err
	}
	if r.Type != ledger.TypeAttestation {
		return api.EvidenceFile{}, reason.New(reason.RequestNotFound, "that record is no attestation")
	}
	var body ledger.Attestation
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return api.EvidenceFile{}, err
	}
	ev, err := b.storedEvidence(ctx, body)
	if err != nil {
		return api.EvidenceFile{}, err
	}
	t, err := b.trustOf(ctx, body.TrustRoots)
	if err != nil {
		if reason.Of(err) != reason.PolicyReferenceMissing || len(ev.Items) > 0 || len(ev.TPM2.EKCertificate) > 0 {
			return api.EvidenceFile{}, err
		}
		t = b.trust.Load() // nothing was judged by it
	}
	want, err := b.recordedExpectation(ctx, body)
	if err != nil {
		return api.EvidenceFile{}, err
	}
	f, err := evidencefile.New(ev, want, evidencefile.Trust{
		Roots: t.Roots, CRLs: t.Lists, ExtraVendors: t.ExtraVendors, Platforms: t.platforms,
	}, time.UnixMilli(body.JudgedAt))
	if err != nil {
		return api.EvidenceFile{}, err
	}
	f.Recorded = &api.RecordedVerdict{
		ID: body.ID.String(), Verdict: body.Verdict, Reasons: wireReasons(body.Reasons), Appraisal: body.Appraisal,
	}
	return f, nil
}
