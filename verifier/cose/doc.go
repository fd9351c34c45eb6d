// Package cose reads COSE_Sign1 messages (RFC 9052, 4.2) in CBOR (RFC 8949) as
// attestation documents use them, and nothing else of either format: one signer,
// ES256 or ES384 named by the protected header, content inside.
//
// Bytes are walked once before any decoder sees them, so that what a stranger
// claims (depth, counts, lengths) costs nothing. The decoder refuses tags,
// floats, duplicate keys and bytes behind the item.
//
// It trusts nobody: which key a message has to verify under is the caller's part.
package cose
