package claim

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Sizes of a compact JWS. Relying parties parse it before they know who sent it.
const (
	maxToken  = 24 << 10 // characters: the largest claims-set, a header and an RSA signature
	maxHeader = 1 << 10  // bytes of JSON
)

// Algorithms of JWT-SVIDs. A broker signs with these two; every other one,
// "none" and HMACs among them, is refused before a key is looked for.
const (
	AlgES256 = "ES256"
	AlgRS256 = "RS256"
)

// Header is the JOSE header of a JWT-SVID. The specification closes it to these
// three members.
type Header struct {
	Algorithm string
	KeyID     string
	Type      string // "" where it is absent, "JWT" or "JOSE"
}

// UnverifiedJWT is what somebody wrote into a token.
type UnverifiedJWT struct {
	Header Header
	Token  Token
	Claims Claims
}

// unverified is a token in parts.
type unverified struct {
	header    Header
	payload   payload
	input     string // signing input (RFC 7515, section 5.1)
	signature []byte
}

type payload struct {
	token     Token
	claims    Claims
	notBefore int64
	id        spiffeid.ID
}

// ParseJWTInsecure reads a compact JWS without verifying anything; for showing
// what a token says. Errors as of VerifyJWT, as far as they need neither key
// nor time nor audience.
func ParseJWTInsecure(token string) (UnverifiedJWT, error) {
	u, err := parseJWT(token)
	if err != nil {
		return UnverifiedJWT{}, err
	}
	return UnverifiedJWT{Header: u.header, Token: u.payload.token, Claims: u.payload.claims}, nil
}

func parseJWT(token string) (unverified, error) {
	malformed := func(detail string) (unverified, error) {
		return unverified{}, reason.New(reason.JWTMalformed, detail)
	}
	if len(token) > maxToken {
		return malformed("the token is larger than its limit")
	}
	// SplitN bounds what a token of nothing but dots costs.
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return malformed("the token is not a compact JWS of three parts")
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = decodePart(part); err != nil {
			return malformed("a part of the token is not unpadded base64url")
		}
	}
	header, err := parseHeader(raw[0])
	if err != nil {
		return unverified{}, err
	}
	p, err := parsePayload(raw[1])
	if err != nil {
		return unverified{}, err
	}
	return unverified{header: header, payload: p, input: token[:len(parts[0])+1+len(parts[1])], signature: raw[2]}, nil
}

// decodePart takes one spelling only. The decoder skips line breaks by itself.
func decodePart(part string) ([]byte, error) {
	if part == "" || strings.ContainsAny(part, "\r\n") {
		return nil, errTrailing
	}
	return base64.RawURLEncoding.Strict().DecodeString(part)
}

// parseHeader refuses every member that the JWT-SVID specification (section
// 2.1) does not list: keys and key URLs that a token brings itself are how
// verifiers were led to a key of the attacker's.
func parseHeader(raw []byte) (Header, error) {
	if len(raw) > maxHeader {
		return Header{}, reason.New(reason.JWTMalformed, "the header of the token is larger than its limit")
	}
	v, err := parseJSON(raw)
	if err != nil {
		return Header{}, reason.Wrap(reason.JWTMalformed, "the header of the token is not strict JSON", err)
	}
	o := asObject(v)
	if o.bad != "" {
		return Header{}, reason.New(reason.JWTMalformed, "the header of the token is not an object")
	}
	h := Header{Algorithm: o.text("alg")}
	if h.Algorithm != AlgES256 && h.Algorithm != AlgRS256 {
		return Header{}, reason.New(reason.JWTAlg, "tokens are signed with ES256 or RS256")
	}
	if _, ok := o.members["crit"]; ok {
		return Header{}, reason.New(reason.JWTCrit, "the header of the token has critical members")
	}
	if h.KeyID = o.text("kid"); h.KeyID == "" || len(h.KeyID) > maxText {
		return Header{}, reason.New(reason.JWTKID, "the token does not name its key")
	}
	if _, ok := o.members["typ"]; ok {
		h.Type = o.text("typ")
		o.demand("typ", h.Type == "JWT" || h.Type == "JOSE")
	}
	if o.only("alg", "kid", "typ"); o.bad != "" {
		return Header{}, reason.Newf(reason.JWTMalformed, "the header of the token misuses %s", o.bad)
	}
	return h, nil
}

// parsePayload reads the members of the token and the claims-set of the same
// object. Each group has its own code: who is told "audience" looks elsewhere
// than who is told "zone claim".
func parsePayload(raw []byte) (payload, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return payload{}, reason.Wrap(reason.JWTMalformed, "the payload of the token is not strict JSON", err)
	}
	o := asObject(v)
	if o.bad != "" {
		return payload{}, reason.New(reason.JWTMalformed, "the payload of the token is not an object")
	}
	p := payload{token: Token{Subject: o.text("sub"), ID: o.text("jti")}}
	if p.id, err = spiffeid.FromString(p.token.Subject); err != nil {
		return payload{}, reason.New(reason.AuthInvalid, "the subject of the token is not a SPIFFE ID")
	}
	if !validUUID(p.token.ID) {
		return payload{}, reason.New(reason.JWTMalformed, "the token's jti is not a UUID")
	}
	if aud := o.texts("aud"); len(aud) == 1 && validAudience(aud[0]) {
		p.token.Audience = aud[0]
	} else {
		return payload{}, reason.New(reason.JWTAudience, "the token does not name exactly one audience")
	}
	if _, ok := o.members["iss"]; ok {
		if p.token.Issuer = o.text("iss"); !ValidIssuer(p.token.Issuer) {
			return payload{}, reason.New(reason.JWTIssuer, "the token's issuer is not the URL of one")
		}
	}
	if err := p.times(o); err != nil {
		return payload{}, err
	}
	if p.token.X5T, err = confirmation(o); err != nil {
		return payload{}, err
	}
	if p.claims = o.claims(); o.bad != "" {
		return payload{}, reason.Newf(reason.AuthInvalid, "the zone claim of the token lacks or misuses %s", o.bad)
	}
	return p, nil
}

func (p *payload) times(o *object) error {
	times := asObject(o.members)
	p.token.IssuedAt, p.token.Expires, p.notBefore = times.integer("iat"), times.integer("exp"), times.integer("nbf")
	if times.bad != "" || p.notBefore <= 0 || p.token.Expires <= p.token.IssuedAt {
		return reason.New(reason.JWTLifetime, "the token lacks or misuses iat, nbf or exp")
	}
	return nil
}

// confirmation reads cnf (RFC 7800). A method that we do not know is refused: a
// checker that skipped it would take a bound token for a bearer token.
func confirmation(o *object) ([]byte, error) {
	if _, ok := o.members["cnf"]; !ok {
		return nil, nil
	}
	cnf := o.object("cnf")
	cnf.only(x5tMember)
	sum, err := decodePart(cnf.text(x5tMember))
	if cnf.bad != "" || err != nil || len(sum) != x5tSize {
		return nil, reason.New(reason.JWTMalformed, "the token is bound to something else than a certificate's SHA-256")
	}
	return sum, nil
}

// sane judges the times of a token against each other and against its evidence.
func (p *payload) sane() error {
	z, life := p.claims.Zone, p.token.Expires-p.token.IssuedAt
	switch {
	case life > int64(MaxJWTLifetime/time.Second):
		return reason.New(reason.JWTLifetime, "the token lives longer than a token may")
	case p.token.Expires > z.FreshUntil:
		return reason.New(reason.JWTLifetime, "the token outlives the evidence behind it")
	case p.notBefore != p.token.IssuedAt-int64(JWTBackdate/time.Second):
		return reason.New(reason.JWTIssuedAt, "the token's nbf does not belong to its iat")
	case z.AttestedAt > p.token.IssuedAt+int64(JWTBackdate/time.Second):
		return reason.New(reason.JWTIssuedAt, "the token is older than the evidence behind it")
	}
	return nil
}
