package broker

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Explain says why a recorded attestation was denied: every reason with its
// remedy, and for each PCR that differs from what the zone accepts, the event of
// the boot's log at which it left the path of an accepted boot. It is computed
// from the recorded evidence under the recorded policy, not under those in force
// now. A record that is no denial is request.not_found. Evidence or a policy
// that is no longer kept leaves the mismatches out, and the reasons stand.
func (b *Broker) Explain(ctx context.Context, c Caller, id string) (api.Explanation, error) {
	r, asOf, err := b.readRecord(ctx, c, readExplain, id)
	if err != nil {
		return api.Explanation{}, err
	}
	if r.Verdict != ledger.VerdictDeny {
		return api.Explanation{}, reason.New(reason.RequestNotFound, "that record is no denial")
	}
	var body ledger.Attestation
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return api.Explanation{}, err
	}
	out := api.Explanation{
		ID: r.ID.String(), RecordedAt: r.RecordedAt, Node: string(r.Node), Zone: r.Zone, Code: r.Reason,
		Remedy: api.Remedy(reason.Code(r.Reason)), Reasons: wireReasons(body.Reasons), Mismatches: []api.Mismatch{}, AsOf: wireAsOf(asOf),
	}
	// Values that differ count only where the verifier had accepted the evidence:
	// PCRs that no quote covers are the sender's to choose.
	if !slices.ContainsFunc(body.Reasons, func(r ledger.Reason) bool { return r.Code == string(reason.PolicyPCRMismatch) }) {
		return out, nil
	}
	if out.Mismatches, err = b.mismatches(ctx, r, body); err != nil {
		return api.Explanation{}, err
	}
	return out, nil
}

func wireReasons(reasons []ledger.Reason) []api.Reason {
	out := make([]api.Reason, 0, len(reasons))
	for _, r := range reasons {
		out = append(out, api.Reason{Code: r.Code, Detail: r.Detail})
	}
	return out
}

// mismatches compares the recorded boot with the zone of the recorded policy.
func (b *Broker) mismatches(ctx context.Context, r *ledger.Stored, body ledger.Attestation) ([]api.Mismatch, error) {
	set, err := b.recordedPolicy(ctx, body.Policy)
	if err != nil || set == nil {
		return []api.Mismatch{}, err
	}
	seen, err := b.recordedBoot(ctx, body)
	if err != nil || seen == nil {
		return []api.Mismatch{}, err
	}
	out := groupByPCR(set.Differences(body.Zone, seen, time.UnixMilli(body.JudgedAt)), seen)
	if len(out) == 0 {
		return []api.Mismatch{}, nil
	}
	reference, _ := set.Reference(out[0].Set)
	accepted, err := b.acceptedBoots(ctx, r, reference)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Event = firstDifference(out[i], seen, accepted, reference)
	}
	return out, nil
}

// recordedPolicy returns the policy that decided, nil where it is not kept.
func (b *Broker) recordedPolicy(ctx context.Context, ref ledger.PolicyRef) (*policy.Set, error) {
	if p := b.policy.Load(); p != nil && p.set.Hash() == ref.Hash {
		return p.set, nil
	}
	digest, err := parseDigest(strings.TrimPrefix(ref.Hash, "sha256:"))
	if err != nil {
		return nil, err
	}
	o, err := b.cfg.Store.ObjectByDigest(ctx, objectPolicy, digest)
	if err != nil || o == nil {
		return nil, err
	}
	set, err := policy.LoadCanonical(o.Bytes)
	if err != nil || set.Hash() != ref.Hash {
		return nil, reason.Wrap(reason.StoreRowForged, "the recorded policy does not read back; run zonebroker history verify", err)
	}
	return set, nil
}

// recordedBoot reads what an attestation measured out of its evidence; nil where
// a part is gone, or where the log does not lead to the PCRs.
func (b *Broker) recordedBoot(ctx context.Context, body ledger.Attestation) (*boot, error) {
	pcrs, log, user := "", "", ""
	if body.Baseline != nil {
		log = body.Baseline.EventLog
	}
	for _, id := range body.Evidence {
		switch id.Kind {
		case ledger.PartPCRs:
			pcrs = id.SHA256
		case ledger.PartEventLog:
			log = id.SHA256
		case ledger.PartUserspaceLog:
			user = id.SHA256
		}
	}
	at := time.UnixMilli(body.JudgedAt)
	rawPCRs, err := b.part(ctx, pcrs, at)
	if err != nil || rawPCRs == nil {
		return nil, err
	}
	rawLog, err := b.part(ctx, log, at)
	if err != nil {
		return nil, err
	}
	rawUser, err := b.part(ctx, user, at)
	if err != nil {
		return nil, err
	}
	t := verifier.TPM2Evidence{PCRs: map[int][]byte{}}
	if err := placePCRs(&t, rawPCRs); err != nil {
		return nil, err
	}
	return newBoot(body.ID.String(), t.PCRs, rawLog, rawUser), nil
}

// part returns a part of the evidence by the hex of its digest, nil for "" or
// one that is no longer kept. At is the time of its record.
func (b *Broker) part(ctx context.Context, digest string, at time.Time) ([]byte, error) {
	if digest == "" {
		return nil, nil
	}
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) != 32 {
		return nil, reason.New(reason.StoreRowForged, "a record names evidence by something that is no digest")
	}
	return b.cfg.Store.Evidence(ctx, [32]byte(raw), at)
}

// acceptedBoots are what a denied boot may be compared with, nearest first: the
// node's last accepted one before it, and the one that the reference set was
// learnt from.
func (b *Broker) acceptedBoots(ctx context.Context, r *ledger.Stored, reference policy.Reference) ([]*boot, error) {
	var records []ledger.Stored
	last, err := b.cfg.Store.Records(ctx, ledger.Query{
		Node: r.Node, Type: ledger.TypeAttestation, Verdict: ledger.VerdictAllow, After: r.Place(), Limit: 1,
	})
	if err != nil {
		return nil, err
	}
	records = append(records, last...)
	if id, err := uuid.Parse(reference.Boot); err == nil {
		learnt, err := b.cfg.Store.Record(ctx, id)
		if err != nil {
			return nil, err
		}
		if learnt != nil {
			records = append(records, *learnt)
		}
	}
	var out []*boot
	for _, rec := range records {
		var body ledger.Attestation
		if err := json.Unmarshal(rec.Body, &body); err != nil {
			return nil, err
		}
		accepted, err := b.recordedBoot(ctx, body)
		if err != nil {
			return nil, err
		}
		if accepted != nil && accepted.logged {
			out = append(out, accepted)
		}
	}
	return out, nil
}
