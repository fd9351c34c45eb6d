package broker

import (
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
)

// zoneClaim is the decision as relying parties will read it.
func (b *Broker) zoneClaim(a *attempt, fresh, end time.Time) claim.Claims {
	v, ref := &a.verdict, a.policy.ref()
	submods := submodsOf(a, claim.PolicyID(v.policy.Zone, ref.Version, ref.Hash))
	return claim.Claims{
		VerifierID: b.cfg.VerifierID, Status: claim.Overall(submods), IssuedAt: a.now.Unix(), Expires: end.Unix(),
		Submods: submods,
		Zone: claim.Zone{
			Name: v.policy.Zone, Tier: v.policy.Tier, Epoch: zoneEpoch, Node: string(v.node.ID),
			AttestationID: a.id.String(), AttestedAt: a.attestedAt().Unix(), FreshUntil: fresh.Unix(),
			Evidence: ledger.EvidenceDigest(evidenceIDs(a.parts)),
			Policy:   claim.Policy{Version: ref.Version, Hash: ref.Hash, Mode: claim.ModeEnforce},
			Key:      a.appraisal.KeyResidency(),
		},
	}
}

// submodsOf is what is said about each attester: the TPM, the platform, the report
// of protected hardware.
func submodsOf(a *attempt, policyID string) map[string]claim.Submod {
	out := make(map[string]claim.Submod, 2)
	if a.evidence.TPM2 != nil {
		out[claim.SubmodTPM] = claim.Measured{
			SecureBoot: a.appraisal.SecureBoot(), References: a.verdict.policy.Referenced, Genuine: a.appraisal.Genuine(), PolicyID: policyID,
		}.Submod()
	}
	for _, d := range a.appraisal.Documents() {
		label := claim.SubmodCloud
		if verifier.Protected(d.Format) {
			label = claim.SubmodTEE
		}
		if _, said := out[label]; !said {
			out[label] = claim.Documented{
				Hardware: d.Class == verifier.ClassA, Measured: a.verdict.policy.Measured, PolicyID: policyID,
			}.Submod()
		}
	}
	return out
}

// zoneEpoch is the revocation counter of every zone; raising it is not
// implemented yet.
const zoneEpoch = 1

func (b *Broker) answer(a *attempt, c ledger.Commit, pos ledger.Position, chain [][]byte) (api.AttestResponse, error) {
	v := &a.verdict
	bundle, err := b.bundleJSON()
	if err != nil {
		return api.AttestResponse{}, err
	}
	fresh := a.freshUntil()
	out := api.AttestResponse{
		AttestationID: a.id.String(), Node: string(v.node.ID), SPIFFEID: c.SVIDs[0].SPIFFEID,
		Zone: v.policy.Zone, Tier: v.policy.Tier,
		AttestedAt: a.attestedAt().UTC(), FreshUntil: fresh.UTC(), RenewAt: halfway(a.challenge.issued(), fresh).UTC(),
		Bundle: bundle, Workloads: workloads(v), Events: nonNil(v.events),
		Log: api.LogPosition{Origin: b.origin(), Index: pos.Index, Size: pos.Size},
	}
	for _, der := range chain {
		out.Chain = append(out.Chain, der)
	}
	if cp := b.checkpoint.Load(); cp != nil {
		out.Log.Checkpoint = *cp
	}
	return out, nil
}

// halfway is when a host renews: in the middle of what is left. Counted from
// attested_at a document that was old already would have its host come back after
// fresh_until, or at once.
func halfway(from, until time.Time) time.Time { return from.Add(until.Sub(from) / 2) }

func workloads(v *verdict) []api.Workload {
	out := make([]api.Workload, 0, len(v.policy.Workloads))
	for _, w := range v.policy.Workloads {
		out = append(out, api.Workload{Name: w.Name, UID: w.UID, Path: w.Path, Groups: w.Groups})
	}
	return out
}
