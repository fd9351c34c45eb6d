package cca

import (
	"bytes"
	"crypto/ecdsa"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MaxDocument bounds a token in bytes. Real ones are about 1.2 KiB.
const MaxDocument = cose.MaxSize

// Tags of the collection: of CCA, and of the older collection of CMW and EAT
// (draft-ffm-rats-cca-token, 6; TF-RMM writes 399), each in its shortest form.
var collections = [][]byte{{0xd9, 0x03, 0x8b}, {0xd9, 0x01, 0x8f}} // 907, 399

// Members of the collection.
const (
	memberPlatform = 44234
	memberRealm    = 44241
)

// Token is a verified token. The zero value says nothing.
type Token struct {
	platform platform
	realm    realm
	bound    bool
}

// Verify judges a token under trust. challenge is what the realm's challenge has
// to be, 64 bytes of which shorter ones are padded with zeros; without one nothing
// is compared, and the token is a bearer document. There is no time to judge at:
// neither part says when it was made, and keys have no dates.
//
// Errors, in the order of the checks: request.too_large, cose.tag (another
// collection), cbor.* and those of cose.Parse for either part, cca.key_unknown,
// cose.signature (platform), cca.binding, cose.signature (realm),
// cca.nonce_mismatch; cbor.malformed for a claim that is missing or of another
// form.
//
// A platform that is not secured is no error but a hazard of Facts.
func Verify(raw, challenge []byte, trust Trust) (Token, error) {
	if len(raw) > MaxDocument {
		return Token{}, reason.New(reason.RequestTooLarge, "the token is longer than 64 KiB")
	}
	parts, err := open(raw)
	if err != nil {
		return Token{}, err
	}
	messages, err := parse(parts)
	if err != nil {
		return Token{}, err
	}
	var t Token
	if t.platform, err = readPlatform(messages[0].Payload()); err != nil {
		return Token{}, err
	}
	if t.realm, err = readRealm(messages[1].Payload()); err != nil {
		return Token{}, err
	}
	if err := trust.verifyPlatform(messages[0], t.platform.instance); err != nil {
		return Token{}, err
	}
	if !bytes.Equal(t.platform.challenge, t.realm.keyDigest) {
		return Token{}, reason.New(reason.CCABinding, "the platform's challenge is not the hash of the realm's key")
	}
	if err := messages[1].Verify(t.realm.key); err != nil {
		return Token{}, err
	}
	if len(challenge) > 0 {
		var want [challengeSize]byte
		if copy(want[:], challenge) < len(challenge) || !bytes.Equal(t.realm.challenge, want[:]) {
			return Token{}, reason.New(reason.CCANonceMismatch, "the realm's challenge is not the one that was asked for")
		}
		t.bound = true
	}
	return t, nil
}

// open takes the two parts out of the collection.
func open(raw []byte) (map[uint64][]byte, error) {
	if _, err := cose.Elements(append([]byte{0x81}, raw...)); err != nil {
		return nil, err // one item of CBOR and nothing behind it, whatever it is
	}
	for _, tag := range collections {
		if rest, ok := bytes.CutPrefix(raw, tag); ok {
			return cose.Members(rest)
		}
	}
	return nil, reason.New(reason.COSETag, "not a collection of CCA, tag 907 or 399")
}

// parse reads the messages, platform first.
func parse(parts map[uint64][]byte) ([2]cose.Claimed, error) {
	var out [2]cose.Claimed
	for i, member := range []uint64{memberPlatform, memberRealm} {
		raw := parts[member]
		if raw == nil {
			return out, reason.New(reason.CBORMalformed, "the collection has no platform token, or no realm token")
		}
		inner, err := unwrap(raw)
		if err != nil {
			return out, err
		}
		if out[i], err = cose.Parse(inner, cose.ES384, cose.ES256); err != nil {
			return out, err
		}
	}
	if len(parts) != len(out) {
		return out, reason.New(reason.CBORMalformed, "the collection has a member that the format does not have")
	}
	return out, nil
}

// First bytes of what a message may lie in.
const (
	arrayOfTwo = 0x82
	majorBytes = 2
)

// unwrap takes a message out of a byte string, and that out of an array with the
// CoAP content format (draft-ietf-rats-msg-wrap, 3.1): 263, EAT as CWT.
func unwrap(raw []byte) ([]byte, error) {
	const formatCWT = "\x19\x01\x07"
	if raw[0] == arrayOfTwo {
		pair, err := cose.Elements(raw)
		if err != nil {
			return nil, err
		}
		if string(pair[0]) != formatCWT {
			return nil, reason.New(reason.CBORMalformed, "a part of another content format")
		}
		raw = pair[1]
	}
	if raw[0]>>5 == majorBytes {
		return cose.String(raw)
	}
	return raw, nil
}

// verifyPlatform tries the keys that may be the machine's. Which instance it is,
// the token says itself, so that the name leads to a key and proves nothing.
func (t Trust) verifyPlatform(m cose.Claimed, instance []byte) error {
	keys := t.candidates(instance)
	if len(keys) == 0 {
		return reason.New(reason.CCAKeyUnknown, "no platform key is configured for this instance")
	}
	var err error
	for _, key := range keys {
		if err = m.Verify(key); err == nil {
			return nil
		}
	}
	return err
}

// InstanceID returns the machine: 33 bytes, a UEID. The slice is the token's.
func (t Token) InstanceID() []byte { return t.platform.instance }

// Lifecycle returns the security lifecycle of the platform, 16 bits.
func (t Token) Lifecycle() uint16 { return t.platform.lifecycle }

// Measurement returns the realm's initial measurement. The slice is the token's.
func (t Token) Measurement() []byte { return t.realm.initial }

// Challenge returns the realm's challenge, 64 bytes. The slice is the token's.
func (t Token) Challenge() []byte { return t.realm.challenge }

// RealmKey returns the key that the realm token is signed by.
func (t Token) RealmKey() *ecdsa.PublicKey { return t.realm.key }
