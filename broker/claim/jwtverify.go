package claim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"math/big"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// VerifiedJWT is a JWT-SVID that counted at the time of VerifyJWT. Only
// VerifyJWT makes one.
type VerifiedJWT struct {
	id     spiffeid.ID
	token  Token
	claims Claims
}

// ID returns the SPIFFE ID.
func (v VerifiedJWT) ID() spiffeid.ID { return v.id }

// Zone returns the name of the zone.
func (v VerifiedJWT) Zone() string { return v.claims.Zone.Name }

// Tier returns the tier of the zone, 0 to 4.
func (v VerifiedJWT) Tier() int { return v.claims.Zone.Tier }

// Node returns the id of the node that was attested, also for a workload.
func (v VerifiedJWT) Node() string { return v.claims.Zone.Node }

// Claims returns a copy of the whole claims-set.
func (v VerifiedJWT) Claims() Claims { return v.claims.clone() }

// AttestedAt returns when the challenge of the attestation was issued.
func (v VerifiedJWT) AttestedAt() time.Time { return time.Unix(v.claims.Zone.AttestedAt, 0).UTC() }

// FreshUntil returns the end of the promise. No token outlives it.
func (v VerifiedJWT) FreshUntil() time.Time { return time.Unix(v.claims.Zone.FreshUntil, 0).UTC() }

// Expires returns the end of the token.
func (v VerifiedJWT) Expires() time.Time { return time.Unix(v.token.Expires, 0).UTC() }

// Audience returns the one audience, which is the one that was asked for.
func (v VerifiedJWT) Audience() string { return v.token.Audience }

// Issuer returns the URL of the OIDC issuer, "" where the token names none.
func (v VerifiedJWT) Issuer() string { return v.token.Issuer }

// JTI returns the id of the record in the history.
func (v VerifiedJWT) JTI() string { return v.token.ID }

// Bearer reports that the token is bound to no key: whoever holds it may use it.
func (v VerifiedJWT) Bearer() bool { return v.token.X5T == nil }

// ConfirmsCertificate reports whether the token is bound to this certificate
// (RFC 8705, section 3.1): the one that the caller proved in the TLS handshake
// over which the token came. A bearer token confirms none. The comparison takes
// the same time whatever differs.
func (v VerifiedJWT) ConfirmsCertificate(cert *x509.Certificate) bool {
	if v.Bearer() || cert == nil {
		return false
	}
	sum := sha256.Sum256(cert.Raw)
	return subtle.ConstantTimeCompare(sum[:], v.token.X5T) == 1
}

// VerifyJWT checks a JWT-SVID against the bundle of its trust domain, the one
// expected audience and now, reads its zone claim, and checks that the claim
// belongs to the subject and that the token ends with its evidence at the
// latest. Of the options only WithMinEpoch matters: a token has no grace.
//
// It returns jwt.malformed, jwt.alg, jwt.crit, jwt.kid, jwt.signature,
// jwt.audience, jwt.issuer, jwt.lifetime, jwt.issued_at or jwt.expired for what
// those codes say, auth.invalid for a trust domain, subject or zone claim that
// does not hold, and policy.evidence_age for an epoch that has ended.
//
// A bearer token passes. Who wants tokens bound to the TLS session that brings
// them also asks ConfirmsCertificate.
func VerifyJWT(token string, bundle jwtbundle.Source, audience string, now time.Time, opts ...Option) (VerifiedJWT, error) {
	s := settings{}
	for _, o := range opts {
		o(&s)
	}
	if bundle == nil || now.IsZero() {
		return VerifiedJWT{}, reason.New(reason.AuthInvalid, "there is no bundle or time to verify with")
	}
	u, err := parseJWT(token)
	if err != nil {
		return VerifiedJWT{}, err
	}
	p := u.payload
	keys, err := bundle.GetJWTBundleForTrustDomain(p.id.TrustDomain())
	if err != nil || keys == nil || keys.TrustDomain() != p.id.TrustDomain() {
		return VerifiedJWT{}, reason.Wrap(reason.AuthInvalid, "there is no bundle for the trust domain of the token", err)
	}
	key, ok := keys.FindJWTAuthority(u.header.KeyID)
	if !ok {
		return VerifiedJWT{}, reason.New(reason.JWTKID, "the token names a key that is not in the bundle")
	}
	if err := u.verify(key); err != nil {
		return VerifiedJWT{}, err
	}
	if p.token.Audience != audience {
		return VerifiedJWT{}, reason.New(reason.JWTAudience, "the token is for another audience")
	}
	if err := matches(p.id, p.claims.Zone); err != nil {
		return VerifiedJWT{}, err
	}
	if err := p.sane(); err != nil {
		return VerifiedJWT{}, err
	}
	switch at := now.Unix(); {
	case at < p.notBefore:
		return VerifiedJWT{}, reason.New(reason.JWTIssuedAt, "the token was issued in the future")
	case at >= p.token.Expires:
		return VerifiedJWT{}, reason.New(reason.JWTExpired, "the token has ended")
	case p.claims.Zone.Epoch < s.minEpoch:
		return VerifiedJWT{}, reason.New(reason.PolicyEvidenceAge, "the zone claim is of an epoch that has ended")
	}
	return VerifiedJWT{id: p.id, token: p.token, claims: p.claims}, nil
}

// verify checks the signature. The key decides the algorithm and the header
// must agree: the other way round a public key was once used as an HMAC secret.
func (u unverified) verify(key crypto.PublicKey) error {
	digest := sha256.Sum256([]byte(u.input))
	var algorithm string
	var holds bool
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k != nil && k.Curve == elliptic.P256() {
			algorithm, holds = AlgES256, verifyES256(k, digest[:], u.signature)
		}
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.N.BitLen() >= 2048 && k.N.BitLen() <= 4096 {
			algorithm, holds = AlgRS256, rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], u.signature) == nil
		}
	}
	if algorithm != u.header.Algorithm {
		return reason.New(reason.JWTAlg, "the token names an algorithm that its key is not for")
	}
	if !holds {
		return reason.New(reason.JWTSignature, "the signature of the token does not verify")
	}
	return nil
}

// verifyES256 reads the 64 bytes of r and s (RFC 7518, section 3.4).
func verifyES256(key *ecdsa.PublicKey, digest, signature []byte) bool {
	const half = 32
	if len(signature) != 2*half {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
	return ecdsa.Verify(key, digest, r, s)
}
