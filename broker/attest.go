package broker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// attempt is one attestation on its way through the steps.
type attempt struct {
	caller    Caller
	req       api.AttestRequest
	now       time.Time
	challenge *challenge
	snap      ledger.Snapshot
	kept      bool // snap is from before the challenge
	policy    *activePolicy
	trust     *TrustData
	evidence  verifier.Evidence
	want      verifier.Expectation
	appraisal verifier.Appraisal
	unasked   []string // formats that our own limits forbade to ask a platform about
	verdict   verdict
	id        uuid.UUID             // of the record
	parts     []ledger.EvidencePart // by content
}

// Attest walks one request through the pipeline: redeem, verify, decide,
// prepare, record, sign. An SVID leaves only after its record is committed;
// whatever goes wrong on the way is a refusal.
func (b *Broker) Attest(ctx context.Context, c Caller, req api.AttestRequest) (api.AttestResponse, error) {
	// The record keeps milliseconds: a finer time would judge a certificate at the
	// edge of its life otherwise than whoever judges again.
	now := b.cfg.Now().Truncate(time.Millisecond)
	if err := b.canIssue(now); err != nil {
		return api.AttestResponse{}, b.turnAway(err)
	}
	a := &attempt{caller: c, req: req, now: now, policy: b.policy.Load(), trust: b.trust.Load()}
	if a.policy == nil {
		return api.AttestResponse{}, reason.New(reason.PolicyMissing, "no policy is active")
	}
	b.cfg.Step("broker.redeem")
	if err := b.redeem(ctx, a); err != nil {
		return api.AttestResponse{}, b.turnAway(err)
	}
	b.cfg.Step("broker.verify")
	if err := b.verify(ctx, a); err != nil {
		return api.AttestResponse{}, b.turnAway(err)
	}
	if err := b.resolve(ctx, a); err != nil {
		return api.AttestResponse{}, b.turnAway(err)
	}
	// From here on the author is known, and bounded by who it is: without that one
	// host could fill a history that cannot be deleted.
	if !b.nodes.allow(a.rateOf(), now) {
		return api.AttestResponse{}, reason.New(reason.RequestRateLimited, "too many attestations of this node; renew at renew_at")
	}
	if err := b.compareCheckpoint(ctx, req.Checkpoint); err != nil {
		return api.AttestResponse{}, err
	}
	b.cfg.Step("broker.decide")
	if err := b.decide(ctx, a); err != nil {
		return api.AttestResponse{}, err
	}
	if !a.verdict.allow {
		if err := a.comesAgain(); err != nil {
			return api.AttestResponse{}, b.turnAway(err)
		}
		if err := b.stands(ctx, a); err != nil {
			return api.AttestResponse{}, b.turnAway(err)
		}
		return api.AttestResponse{}, b.refuse(ctx, a)
	}
	return b.issue(ctx, a)
}

// rateOf is whose rate an attestation counts against: who brings the documents of a
// machine with another key must not use up what the machine has.
func (a *attempt) rateOf() ledger.NodeID {
	if a.foreign() {
		return ledger.NodeID(hexText(a.challenge.AKName))
	}
	return a.challenge.Node
}

// canIssue is the signer's pulse: no evidence is judged while nothing could be
// issued or recorded.
func (b *Broker) canIssue(now time.Time) error {
	if b.forked.Load() {
		return reason.New(reason.LedgerFork, "the log does not extend its anchor; issuing has stopped")
	}
	if err := b.clockErr(); err != nil {
		return err
	}
	return b.cfg.Issuer.Ready(now)
}

// compareCheckpoint holds what the agent was once given against the log that it is
// of: hosts come from brokers that write another. Only a note that a log's key
// signed counts: without a signature any host could stop the issuing by inventing
// a head.
func (b *Broker) compareCheckpoint(ctx context.Context, text string) error {
	if newest := b.checkpoint.Load(); text == "" || newest != nil && text == *newest {
		return nil
	}
	log, cp, err := b.openCheckpoint(text)
	if err != nil {
		return err
	}
	root, found, err := b.cfg.Store.CheckpointRoot(ctx, log, cp.Size)
	if err != nil {
		return err
	}
	if found && root == cp.Root {
		return nil
	}
	b.stopForFork(ctx, "an agent holds a signed checkpoint that the log does not have")
	return reason.New(reason.LedgerFork, "the log does not have a checkpoint that it signed; issuing has stopped")
}

// openCheckpoint opens a note of our log or of another that we know.
func (b *Broker) openCheckpoint(text string) (log string, cp ledger.Checkpoint, err error) {
	for _, key := range append([]note.Verifier{b.cfg.LogKey}, b.cfg.OtherLogs...) {
		cp, err := ledger.OpenCheckpoint(text, key)
		if log, ok := strings.CutPrefix(key.Name(), ledger.Origin(b.cfg.TrustDomain, "")); ok && err == nil && cp.Origin == key.Name() {
			return log, cp, nil
		}
	}
	return "", cp, reason.New(reason.RequestMalformed, "checkpoint is not a signed note of this log, nor of another that this broker knows")
}

// redeem opens the token and takes the node as the challenge saw it, or reads it
// in one snapshot. The version in the token must be that of the snapshot, and
// the writer compares it once more.
func (b *Broker) redeem(ctx context.Context, a *attempt) error {
	c, err := b.seal.open(a.req.Token, a.now)
	if err != nil {
		return err
	}
	a.challenge = c
	if c.Node == "" {
		return nil // its documents will say
	}
	if a.snap, a.kept = b.kept.take(c, a.now); !a.kept {
		if a.snap, err = b.cfg.Store.NodeByID(ctx, c.Node); err != nil {
			return err
		}
	}
	if a.snap.State.Version != c.Version {
		return b.spent(a.snap, c)
	}
	if isErased(a.snap.Node) {
		// A denial would record again what the erasure took away.
		return reason.New(reason.NodeDisabled, "the node was erased, and is disabled for good")
	}
	if c.Enrol != nil && !c.Enrol.Document {
		return b.redeemEnrolment(ctx, a)
	}
	return nil
}

// stands answers challenge.spent where a node that is refused has moved on since
// the challenge: an operator may have approved it, and an agent that hears of a
// reason that is over would wait for nothing.
func (b *Broker) stands(ctx context.Context, a *attempt) error {
	if !a.kept {
		return nil
	}
	snap, err := b.cfg.Store.NodeByID(ctx, a.challenge.Node)
	if err == nil && snap.State.Version != a.challenge.Version {
		err = b.spent(snap, a.challenge)
	}
	return err
}

// redeemEnrolment: what the machine shows now must be what the credential was
// made for.
func (b *Broker) redeemEnrolment(ctx context.Context, a *attempt) error {
	e := a.req.TPM2
	if e == nil {
		return reason.New(reason.RequestMalformed, "member tpm2 is missing")
	}
	got := materialHash(e.EKPublic, e.EKCertificate, e.EKChain)
	if !bytes.Equal(got[:], a.challenge.Enrol.Material) {
		return reason.New(reason.ChallengeWrongNode, "EK, certificate or chain are not those of the challenge")
	}
	adm, err := b.admission(ctx, [32]byte(a.challenge.Enrol.RootHash))
	if err != nil {
		return err
	}
	if adm != nil && adm.Revoked {
		return reason.New(reason.TPM2EKRevoked, "this EK was admitted once and is revoked")
	}
	return nil
}

// spent is the answer to a token whose node has moved on. Whose key the node has gets
// a fresh challenge with it. A machine that lost a race for its enrolment starts over,
// because a new credential is work that a replayed token must not buy; so does who
// holds another key, for whom that challenge would be none.
func (b *Broker) spent(snap ledger.Snapshot, c *challenge) error {
	r := &api.Refusal{Reasons: []*reason.Error{reason.New(reason.ChallengeSpent, "the token was used already, or the node changed since it was issued")}}
	if p := b.policy.Load(); snap.Found && p != nil && bytes.Equal(snap.Node.AKName, c.AKName) {
		if fresh, err := b.renewChallenge(snap, c.Format, p); err == nil {
			r.Challenge = &fresh
		}
	}
	return r
}

// verify has the evidence judged. It returns an error only for evidence whose
// author is unknown; a refusal of an authenticated node is a decision.
func (b *Broker) verify(ctx context.Context, a *attempt) error {
	a.evidence = evidenceOf(a.req, a.challenge.Format)
	takeIMA(&a.evidence, a.req, a.challenge)
	if err := refuseRecorded(a.evidence.Items); err != nil {
		return err
	}
	want, err := b.expectation(ctx, a)
	if err != nil {
		return err
	}
	a.want = want
	if len(a.evidence.Items) == 0 {
		err = b.appraise(ctx, a)
	} else {
		err = b.appraiseEnriched(ctx, a)
	}
	if a.appraisal.Authentic() {
		return nil
	}
	if err == nil {
		err = reason.New(reason.Internal, "")
	}
	return err
}

// appraise judges the evidence as it is now. An enrolment needs a slot for that,
// which it must not have while a platform is asked: one stranger whose question
// nobody answers would keep every new host waiting. Without a slot nothing is
// judged.
func (b *Broker) appraise(ctx context.Context, a *attempt) error {
	a.appraisal = verifier.Appraisal{}
	if a.challenge.Enrol != nil {
		done, err := b.enrolSlot(ctx)
		if err != nil {
			return err
		}
		defer done()
	}
	var err error
	a.appraisal, err = verifier.Appraise(a.evidence, a.want, a.trust.Trust, a.now)
	return err
}

// evidenceOf takes the format from the sealed challenge: what the request calls
// itself does not count.
func evidenceOf(req api.AttestRequest, format string) verifier.Evidence {
	return evidencefile.Evidence(format, api.EvidenceMembers{
		SPKI: req.SPKI, CSR: req.CSR, TPM2: req.TPM2, Agent: req.Agent, Items: req.Items,
	})
}

// expectation is the broker's own side: from the sealed token and the snapshot.
func (b *Broker) expectation(ctx context.Context, a *attempt) (verifier.Expectation, error) {
	c := a.challenge
	sel, err := tpm2.ParseSelection(c.Select)
	if err != nil {
		return verifier.Expectation{}, err
	}
	want := verifier.Expectation{
		TrustDomain: b.cfg.TrustDomain, Purpose: c.Purpose, Nonce: c.Nonce, AKName: c.AKName,
		Selection: sel, IssuedAt: c.issued(), Manufacturer: a.snap.Node.Manufacturer,
		TPM: verifier.TPMFacts(a.snap.Node.TPM),
	}
	if c.Enrol != nil {
		want.RequireGenuine = c.Enrol.Admitted == ledger.AdmitJoinToken || c.Enrol.Admitted == ledger.AdmitAnyGenuine
		want.AllowExpired = a.policy.set.AllowsExpired()
	}
	st := a.snap.State
	if !a.snap.Found || !st.HasClock || st.Rebaseline {
		return want, nil
	}
	want.Baseline = &verifier.Baseline{
		Clock:    tpm2.Clock{Millis: st.Clock, ResetCount: st.ResetCount, RestartCount: st.RestartCount, Safe: true},
		ClockAt:  st.AttestedAt,
		Firmware: st.Firmware,
	}
	if err := want.Baseline.IMA.UnmarshalText(st.IMA); err != nil {
		return verifier.Expectation{}, reason.Wrap(reason.Internal, "", err)
	}
	if a.req.TPM2 != nil && len(a.req.TPM2.EventLog) == 0 && st.EventLog != [32]byte{} {
		if want.Baseline.Log, err = b.keptLog(ctx, st.EventLog, st.LastOKAt); err != nil {
			return verifier.Expectation{}, err
		}
	}
	return want, nil
}

// issue prepares, records and signs. The order is the promise of the product.
func (b *Broker) issue(ctx context.Context, a *attempt) (api.AttestResponse, error) {
	b.cfg.Step("broker.prepare")
	prepared, err := b.prepare(a)
	if err != nil {
		return api.AttestResponse{}, err
	}
	commit, err := b.compose(a, prepared)
	if err != nil {
		return api.AttestResponse{}, err
	}
	b.cfg.Step("broker.record")
	pos, err := b.record(ctx, a, commit)
	if err != nil {
		return api.AttestResponse{}, err
	}
	b.cfg.Step("broker.sign")
	chain, err := b.cfg.Issuer.Sign(prepared)
	if err != nil {
		return api.AttestResponse{}, reason.Wrap(reason.IssuerUnavailable, "the record is written, the SVID could not be signed; ask again", err)
	}
	b.cfg.Step("broker.answer")
	return b.answer(a, commit, pos, chain)
}

// refuse records a denial of an authenticated node: the first few of a kind and
// hour in full, the rest as a count, so that nobody can fill a history that
// cannot be deleted, not by alternating two faults either. A refusal that changes
// what the node may have is always a record: the first one after an acceptance
// ends its later SVIDs, a suspected fork stops it. Each follows a record of an
// acceptance or an approval, so that these do not fill a history either.
func (b *Broker) refuse(ctx context.Context, a *attempt) error {
	refusal := &api.Refusal{Reasons: a.verdict.reasons}
	first := string(refusal.Reasons[0].Code)
	if !a.verdict.admitted {
		return b.turnAway(&api.Refusal{Reasons: a.verdict.reasons, Stranger: true})
	}
	key := refusalKey{hour: a.now.UTC().Truncate(time.Hour), code: first, node: a.challenge.Node}
	if a.foreign() && !a.firstDenial() {
		b.refusals.add(key)
		return refusal
	}
	changes := a.snap.Found && (a.snap.State.Verdict == ledger.VerdictAllow || a.snap.Node.Status != a.verdict.node.Status)
	if !b.refusals.full(key) && !changes {
		b.refusals.add(key)
		return refusal
	}
	commit, err := b.compose(a, nil)
	if err != nil {
		return err
	}
	if _, err := b.record(ctx, a, commit); err != nil {
		return err
	}
	return refusal
}

// record appends the commit. It outlives the client: a decision that was on its
// way into the log is finished whether or not somebody still listens.
func (b *Broker) record(ctx context.Context, a *attempt, c ledger.Commit) (ledger.Position, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTimeout,
		reason.New(reason.StoreUnavailable, "recording took too long"))
	defer cancel()
	a.caller.waits()
	pos, err := b.cfg.Store.Append(ctx, c)
	if err == nil {
		return pos, nil
	}
	if reason.Of(err) == reason.ChallengeSpent {
		snap, readErr := b.cfg.Store.NodeByID(ctx, a.challenge.Node)
		if readErr != nil {
			snap = ledger.Snapshot{}
		}
		return ledger.Position{}, b.spent(snap, a.challenge)
	}
	if reason.Of(err) == reason.Internal && errors.Is(err, context.DeadlineExceeded) {
		return ledger.Position{}, reason.Wrap(reason.StoreUnavailable, "recording took too long; nothing was issued", err)
	}
	return ledger.Position{}, err
}
