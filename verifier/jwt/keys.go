package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Limits of a key set. Microsoft's carry certificates and are the largest, about
// 100 KiB.
const (
	maxKeySet = 256 << 10
	maxKeys   = 64
	maxKeyID  = 256

	// 256 bytes are RSA-2048; the length in bits may be a few less, as the product
	// of two primes.
	minModulus, maxModulus = 256, 1024
)

// Keys are the public keys of one issuer. The zero value holds none.
type Keys struct{ list []key }

// key is one public key. id is "" for a key that stands alone and was configured
// without one: it is then tried for every token.
type key struct {
	id     string
	alg    string // the only algorithm that it may be used with, "" for any of its kind
	sign   bool   // for signatures
	public crypto.PublicKey
	print  [sha256.Size]byte // of its SubjectPublicKeyInfo
}

// Len returns the number of usable keys.
func (k Keys) Len() int { return len(k.list) }

// jwk is a key as RFC 7517 and 7518 write it. What is not listed is passed over,
// as RFC 7517 wants; private members are listed to be refused.
type jwk struct {
	Kty    string          `json:"kty"`
	Kid    string          `json:"kid"`
	Use    string          `json:"use"`
	KeyOps []string        `json:"key_ops"`
	Alg    string          `json:"alg"`
	Crv    string          `json:"crv"`
	N      string          `json:"n"`
	E      string          `json:"e"`
	X      string          `json:"x"`
	Y      string          `json:"y"`
	X5C    []string        `json:"x5c"`
	D      json.RawMessage `json:"d"`
	K      json.RawMessage `json:"k"`
}

// ParseKeys reads a JWKS, a single JWK, or a public key or certificate in PEM: at
// most 256 KiB and 64 keys, each named by its own kid unless it is the only one.
// Keys of kinds that no algorithm here uses are left out; a secret or private key
// is an error, as is a set without any usable key.
func ParseKeys(raw []byte) (Keys, error) {
	if len(raw) > maxKeySet {
		return Keys{}, errors.New("the key set is larger than 256 KiB")
	}
	if block, rest := pem.Decode(raw); block != nil {
		if next, _ := pem.Decode(rest); next != nil {
			return Keys{}, errors.New("more than one PEM block: keys without an id have to stand alone")
		}
		return pinned(block)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := strictjson.Unmarshal(raw, &set); err != nil {
		return Keys{}, fmt.Errorf("the key set: %w", err)
	}
	if set.Keys == nil { // then it is one key
		set.Keys = make([]jwk, 1)
		if err := strictjson.Unmarshal(raw, &set.Keys[0]); err != nil {
			return Keys{}, fmt.Errorf("the key: %w", err)
		}
	}
	return parseSet(set.Keys)
}

// ParseKey reads one public key as JWK: RSA of 2048 to 8192 bits, or on a curve
// that an algorithm here uses.
func ParseKey(raw []byte) (crypto.PublicKey, error) {
	var j jwk
	if len(raw) > MaxToken {
		return nil, errors.New("the key is larger than 16 KiB")
	}
	if err := strictjson.Unmarshal(raw, &j); err != nil {
		return nil, err
	}
	if len(j.D) > 0 || j.Kty != "RSA" && j.Kty != "EC" {
		return nil, errors.New("not a public key of RSA or an elliptic curve")
	}
	public, err := j.public()
	if err == nil && public == nil {
		err = errors.New("a curve that is not used here")
	}
	return public, err
}

func parseSet(set []jwk) (Keys, error) {
	if len(set) > maxKeys {
		return Keys{}, errors.New("the key set has more than 64 keys")
	}
	var out Keys
	seen := map[string]bool{}
	for i := range set {
		j := &set[i]
		if len(j.D) > 0 || len(j.K) > 0 || j.Kty == "oct" {
			return Keys{}, fmt.Errorf("key %d is a private or secret key; only public ones belong here", i)
		}
		if len(j.Kid) > maxKeyID || j.Kid == "" && len(set) > 1 || seen[j.Kid] {
			return Keys{}, fmt.Errorf("key %d has no id of its own", i)
		}
		seen[j.Kid] = true
		if j.Kty != "RSA" && j.Kty != "EC" {
			continue
		}
		public, err := j.public()
		if err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i, err)
		}
		if public == nil {
			continue
		}
		k, err := newKey(public)
		if err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i, err)
		}
		k.id, k.alg = j.Kid, j.Alg
		k.sign = (j.Use == "" || j.Use == "sig") && (j.KeyOps == nil || slices.Contains(j.KeyOps, "verify"))
		out.list = append(out.list, k)
	}
	if len(out.list) == 0 {
		return Keys{}, errors.New("the key set holds no RSA or EC key")
	}
	return out, nil
}

func newKey(public crypto.PublicKey) (key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return key{}, err
	}
	return key{sign: true, public: public, print: sha256.Sum256(der)}, nil
}

func pinned(block *pem.Block) (Keys, error) {
	var public crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY": // as openssl and API servers take it too
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		public, err = certified(block.Bytes)
	default:
		err = fmt.Errorf("a PEM block of type %q is no public key", block.Type)
	}
	if err != nil {
		return Keys{}, err
	}
	if err := allowed(public); err != nil {
		return Keys{}, err
	}
	k, err := newKey(public)
	return Keys{[]key{k}}, err
}

func certified(der []byte) (crypto.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return c.PublicKey, nil
}

// public returns nil for a curve that no algorithm here uses. A key set of
// Microsoft Azure Attestation may give a key only as certificate; the set is data
// of the operator, so the first of x5c is the key, and no chain is built.
func (j *jwk) public() (crypto.PublicKey, error) {
	if j.N == "" && j.X == "" && len(j.X5C) > 0 {
		der, err := base64.StdEncoding.DecodeString(j.X5C[0])
		if err != nil {
			return nil, errors.New("x5c is not base64")
		}
		public, err := certified(der)
		if err != nil {
			return nil, err
		}
		return public, allowed(public)
	}
	if j.Kty == "RSA" {
		n, err1 := base64.RawURLEncoding.DecodeString(j.N)
		e, err2 := base64.RawURLEncoding.DecodeString(j.E)
		if err1 != nil || err2 != nil || len(e) > 4 {
			return nil, errors.New("modulus or exponent is not that of an RSA key")
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		return public, allowed(public)
	}
	curve, ok := curves[j.Crv]
	if !ok {
		return nil, nil
	}
	size := (curve.Params().BitSize + 7) / 8
	x, err1 := base64.RawURLEncoding.DecodeString(j.X)
	y, err2 := base64.RawURLEncoding.DecodeString(j.Y)
	if err1 != nil || err2 != nil || len(x) != size || len(y) != size {
		return nil, errors.New("the coordinates are not those of the curve")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// allowed refuses keys that are weak or of another kind.
func allowed(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if size := k.Size(); size < minModulus || size > maxModulus {
			return errors.New("an RSA key has to have 2048 to 8192 bits")
		}
		if k.E < 3 || k.E&1 == 0 {
			return errors.New("the public exponent is not odd and at least 3")
		}
		return nil
	case *ecdsa.PublicKey:
		if _, ok := curves[k.Params().Name]; ok {
			return nil
		}
	}
	return errors.New("the key is neither RSA nor on P-256, P-384 or P-521")
}

// fits reports whether the key may be used with an algorithm: of its kind, of its
// curve, and the one that the key set names, if it does.
func (k *key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	if public, ok := k.public.(*ecdsa.PublicKey); ok {
		return ecAlgorithms[public.Params().Name] == alg
	}
	return alg[0] != 'E'
}

// ecAlgorithms: RFC 7518, 3.4.
var ecAlgorithms = map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
