package documenttest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
)

// Members and claims of CCA that tests change (draft-ffm-rats-cca-token, 4 and 6).
const (
	CCAPlatform = 44234
	CCARealm    = 44241

	CCAChallenge  = 10
	CCAInstance   = 256
	CCAProfile    = 265
	CCALifecycle  = 2395
	CCARealmKey   = 44237
	CCAKeyHash    = 44240
	CCATag        = 907
	CCATagOlder   = 399
	ccaContentCWT = 263
)

// CCAMachine is a machine with its platform key.
type CCAMachine struct {
	Key      *ecdsa.PrivateKey
	Instance []byte // 33 bytes
}

// NewCCAMachine makes one with a key of curve.
func NewCCAMachine(curve elliptic.Curve) (*CCAMachine, error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	return &CCAMachine{key, append([]byte{1}, bytes.Repeat([]byte{0x42}, 32)...)}, err
}

// PEM is the platform key as an operator would import it.
func (m *CCAMachine) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(&m.Key.PublicKey)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}

// CCAFields is a token to be. The zero value is a token of the present profile
// with a challenge of zeros.
type CCAFields struct {
	Challenge []byte // 64 bytes
	Legacy    bool   // the profile before names, and tag 399
	Bare      bool   // messages stand in the collection as they are
	Wrapped   bool   // in an array with their content format

	// What follows makes a token wrong.
	Platform, Realm    func(claims map[any]any)
	PlatformMessage    func(*Sign1)
	RealmMessage       func(*Sign1)
	RealmSigner        *ecdsa.PrivateKey // in place of the realm's key
	RealmCurve         elliptic.Curve
	Collection         func(map[any]any)
	PlatformBeforeHash func(rak []byte) []byte // what the platform hashes
}

// Token makes a token of a new realm on the machine.
func (m *CCAMachine) Token(f CCAFields) ([]byte, error) {
	curve := f.RealmCurve
	if curve == nil {
		curve = elliptic.P384()
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	rak, err := realmKey(key, f.Legacy)
	if err != nil {
		return nil, err
	}
	realm, hashed := f.realm(rak), rak
	if f.PlatformBeforeHash != nil {
		hashed = f.PlatformBeforeHash(rak)
	}
	digest := sha256.Sum256(hashed)
	platform := m.platform(&f, digest[:])
	if f.Realm != nil {
		f.Realm(realm)
	}
	if f.Platform != nil {
		f.Platform(platform)
	}
	if f.RealmSigner != nil {
		key = f.RealmSigner
	}
	return f.collect(
		message(Sign1{Payload: Encode(platform), Key: m.Key, Tag: true}, f.PlatformMessage),
		message(Sign1{Payload: Encode(realm), Key: key, Tag: true}, f.RealmMessage),
	), nil
}

func message(m Sign1, change func(*Sign1)) []byte {
	if change != nil {
		change(&m)
	}
	return m.Bytes()
}

// realmKey writes a key as a point, or as a COSE_Key.
func realmKey(key *ecdsa.PrivateKey, legacy bool) ([]byte, error) {
	raw, err := key.PublicKey.Bytes()
	if err != nil || legacy {
		return raw, err
	}
	size := (len(raw) - 1) / 2
	return Encode(map[any]any{1: 2, -1: 2, -2: raw[1 : 1+size], -3: raw[1+size:]}), nil
}

func (f *CCAFields) realm(rak []byte) map[any]any {
	challenge := f.Challenge
	if challenge == nil {
		challenge = make([]byte, 64)
	}
	measured := bytes.Repeat([]byte{0x51}, 32)
	claims := map[any]any{
		CCAChallenge: challenge, 44235: bytes.Repeat([]byte{0x50}, 64), 44236: "sha-256", CCARealmKey: rak,
		44238: measured, 44239: []any{bytes.Repeat([]byte{0x52}, 32), make([]byte, 32), make([]byte, 32), make([]byte, 32)}, CCAKeyHash: "sha-256",
	}
	if !f.Legacy {
		claims[CCAProfile] = "tag:arm.com,2023:realm#1.0.0"
	}
	return claims
}

func (m *CCAMachine) platform(f *CCAFields, challenge []byte) map[any]any {
	profile := "tag:arm.com,2023:cca_platform#1.0.0"
	if f.Legacy {
		profile = "http://arm.com/CCA-SSD/1.0.0"
	}
	part := func(name string, b byte) map[any]any {
		return map[any]any{1: name, 2: bytes.Repeat([]byte{b}, 32), 4: "1.0", 5: bytes.Repeat([]byte{b + 1}, 32)}
	}
	return map[any]any{
		CCAProfile: profile, CCAChallenge: challenge, CCAInstance: m.Instance, 2396: bytes.Repeat([]byte{0x60}, 32),
		2401: []byte{1, 2, 3}, 2402: "sha-256", CCALifecycle: 0x3003, 2399: []any{part("BL", 0x61), part("RMM", 0x63)},
	}
}

// collect puts the messages into the tagged map.
func (f *CCAFields) collect(platform, realm []byte) []byte {
	put := func(b []byte) any {
		var item any = b
		if f.Bare {
			item = raw(b)
		}
		if f.Wrapped {
			return []any{ccaContentCWT, item}
		}
		return item
	}
	members := map[any]any{CCAPlatform: put(platform), CCARealm: put(realm)}
	if f.Collection != nil {
		f.Collection(members)
	}
	tag := []byte{0xd9, CCATag >> 8, CCATag & 0xff}
	if f.Legacy {
		tag = []byte{0xd9, CCATagOlder >> 8, CCATagOlder & 0xff}
	}
	return append(tag, Encode(members)...)
}
