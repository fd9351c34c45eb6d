package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
		if err := fitsNode(req.Format, snap.Node); err != nil {
			return api.Challenge{}, err
		}
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
			return b.spent(snap, c)
		}
	}
	a.snap, c.Node, c.Version = snap, id, snap.State.Version
	return b.judgeWithBaseline(ctx, a)
}

// judgeWithBaseline judges a quote again once the machine is known that it is of:
// with another AK of the same TPM a host could else leave its clock, firmware and
// measurement list behind.
func (b *Broker) judgeWithBaseline(ctx context.Context, a *attempt) error {
	if !a.snap.Found || !verifier.Quotes(a.challenge.Format) {
		return nil
	}
	want, err := b.expectation(ctx, a)
	if err != nil || want.Baseline == nil {
		return err
	}
	a.want = want
	// Its refusals are findings of the appraisal.
	a.appraisal, _ = verifier.Appraise(a.evidence, want, a.trust.Trust, a.now)
	return nil
}

// byDocuments reports whether documents name the node of an attempt.
func (a *attempt) byDocuments() bool {
	return a.snap.Found && !ledger.NamedByEK(a.snap.Node) || a.challenge.Enrol != nil && a.challenge.Enrol.Document
}

// foreign reports whether who asks holds another key than the node has, or asks for
// a machine that has no node yet. What is refused of them moves nothing of the node:
// whoever can fetch one document of a machine could else take its key away, freeze
// it, or fill its history.
func (a *attempt) foreign() bool {
	return a.byDocuments() && (!a.snap.Found || !bytes.Equal(a.snap.Node.AKName, a.challenge.AKName))
}

// firstDenial reports whether a refusal is worth a record although the node has no
// key: of a machine of ours that proved itself and never earned a zone. Its documents
// were all made for this challenge, so nobody who only read one of them once fills
// its history; and each is of a machine that something admits.
func (a *attempt) firstDenial() bool {
	earned := a.snap.Found && !a.snap.State.LastOKAt.IsZero()
	if earned || a.appraisal.Machine() == (document.Machine{}) || len(a.appraisal.Refusals()) > 0 {
		return false
	}
	return !slices.ContainsFunc(a.appraisal.Documents(), func(d verifier.Document) bool { return !d.NonceBound })
}

// settleDocument works out the node of an attempt that documents name, as an
// acceptance will leave it; what is refused leaves it as it was (settleRefused).
func (b *Broker) settleDocument(ctx context.Context, a *attempt) error {
	v := &a.verdict
	v.node, v.admitted, v.newNode = a.snap.Node, true, !a.snap.Found
	if v.newNode {
		if a.challenge.Enrol == nil {
			return reason.New(reason.NodeNotAdmitted, "the node is gone; enrol again")
		}
		m := a.machine()
		v.node = ledger.Node{
			ID: a.challenge.Node, RootKind: m.Kind, RootHash: m.Hash(), AKPublic: a.agentPublic(), AKName: a.challenge.AKName,
			Groups: []string{}, Status: ledger.StatusActive, AKApproved: true, CreatedAt: a.now.UTC().Truncate(time.Microsecond),
		}
	}
	if len(v.reasons) > 0 || len(a.appraisal.Refusals()) > 0 || statusRefusal(v.node.Status) != nil {
		return nil // evidence that was refused says nothing, and a disabled node learns nothing of it
	}
	if err := a.settleKey(); err != nil {
		return err
	}
	return b.settleAdmission(ctx, a)
}

// settleRefused takes back what an acceptance would have changed of the node, but
// for a status that its own key earned it.
func (a *attempt) settleRefused() {
	v := &a.verdict
	if v.allow || !a.byDocuments() || v.newNode {
		return
	}
	status := v.node.Status
	v.node = a.snap.Node
	v.node.Status = status
	v.rowDirty = status != a.snap.Node.Status
}

func (a *attempt) agentPublic() []byte {
	if a.req.TPM2 != nil {
		return a.req.TPM2.AKPublic
	}
	return a.req.Agent.Public
}

// strength is how the evidence that names the node binds its key: by which format,
// and how firmly. A quote binds it whatever the document beside it is alone.
func (a *attempt) strength() (format, class string) {
	format, class = a.challenge.Format, verifier.ClassC
	if docs := a.appraisal.Documents(); len(docs) > 0 && docs[0].NonceBound {
		class = docs[0].Class
	}
	if verifier.Quoted(format) {
		class = verifier.ClassA
	}
	return format, class
}

// settleKey compares key and launch with what the machine was last accepted with. A
// bearer document is anybody's who once read it, and a token anybody's who runs a
// process on the host, so another key needs the same evidence as the one before, or
// stronger; of bearer evidence it needs a later start of the machine. An operator
// releases a node from its key (node approve --release-key).
func (a *attempt) settleKey() error {
	v := &a.verdict
	format, class := a.strength()
	was := v.node.Binding()
	launched := a.appraisal.Launched()
	if !launched.IsZero() && launched.Before(was.Launched) {
		v.deny(reason.New(reason.NodeIdentityConflict, "the document is of an earlier start of the machine than the last accepted one"))
		return nil
	}
	anew := launched.After(was.Launched)
	if !v.newNode && !bytes.Equal(v.node.AKName, a.challenge.AKName) {
		if !ledger.Released(v.node) && (class > was.Class || class == was.Class && format != was.Format || class == verifier.ClassC && !anew) {
			v.deny(reason.New(reason.NodeIdentityConflict, "this machine is bound to another key by evidence that this is not as good as; an operator releases it (zonebroker node approve --release-key)"))
			return nil
		}
		v.node.AKName, v.node.AKPublic, v.node.AKApproved, v.rowDirty = a.challenge.AKName, a.agentPublic(), false, true
		v.events = append(v.events, string(reason.NodeAKChanged))
		was = ledger.Binding{}
	}
	if v.newNode || v.rowDirty || anew || class < was.Class {
		v.rowDirty = true
		return v.node.SetMachine(a.machine(), ledger.Binding{Format: format, Class: class, Launched: launched})
	}
	return nil
}
