package documenttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
)

// sure is for what no input of a maker can make fail: fresh keys, encodings of
// values that are written here.
func sure[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ecKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	return sure(ecdsa.GenerateKey(curve, rand.Reader))
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func sha256Of(b []byte) []byte { h := sha256.Sum256(b); return h[:] }

// rawSignature signs into r ‖ s, big-endian, each as long as the curve's order.
func rawSignature(key *ecdsa.PrivateKey, message []byte, hash func([]byte) []byte) []byte {
	r, s, err := ecdsa.Sign(rand.Reader, key, hash(message))
	if err != nil {
		panic(err)
	}
	n := (key.Curve.Params().N.BitLen() + 7) / 8
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out
}

func sha384Of(b []byte) []byte { h := sha512.Sum384(b); return h[:] }
