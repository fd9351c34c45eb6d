package jwt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// MaxToken bounds a token, in bytes. Those of Microsoft Azure Attestation are the
// largest, 5 to 8 KiB.
const MaxToken = 16 << 10

// Skew is how far the clocks of issuers may be off.
const Skew = 60 * time.Second

// Expect is what one verification wants.
type Expect struct {
	// Audience that the token has to carry, as the only one. An issuer that is
	// configured with one of its own wants that instead.
	Audience string
	// NoAudience: tokens of the format have none, and a nonce takes its place. Only
	// an issuer that is configured with an audience is then held to it.
	NoAudience bool
	// IssuedAt is when the challenge was made: an older token was not made for it.
	// Zero: not compared. It is not compared either where the audience is the
	// issuer's own, as such a token may be older than any challenge.
	IssuedAt time.Time
}

// Token is a verified token. The zero value says nothing.
type Token struct {
	issuer              Settings
	claims              []byte
	issuedAt, expiresAt time.Time
	fixed               bool
}

// Issuer returns who signed it, as configured.
func (t Token) Issuer() Settings { return t.issuer }

// IssuedAt returns iat.
func (t Token) IssuedAt() time.Time { return t.issuedAt }

// ExpiresAt returns exp, and where the token has none the end of the age that the
// format allows.
func (t Token) ExpiresAt() time.Time { return t.expiresAt }

// FixedAudience reports whether the audience is the issuer's own, the same for all
// tokens: such a token says nothing about this challenge.
func (t Token) FixedAudience() bool { return t.fixed }

// Decode decodes the claims into what into points to, names in their exact
// spelling; claims without a field are passed over. Error: jwt.malformed, where
// one has another type.
func (t Token) Decode(into any) error {
	if err := strictjson.Unmarshal(t.claims, into); err != nil {
		return reason.Wrap(reason.JWTMalformed, "a claim has another type than the format gives it", err)
	}
	return nil
}

// Verify judges a token at the time now. The codes and their order stand at the
// head of the package.
func (s Issuers) Verify(raw []byte, want Expect, now time.Time) (Token, error) {
	if len(raw) > MaxToken {
		return Token{}, reason.New(reason.RequestTooLarge, "the token is longer than 16 KiB")
	}
	p, err := parse(raw)
	if err != nil {
		return Token{}, err
	}
	found, err := s.candidates(p.header)
	if err != nil {
		return Token{}, err
	}
	signer, err := s.signer(&p, found)
	if err != nil {
		return Token{}, err
	}
	var c registered
	if err := strictjson.Unmarshal(p.claims, &c); err != nil {
		return Token{}, reason.Wrap(reason.JWTMalformed, "the claims are not strict JSON, have a member twice or one of another type than RFC 7519 says", err)
	}
	issuer, err := s.issuer(c.Issuer, signer)
	if err != nil {
		return Token{}, err
	}
	out := Token{issuer: s.list[issuer], claims: p.claims}
	if err := out.checkAudience(c.Audience, want); err != nil {
		return Token{}, err
	}
	if out.fixed {
		want.IssuedAt = time.Time{}
	}
	if err := out.checkTimes(&c, s.profile, want.IssuedAt, now); err != nil {
		return Token{}, err
	}
	return out, nil
}

// header is what is read of one; keys and URLs in it are not.
type header struct {
	Alg  string          `json:"alg"`
	Kid  string          `json:"kid"`
	Crit json.RawMessage `json:"crit"`
	B64  json.RawMessage `json:"b64"` // RFC 7797; has to stand in crit, and changes what is signed
}

// parts are a token taken apart.
type parts struct {
	header    header
	signed    []byte // what the signature is over: header and claims as they came
	claims    []byte
	signature []byte
}

// parse looks at the form of the token: three parts of unpadded base64url in its
// only spelling. Go's decoder passes over ends of lines.
func parse(raw []byte) (parts, error) {
	var p parts
	split := bytes.SplitN(raw, []byte{'.'}, 4)
	if len(split) != 3 || bytes.ContainsAny(raw, "\r\n") {
		return p, reason.New(reason.JWTMalformed, "not a JWS in compact serialization")
	}
	var decoded [3][]byte
	for i, s := range split {
		b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, s)
		if err != nil || len(b) == 0 && i < 2 { // without a signature the algorithm says what is wrong
			return p, reason.New(reason.JWTMalformed, "a part of the token is empty or not unpadded base64url")
		}
		decoded[i] = b
	}
	p.signed, p.claims, p.signature = raw[:len(split[0])+1+len(split[1])], decoded[1], decoded[2]
	if err := strictjson.Unmarshal(decoded[0], &p.header); err != nil {
		return p, reason.Wrap(reason.JWTMalformed, "the header is not strict JSON, or has a member twice", err)
	}
	return p, nil
}

// candidates returns the keys that may have signed: those of that id, and those
// that were configured without one.
func (s Issuers) candidates(h header) ([]candidate, error) {
	if !slices.Contains(s.allowed(), h.Alg) {
		return nil, reason.New(reason.JWTAlg, "the algorithm is not one that the issuer uses")
	}
	if h.Crit != nil || h.B64 != nil {
		return nil, reason.New(reason.JWTCrit, "the header has members that have to be understood, and none are")
	}
	found := slices.Clone(s.byID[""])
	if h.Kid != "" {
		found = append(found, s.byID[h.Kid]...)
	}
	if len(found) == 0 {
		return nil, reason.New(reason.JWTKID, "the key id is missing or none of the configured keys has it")
	}
	found = slices.DeleteFunc(found, func(c candidate) bool { return !c.key.sign })
	if len(found) == 0 {
		return nil, reason.New(reason.JWTKeyUse, "the key of that id is not for signatures")
	}
	found = slices.DeleteFunc(found, func(c candidate) bool { return !c.key.fits(h.Alg) })
	if len(found) == 0 {
		return nil, reason.New(reason.JWTAlg, "the algorithm is not that of the key")
	}
	return found, nil
}

// allowed returns the algorithms that any issuer may use. Where none is configured
// those of the format are: what such a token lacks is a key.
func (s Issuers) allowed() []string {
	switch {
	case len(s.list) > 0:
		return s.algs
	case len(s.profile.Algorithms) > 0:
		return s.profile.Algorithms
	}
	return algorithms
}

// signer returns who has the key that signed the token.
func (s Issuers) signer(p *parts, keys []candidate) ([]int, error) {
	alg := p.header.Alg
	for _, c := range keys {
		if !c.key.signedBy(alg, p.signed, p.signature) {
			continue
		}
		issuers := slices.DeleteFunc(slices.Clone(c.issuers), func(i int) bool { return !slices.Contains(s.list[i].Algorithms, alg) })
		if len(issuers) == 0 {
			return nil, reason.New(reason.JWTAlg, "the algorithm is not one that the issuer uses")
		}
		return issuers, nil
	}
	return nil, reason.New(reason.JWTSignature, "the signature does not verify under the configured key")
}

// issuer finds the configured issuer with that iss among those that have the key:
// with the key of one nobody speaks for another.
func (s Issuers) issuer(iss *string, signer []int) (int, error) {
	for _, i := range signer {
		if s.list[i].Issuer == "" || iss != nil && *iss == s.list[i].Issuer {
			return i, nil
		}
	}
	if iss != nil && slices.ContainsFunc(s.list, func(o Settings) bool { return o.Issuer == *iss }) {
		return 0, reason.New(reason.JWTSignature, "the key that verifies is not one of the issuer that the token names")
	}
	return 0, reason.New(reason.JWTIssuer, "the issuer is missing or not exactly a configured one")
}
