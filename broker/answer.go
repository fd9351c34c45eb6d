package broker

import (
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// zoneClaim is the decision as relying parties will read it.
func (b *Broker) zoneClaim(a *attempt, fresh, end time.Time) claim.Claims {
	v, ref := &a.verdict, a.policy.ref()
	measured := claim.Measured{
		SecureBoot: a.appraisal.SecureBoot(), References: v.policy.Referenced, Genuine: a.appraisal.Genuine(),
		PolicyID: claim.PolicyID(v.policy.Zone, ref.Version, ref.Hash),
	}
	tpm := measured.Submod()
	return claim.Claims{
		VerifierID: b.cfg.VerifierID, Status: tpm.Status, IssuedAt: a.now.Unix(), Expires: end.Unix(),
		Submods: map[string]claim.Submod{claim.SubmodTPM: tpm},
		Zone: claim.Zone{
			Name: v.policy.Zone, Tier: v.policy.Tier, Epoch: zoneEpoch, Node: string(v.node.ID),
			AttestationID: a.id.String(), AttestedAt: a.attestedAt().Unix(), FreshUntil: fresh.Unix(),
			Evidence: ledger.EvidenceDigest(evidenceIDs(a.parts)),
			Policy:   claim.Policy{Version: ref.Version, Hash: ref.Hash, Mode: claim.ModeEnforce},
			Key:      a.appraisal.KeyResidency(),
		},
	}
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
	attested := a.attestedAt()
	out := api.AttestResponse{
		AttestationID: a.id.String(), Node: string(v.node.ID), SPIFFEID: c.SVIDs[0].SPIFFEID,
		Zone: v.policy.Zone, Tier: v.policy.Tier,
		AttestedAt: attested.UTC(), FreshUntil: a.freshUntil().UTC(), RenewAt: attested.Add(v.policy.MaxAge / 2).UTC(),
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

func workloads(v *verdict) []api.Workload {
	out := make([]api.Workload, 0, len(v.policy.Workloads))
	for _, w := range v.policy.Workloads {
		out = append(out, api.Workload{Name: w.Name, UID: w.UID, Path: w.Path, Groups: w.Groups})
	}
	return out
}
