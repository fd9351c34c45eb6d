package broker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Challenge seals a fresh nonce for a known AK, or makes a credential for a
// machine that brings EK and AK. It writes nothing, and the dear part, the
// credential, comes after admission.
func (b *Broker) Challenge(ctx context.Context, _ Caller, req api.ChallengeRequest) (api.Challenge, error) {
	if !verifier.Verifies(req.Format) {
		return api.Challenge{}, b.turnAway(reason.New(reason.RequestUnknownFormat, "this broker does not verify that evidence format"))
	}
	policy := b.policy.Load()
	if policy == nil {
		return api.Challenge{}, reason.New(reason.PolicyMissing, "no policy is active")
	}
	var out api.Challenge
	var err error
	switch named := verifier.NamedByEK(req.Format); {
	case req.Enrol != nil && !named || req.Agent != nil && named:
		err = reason.New(reason.RequestMalformed, "enrol goes with formats of an EK, agent with those of documents")
	case req.Enrol != nil:
		out, err = b.challengeEnrol(ctx, req, policy)
	case req.Agent != nil:
		out, err = b.challengeAgent(ctx, req, policy)
	default:
		out, err = b.challengeRenew(ctx, req, policy)
	}
	if err != nil {
		return api.Challenge{}, b.turnAway(err)
	}
	return out, nil
}

func (b *Broker) challengeRenew(ctx context.Context, req api.ChallengeRequest, p *activePolicy) (api.Challenge, error) {
	snap, err := b.cfg.Store.NodeByAK(ctx, req.AKName)
	if err != nil {
		return api.Challenge{}, err
	}
	if !snap.Found {
		return api.Challenge{}, reason.New(reason.NodeNotAdmitted, "no node has this AK; enrol with EK and AK")
	}
	if err := fitsNode(req.Format, snap.Node); err != nil {
		return api.Challenge{}, err
	}
	return b.renewChallenge(snap, req.Format, p)
}

// fitsNode: a node that documents name may renew by any format of documents, and
// what they prove has to name it again; one that an EK names only by that.
func fitsNode(format string, n ledger.Node) error {
	if ledger.NamedByEK(n) {
		return fitsAdmission(format, n.AdmittedBy)
	}
	if verifier.NamedByEK(format) {
		return reason.New(reason.NodeNotAdmitted, "the node is named by documents, not by an EK")
	}
	return nil
}

// renewChallenge seals a nonce for a node as it is now: snap was just read.
func (b *Broker) renewChallenge(snap ledger.Snapshot, format string, p *activePolicy) (api.Challenge, error) {
	c := challenge{
		Purpose: verifier.PurposeRenew, Format: format,
		Node: snap.Node.ID, Version: snap.State.Version, AKName: snap.Node.AKName,
	}
	token, err := b.sealFresh(&c, p, policyNode(snap.Node), tokenTTL)
	if err != nil {
		return api.Challenge{}, err
	}
	b.kept.put(&c, snap, b.cfg.Now())
	return api.Challenge{
		Token: token, Purpose: c.Purpose, ExpiresAt: time.UnixMilli(c.ExpiresAt).UTC(),
		Select: c.Select, Nonce: c.Nonce, IMA: imaKnown(&c, snap, p), Evidence: p.set.DocumentFormats(),
	}, nil
}

// formatOf is the one format that a way of admission goes with. Software keys
// have an admission of their own, and nobody else's admission covers them.
func formatOf(admittedBy string) string {
	if admittedBy == ledger.AdmitLab {
		return verifier.FormatTPM2Lab
	}
	return verifier.FormatTPM2
}

func fitsAdmission(format, admittedBy string) error {
	if format != formatOf(admittedBy) {
		return reason.New(reason.NodeNotAdmitted, "the machine is admitted for another format of evidence")
	}
	return nil
}

// sealFresh completes c with a fresh nonce, times and the selection for node.
func (b *Broker) sealFresh(c *challenge, p *activePolicy, node policy.Node, ttl time.Duration) (string, error) {
	c.Nonce = make([]byte, 32)
	if _, err := readFull(b.cfg.Rand, c.Nonce); err != nil {
		return "", err
	}
	now := b.cfg.Now()
	c.IssuedAt, c.ExpiresAt = now.UnixMilli(), now.Add(ttl).UnixMilli()
	c.Select = p.set.SelectionOf(node).String()
	return b.seal.seal(c)
}

// challengeEnrol goes from cheap to dear: strict parse, admission, one read of
// the node, and only then the credential, under its own semaphore and rate.
func (b *Broker) challengeEnrol(ctx context.Context, req api.ChallengeRequest, p *activePolicy) (api.Challenge, error) {
	e := req.Enrol
	ek, err := tpm2.ParseEK(e.EKPublic)
	if err == nil {
		err = ekcert.CheckKey(ek.SPKI())
	}
	if err != nil {
		return api.Challenge{}, err
	}
	ak, err := tpm2.ParseAK(e.AKPublic)
	if err != nil {
		return api.Challenge{}, err
	}
	root := ek.RootHash()
	adm, err := b.admit(ctx, root, e, p)
	if err == nil {
		err = fitsAdmission(req.Format, adm.Admitted)
	}
	if err != nil {
		return api.Challenge{}, err
	}
	node := ledger.DeriveNodeID(b.cfg.TrustDomain, ledger.RootEK, root)
	snap, err := b.cfg.Store.NodeByID(ctx, node)
	if err != nil {
		return api.Challenge{}, err
	}
	material := materialHash(e.EKPublic, e.EKCertificate, e.EKChain)
	adm.RootHash, adm.Material = root[:], material[:]
	c := challenge{
		Purpose: verifier.PurposeEnrol, Format: formatOf(adm.Admitted),
		Node: node, AKName: ak.Name(), Enrol: adm,
	}
	if snap.Found {
		c.Version = snap.State.Version
	}
	out, err := b.credential(ctx, &c, ek, p)
	if err == nil {
		b.kept.put(&c, snap, b.cfg.Now())
	}
	return out, err
}

// credential runs TPM2_MakeCredential with the nonce as the secret: only the TPM
// that owns both EK and AK can learn it and quote over it.
func (b *Broker) credential(ctx context.Context, c *challenge, ek tpm2.EK, p *activePolicy) (api.Challenge, error) {
	if !b.enrolRate.AllowN(b.cfg.Now(), 1) {
		return api.Challenge{}, tooManyEnrolments()
	}
	done, err := b.enrolSlot(ctx)
	if err != nil {
		return api.Challenge{}, err
	}
	defer done()
	node := policy.Node{ID: string(c.Node), Groups: c.Enrol.Groups, AdmittedBy: c.Enrol.Admitted}
	token, err := b.sealFresh(c, p, node, tokenTTLEnrol)
	if err != nil {
		return api.Challenge{}, err
	}
	blob, secret, err := ek.MakeCredential(b.cfg.Rand, c.AKName, c.Nonce)
	if err != nil {
		return api.Challenge{}, reason.Wrap(reason.TPM2EKTemplate, "no credential can be made for this EK", err)
	}
	return api.Challenge{
		Token: token, Purpose: c.Purpose, ExpiresAt: time.UnixMilli(c.ExpiresAt).UTC(), Select: c.Select,
		Credential: &api.Credential{Blob: blob, Secret: secret}, IMA: imaKnown(c, ledger.Snapshot{}, p),
		Evidence: p.set.DocumentFormats(),
	}, nil
}

// enrolSlot waits for one of the few slots of enrolment cryptography, which
// strangers can ask for: credentials, and the certificates of machines that
// nobody knows yet. The caller gives it back.
func (b *Broker) enrolSlot(ctx context.Context) (done func(), err error) {
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case b.enrolSlots <- struct{}{}:
		return func() { <-b.enrolSlots }, nil
	case <-wait.Done():
		return nil, tooManyEnrolments()
	}
}

func tooManyEnrolments() error {
	return reason.New(reason.RequestOverloaded, "too many enrolments at once; try again in a second")
}

// admit answers "is this host ours?". Genuine is not admitted: without an entry
// of the inventory, a join token or an approval, only zones that say
// any_genuine are left.
func (b *Broker) admit(ctx context.Context, root [32]byte, e *api.Enrol, p *activePolicy) (*enrolmentSeal, error) {
	adm, err := b.admission(ctx, root)
	if err != nil {
		return nil, err
	}
	if adm != nil {
		if adm.Revoked {
			return nil, reason.New(reason.TPM2EKRevoked, "this EK was admitted once and is revoked")
		}
		return &enrolmentSeal{Admitted: adm.Kind, Admission: adm.ID, Machine: adm.Machine, Groups: adm.Groups}, nil
	}
	if e.JoinToken != "" {
		seal := &enrolmentSeal{}
		return seal, b.redeemJoinToken(ctx, e.JoinToken, seal)
	}
	if p.set.AnyGenuine() && len(e.EKCertificate) > 0 {
		return &enrolmentSeal{Admitted: ledger.AdmitAnyGenuine, Admission: uuid.Nil}, nil
	}
	return nil, b.waitForOperator(root, e, p)
}

// waitForOperator puts an unknown machine on the pending list where a zone takes
// an operator's word and there is room.
func (b *Broker) waitForOperator(root [32]byte, e *api.Enrol, p *activePolicy) error {
	now := b.cfg.Now()
	if p.set.AdmitsOperator() && b.pending.add(ledger.Pending{EKHash: root, EKPublic: e.EKPublic, FirstSeen: now, LastSeen: now}) {
		return reason.Newf(reason.NodeAdmissionPending, "the machine waits for an operator; its EK hash is %x", root)
	}
	return reason.New(reason.NodeNotAdmitted, "nothing admits this machine")
}

// turnAway counts a refusal of a stranger: a counter and an hourly roll-up, no
// row. Strangers get the code without the details.
func (b *Broker) turnAway(err error) error {
	b.refusals.add(refusalKey{hour: b.cfg.Now().UTC().Truncate(time.Hour), code: string(reason.Of(err))})
	if _, ok := errors.AsType[*api.Refusal](err); ok {
		return err
	}
	e, ok := errors.AsType[*reason.Error](err)
	if !ok || reason.Lookup(e.Code).Class == reason.Fault {
		return err
	}
	return &api.Refusal{Reasons: []*reason.Error{e}, Stranger: true}
}

func readFull(r io.Reader, p []byte) (int, error) { return io.ReadFull(r, p) }
