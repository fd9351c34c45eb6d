package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// verdict is the decision about one attempt, before anything is written.
type verdict struct {
	allow    bool
	admitted bool // the machine is ours: a refusal of it is worth a record
	reasons  []*reason.Error
	events   []string
	policy   policy.Decision
	node     ledger.Node // as it will stand after this record
	newNode  bool
	rowDirty bool // node has to be written
	history  lineage
}

// lineage is what the request's prev says about who received what.
type lineage struct {
	confirmed uuid.UUID
	void      uuid.UUID // attestation whose answer is lost for good
}

// decide turns appraisal, node and policy into a verdict. Refusals that concern
// the node itself come first: a disabled node learns nothing about its evidence.
func (b *Broker) decide(ctx context.Context, a *attempt) error {
	v := &a.verdict
	if err := b.settleNode(ctx, a); err != nil {
		return err
	}
	for _, code := range a.appraisal.Events() {
		v.events = append(v.events, string(code))
	}
	v.deny(statusRefusal(v.node.Status))
	if adm := b.admissions.cached(v.node.RootHash); adm != nil && adm.Revoked {
		v.deny(revoked(v.node))
	}
	if len(v.reasons) > 0 {
		a.settleRefused()
		return nil
	}
	if !a.foreign() { // a new key knows no attestation before
		b.judgeLineage(a)
	}
	refusals := a.appraisal.Refusals()
	v.reasons = append(v.reasons, refusals...)
	// Policy sees only evidence that passed every check of the verifier.
	if len(refusals) == 0 {
		v.policy = a.policy.set.Decide(policy.Input{
			Appraisal:  a.appraisal,
			Node:       policyNode(v.node),
			Now:        a.now,
			AttestedAt: a.attestedAt(),
			Rebooted:   v.rebooted(),
			Announced:  a.now.Before(a.snap.State.RebootUntil),

			FirstContact: a.foreign(),
		})
		v.reasons = append(v.reasons, v.policy.Reasons...)
	}
	v.allow = len(v.reasons) == 0 && v.policy.Allow
	if !v.allow && len(v.reasons) == 0 {
		v.deny(reason.New(reason.PolicyNoZone, "no zone was earned"))
	}
	a.settleRefused()
	return nil
}

func (v *verdict) deny(e *reason.Error) {
	if e != nil {
		v.reasons = append(v.reasons, e)
	}
}

// rebooted says that the TPM was reset since the last accepted attestation. A
// reset of the TPM without one of the processor would let software build PCRs
// anew, so zones may want each to be expected.
func (v *verdict) rebooted() bool {
	return slices.Contains(v.events, string(reason.TPM2Rebooted))
}

func policyNode(n ledger.Node) policy.Node {
	return policy.Node{
		ID: string(n.ID), Groups: n.Groups, AdmittedBy: n.AdmittedBy,
		AKApproved: n.AKApproved, Machine: n.Machine,
	}
}

func revoked(n ledger.Node) *reason.Error {
	if ledger.NamedByEK(n) {
		return reason.New(reason.TPM2EKRevoked, "this EK was admitted once and is revoked")
	}
	return reason.New(reason.NodeNotAdmitted, "this machine was admitted once and is revoked")
}

func statusRefusal(s ledger.Status) *reason.Error {
	switch s {
	case ledger.StatusActive:
		return nil
	case ledger.StatusPending:
		return reason.New(reason.NodeAdmissionPending, "the node waits for an operator's approval")
	case ledger.StatusForkSuspected:
		return reason.New(reason.NodeForkSuspected, "two machines seem to share this identity; an operator has to approve the node")
	default:
		return reason.New(reason.NodeDisabled, "the node is disabled")
	}
}

// settleNode works out the node as this record will leave it: a new one, a known
// one, or a known one with another AK, which activation proved to live in the
// same TPM.
func (b *Broker) settleNode(ctx context.Context, a *attempt) error {
	if a.byDocuments() {
		return b.settleDocument(ctx, a)
	}
	v, c, e := &a.verdict, a.challenge, a.req.TPM2
	v.node, v.admitted = a.snap.Node, true
	if a.snap.Found {
		if c.Enrol != nil && !slices.Equal(a.snap.Node.AKName, c.AKName) {
			v.node.AKName, v.node.AKPublic = c.AKName, e.AKPublic
			v.node.AKApproved, v.rowDirty = false, true
			v.events = append(v.events, string(reason.NodeAKChanged))
		}
		if made := ledger.TPM(a.appraisal.TPM()); c.Enrol != nil && a.appraisal.Genuine() &&
			(a.appraisal.Manufacturer() != v.node.Manufacturer || made != v.node.TPM) {
			v.node.Manufacturer, v.node.TPM, v.rowDirty = a.appraisal.Manufacturer(), made, true
		}
		v.adopt(c.Enrol)
		return nil
	}
	if c.Enrol == nil {
		return reason.New(reason.NodeNotAdmitted, "the node is gone; enrol again")
	}
	v.newNode, v.rowDirty = true, true
	v.node = ledger.Node{
		ID: c.Node, RootKind: ledger.RootEK, RootHash: [32]byte(c.Enrol.RootHash),
		EKPublic: e.EKPublic, AKPublic: e.AKPublic, AKName: c.AKName,
		Manufacturer: a.appraisal.Manufacturer(), TPM: ledger.TPM(a.appraisal.TPM()), AdmittedBy: c.Enrol.Admitted, Admission: c.Enrol.Admission,
		Machine: c.Enrol.Machine, Groups: nonNil(c.Enrol.Groups), Status: ledger.StatusActive, AKApproved: true,
		CreatedAt: a.now.UTC().Truncate(time.Microsecond),
	}
	// Nobody vouched for this EK by its hash, so a machine that is not genuine is
	// not ours either.
	if a.want.RequireGenuine && !a.appraisal.Genuine() {
		v.admitted = false
		return nil
	}
	return b.otherEK(ctx, v)
}

// adopt takes over a newer admission at a re-enrolment: an operator who admits a
// known machine again means its new groups.
func (v *verdict) adopt(e *enrolmentSeal) {
	if e == nil || e.Admission == v.node.Admission || e.Admitted != ledger.AdmitInventory && e.Admitted != ledger.AdmitOperator {
		return
	}
	v.node.AdmittedBy, v.node.Admission = e.Admitted, e.Admission
	v.node.Machine, v.node.Groups, v.rowDirty = e.Machine, nonNil(e.Groups), true
}

// otherEK: an admission that already has a node under another of its EKs makes
// the next one wait for an operator; otherwise one machine could be two nodes.
// Two that enrol at once are told apart by the store, which keeps one active
// node an admission.
func (b *Broker) otherEK(ctx context.Context, v *verdict) error {
	if v.node.Admission == uuid.Nil || v.node.AdmittedBy == ledger.AdmitJoinToken {
		return nil
	}
	ids, err := b.cfg.Store.NodesByAdmission(ctx, v.node.Admission)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		v.node.Status = ledger.StatusPending
	}
	return nil
}

// judgeLineage compares prev with what the node was given. A copy of a machine
// cannot know the newest id for long: one of the two names an old one.
func (b *Broker) judgeLineage(a *attempt) {
	v, st := &a.verdict, a.snap.State
	if !a.snap.Found || st.Rebaseline || st.Last == uuid.Nil {
		return
	}
	prev, err := uuid.Parse(a.req.Prev)
	switch {
	case a.req.Prev == "":
		v.events = append(v.events, string(reason.NodeStateLost))
	case err == nil && prev == st.Last:
		v.history.confirmed = st.Last
	case err == nil && prev == st.Confirmed && st.Confirmed != uuid.Nil:
		v.history = lineage{confirmed: st.Confirmed, void: st.Last}
		v.events = append(v.events, string(reason.NodeAnswerLost))
	default:
		v.node.Status, v.rowDirty = ledger.StatusForkSuspected, true
		v.deny(reason.New(reason.NodeForkSuspected, "prev names neither the last attestation nor the last confirmed one"))
	}
}

// freshUntil is the promise while all is well; the issuer bounds the SVID's end
// by it and the zone's grace (design, section 5).
func (a *attempt) freshUntil() time.Time {
	return a.attestedAt().Add(a.verdict.policy.MaxAge)
}

func (b *Broker) nodeSPIFFEID(zone string, node ledger.NodeID) string {
	return fmt.Sprintf("spiffe://%s/zone/%s/node/%s", b.cfg.TrustDomain, zone, node)
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
