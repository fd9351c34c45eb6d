package documenttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"time"
)

// NRAS signs tokens as NVIDIA's Remote Attestation Service does: ES384.
type NRAS struct {
	Kid string
	key *ecdsa.PrivateKey
}

// NewNRAS makes a service with a fresh key.
func NewNRAS(kid string) *NRAS { return &NRAS{kid, ecKey(elliptic.P384())} }

// Token signs claims.
func (n *NRAS) Token(claims map[string]any) string {
	text := base64.RawURLEncoding
	head := sure(json.Marshal(map[string]string{"kid": n.Kid, "alg": "ES384"}))
	signed := text.EncodeToString(head) + "." + text.EncodeToString(sure(json.Marshal(claims)))
	return signed + "." + text.EncodeToString(rawSignature(n.key, []byte(signed), sha384Of))
}

// JWKS returns the key set of the service.
func (n *NRAS) JWKS() []byte {
	point := sure(n.key.PublicKey.Bytes())[1:]
	text := base64.RawURLEncoding
	return sure(json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": n.Kid,
		"x": text.EncodeToString(point[:48]), "y": text.EncodeToString(point[48:]),
	}}}))
}

// Bundle makes the detached EAT of one good device.
func (n *NRAS) Bundle(nonce string, issued time.Time) []byte {
	tokens := map[string]string{"GPU-0": n.Token(GPUClaims(nonce, issued))}
	return DetachedEAT(n.Token(NRASOverall(nonce, issued, tokens)), tokens)
}
