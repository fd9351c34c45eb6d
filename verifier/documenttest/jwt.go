package documenttest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"sync"
)

// Claims are the members of a token or of a trust object.
type Claims map[string]any

// With returns a copy in which some members are others; nil removes one.
func (c Claims) With(more Claims) Claims {
	out := maps.Clone(c)
	for name, v := range more {
		if v == nil {
			delete(out, name)
			continue
		}
		out[name] = v
	}
	return out
}

// JWTKey signs tokens, as an issuer does.
type JWTKey struct {
	Kid, Alg string
	private  crypto.Signer
}

// rsaKeys are made once a process: a key takes longer than all else in a test.
var rsaKeys = struct {
	sync.Mutex
	byKid map[string]*rsa.PrivateKey
}{byKid: map[string]*rsa.PrivateKey{}}

// NewJWTKey returns the key of that id for RS256, RS384, RS512, PS256 or ES256: of
// RSA the same one each time in a process, of ES256 a new one.
func NewJWTKey(kid, alg string) *JWTKey {
	if alg == "ES256" {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		return &JWTKey{kid, alg, k}
	}
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if rsaKeys.byKid[kid] == nil {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		must(err)
		rsaKeys.byKid[kid] = k
	}
	return &JWTKey{kid, alg, rsaKeys.byKid[kid]}
}

// must: randomness and encoding of what this package makes do not fail.
func must(err error) {
	if err != nil {
		panic("documenttest: " + err.Error())
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// Signer returns the private key.
func (k *JWTKey) Signer() crypto.Signer { return k.private }

// Token signs claims under a header of typ, alg and kid.
func (k *JWTKey) Token(c Claims) []byte { return k.Raw(k.Header(), encode(c)) }

// Header returns the header of the key's tokens.
func (k *JWTKey) Header() Claims {
	h := Claims{"typ": "JWT", "alg": k.Alg}
	if k.Kid != "" {
		h["kid"] = k.Kid
	}
	return h
}

// Raw signs any bytes as claims under any header: for what no issuer would write.
// The signature is one of the key's own algorithm, whatever the header says.
func (k *JWTKey) Raw(header Claims, payload []byte) []byte {
	signed := b64(encode(header)) + "." + b64(payload)
	return []byte(signed + "." + b64(k.Sign([]byte(signed))))
}

// Sign returns the signature of JWS over a message (RFC 7518, 3.3 to 3.5).
func (k *JWTKey) Sign(message []byte) []byte {
	hash, digest := crypto.SHA256, sum256(message)
	switch k.Alg {
	case "RS384":
		d := sha512.Sum384(message)
		hash, digest = crypto.SHA384, d[:]
	case "RS512":
		d := sha512.Sum512(message)
		hash, digest = crypto.SHA512, d[:]
	case "PS256":
		sig, err := k.private.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
		must(err)
		return sig
	case "ES256":
		private, _ := k.private.(*ecdsa.PrivateKey)
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		must(err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	sig, err := k.private.Sign(rand.Reader, digest, hash)
	must(err)
	return sig
}

func sum256(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// JWK returns the public key as its issuer publishes it.
func (k *JWTKey) JWK() Claims {
	out := Claims{"use": "sig"}
	if k.Kid != "" {
		out["kid"] = k.Kid
	}
	switch public := k.private.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		must(err)
		out["kty"], out["crv"], out["x"], out["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	}
	return out
}

// JWKS returns a key set.
func JWKS(keys ...Claims) []byte { return encode(Claims{"keys": keys}) }

// JWTObject returns a trust object jwks/<name> of an issuer; more are the members
// that its format reads beside the common ones, nil for none.
func JWTObject(format, issuer string, more Claims, keys ...Claims) []byte {
	return encode(Claims{"format": format, "issuer": issuer, "jwks": Claims{"keys": keys}}.With(more))
}

// Payload returns the claims of a token as they were signed.
func Payload(token []byte) []byte {
	parts := bytes.Split(token, []byte{'.'})
	out, err := base64.RawURLEncoding.DecodeString(string(parts[1]))
	must(err)
	return out
}
