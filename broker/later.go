package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxRaces bounds how often one request meets a node that moves on meanwhile.
const maxRaces = 3

// issuance is one later SVID on its way through the steps. What it may say is
// what the claim in the node's own SVID says; what the request says is only
// which of it is wanted.
type issuance struct {
	caller Caller
	now    time.Time
	claims claim.Claims // of the presented SVID, which the transport verified
	snap   ledger.Snapshot
	policy *activePolicy
	terms  policy.Terms
	limit  time.Time // end of the evidence, by the claim and by the policy in force
	id     uuid.UUID // of the record
}

// SVID issues an X.509-SVID for a workload of the host that c proved to be. It
// is recorded before it is signed.
func (b *Broker) SVID(ctx context.Context, c Caller, req api.SVIDRequest) (api.SVIDResponse, error) {
	var out api.SVIDResponse
	err := b.later(ctx, c, func(i *issuance) (later, error) { return b.workloadSVID(i, req, &out) })
	if err != nil {
		return api.SVIDResponse{}, err
	}
	return out, nil
}

// JWT issues a JWT-SVID for one audience, for the host that c proved to be or for
// a workload of it. It is recorded before it is signed.
func (b *Broker) JWT(ctx context.Context, c Caller, req api.JWTRequest) (api.JWTResponse, error) {
	var out api.JWTResponse
	err := b.later(ctx, c, func(i *issuance) (later, error) { return b.jwtSVID(i, req, &out) })
	if err != nil {
		return api.JWTResponse{}, err
	}
	return out, nil
}

// later is a prepared SVID: what its record says, and how it is signed once that
// is committed.
type later struct {
	workload string
	svid     ledger.IssuedSVID
	sign     func(ledger.Position) error
}

// later walks one request through the pipeline: check, prepare, record, sign.
// Where the node moves on before the record is committed, everything is judged
// again: the reason may be that it was disabled.
func (b *Broker) later(ctx context.Context, c Caller, prepare func(*issuance) (later, error)) error {
	for range maxRaces {
		i := &issuance{caller: c, now: b.cfg.Now().Truncate(time.Millisecond)}
		err := b.issueLater(ctx, i, prepare)
		if err == nil {
			return nil
		}
		if reason.Of(err) != reason.ChallengeSpent {
			return b.refuseLater(i, err)
		}
	}
	return reason.New(reason.RequestOverloaded, "the node changes all the time; try again")
}

func (b *Broker) issueLater(ctx context.Context, i *issuance, prepare func(*issuance) (later, error)) error {
	if err := b.canIssue(i.now); err != nil {
		return err
	}
	b.cfg.Step("svid.check")
	if err := b.entitled(ctx, i); err != nil {
		return err
	}
	b.cfg.Step("svid.prepare")
	var err error
	if i.id, err = ledger.NewRecordID(i.now, b.cfg.Rand); err != nil {
		return err
	}
	l, err := prepare(i)
	if err != nil {
		return err
	}
	b.cfg.Step("svid.record")
	pos, err := b.recordLater(ctx, i, l)
	if err != nil {
		return err
	}
	b.cfg.Step("svid.sign")
	if err := l.sign(pos); err != nil {
		return reason.Wrap(reason.IssuerUnavailable, "the record is written, the SVID could not be signed; ask again", err)
	}
	b.cfg.Step("svid.answer")
	return nil
}

// refuseLater counts a refusal of a node that proved who it is. Faults of ours
// are none, and a node that nobody proved is not named.
func (b *Broker) refuseLater(i *issuance, err error) error {
	if i.claims.Zone.Node != "" && reason.Lookup(reason.Of(err)).Class == reason.Deny {
		b.refusals.add(refusalKey{hour: i.now.UTC().Truncate(time.Hour), code: string(reason.Of(err)), node: ledger.NodeID(i.claims.Zone.Node)})
	}
	return err
}

// entitled asks whether the node may have anything beyond the SVID that it
// holds: who it is, whether it still stands as that SVID says, and whether the
// policy in force still has the zone.
func (b *Broker) entitled(ctx context.Context, i *issuance) error {
	claims, err := b.presented(i)
	if err != nil {
		return err
	}
	i.claims = claims
	if i.policy = b.policy.Load(); i.policy == nil {
		return reason.New(reason.PolicyMissing, "no policy is active")
	}
	if i.snap, err = b.cfg.Store.NodeByID(ctx, ledger.NodeID(claims.Zone.Node)); err != nil {
		return err
	}
	if err := b.standsAsAttested(i); err != nil {
		return err
	}
	return i.judge()
}

// presented reads the zone claim of the certificate that the caller showed. That
// a CA of the bundle signed it, the transport found out; that it is the node's
// own, of a zone, and not past its end, is checked here once more, because all
// that follows rests on it.
func (b *Broker) presented(i *issuance) (claim.Claims, error) {
	cert := i.caller.Certificate
	if i.caller.NodeID == "" || cert == nil {
		return claim.Claims{}, reason.New(reason.AuthRequired, "the node's SVID is needed as client certificate")
	}
	if i.now.Before(cert.NotBefore) || !i.now.Before(cert.NotAfter) {
		return claim.Claims{}, reason.New(reason.AuthInvalid, "the node's SVID is outside its life")
	}
	c, err := claim.FromCertificateInsecure(cert)
	if err != nil {
		return claim.Claims{}, err
	}
	want := b.nodeSPIFFEID(c.Zone.Name, ledger.NodeID(i.caller.NodeID))
	if c.Zone.Node != i.caller.NodeID || i.caller.SPIFFEID != want || len(cert.URIs) != 1 || cert.URIs[0].String() != want {
		return claim.Claims{}, reason.New(reason.AuthInvalid, "the zone claim is not that of the node which asks")
	}
	return c, nil
}

// standsAsAttested compares the node with what its SVID says of it. An SVID from
// before the last attestation is what a copy of the host holds, or what was
// earned by a boot that is over.
func (b *Broker) standsAsAttested(i *issuance) error {
	st := i.snap.State
	if !i.snap.Found {
		return reason.New(reason.AuthInvalid, "no node has this SVID")
	}
	if err := statusRefusal(i.snap.Node.Status); err != nil {
		return err
	}
	if b.admissions.ended(i.snap.Node) {
		return reason.New(reason.NodeDisabled, "the admission of the node is revoked")
	}
	if st.Last == uuid.Nil || st.Last.String() != i.claims.Zone.AttestationID {
		return reason.New(reason.AuthInvalid, "not the node's last attestation; renew")
	}
	if st.Verdict != ledger.VerdictAllow {
		return reason.New(reason.PolicyEvidenceAge, "the node's last attestation was refused")
	}
	return nil
}

// judge holds the claim against the clock and the policy in force.
func (i *issuance) judge() error {
	z := i.claims.Zone
	attested, fresh := time.Unix(z.AttestedAt, 0), time.Unix(z.FreshUntil, 0)
	if attested.After(i.now.Add(maxAhead)) {
		return reason.New(reason.IssuerUnavailable, "this replica's clock is behind that of the attestation; set the clocks by NTP")
	}
	terms, ok := i.policy.set.ZoneTerms(z.Name, policyNode(i.snap.Node))
	if !ok || terms.Tier != z.Tier {
		return reason.New(reason.PolicyNoZone, "the policy in force has no such zone for this node; renew")
	}
	// A shorter max_age holds at once, a longer one with the next attestation.
	i.terms, i.limit = terms, fresh
	// The claim says so too: checkers go by it.
	if end := attested.Add(terms.MaxAge).Truncate(time.Second); end.Before(fresh) {
		i.limit, i.claims.Zone.FreshUntil = end, end.Unix()
	}
	if !i.now.Before(i.limit) {
		return reason.New(reason.PolicyEvidenceAge, "the attestation is no longer fresh; renew")
	}
	return nil
}

// maxAhead is how far ahead of ours the clock of the replica that attested the
// node may be, as in the policy's own judgement of age.
const maxAhead = 10 * time.Second

// workloadOf answers policy.identity_invalid for a workload that the zone does
// not place on this node.
func (i *issuance) workloadOf(name string) error {
	if !slices.ContainsFunc(i.terms.Workloads, func(w policy.Workload) bool { return w.Name == name }) {
		return reason.New(reason.PolicyIdentityInvalid, "the zone places no such workload on this node")
	}
	return nil
}

// recordLater commits the record of one later SVID on the condition that the
// node still stands as it was read. It outlives the client, as record does.
func (b *Broker) recordLater(ctx context.Context, i *issuance, l later) (ledger.Position, error) {
	presented := sha256.Sum256(i.caller.Certificate.Raw)
	body := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: i.id, Node: i.snap.Node.ID, Workload: l.workload,
		Zone: i.claims.Zone.Name, Tier: i.claims.Zone.Tier, Attestation: i.claims.Zone.AttestationID,
		AttestedAt: i.snap.State.AttestedAt.UnixMilli(), FreshUntil: time.Unix(i.claims.Zone.FreshUntil, 0).UnixMilli(),
		Presented: hex.EncodeToString(presented[:]), Policy: i.policy.ref(), TrustDomain: b.cfg.TrustDomain,
		SVIDs: []ledger.IssuedSVID{l.svid}, At: i.now.UnixMilli(), Replica: b.cfg.Replica,
	}
	salt, err := b.salt()
	if err != nil {
		return ledger.Position{}, err
	}
	c := ledger.Commit{SVIDs: body.SVIDs, Keep: b.keep(body.Zone), Guard: &ledger.Guard{Node: i.snap.Node.ID, Version: i.snap.State.Version}}
	if c.Record, err = body.Record(salt); err != nil {
		return ledger.Position{}, err
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTimeout,
		reason.New(reason.StoreUnavailable, "recording took too long"))
	defer cancel()
	i.caller.waits()
	pos, err := b.cfg.Store.Append(ctx, c)
	if reason.Of(err) == reason.Internal && errors.Is(err, context.DeadlineExceeded) {
		return ledger.Position{}, reason.Wrap(reason.StoreUnavailable, "recording took too long; nothing was issued", err)
	}
	return pos, err
}

func (b *Broker) logPosition(pos ledger.Position) api.LogPosition {
	out := api.LogPosition{Origin: b.origin(), Index: pos.Index, Size: pos.Size}
	if cp := b.checkpoint.Load(); cp != nil {
		out.Checkpoint = *cp
	}
	return out
}

// claimFor is the claim of a later SVID: that of the node, with the residency of
// the key that this one speaks of.
func (i *issuance) claimFor(key string) claim.Claims {
	c := i.claims
	c.Zone.Key = key
	return c
}

// oidSubjectAltName and tagURI are of RFC 5280, section 4.2.1.6.
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

const tagURI = 6

// parseCSR checks a request for the key of the workload with that SPIFFE ID. What it asks for beyond the key is refused rather than left out: a caller that
// meant it would hold something else than it thinks.
func parseCSR(der []byte, id string) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, reason.Wrap(reason.RequestMalformed, "csr is not PKCS#10", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, reason.Wrap(reason.RequestMalformed, "csr: signature does not verify", err)
	}
	own, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(id)}})
	if err != nil {
		return nil, err
	}
	for _, e := range csr.Extensions {
		if !e.Id.Equal(oidSubjectAltName) || !bytes.Equal(e.Value, own) {
			return nil, reason.New(reason.RequestMalformed, "csr: it may name the SPIFFE ID of the workload, and nothing else")
		}
	}
	if len(csr.Subject.Names) > 0 {
		return nil, reason.New(reason.RequestMalformed, "csr: the subject is the broker's to choose")
	}
	return csr, nil
}
