package verifier

import (
	"crypto/sha256"
	"encoding/binary"
)

// Binding returns what the evidence must be bound to: the 32 bytes that stand in
// TPM qualifyingData, in the first half of REPORT_DATA, in user_data.
//
//	SHA-256("zonebroker-bind-v1" ‖ lp(nonce) ‖ lp(SHA-256(spki)) ‖ lp(trustDomain)
//	        ‖ lp(purpose) ‖ lp(format) ‖ lp(context))
//
// where lp is a 4-byte big-endian length and the bytes (design, section 4).
// spkiDER is the SubjectPublicKeyInfo of the key that asks for the SVID; context
// is empty or the SHA-256 of a relying party's nonce. Every member is length
// prefixed, so no two different inputs have the same preimage: evidence made for
// one key, purpose, format or trust domain cannot be used for another.
func Binding(nonce, spkiDER []byte, trustDomain, purpose, format string, context []byte) [32]byte {
	key := sha256.Sum256(spkiDER)
	h := sha256.New()
	h.Write([]byte("zonebroker-bind-v1"))
	for _, part := range [][]byte{nonce, key[:], []byte(trustDomain), []byte(purpose), []byte(format), context} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(part)))
		h.Write(n[:])
		h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}
