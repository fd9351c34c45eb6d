package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// A host that documents name is known by its machine, as another is by its EK:
// the node's id comes from what a document proved, never from what the agent
// says. So which node it is comes out only after its evidence was judged, where
// an EK tells at the challenge.

// challengeAgent seals a nonce for a host at first contact where no EK names it.
// It judges nothing and writes nothing; what it reads is whether its key is known.
func (b *Broker) challengeAgent(ctx context.Context, req api.ChallengeRequest, p *activePolicy) (api.Challenge, error) {
	if !p.set.Takes(req.Format) {
		return api.Challenge{}, reason.New(reason.PolicyNoZone, "no zone takes nodes by that format of evidence")
	}
	name, err := agentName(req.Format, req.Agent)
	if err != nil {
		return api.Challenge{}, err
	}
	seal := &enrolmentSeal{Document: true}
	if err := b.redeemJoinToken(ctx, req.Agent.JoinToken, seal); err != nil {
		return api.Challenge{}, err
	}
	if req.Format == verifier.FormatJoinToken && seal.JoinToken == uuid.Nil {
		return api.Challenge{}, reason.New(reason.NodeNotAdmitted, "that format needs a join token")
	}
	snap, err := b.cfg.Store.NodeByAK(ctx, name)
	if err != nil {
		return api.Challenge{}, err
	}
	if !b.enrolRate.AllowN(b.cfg.Now(), 1) {
		return api.Challenge{}, tooManyEnrolments()
	}
	c := challenge{Purpose: verifier.PurposeEnrol, Format: req.Format, AKName: name, Enrol: seal}
	if snap.Found {
		c.Node, c.Version = snap.Node.ID, snap.State.Version
	}
	token, err := b.sealFresh(&c, p, policy.Node{Groups: seal.Groups, AdmittedBy: seal.Admitted}, tokenTTLEnrol)
	if err != nil {
		return api.Challenge{}, err
	}
	return api.Challenge{
		Token: token, Purpose: c.Purpose, ExpiresAt: time.UnixMilli(c.ExpiresAt).UTC(), Select: c.Select, Nonce: c.Nonce,
		IMA: imaKnown(&c, ledger.Snapshot{}, p), Evidence: p.set.DocumentFormats(),
	}, nil
}

// agentName is what the key of a host without an EK is known by.
func agentName(format string, a *api.AgentEnrol) ([]byte, error) {
	if verifier.Quoted(format) != (len(a.AKPublic) > 0) {
		return nil, reason.New(reason.RequestMalformed, "/agent: ak_public goes with documents that vouch for an AK, public with the others")
	}
	if len(a.AKPublic) > 0 {
		ak, err := tpm2.ParseAK(a.AKPublic)
		return ak.Name(), err
	}
	if _, err := verifier.ParseAgentKey(a.Public); err != nil {
		return nil, err
	}
	return verifier.AgentKeyName(a.Public), nil
}

func (b *Broker) redeemJoinToken(ctx context.Context, token string, seal *enrolmentSeal) error {
	if token == "" {
		return nil
	}
	jt, err := b.cfg.Store.JoinTokenByHash(ctx, sha256.Sum256([]byte(token)), b.cfg.Now())
	if err != nil {
		return err
	}
	if jt == nil {
		return reason.New(reason.NodeNotAdmitted, "the join token is unknown, used or past its expiry")
	}
	seal.Admitted, seal.Admission, seal.JoinToken = ledger.AdmitJoinToken, jt.ID, jt.ID
	seal.Machine, seal.Groups = jt.Machine, jt.Groups
	return nil
}

// machine is what names the node of an attempt: what its document proved, or its
// agent key where the document is about no machine.
func (a *attempt) machine() document.Machine {
	if m := a.appraisal.Machine(); m != (document.Machine{}) {
		return m
	}
	return document.Machine{Kind: document.MachineKey, Name: hex.EncodeToString(a.challenge.AKName)}
}

// attestedAt is when the evidence was fresh: the time of the challenge, or of the
// oldest document where that is earlier. A token that was made an hour ago is not
// made younger by a nonce beside it.
func (a *attempt) attestedAt() time.Time {
	at := a.challenge.issued()
	if d := a.appraisal.DocumentTime(); !d.IsZero() && d.Before(at) {
		return d
	}
	return at
}

// resolve finds the node that the documents named. A token of first contact that
// knew no node is good once: the node that came of it has the key of the token
// from then on, or another key and a decision younger than the token.
func (b *Broker) resolve(ctx context.Context, a *attempt) error {
	c := a.challenge
	if ledger.NamedByEK(a.snap.Node) || c.Enrol != nil && !c.Enrol.Document {
		return nil
	}
	m := a.machine()
	id := ledger.DeriveNodeID(b.cfg.TrustDomain, m.Kind, m.Hash())
	if c.Node != "" {
		if id != c.Node && len(a.appraisal.Refusals()) == 0 {
			a.verdict.deny(reason.New(reason.NodeIdentityConflict, "the documents are about another machine than this key belongs to"))
		}
		return nil
	}
	snap, err := b.cfg.Store.NodeByID(ctx, id)
	if err != nil {
		return err
	}
	if snap.Found {
		if isErased(snap.Node) {
			return reason.New(reason.NodeDisabled, "the node was erased, and is disabled for good")
		}
		st := &snap.State
		if bytes.Equal(snap.Node.AKName, c.AKName) || !c.issued().After(st.LastAttemptAt) || !c.issued().After(st.AttestedAt) {
			return b.spent(snap, c.Format)
		}
	}
	a.snap, c.Node, c.Version = snap, id, snap.State.Version
	return nil
}

// settleDocument works out the node of an attempt that documents name, as this
// record will leave it.
func (b *Broker) settleDocument(ctx context.Context, a *attempt) error {
	v := &a.verdict
	m := a.machine()
	v.node, v.admitted = a.snap.Node, true
	if !a.snap.Found {
		if a.challenge.Enrol == nil {
			return reason.New(reason.NodeNotAdmitted, "the node is gone; enrol again")
		}
		v.newNode, v.rowDirty = true, true
		v.node = ledger.Node{
			ID: a.challenge.Node, RootKind: m.Kind, RootHash: m.Hash(), AKPublic: a.agentPublic(), AKName: a.challenge.AKName,
			Groups: []string{}, Status: ledger.StatusActive, AKApproved: true, CreatedAt: a.now.UTC().Truncate(time.Microsecond),
		}
		if err := v.node.SetMachine(m, a.appraisal.Launched()); err != nil {
			return err
		}
		return b.admitDocument(ctx, a)
	}
	if len(v.reasons) > 0 || len(a.appraisal.Refusals()) > 0 {
		return nil // evidence that was refused moves nothing
	}
	if err := b.settleKey(a); err != nil {
		return err
	}
	return b.keepAdmitted(ctx, a)
}

func (a *attempt) agentPublic() []byte {
	if a.req.TPM2 != nil {
		return a.req.TPM2.AKPublic
	}
	return a.req.Agent.Public
}

// settleKey compares key and launch with what the machine was first used with. A
// bearer document is anybody's who once read it, so the first key keeps it until
// an operator approves the node or the machine was started anew; a document that
// was made for this challenge and key is as good as that of an AK.
func (b *Broker) settleKey(a *attempt) error {
	v := &a.verdict
	known, launched := v.node.Launched(), a.appraisal.Launched()
	if launched.Before(known) && !launched.IsZero() {
		v.deny(reason.New(reason.NodeIdentityConflict, "the document is of an earlier start of the machine than the last accepted one"))
		return nil
	}
	anew := launched.After(known)
	if !slices.Equal(v.node.AKName, a.challenge.AKName) {
		if a.bearer() && !anew && !a.snap.State.Rebaseline {
			v.deny(reason.New(reason.NodeIdentityConflict, "this machine was first used with another agent key; an operator releases it (zonebroker node approve), or a new start of the machine does"))
			return nil
		}
		v.node.AKName, v.node.AKPublic, v.node.AKApproved, v.rowDirty = a.challenge.AKName, a.agentPublic(), false, true
		v.events = append(v.events, string(reason.NodeAKChanged))
	}
	if !anew {
		return nil
	}
	v.rowDirty = true
	return v.node.SetMachine(a.machine(), launched)
}

// bearer reports whether the document that names the node would say the same to
// anybody who holds it.
func (a *attempt) bearer() bool {
	docs := a.appraisal.Documents()
	return !verifier.Quoted(a.challenge.Format) && (len(docs) == 0 || !docs[0].NonceBound)
}

// admitDocument answers "is this host ours?" for a new node: by its own hash, by a
// join token, by the account, project or key that its document proved, from the
// narrowest to the widest. A chain of certificates alone admits nobody.
func (b *Broker) admitDocument(ctx context.Context, a *attempt) error {
	v, seal := &a.verdict, a.challenge.Enrol
	adm, err := b.admission(ctx, v.node.RootHash)
	if err != nil {
		return err
	}
	if adm != nil {
		if adm.Revoked {
			v.admitted = false
			v.deny(reason.New(reason.NodeNotAdmitted, "this machine was admitted once and is revoked"))
			return nil
		}
		v.admit(adm.Kind, adm.ID, adm.Machine, adm.Groups)
		return nil
	}
	if seal.JoinToken != uuid.Nil {
		v.admit(ledger.AdmitJoinToken, seal.JoinToken, seal.Machine, seal.Groups)
		return nil
	}
	if adm, err = b.ownerAdmission(ctx, a); err != nil {
		return err
	}
	switch {
	case adm != nil:
		v.admit(ledger.AdmitOwner, adm.ID, "", adm.Groups)
	case a.policy.set.AnyGenuine() && a.appraisal.Genuine():
		v.admit(ledger.AdmitAnyGenuine, uuid.Nil, "", nil)
	default:
		v.admitted = false
		v.deny(b.pendDocument(a))
	}
	return nil
}

func (v *verdict) admit(kind string, id uuid.UUID, machine string, groups []string) {
	v.node.AdmittedBy, v.node.Admission, v.node.Machine, v.node.Groups = kind, id, machine, nonNil(groups)
}

// ownerAdmission looks the proved owners up, the narrowest first; nil where none is
// admitted. Only the document that names the node counts: who else's project one
// beside it belongs to says nothing about this machine.
func (b *Broker) ownerAdmission(ctx context.Context, a *attempt) (*ledger.Admission, error) {
	docs := a.appraisal.Documents()
	if len(docs) == 0 || docs[0].Format != a.challenge.Format {
		return nil, nil
	}
	for _, o := range slices.Backward(docs[0].Owners) {
		adm, err := b.admission(ctx, o.Hash())
		if err != nil || adm != nil && !adm.Revoked && adm.Kind == ledger.AdmitOwner {
			return adm, err
		}
	}
	return nil, nil
}

// keepAdmitted asks again for a known node: the machine may have moved to a project
// that is not ours, or the admission have ended.
func (b *Broker) keepAdmitted(ctx context.Context, a *attempt) error {
	v := &a.verdict
	if v.node.AdmittedBy != ledger.AdmitOwner || len(v.reasons) > 0 {
		return nil
	}
	adm, err := b.ownerAdmission(ctx, a)
	switch {
	case err != nil:
		return err
	case adm == nil:
		v.deny(reason.New(reason.NodeNotAdmitted, "no account, project or key that the document proves is admitted any more"))
	case adm.ID != v.node.Admission || !slices.Equal(nonNil(adm.Groups), nonNil(v.node.Groups)):
		v.admit(ledger.AdmitOwner, adm.ID, v.node.Machine, adm.Groups)
		v.rowDirty = true
	}
	return nil
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

// maxValues and maxValue bound what of the documents stays with the state of a
// node, to tell drift by.
const (
	maxValues = 48
	maxValue  = 128
)

// measuredValues is what an attempt measured by name: quoted PCRs by index, and
// selectors of the document that names the node. Several values of one name are
// numbered.
func measuredValues(a verifier.Appraisal) map[string]string {
	out := hexPCRs(a.PCRs())
	for _, d := range a.Documents() {
		if !d.Anchored {
			continue
		}
		for _, s := range d.Selectors {
			if len(s.Value) <= maxValue && len(out) < maxValues {
				addFact(out, s.Name, s.Value)
			}
		}
	}
	return out
}

// documentParts are the documents as they are kept: what belongs to one record
// beside it, what machines share by content.
func documentParts(a *attempt, put func(kind string, b []byte)) {
	for i := range a.evidence.Items {
		item := &a.evidence.Items[i]
		put(ledger.PartDocument, ledger.PackDocument(item.Format, "", item.Document))
		for _, name := range slices.Sorted(maps.Keys(item.Parts)) {
			kind := ledger.PartDocument
			if len(item.Parts[name]) > maxOwnPart {
				kind = ledger.PartCompanion
			}
			put(kind, ledger.PackDocument(item.Format, name, item.Parts[name]))
		}
	}
	if p := a.req.Agent; p != nil {
		put(ledger.PartAgent, packCertify(p.Public, p.Signature))
	}
}

// maxOwnPart is the size up to which a companion stands beside its record; a
// larger one (a log) is worth sharing.
const maxOwnPart = 8 << 10
