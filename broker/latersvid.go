package broker

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// workloadSVID prepares the X.509-SVID of a workload. It ends at the latest with
// the SVID that asked for it, so that the node's own end bounds all that its
// last attestation earned.
func (b *Broker) workloadSVID(i *issuance, req api.SVIDRequest, out *api.SVIDResponse) (later, error) {
	if err := i.workloadOf(req.Workload); err != nil {
		return later{}, err
	}
	id := b.workloadSPIFFEID(i.claims.Zone.Name, req.Workload)
	csr, err := parseCSR(req.CSR, id)
	if err != nil {
		return later{}, err
	}
	// A workload that holds the node's key could renew the node.
	if bytes.Equal(csr.RawSubjectPublicKeyInfo, i.caller.Certificate.RawSubjectPublicKeyInfo) {
		return later{}, reason.New(reason.RequestMalformed, "csr: the key is the node's own; make one for the workload")
	}
	end, err := b.cfg.Issuer.Expiry(i.now, i.limit, i.terms.X509TTL, i.terms.Grace)
	if err != nil {
		return later{}, err
	}
	end = earlier(end, i.caller.Certificate.NotAfter)
	c := i.claimFor(claim.KeySoftware)
	c.IssuedAt, c.Expires = i.now.Unix(), end.Unix()
	ext, err := claim.EncodeCMW(c)
	if err != nil {
		return later{}, err
	}
	prepared, err := b.cfg.Issuer.Prepare(issuer.Request{
		SPIFFEID: id, SPKI: csr.RawSubjectPublicKeyInfo, CommonName: c.Zone.Node, Key: c.Zone.Key,
		NotAfter: end, FreshUntil: i.limit, Grace: i.terms.Grace, ClaimExtension: ext,
	})
	if err != nil {
		return later{}, err
	}
	return later{workload: req.Workload, svid: prepared.Record(), sign: func(pos ledger.Position) error {
		chain, err := b.cfg.Issuer.Sign(prepared)
		if err != nil {
			return err
		}
		*out = api.SVIDResponse{
			RecordID: i.id.String(), SPIFFEID: id, Workload: req.Workload, AttestedAt: time.Unix(c.Zone.AttestedAt, 0).UTC(),
			FreshUntil: time.Unix(c.Zone.FreshUntil, 0).UTC(), ExpiresAt: prepared.NotAfter().UTC(), Log: b.logPosition(pos),
		}
		for _, der := range chain {
			out.Chain = append(out.Chain, der)
		}
		return nil
	}}, nil
}

// jwtSVID prepares the JWT-SVID of the node or of a workload, bound to the key of
// the SVID that asked for it: who only copies the token cannot show the key.
func (b *Broker) jwtSVID(i *issuance, req api.JWTRequest, out *api.JWTResponse) (later, error) {
	id, key := b.nodeSPIFFEID(i.claims.Zone.Name, i.snap.Node.ID), i.claims.Zone.Key
	if req.Workload != "" {
		if err := i.workloadOf(req.Workload); err != nil {
			return later{}, err
		}
		id, key = b.workloadSPIFFEID(i.claims.Zone.Name, req.Workload), claim.KeySoftware
	}
	if !slices.Contains(i.terms.Audiences, req.Audience) {
		return later{}, reason.New(reason.PolicyAudience, "the zone lists no such audience")
	}
	presented := sha256.Sum256(i.caller.Certificate.Raw)
	c := i.claimFor(key)
	prepared, err := b.cfg.Issuer.PrepareJWT(issuer.JWTRequest{
		SPIFFEID: id, Audience: req.Audience, ID: i.id.String(), Issuer: b.oidcIssuer(),
		NotAfter: earlier(i.now.Add(i.terms.JWTTTL), i.limit), Presented: presented[:], Claims: c,
	})
	if err != nil {
		return later{}, err
	}
	return later{workload: req.Workload, svid: prepared.Record(), sign: func(pos ledger.Position) error {
		token, err := b.cfg.Issuer.SignJWT(prepared)
		if err != nil {
			return err
		}
		*out = api.JWTResponse{
			RecordID: i.id.String(), SPIFFEID: id, Workload: req.Workload, Audience: req.Audience, Token: token,
			AttestedAt: time.Unix(c.Zone.AttestedAt, 0).UTC(), FreshUntil: time.Unix(c.Zone.FreshUntil, 0).UTC(),
			ExpiresAt: prepared.NotAfter().UTC(), Log: b.logPosition(pos),
		}
		return nil
	}}, nil
}

func (b *Broker) workloadSPIFFEID(zone, workload string) string {
	return fmt.Sprintf("spiffe://%s/zone/%s/workload/%s", b.cfg.TrustDomain, zone, workload)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
