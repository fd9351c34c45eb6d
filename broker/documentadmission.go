package broker

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// settleAdmission answers "is this host ours?" anew at each attestation: the machine
// may have moved to a project that is not ours, or the admission have ended. By the
// machine's own hash an operator means this one; then by owner; a chain of
// certificates alone admits nobody.
func (b *Broker) settleAdmission(ctx context.Context, a *attempt) error {
	if len(a.verdict.reasons) > 0 {
		return nil
	}
	if a.challenge.Enrol == nil && b.mirrored(a) {
		return b.settleAdmissionBy(ctx, a, func(_ context.Context, hash [32]byte) (*ledger.Admission, error) {
			return b.admissions.cached(hash), nil
		})
	}
	return b.settleAdmissionBy(ctx, a, b.admission)
}

// mirrored reports whether the mirror of admissions knows one of the machine or its
// owners: it is then enough for a renewal. A replica's mirror may be a second behind,
// and a node must not be refused for that.
func (b *Broker) mirrored(a *attempt) bool {
	if b.admissions.cached(a.verdict.node.RootHash) != nil {
		return true
	}
	for _, d := range a.appraisal.Documents() {
		if slices.ContainsFunc(d.Owners, func(o document.Owner) bool { return b.admissions.cached(o.Hash()) != nil }) {
			return true
		}
	}
	return false
}

// findAdmission looks an admission up by hash, nil for none.
type findAdmission func(ctx context.Context, hash [32]byte) (*ledger.Admission, error)

func (b *Broker) settleAdmissionBy(ctx context.Context, a *attempt, find findAdmission) error {
	v := &a.verdict
	own, err := find(ctx, v.node.RootHash)
	if err != nil {
		return err
	}
	if own != nil {
		if own.Revoked {
			return a.notOurs("this machine was admitted once and is revoked")
		}
		v.admit(own.Kind, own.ID, own.Machine, own.Groups)
		return nil
	}
	owner, revoked, err := ownerAdmission(ctx, a, find)
	if err != nil {
		return err
	}
	seal := a.challenge.Enrol
	switch {
	case revoked:
		return a.notOurs("an account, project or key that the document proves was admitted once and is revoked")
	case v.newNode && seal != nil && seal.JoinToken != uuid.Nil:
		v.admit(ledger.AdmitJoinToken, seal.JoinToken, seal.Machine, seal.Groups)
	case !v.newNode && v.node.AdmittedBy == ledger.AdmitJoinToken: // it was good for this machine, once
	case owner != nil:
		v.admit(ledger.AdmitOwner, owner.ID, "", owner.Groups)
	case a.policy.set.AnyGenuine() && a.appraisal.Genuine():
		v.admit(ledger.AdmitAnyGenuine, uuid.Nil, "", nil)
	case v.newNode:
		v.admitted = false
		v.deny(b.pendDocument(a))
	default:
		return a.notOurs("nothing admits this machine any more")
	}
	return nil
}

// notOurs refuses a machine by an admission that ended.
func (a *attempt) notOurs(why string) error {
	a.verdict.admitted = a.snap.Found
	a.verdict.deny(reason.New(reason.NodeNotAdmitted, why))
	return nil
}

func (v *verdict) admit(kind string, id uuid.UUID, machine string, groups []string) {
	n := &v.node
	if n.AdmittedBy == kind && n.Admission == id && n.Machine == machine && slices.Equal(nonNil(n.Groups), nonNil(groups)) {
		return
	}
	n.AdmittedBy, n.Admission, n.Machine, n.Groups, v.rowDirty = kind, id, machine, nonNil(groups), true
}

// ownerAdmission looks the proved owners up, the narrowest first; nil where none is
// admitted. One that was revoked refuses, whatever admits beside it: an image that is
// not to run is not to run in an account that is ours either. Only the document that
// names the node counts: who else's project one beside it belongs to says nothing
// about this machine.
func ownerAdmission(ctx context.Context, a *attempt, find findAdmission) (found *ledger.Admission, revoked bool, err error) {
	docs := a.appraisal.Documents()
	if len(docs) == 0 || docs[0].Format != a.challenge.Format {
		return nil, false, nil
	}
	for _, o := range slices.Backward(docs[0].Owners) {
		adm, err := find(ctx, o.Hash())
		switch {
		case err != nil:
			return nil, false, err
		case adm != nil && adm.Revoked:
			return nil, true, nil
		case adm != nil && adm.Kind == ledger.AdmitOwner && found == nil:
			found = adm
		}
	}
	return found, false, nil
}

// pendDocument puts an unknown machine on the pending list where a zone takes an
// operator's word.
func (b *Broker) pendDocument(a *attempt) *reason.Error {
	n := &a.verdict.node
	pending := ledger.Pending{EKHash: n.RootHash, EKPublic: n.EKPublic, FirstSeen: a.now, LastSeen: a.now}
	if a.policy.set.AdmitsOperator() && b.pending.add(pending) {
		return reason.Newf(reason.NodeAdmissionPending, "the machine waits for an operator; its hash is %x", n.RootHash)
	}
	return reason.New(reason.NodeNotAdmitted, "nothing admits this machine")
}
