package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Request is an X.509-SVID as decided.
type Request struct {
	SPIFFEID       string         // spiffe://<td>/zone/<zone>/node/<node> or …/workload/<name>
	SPKI           []byte         // DER of a P-256 or P-384 key, or of RSA with 2048 to 4096 bits
	CommonName     string         // node id; the subject must not be empty for readers of DNs
	Key            string         // "tpm" or "software", as recorded
	NotBefore      time.Time      // zero: a minute before now
	NotAfter       time.Time      // as wanted; Prepare shortens it, Expiry says to what
	FreshUntil     time.Time      // of the attestation
	Grace          time.Duration  // of the zone's tier
	ClaimExtension pkix.Extension // id-pe-cmw, not critical
}

// Prepared is an SVID that waits for its record. It is good for one Sign.
type Prepared struct {
	issuer *Issuer
	ca     *CA
	leaf   leaf
	tbs    []byte
	record ledger.IssuedSVID
	used   atomic.Bool
}

// Record returns what the history says about this SVID.
func (p *Prepared) Record() ledger.IssuedSVID { return p.record }

// NotAfter returns the end of the SVID.
func (p *Prepared) NotAfter() time.Time { return p.leaf.notAfter }

// TBS returns the to-be-signed bytes; the slice is the caller's.
func (p *Prepared) TBS() []byte { return append([]byte(nil), p.tbs...) }

// Expiry returns the end that Prepare would give an SVID: the earliest of
// now + ttl, freshUntil + grace (invariant 2) and the end of the CA in use,
// in whole seconds. The claim's exp comes from it. It returns
// issuer.unavailable without a CA.
func (i *Issuer) Expiry(now, freshUntil time.Time, ttl, grace time.Duration) (time.Time, error) {
	ca, err := i.current(now)
	if err != nil {
		return time.Time{}, err
	}
	return ca.clip(now.Add(ttl), freshUntil.Add(grace)), nil
}

func (c *CA) clip(wanted, limit time.Time) time.Time {
	end := wanted
	if limit.Before(end) {
		end = limit
	}
	if c.cert.NotAfter.Before(end) {
		end = c.cert.NotAfter
	}
	return end.UTC().Truncate(time.Second)
}

// Prepare builds the to-be-signed bytes of an SVID without using the CA's
// private key. It returns issuer.unavailable without a CA,
// policy.identity_invalid for a SPIFFE ID that is not of a zone of this trust
// domain (T49), policy.evidence_age where nothing would be left of its life,
// and request.malformed for a key or extension that it does not sign.
func (i *Issuer) Prepare(req Request) (*Prepared, error) {
	now := i.now()
	ca, err := i.current(now)
	if err != nil {
		return nil, err
	}
	id, err := i.identity(req.SPIFFEID)
	if err != nil {
		return nil, err
	}
	ski, err := subjectKey(req.SPKI)
	if err != nil {
		return nil, err
	}
	if err := checkRequest(req); err != nil {
		return nil, err
	}
	p := &Prepared{issuer: i, ca: ca, leaf: leaf{name: req.CommonName, id: id, spki: req.SPKI, ski: ski, claim: req.ClaimExtension.Value}}
	l := &p.leaf
	if l.serial, err = newSerial(i.rand); err != nil {
		return nil, err
	}
	l.notBefore, l.notAfter = req.NotBefore.UTC().Truncate(time.Second), ca.clip(req.NotAfter, req.FreshUntil.Add(req.Grace))
	if req.NotBefore.IsZero() {
		l.notBefore = now.UTC().Truncate(time.Second).Add(-backdate)
	}
	if !l.notAfter.After(now) || !l.notAfter.After(l.notBefore) {
		return nil, reason.New(reason.PolicyEvidenceAge, "the evidence is too old for an identity")
	}
	if p.tbs, err = ca.toBeSigned(l); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(p.tbs)
	p.record = ledger.IssuedSVID{
		Profile:   "x509",
		Serial:    hex.EncodeToString(l.serial[:]),
		SPIFFEID:  id.String(),
		NotBefore: l.notBefore.Unix(),
		NotAfter:  l.notAfter.Unix(),
		TBSSHA256: hex.EncodeToString(sum[:]),
		CAKeyID:   ca.id,
		Key:       req.Key,
	}
	return p, nil
}

// identity accepts only what a zone policy can earn. The reserved prefixes and
// the broker's own name never come out of Prepare, whatever is asked.
func (i *Issuer) identity(s string) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return id, reason.Wrap(reason.PolicyIdentityInvalid, "not a SPIFFE ID", err)
	}
	parts := strings.Split(id.Path(), "/")
	if id.TrustDomain() != i.td || len(parts) != 5 || parts[1] != "zone" || (parts[3] != "node" && parts[3] != "workload") {
		return id, reason.New(reason.PolicyIdentityInvalid, "not an identity of a zone of this trust domain")
	}
	return id, nil
}

// p256Head is the DER of a SubjectPublicKeyInfo up to the uncompressed point of a
// P-256 key (RFC 5480, section 2).
const p256Head = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"

// subjectKey parses the key, demands the one encoding that the certificate will
// carry, and returns its identifier: the quote is bound to the SHA-256 of these
// bytes. Behind the one head of P-256 an uncompressed point has one encoding.
func subjectKey(spki []byte) (ski []byte, err error) {
	if point, ok := bytes.CutPrefix(spki, []byte(p256Head)); ok {
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			return keyID(point), nil
		}
	}
	malformed := reason.New(reason.RequestMalformed, "the SVID key must be ECDSA P-256 or P-384, or RSA with 2048 to 4096 bits")
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, malformed
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, malformed
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 4096 || k.E < 65537 {
			return nil, malformed
		}
	default:
		return nil, malformed
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || string(again) != string(spki) {
		return nil, malformed
	}
	_, ski, err = spkiIDs(spki)
	return ski, err
}

var oidCMW = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35} // id-pe-cmw

func checkRequest(req Request) error {
	e := req.ClaimExtension
	switch {
	case !e.Id.Equal(oidCMW) || e.Critical || len(e.Value) == 0:
		return reason.New(reason.RequestMalformed, "an SVID carries one zone claim, in a non-critical extension")
	case req.Key != "tpm" && req.Key != "software":
		return reason.New(reason.RequestMalformed, "an SVID says where its key lives")
	case req.FreshUntil.IsZero() || req.NotAfter.IsZero() || req.Grace < 0:
		return reason.New(reason.RequestMalformed, "an SVID has an end and a time until which its evidence is fresh")
	case req.CommonName == "" || len(req.CommonName) > 64 || spiffeid.ValidatePathSegment(req.CommonName) != nil:
		return reason.New(reason.PolicyIdentityInvalid, "the subject needs the name of the node")
	}
	return nil
}
