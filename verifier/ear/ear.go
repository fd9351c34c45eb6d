package ear

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MaxAge is how old a result without expiry may be: Trustee gives five minutes,
// Veraison none.
const MaxAge = 5 * time.Minute

// Profile is what the format says of its issuers. Results name no issuer by iss
// unless the verifier is configured with one; the key says whose they are.
var Profile = jwt.Profile{
	Format: "ear", Algorithms: []string{"ES256", "ES384", "PS384", "RS256"}, MaxLifetime: time.Hour, MaxAge: MaxAge,
	Anonymous: true, Members: []string{"audience", "submods"},
}

// PartSignature is the part that proves possession of the key that a result of
// Trustee is bound to: over the SHA-256 of the bound value, ECDSA in ASN.1 or
// RSASSA-PSS with a salt of 32 bytes.
const PartSignature = "signature"

// maxSignature: RSA-8192.
const maxSignature = 1024

// Tiers (draft-ietf-rats-ar4si, 3.2): only affirming counts, and a warning counts
// where a zone says so.
const (
	statusAffirming = 2
	statusWarning   = 32
)

// statusUnknown is what is no tier: another name, null, a fraction.
const statusUnknown = -1

// statuses are the tiers by name.
var statuses = map[string]int{
	"none": 0, "affirming": statusAffirming, "warning": statusWarning, "contraindicated": 96, "unknown": statusUnknown,
}

// Result is a verified result. The zero value says nothing.
type Result struct {
	token  jwt.Token
	claims claims
	byKey  bool // bound by possession of the key in it, not by nonce
	bearer bool // bound to nothing: nobody said by what
}

type claims struct {
	Profile  string               `json:"eat_profile"`
	Nonce    nonces               `json:"eat_nonce"`
	Verifier identity             `json:"ear.verifier-id"`
	Submods  map[string]submodule `json:"submods"`
}

type identity struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

type submodule struct {
	Status   status `json:"ear.status"`
	Policy   string `json:"ear.appraisal-policy-id"`
	Evidence struct {
		Runtime struct {
			Key json.RawMessage `json:"tee-pubkey"`
		} `json:"runtime_data_claims"`
	} `json:"ear.veraison.annotated-evidence"`
}

// status is a tier by number or name; a submodule without one reads as none, and
// what is no tier at all as none that counts.
type status int

// UnmarshalJSON implements json.Unmarshaler.
func (s *status) UnmarshalJSON(b []byte) error {
	*s = statusUnknown
	if tier, err := strconv.Atoi(string(b)); err == nil {
		*s = status(tier)
		return nil
	}
	var name string
	if json.Unmarshal(b, &name) == nil {
		if tier, ok := statuses[name]; ok {
			*s = status(tier)
		}
	}
	return nil
}

// nonces are one or a list (RFC 9711, 4.1).
type nonces []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *nonces) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*n = make(nonces, 1)
		return json.Unmarshal(b, &(*n)[0])
	}
	return json.Unmarshal(b, (*[]string)(n))
}

// Expect is what binds a result to a challenge. Without Nonce and Signature nothing
// does, and the result is judged as a bearer document.
type Expect struct {
	// Nonce that has to stand in eat_nonce.
	Nonce string
	// Bound and Signature prove possession of the key in the result instead, where
	// it has no eat_nonce; Signature is nil where none came along.
	Bound     [32]byte
	Signature []byte
	IssuedAt  time.Time // of the challenge; zero: not compared
}

// Verify judges a result.
//
// Errors: request.too_large; those of package jwt; ear.nonce_mismatch where
// neither eat_nonce is the one asked for nor the key in the result signed the bound
// value; ear.status where a submodule that counts is missing or neither affirming
// nor a warning, which is a hazard of that code. All count, unless the verifier is
// configured with those that do.
func Verify(raw []byte, want Expect, verifiers jwt.Issuers, now time.Time) (Result, error) {
	if len(want.Signature) > maxSignature {
		return Result{}, reason.New(reason.RequestTooLarge, "the signature is longer than 1024 bytes")
	}
	// A result that is bound by its key may be older than the challenge: the key
	// that it is about answers the challenge itself.
	issued := want.IssuedAt
	if want.Signature != nil {
		issued = time.Time{}
	}
	token, err := verifiers.Verify(raw, jwt.Expect{NoAudience: true, IssuedAt: issued}, now)
	if err != nil {
		return Result{}, err
	}
	out := Result{token: token}
	if err := token.Decode(&out.claims); err != nil {
		return Result{}, err
	}
	if err := out.checkBinding(want); err != nil {
		return Result{}, err
	}
	if err := out.checkStatus(); err != nil {
		return Result{}, err
	}
	return out, nil
}

func (r *Result) checkBinding(want Expect) error {
	if want.Nonce == "" && want.Signature == nil {
		r.bearer = true
		return nil
	}
	n := r.claims.Nonce
	if want.Nonce != "" && len(n) == 1 && n[0] == want.Nonce {
		return nil
	}
	if len(n) > 0 || !signed(r.boundKey(), want.Bound, want.Signature) {
		return reason.New(reason.EARNonceMismatch, "eat_nonce is missing or another one, and no key that the result is bound to signed the challenge")
	}
	r.byKey = true
	return nil
}

// boundKey returns the key that all submodules which name one name, nil for none:
// Trustee's runtime data, whose digest the hardware report carries.
func (r *Result) boundKey() crypto.PublicKey {
	var found json.RawMessage
	for _, name := range slices.Sorted(maps.Keys(r.claims.Submods)) {
		key := r.claims.Submods[name].Evidence.Runtime.Key
		if len(key) == 0 {
			continue
		}
		if found != nil && !bytes.Equal(found, key) {
			return nil
		}
		found = key
	}
	key, err := jwt.ParseKey(found)
	if err != nil {
		return nil
	}
	return key
}

func signed(key crypto.PublicKey, bound [32]byte, signature []byte) bool {
	digest := sha256.Sum256(bound[:])
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest[:], signature)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return false
}

// required returns the names of the submodules that count.
func (r *Result) required() []string {
	if required := r.token.Issuer().Submods; len(required) > 0 {
		return required
	}
	return slices.Sorted(maps.Keys(r.claims.Submods))
}

func (r *Result) checkStatus() error {
	required := r.required()
	if len(required) == 0 {
		return reason.New(reason.EARStatus, "the result has no submodules")
	}
	for _, name := range required {
		if s := r.claims.Submods[name].Status; s != statusAffirming && s != statusWarning {
			return reason.Newf(reason.EARStatus, "submodule %.40q is missing or not affirming", name)
		}
	}
	return nil
}

// Facts returns what the result proved: class B, and C where it was bound to
// nothing. The other verifier saw what the hardware signed; this one has its word.
func (r Result) Facts() document.Facts {
	if len(r.claims.Submods) == 0 {
		return document.Facts{}
	}
	f := document.Facts{
		Class: document.ClassB, NonceBound: true, KeyBound: true, IssuedAt: r.token.IssuedAt(), ExpiresAt: r.token.ExpiresAt(),
	}
	if r.bearer {
		f.Class, f.NonceBound, f.KeyBound = document.ClassC, false, false
	}
	verifier := r.token.Issuer().Name
	f.Own(document.OwnerEARIssuer, verifier)
	f.Add("ear.verifier", verifier)
	f.Add("ear.verifier_developer", r.claims.Verifier.Developer)
	f.Add("ear.verifier_build", r.claims.Verifier.Build)
	f.Add("ear.profile", r.claims.Profile)
	for _, name := range slices.Sorted(maps.Keys(r.claims.Submods)) {
		s := r.claims.Submods[name]
		f.Add("ear.submod", name+"="+s.Status.String())
		f.Add("ear.policy", s.Policy)
	}
	f.Sort()
	f.Pass("ear.signature", "signed by verifier "+strconv.Quote(verifier))
	switch {
	case r.bearer:
	case r.byKey:
		f.Pass("ear.key", "the key that the result is bound to signed the challenge")
	default:
		f.Pass("ear.nonce", "eat_nonce carries the challenge")
	}
	warned := false
	for _, name := range r.required() {
		if r.claims.Submods[name].Status == statusWarning {
			f.Fear(reason.EARStatus, "submodule "+strconv.Quote(name)+" is a warning")
			warned = true
		}
	}
	if !warned {
		f.Pass("ear.status", "every submodule that counts is affirming")
	}
	return f
}

// String returns the tier's name, or its number.
func (s status) String() string {
	for name, tier := range statuses {
		if tier == int(s) {
			return name
		}
	}
	return strconv.Itoa(int(s))
}

// NewIssuers is jwt.NewIssuers for Profile.
func NewIssuers(s []jwt.Settings) (jwt.Issuers, error) { return jwt.NewIssuers(Profile, s) }
