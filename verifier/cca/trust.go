package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Limits of the configuration.
const (
	maxObject = 16 << 10
	// maxAny bounds the keys without an instance: each of them may be tried on a
	// stranger's token, and a signature of P-384 costs most of a millisecond.
	maxAny = 16
)

// Trust is the configured platform keys (CPAK, Initial Attestation Key). The zero
// value trusts nobody.
type Trust struct {
	any      []*ecdsa.PublicKey
	instance map[string]*ecdsa.PublicKey // by instance id, hex
}

// Object is a platform key as it is stored: its name and PEM ("PUBLIC KEY") or a
// JWK of type EC, P-256 or P-384. Under a name whose last part, without what
// follows a dot, is an instance id in hex (66 digits) the key is that machine's
// alone; under any other name it may be any machine's.
type Object struct {
	Name string
	Data []byte
}

// NewTrust reads platform keys; an error names the object.
func NewTrust(objects ...Object) (Trust, error) {
	t := Trust{instance: map[string]*ecdsa.PublicKey{}}
	for _, o := range objects {
		key, err := parseKey(o.Data)
		if err != nil {
			return Trust{}, fmt.Errorf("CCA platform key %s: %w", o.Name, err)
		}
		id, _, _ := strings.Cut(path.Base(o.Name), ".")
		if b, err := hex.DecodeString(id); err != nil || len(b) != instanceSize {
			t.any = append(t.any, key)
			continue
		}
		id = strings.ToLower(id)
		if t.instance[id] != nil {
			return Trust{}, fmt.Errorf("CCA platform key %s: a second key of the instance", o.Name)
		}
		t.instance[id] = key
	}
	if len(t.any) > maxAny {
		return Trust{}, fmt.Errorf("CCA platform keys: more than %d without an instance id as their name", maxAny)
	}
	return t, nil
}

// Len returns the number of keys.
func (t Trust) Len() int { return len(t.any) + len(t.instance) }

// candidates are the keys that a token of an instance may be signed by.
func (t Trust) candidates(instance []byte) []*ecdsa.PublicKey {
	if key := t.instance[hex.EncodeToString(instance)]; key != nil {
		return []*ecdsa.PublicKey{key}
	}
	return t.any
}

func parseKey(b []byte) (*ecdsa.PublicKey, error) {
	if len(b) > maxObject {
		return nil, errors.New("larger than 16 KiB")
	}
	b = bytes.TrimSpace(b)
	if bytes.HasPrefix(b, []byte("{")) {
		return parseJWK(b)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("neither one public key in PEM nor a JWK")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return nil, errors.New("not a key of P-256 or P-384")
	}
	return key, nil
}

// parseJWK reads a public EC key (RFC 7517; RFC 7518, 6.2), with the members that
// key tools export beside it. A private part is refused: a key that lies in a trust
// store is no platform's any more.
func parseJWK(b []byte) (*ecdsa.PublicKey, error) {
	var k struct {
		Kty, Crv, X, Y, D, Kid, Alg, Use string

		Ops         []string `json:"key_ops"`
		Extractable bool     `json:"ext"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&k); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the JWK")
	}
	if k.Kty != "EC" || k.D != "" || k.Use != "" && k.Use != "sig" || len(k.Ops) > 0 && !slices.Contains(k.Ops, "verify") {
		return nil, errors.New("not the public JWK of an EC key for signatures")
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}[k.Crv]
	if curve == nil {
		return nil, errors.New("not a key of P-256 or P-384")
	}
	x, err1 := base64.RawURLEncoding.DecodeString(k.X)
	y, err2 := base64.RawURLEncoding.DecodeString(k.Y)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return point(curve, x, y)
}

// point makes a key of coordinates in the full size of the curve.
func point(curve elliptic.Curve, x, y []byte) (*ecdsa.PublicKey, error) {
	size := (curve.Params().BitSize + 7) / 8
	if len(x) != size || len(y) != size {
		return nil, errors.New("a coordinate does not have the size of the curve")
	}
	return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
}
