package cose_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestDecodeChecks: whatever an endless array is filled with counts, and so does an
// empty array that is one level too deep.
func TestDecodeChecks(t *testing.T) {
	endless := func(n int, item ...byte) []byte {
		return slices.Concat([]byte{0xa1, 0x01, 0x9f}, bytes.Repeat(item, n), []byte{0xff})
	}
	for name, c := range map[string]struct {
		in   []byte
		want reason.Code
	}{
		"false":                     {[]byte{0xa1, 0x01, 0xf4}, ""},
		"one in an endless array":   {endless(1, 0x40), ""},
		"64 endless strings":        {endless(64, 0x40), ""},
		"65 endless strings":        {endless(65, 0x40), reason.CBORLimit},
		"65 endless empty arrays":   {endless(65, 0x80), reason.CBORLimit},
		"65 endless endless arrays": {endless(65, 0x9f, 0xff), reason.CBORLimit},
		"an empty array nine deep":  {append(append([]byte{0xa1, 0x01}, bytes.Repeat([]byte{0x81}, 7)...), 0x80), reason.CBORLimit},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cose.Decode(c.in); reason.Of(err) != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := cose.Parse(nil, cose.ES256); reason.Of(err) != reason.CBORTruncated {
		t.Errorf("nothing: %v", err)
	}
}

// TestKeyOfAnotherCurve: a key on P-256 can make a signature that is as long as
// ES384 wants it, and would weaken it.
func TestKeyOfAnotherCurve(t *testing.T) {
	key := newKey(t, elliptic.P256())
	protected := map[any]any{1: -35}
	sum := sha512.Sum384(documenttest.SigStructure(documenttest.Encode(protected), []byte{0}))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	m, err := cose.Parse(documenttest.Sign1{Protected: protected, Payload: []byte{0}, Signature: sig}.Bytes(), cose.ES384)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(&key.PublicKey); reason.Of(err) != reason.COSESignature {
		t.Errorf("got %v", err)
	}
}
