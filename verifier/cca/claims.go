package cca

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // hashes that claims name
	_ "crypto/sha512"
	"math"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Claims (draft-ffm-rats-cca-token, 4; RFC 9711 for 10, 256 and 265).
const (
	claimChallenge = uint64(10)
	claimInstance  = uint64(256)
	claimProfile   = uint64(265)

	claimLifecycle      = uint64(2395)
	claimImplementation = uint64(2396)
	claimComponents     = uint64(2399)
	claimConfig         = uint64(2401)
	claimHash           = uint64(2402)

	claimRPV        = uint64(44235)
	claimRealmHash  = uint64(44236)
	claimKey        = uint64(44237)
	claimInitial    = uint64(44238)
	claimExtensible = uint64(44239)
	claimKeyHash    = uint64(44240)
)

// Profiles: of the draft, and of the releases before it. A realm token of those
// has none.
const (
	profilePlatform = "tag:arm.com,2023:cca_platform#1.0.0"
	profileRealm    = "tag:arm.com,2023:realm#1.0.0"
	profileLegacy   = "http://arm.com/CCA-SSD/1.0.0"
)

// Sizes in bytes, of the same source.
const (
	instanceSize       = 33 // UEID of type RAND: 0x01 and 32 bytes
	instanceType       = 1
	implementationSize = 32
	challengeSize      = 64
	personalSize       = 64
	extensibleCount    = 4
	maxConfig          = 256
	maxComponents      = 32
	maxKey             = 256
)

type platform struct {
	profile                                     string
	challenge, instance, implementation, config []byte
	lifecycle                                   uint16
	components                                  []component
}

// component is a measured part of the platform's firmware.
type component struct{ measurement, signer []byte }

type realm struct {
	challenge, personal, initial []byte
	extensible                   [][]byte
	key                          *ecdsa.PublicKey
	keyDigest                    []byte // what the platform's challenge has to be
}

// hashes by their names in the IANA registry of named information.
var hashes = map[string]crypto.Hash{"sha-256": crypto.SHA256, "sha-384": crypto.SHA384, "sha-512": crypto.SHA512}

func missing(claim string) error {
	return reason.Newf(reason.CBORMalformed, "claim %s is missing, or of another size or value", claim)
}

func readPlatform(payload []byte) (platform, error) {
	claims, err := cose.Decode(payload)
	if err != nil {
		return platform{}, err
	}
	var p platform
	if p.profile, err = claims.Text(claimProfile); err != nil {
		return p, err
	}
	if p.profile != profilePlatform && p.profile != profileLegacy {
		return p, missing("profile")
	}
	r := reader{claims: claims}
	p.challenge = r.bytes(claimChallenge, "challenge", 32, challengeSize)
	p.instance = r.bytes(claimInstance, "instance id", instanceSize, instanceSize)
	p.implementation = r.bytes(claimImplementation, "implementation id", implementationSize, implementationSize)
	p.config = r.bytes(claimConfig, "config", 1, maxConfig)
	r.hash(claimHash, "hash algorithm")
	lifecycle, ok, err := claims.Unsigned(claimLifecycle)
	if err != nil {
		return p, err
	}
	if !ok || lifecycle > math.MaxUint16 {
		return p, missing("lifecycle")
	}
	p.lifecycle = uint16(lifecycle)
	if r.err == nil && p.instance[0] != instanceType {
		return p, missing("instance id")
	}
	p.components = r.components()
	return p, r.err
}

// reader takes claims and keeps the first error.
type reader struct {
	claims cose.Map
	err    error
}

// bytes reads a byte string of least to most bytes.
func (r *reader) bytes(key uint64, name string, least, most int) []byte {
	b, err := r.claims.Bytes(key)
	if err == nil && (len(b) < least || len(b) > most) {
		err = missing(name)
	}
	if r.err == nil {
		r.err = err
	}
	return b
}

func (r *reader) hash(key uint64, name string) crypto.Hash {
	text, err := r.claims.Text(key)
	h, ok := hashes[text]
	if err == nil && !ok {
		err = missing(name)
	}
	if r.err == nil {
		r.err = err
	}
	return h
}

// Members of a software component (draft-ffm-rats-cca-token, 4.6.1). Name,
// version and hash algorithm are left alone: signers and measurements are what
// can be compared.
const (
	componentMeasurement = uint64(2)
	componentSigner      = uint64(5)
)

func (r *reader) components() []component {
	list, err := r.claims.Array(claimComponents)
	if err == nil && (len(list) == 0 || len(list) > maxComponents) {
		err = missing("software components")
	}
	if r.err == nil {
		r.err = err
	}
	if r.err != nil {
		return nil
	}
	out := make([]component, len(list))
	for i, v := range list {
		m, ok := v.(map[any]any)
		if !ok {
			r.err = missing("software components")
			return nil
		}
		one := reader{claims: m}
		out[i].measurement = one.bytes(componentMeasurement, "measurement of a component", 32, 64)
		out[i].signer = one.bytes(componentSigner, "signer of a component", 32, 64)
		if one.err != nil {
			r.err = one.err
			return nil
		}
	}
	return out
}

func readRealm(payload []byte) (realm, error) {
	claims, err := cose.Decode(payload)
	if err != nil {
		return realm{}, err
	}
	var out realm
	r := reader{claims: claims}
	out.challenge = r.bytes(claimChallenge, "realm challenge", challengeSize, challengeSize)
	out.personal = r.bytes(claimRPV, "personalization value", personalSize, personalSize)
	out.initial = r.bytes(claimInitial, "initial measurement", 32, 64)
	r.hash(claimRealmHash, "realm hash algorithm")
	h := r.hash(claimKeyHash, "hash algorithm of the realm's key")
	raw := r.bytes(claimKey, "realm key", 1, maxKey)
	extensible, err := claims.Array(claimExtensible)
	if r.err != nil || err != nil {
		return out, cmp.Or(r.err, err)
	}
	if len(extensible) != extensibleCount {
		return out, missing("extensible measurements")
	}
	for _, v := range extensible {
		b, ok := v.([]byte)
		if !ok || len(b) != len(out.initial) {
			return out, missing("extensible measurements")
		}
		out.extensible = append(out.extensible, b)
	}
	if out.key, err = realmKey(claims, raw); err != nil {
		return out, err
	}
	digest := h.New()
	digest.Write(raw) // the claim as it stands, in either profile
	out.keyDigest = digest.Sum(nil)
	return out, nil
}

// realmKey reads the key that signs the realm token, of P-384 always: a point
// before profiles were named, a COSE_Key since.
func realmKey(claims cose.Map, raw []byte) (*ecdsa.PublicKey, error) {
	profile, err := claims.Text(claimProfile)
	if err != nil {
		return nil, err
	}
	switch profile {
	case "", profileLegacy:
	case profileRealm:
		if raw, err = coseKey(raw); err != nil {
			return nil, err
		}
	default:
		return nil, missing("realm profile")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), raw)
	if err != nil {
		return nil, reason.Wrap(reason.CBORMalformed, "the realm's key is no point of P-384", err)
	}
	return key, nil
}

// coseKey returns the point of a key of type EC2 on P-384 (RFC 9052, 7; RFC 9053,
// 7.1.1).
func coseKey(raw []byte) ([]byte, error) {
	const (
		labelType      = uint64(1)
		typeEC2        = uint64(2)
		labelCurve     = int64(-1)
		curveP384      = uint64(2)
		labelX, labelY = int64(-2), int64(-3)
		coordinate     = 48
	)
	m, err := cose.Decode(raw)
	if err != nil {
		return nil, err
	}
	x, err1 := m.Bytes(labelX)
	y, err2 := m.Bytes(labelY)
	if m[labelType] != typeEC2 || m[labelCurve] != curveP384 || cmp.Or(err1, err2) != nil || len(x) != coordinate || len(y) != coordinate {
		return nil, missing("realm key")
	}
	return slices.Concat([]byte{4}, x, y), nil
}
