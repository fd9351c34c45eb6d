package issuer

import (
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// JWTRequest is a JWT-SVID as decided.
type JWTRequest struct {
	SPIFFEID  string       // of the zone and node in Claims: …/node/<node> or …/workload/<name>
	Audience  string       // exactly one, at most claim.MaxAudience bytes; it also picks the algorithm
	ID        string       // jti: UUID of the record that is committed before SignJWT
	Issuer    string       // iss: https URL of the OIDC issuer; "" leaves it out
	NotAfter  time.Time    // as wanted; PrepareJWT shortens it
	Presented []byte       // SHA-256 of the DER of the caller's SVID, cnf of the token; nil for a bearer token
	Claims    claim.Claims // IssuedAt and Expires are set here; Zone.FreshUntil bounds the token, Zone.Key is recorded
}

// PreparedJWT is a JWT-SVID that waits for its record. It is good for one
// SignJWT.
type PreparedJWT struct {
	issuer   *Issuer
	keys     *JWTKeys
	alg      jose.SignatureAlgorithm
	payload  []byte
	input    []byte
	notAfter time.Time
	record   ledger.IssuedSVID
	used     atomic.Bool
}

// Record returns what the history says about this SVID.
func (p *PreparedJWT) Record() ledger.IssuedSVID { return p.record }

// NotAfter returns the end of the token.
func (p *PreparedJWT) NotAfter() time.Time { return p.notAfter }

// PrepareJWT builds the signing input of a JWT-SVID without using a private
// key. The token ends at the earliest of the wanted end, fresh_until (invariant
// 2: a token has no grace), claim.MaxJWTLifetime and the end of the key, in
// whole seconds. It returns issuer.unavailable without keys or where the clock
// stands before the attestation, policy.identity_invalid for a SPIFFE ID that is
// not of the claim's zone and node in this trust domain (T49), policy.audience
// for an audience that no token may name, policy.evidence_age where nothing
// would be left of its life, and internal for a request that no checker would
// read.
func (i *Issuer) PrepareJWT(req JWTRequest) (*PreparedJWT, error) {
	now := i.now()
	keys, err := i.currentJWT(now)
	if err != nil {
		return nil, err
	}
	id, err := i.identity(req.SPIFFEID)
	if err != nil {
		return nil, err
	}
	iat := now.UTC().Truncate(time.Second)
	if time.Unix(req.Claims.Zone.AttestedAt, 0).After(iat.Add(claim.JWTBackdate)) {
		return nil, reason.New(reason.IssuerUnavailable, "this replica's clock is behind that of the attestation; set the clocks by NTP")
	}
	end := keys.clip(req, iat)
	if !end.After(now) {
		return nil, reason.New(reason.PolicyEvidenceAge, "the evidence is too old for an identity")
	}
	payload, err := claim.EncodeJWT(req.Claims, claim.Token{
		Issuer: req.Issuer, Subject: id.String(), Audience: req.Audience, ID: req.ID,
		IssuedAt: iat.Unix(), Expires: end.Unix(), X5T: req.Presented,
	})
	if err != nil {
		return nil, err
	}
	alg := algorithm(req.Audience)
	key := keys.forAlgorithm(alg)
	input, err := signingInput(key, alg, payload)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(input)
	return &PreparedJWT{issuer: i, keys: keys, alg: alg, payload: payload, input: input, notAfter: end, record: ledger.IssuedSVID{
		Profile:   ledger.ProfileJWT,
		Serial:    req.ID,
		SPIFFEID:  id.String(),
		NotBefore: iat.Add(-claim.JWTBackdate).Unix(),
		NotAfter:  end.Unix(),
		TBSSHA256: hex.EncodeToString(sum[:]),
		CAKeyID:   key.id,
		Key:       req.Claims.Zone.Key,
		Audience:  req.Audience,
	}}, nil
}

func (k *JWTKeys) clip(req JWTRequest, iat time.Time) time.Time {
	end := req.NotAfter
	for _, limit := range []time.Time{time.Unix(req.Claims.Zone.FreshUntil, 0), iat.Add(claim.MaxJWTLifetime), k.notAfter} {
		if limit.Before(end) {
			end = limit
		}
	}
	return end.UTC().Truncate(time.Second)
}

// jwtCapture is to a token what capture is to a certificate, and jwtGate stands
// in front of the key: go-jose hands them the whole signing input, so that there
// is no own serialisation and no moment before SignJWT at which a private key is
// in reach.
type jwtCapture struct {
	key   jwtKey
	alg   jose.SignatureAlgorithm
	input []byte
}

// Public returns what go-jose takes the kid from.
func (c *jwtCapture) Public() *jose.JSONWebKey { return publicJWK(c.key) }

// Algs returns the one algorithm of the key.
func (c *jwtCapture) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{c.alg} }

// SignPayload keeps the signing input and signs nothing.
func (c *jwtCapture) SignPayload(input []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	c.input = append([]byte(nil), input...)
	return nil, errCaptured
}

// jwtGate signs one signing input and nothing else.
type jwtGate struct {
	key     jwtKey
	alg     jose.SignatureAlgorithm
	allowed []byte
	random  io.Reader
}

// Public returns what go-jose takes the kid from.
func (g *jwtGate) Public() *jose.JSONWebKey { return publicJWK(g.key) }

// Algs returns the one algorithm of the key.
func (g *jwtGate) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{g.alg} }

// SignPayload signs the recorded signing input only, which names the algorithm.
func (g *jwtGate) SignPayload(input []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	if string(input) != string(g.allowed) {
		return nil, errOtherBytes
	}
	digest := sha256.Sum256(input)
	signature, err := g.key.signer.Sign(g.random, digest[:], crypto.SHA256)
	if err != nil || g.alg == jose.RS256 {
		return signature, err
	}
	return fixedWidth(signature)
}

func publicJWK(k jwtKey) *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: k.public, KeyID: k.id}
}

// fixedWidth turns the DER of an ECDSA signature into 32 bytes r and 32 bytes s
// (RFC 7518, section 3.4).
func fixedWidth(der []byte) ([]byte, error) {
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
		return nil, errOtherBytes
	}
	out := make([]byte, 64)
	v.R.FillBytes(out[:32])
	v.S.FillBytes(out[32:])
	return out, nil
}

// compact signs through go-jose. The header holds alg, kid and typ, which is
// all that the JWT-SVID specification allows.
func compact(signer jose.OpaqueSigner, alg jose.SignatureAlgorithm, payload []byte) (string, error) {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: signer}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	jws, err := s.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

func signingInput(key jwtKey, alg jose.SignatureAlgorithm, payload []byte) ([]byte, error) {
	c := &jwtCapture{key: key, alg: alg}
	if _, err := compact(c, alg, payload); !errors.Is(err, errCaptured) || len(c.input) == 0 {
		return nil, reason.Wrap(reason.Internal, "", fmt.Errorf("prepare token: %w", err))
	}
	return c.input, nil
}

// SignJWT signs exactly the signing input that PrepareJWT recorded and returns
// the compact JWS. Call it only after the record is committed. Each PreparedJWT
// is good for one call, also if that call fails. It refuses one of another
// issuer, and with issuer.unavailable one whose keys have ended meanwhile.
func (i *Issuer) SignJWT(p *PreparedJWT) (string, error) {
	if p == nil || p.issuer != i || p.keys == nil {
		return "", reason.Wrap(reason.Internal, "", errors.New("prepared by another issuer"))
	}
	if p.used.Swap(true) {
		return "", reason.Wrap(reason.Internal, "", errors.New("prepared token was used already"))
	}
	if !p.keys.usable(i.now()) {
		return "", reason.New(reason.IssuerUnavailable, "the signing key has ended")
	}
	key := p.keys.forAlgorithm(p.alg)
	token, err := compact(&jwtGate{key: key, alg: p.alg, allowed: p.input, random: i.rand}, p.alg, p.payload)
	if err != nil {
		return "", reason.Wrap(reason.Internal, "", fmt.Errorf("sign token: %w", err))
	}
	if err := p.check(token, key); err != nil {
		return "", reason.Wrap(reason.Internal, "", err)
	}
	return token, nil
}

// check compares the token with what was recorded, and verifies its signature
// under the published key: a faulty RSA signature can give the private key away.
func (p *PreparedJWT) check(token string, key jwtKey) error {
	if !strings.HasPrefix(token, string(p.input)+".") {
		return errOtherBytes
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{p.alg})
	if err != nil {
		return fmt.Errorf("read signed token: %w", err)
	}
	if _, err := jws.Verify(key.public); err != nil {
		return fmt.Errorf("verify signed token: %w", err)
	}
	return nil
}
