package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxProvedEntries bounds a proof: at a kilobyte each, 20 MB.
const maxProvedEntries = 20_000

// maxErasures is more than a node has: one in each log.
const maxErasures = 500

// Erase removes what the database holds of a node beside its id, and returns the
// proof that the log is whole. The node is disabled for good first, so that
// nothing of it is recorded meanwhile. Asked again it goes on where it stopped,
// and proves it again; where the node has records in several logs it is asked at
// a broker of each.
func (b *Broker) Erase(ctx context.Context, c Caller, id string, req api.EraseRequest) (api.ErasureProof, error) {
	if err := req.Validate(); err != nil {
		return api.ErasureProof{}, err
	}
	if b.cfg.Keeper == nil {
		return api.ErasureProof{}, reason.New(reason.StoreUnavailable, "this replica has no access as the database's owner")
	}
	if !b.retention.mu.TryLock() {
		return api.ErasureProof{}, errKeeping()
	}
	defer b.retention.mu.Unlock()
	var out api.ErasureProof
	e := &erasing{b: b, c: c, node: ledger.NodeID(id), reason: req.Reason}
	err := b.cfg.Keeper.Alone(ctx, func(ctx context.Context) (err error) {
		out, err = e.run(ctx)
		return err
	})
	return out, err
}

// erasing is one erasure.
type erasing struct {
	b      *Broker
	c      Caller
	node   ledger.NodeID
	reason string
	before string // checkpoint
}

func (e *erasing) run(ctx context.Context) (api.ErasureProof, error) {
	var err error
	if e.before, err = e.b.freshCheckpoint(ctx); err != nil {
		return api.ErasureProof{}, err
	}
	if err := e.record(ctx); err != nil {
		return api.ErasureProof{}, err
	}
	e.b.cfg.Step("erasure.recorded")
	rows, err := e.b.cfg.Keeper.Erase(ctx, e.node)
	if err != nil {
		return api.ErasureProof{}, err
	}
	out, err := e.prove(ctx)
	out.Rows = api.ErasedRows(rows)
	return out, err
}

func (b *Broker) freshCheckpoint(ctx context.Context) (string, error) {
	if err := b.signCheckpoint(ctx); err != nil {
		return "", err
	}
	return b.Checkpoint(ctx)
}

// record disables the node and records the erasure, as far as that is to do.
func (e *erasing) record(ctx context.Context) error {
	done, err := e.b.cfg.Store.Erasure(ctx, e.node)
	if err != nil {
		return err
	}
	if done == nil {
		if err := e.allowed(ctx); err != nil {
			return err
		}
		if _, err := e.b.changeNode(ctx, e.c, string(e.node), ledger.Grant{Type: ledger.TypeNodeDisabled, Note: "to be erased"}, func(s *ledger.Snapshot) {
			s.Node.Status = ledger.StatusDisabled
		}); err != nil {
			return err
		}
	}
	for range 5 {
		// Before the plan: what the node does after it makes the commit fail.
		snap, err := e.b.cfg.Store.NodeByID(ctx, e.node)
		if err != nil {
			return err
		}
		plan, err := e.plan(ctx)
		if err != nil {
			return err
		}
		if done != nil && plan.Missing.Rows == 0 {
			return nil // of this log all is declared
		}
		if err = e.commit(ctx, snap, plan, done != nil); reason.Of(err) != reason.ChallengeSpent {
			return err
		}
	}
	return reason.New(reason.RequestOverloaded, "the node changes all the time; try again")
}

// allowed asks for legal holds before the node is disabled for nothing.
func (e *erasing) allowed(ctx context.Context) error {
	_, err := e.plan(ctx)
	return err
}

func (e *erasing) plan(ctx context.Context) (ledger.ErasurePlan, error) {
	plan, err := e.b.cfg.Keeper.ErasurePlan(ctx, e.node)
	if err != nil {
		return plan, err
	}
	if len(plan.Holds) > 0 {
		h := plan.Holds[0]
		return plan, reason.Newf(reason.RetentionHeld, "the legal hold %s touches the node: %s", h.ID, h.Reason)
	}
	return plan, nil
}

// commit records what goes. Where the node was erased by a broker of another log,
// only the list is added.
func (e *erasing) commit(ctx context.Context, snap ledger.Snapshot, plan ledger.ErasurePlan, again bool) error {
	if !snap.Found {
		return reason.New(reason.RequestNotFound, "no such node")
	}
	raw, err := plan.Missing.Bytes()
	if err != nil {
		return err
	}
	o := ledger.Object{Kind: ledger.ObjectErased, Digest: sha256.Sum256(raw), Bytes: raw}
	node, state := snap.Node.Blank(), snap.State.Blank()
	g := ledger.Grant{Type: ledger.TypeErased, By: e.c.Operator, Subject: string(e.node), Note: e.reason, Object: hex.EncodeToString(o.Digest[:])}
	_, _, err = e.b.grant(ctx, g, func(c *ledger.Commit) {
		c.Object = &o
		if again {
			return
		}
		c.BasedOn, c.Node, c.State = snap.State.Version, &node, &state
		c.Erasure = &ledger.Erasure{
			Node: e.node, Object: o.Digest, Reason: e.reason, By: e.c.Operator,
			CreatedAt: e.b.cfg.Now().UTC().Truncate(time.Microsecond), Digests: plan.Digests,
		}
	})
	return err
}

// prove shows that the entries of what was erased are in the log as they were.
func (e *erasing) prove(ctx context.Context) (api.ErasureProof, error) {
	none := api.ErasureProof{}
	after, err := e.b.freshCheckpoint(ctx)
	if err != nil {
		return none, err
	}
	found, err := e.b.cfg.Store.Records(ctx, ledger.Query{Node: e.node, Type: ledger.TypeErased, Limit: maxErasures})
	if err != nil {
		return none, err
	}
	// Of all logs, which the proof is not about.
	at := slices.IndexFunc(found, func(r ledger.Stored) bool { return r.LogID == e.b.cfg.LogID })
	if at < 0 {
		return none, reason.New(reason.RequestNotFound, "no record of this log erases the node")
	}
	r := found[at]
	list, spans, err := e.list(ctx, r)
	if err != nil {
		return none, err
	}
	out := api.ErasureProof{
		Node: string(e.node), List: list, Before: e.before, After: after, Consistency: []api.Bytes{}, Entries: []api.ProvedEntry{},
		Record: api.ProvedRecord{ID: r.ID.String(), Index: r.Index, RecordedAt: r.RecordedAt, Salt: r.Salt[:], Body: json.RawMessage(r.Body)},
	}
	var indexes []int64
	for _, s := range slices.Backward(spans) {
		for i := s.Last; i >= s.First; i-- {
			if len(indexes) == maxProvedEntries {
				out.LeftOut++
				continue
			}
			indexes = append(indexes, i)
		}
	}
	slices.Reverse(indexes)
	return out, e.proofs(ctx, &out, append(indexes, r.Index))
}

func (e *erasing) list(ctx context.Context, r ledger.Stored) (api.Bytes, []ledger.Span, error) {
	var g ledger.Grant
	if err := json.Unmarshal(r.Body, &g); err != nil {
		return nil, nil, err
	}
	digest, err := parseDigest(g.Object)
	if err != nil {
		return nil, nil, err
	}
	o, err := e.b.cfg.Store.ObjectByDigest(ctx, ledger.ObjectErased, digest)
	if err != nil {
		return nil, nil, err
	}
	if o == nil {
		return nil, nil, reason.New(reason.StoreRowForged, "the list of what was erased is gone or was changed; run zonebroker history verify")
	}
	_, spans, err := ledger.ParseMissing(o.Bytes)
	return o.Bytes, spans, err
}

func (e *erasing) proofs(ctx context.Context, out *api.ErasureProof, indexes []int64) error {
	older, err := ledger.OpenCheckpoint(out.Before, e.b.cfg.LogKey)
	if err != nil {
		return err
	}
	newer, err := ledger.OpenCheckpoint(out.After, e.b.cfg.LogKey)
	if err != nil {
		return err
	}
	proof, err := e.b.cfg.Store.Prove(ctx, newer.Size, older.Size, indexes)
	if err != nil {
		return err
	}
	out.Consistency = wireHashes(proof.Consistency)
	for _, p := range proof.Entries {
		out.Entries = append(out.Entries, api.ProvedEntry{Index: p.Index, Entry: p.Entry[:], Proof: wireHashes(p.Proof)})
	}
	return nil
}

func wireHashes(hashes [][32]byte) []api.Bytes {
	out := make([]api.Bytes, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// isErased reports whether a node is gone for good.
func isErased(n ledger.Node) bool { return n.AdmittedBy == ledger.AdmitErased }
