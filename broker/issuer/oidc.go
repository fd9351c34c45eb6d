package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// JWKSPath is where the key set stands below the issuer's URL.
const JWKSPath = "/oidc/jwks.json"

// JWKS returns the key set for readers that know OIDC and not SPIFFE: the JWT
// keys as entries of use sig, without the CAs. Those readers refuse a key of
// use jwt-svid, and SPIFFE readers one of use sig, so that there are two
// documents. Errors as of Bundle.
func JWKS(keys []ledger.Key) ([]byte, error) {
	tokens := slices.DeleteFunc(slices.Clone(keys), func(k ledger.Key) bool { return k.Kind == KindCA })
	entries, err := keyEntries(tokens, func(k ledger.Key) (jose.JSONWebKey, error) { return tokenKey(k, "sig") })
	if err != nil {
		return nil, err
	}
	return json.Marshal(jose.JSONWebKeySet{Keys: entries})
}

// Discovery returns the document of OpenID Connect Discovery 1.0 for an issuer
// that only vouches for tokens: there is nothing to authorize at. issuerURL is
// the iss of the tokens, byte by byte, see claim.ValidIssuer.
func Discovery(issuerURL string) ([]byte, error) {
	if !claim.ValidIssuer(issuerURL) {
		return nil, fmt.Errorf("issuer %q is not an https URL without user, query, fragment and trailing slash", issuerURL)
	}
	return json.Marshal(struct {
		Issuer     string   `json:"issuer"`
		JWKS       string   `json:"jwks_uri"`
		Responses  []string `json:"response_types_supported"`
		Subjects   []string `json:"subject_types_supported"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Claims     []string `json:"claims_supported"`
	}{
		issuerURL, issuerURL + JWKSPath,
		[]string{"id_token"},
		[]string{"public"},
		[]string{string(jose.ES256), string(jose.RS256)},
		[]string{"aud", "exp", "iat", "iss", "jti", "nbf", "sub", "trust_zone"},
	})
}

func isJWT(k ledger.Key) bool { return k.Kind == KindJWTES256 || k.Kind == KindJWTRS256 }

// tokenKey reads a row and checks that it is what a JWT key of ours looks like:
// a key of another kind, or under another id, must never get in.
func tokenKey(k ledger.Key, use string) (jose.JSONWebKey, error) {
	forged := reason.New(reason.StoreRowForged, "a published key is not a token key of this trust domain")
	pub, err := x509.ParsePKIXPublicKey(k.DER)
	if err != nil {
		return jose.JSONWebKey{}, forged
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, k.DER) {
		return jose.JSONWebKey{}, forged
	}
	id, _, err := spkiIDs(k.DER)
	if err != nil || id != k.ID || k.NotAfter.Sub(k.NotBefore) > MaxCALifetime {
		return jose.JSONWebKey{}, forged
	}
	alg := jose.SignatureAlgorithm("")
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Kind == KindJWTES256 && p.Curve == elliptic.P256() {
			alg = jose.ES256
		}
	case *rsa.PublicKey:
		if k.Kind == KindJWTRS256 && p.N.BitLen() == rsaBits && p.E == 65537 {
			alg = jose.RS256
		}
	}
	if alg == "" {
		return jose.JSONWebKey{}, forged
	}
	return jose.JSONWebKey{Key: pub, KeyID: k.ID, Algorithm: string(alg), Use: use}, nil
}
