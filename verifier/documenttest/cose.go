package documenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// Labels and algorithms of COSE headers (RFC 9052, 3.1; RFC 9053, 2.1).
const (
	HeaderAlg  = 1
	HeaderCrit = 2
	AlgES256   = -7
	AlgES384   = -35
)

// Sign1 is a COSE_Sign1 message to be. Each part can be made wrong.
type Sign1 struct {
	Protected   map[any]any // nil: the algorithm of Key
	Unprotected map[any]any
	Payload     []byte
	Key         *ecdsa.PrivateKey
	Tag         bool // write tag 18
	// Signature is written in place of the one by Key.
	Signature []byte
}

// Bytes signs and encodes the message.
func (m Sign1) Bytes() []byte {
	protected := Encode(m.protected())
	signature := m.Signature
	if signature == nil {
		signature = SignRaw(m.Key, SigStructure(protected, m.Payload))
	}
	unprotected := m.Unprotected
	if unprotected == nil {
		unprotected = map[any]any{}
	}
	out := Encode([]any{protected, unprotected, m.Payload, signature})
	if m.Tag {
		return append([]byte{0xd2}, out...)
	}
	return out
}

func (m Sign1) protected() map[any]any {
	if m.Protected != nil {
		return m.Protected
	}
	if m.Key != nil && m.Key.Curve == elliptic.P256() {
		return map[any]any{HeaderAlg: AlgES256}
	}
	return map[any]any{HeaderAlg: AlgES384}
}

// SigStructure is what is signed (RFC 9052, 4.4).
func SigStructure(protected, payload []byte) []byte {
	return Encode([]any{"Signature1", protected, []byte{}, payload})
}

// SignRaw signs with the hash that belongs to the curve and returns r and s one
// behind the other.
func SignRaw(key *ecdsa.PrivateKey, message []byte) []byte {
	hash, size := crypto.SHA384, (key.Curve.Params().BitSize+7)/8
	if key.Curve == elliptic.P256() {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
	if err != nil {
		panic(err) // the system's randomness failed
	}
	return slices.Concat(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size)))
}

// raw is CBOR that stands as it is.
func raw(b []byte) any { return cbor.RawMessage(b) }

// Encode writes v in canonical CBOR; map keys are ordered, so equal content is
// equal bytes.
func Encode(v any) []byte {
	b, err := canonical.Marshal(v)
	if err != nil {
		panic(err) // a test gave what CBOR cannot hold
	}
	return b
}

var canonical = func() cbor.EncMode {
	mode, err := cbor.CanonicalEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()
