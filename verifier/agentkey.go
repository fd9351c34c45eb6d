package verifier

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// AgentProof shows that the holder of an agent key answers the challenge. A host
// without a TPM keeps such a key in place of an AK: documents of a cloud say
// which machine they are about, and the key says who brings them.
type AgentProof struct {
	Public    []byte // SubjectPublicKeyInfo DER, ECDSA P-256
	Signature []byte // ASN.1 ECDSA over AgentDigest
}

// AgentDigest is what an agent key signs: SHA-256 over a label and the binding of
// the format that names the node, so that no other use of the key says the same.
func AgentDigest(bound [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("zonebroker-agent-v1"), bound[:]...))
}

// AgentKeyName names an agent key as a TPM names its own: the algorithm id of
// SHA-256 (000b) and the digest of the SubjectPublicKeyInfo.
func AgentKeyName(spki []byte) []byte {
	d := sha256.Sum256(spki)
	return append([]byte{0x00, 0x0b}, d[:]...)
}

// ParseAgentKey decodes the SubjectPublicKeyInfo of an agent key: P-256, in the
// one form that the library writes, so that a key has one name. Errors:
// request.malformed.
func ParseAgentKey(spki []byte) (*ecdsa.PublicKey, error) {
	wrong := reason.New(reason.RequestMalformed, "agent: the key must be the SubjectPublicKeyInfo of an ECDSA P-256 key")
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, wrong
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, wrong
	}
	if again, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(again, spki) {
		return nil, wrong
	}
	return key, nil
}

// verifyAgent checks that the proof is by the key of the challenge.
func verifyAgent(p *AgentProof, name []byte, bound [32]byte) error {
	if p == nil {
		return reason.New(reason.RequestMalformed, "member agent is missing")
	}
	key, err := ParseAgentKey(p.Public)
	if err != nil {
		return err
	}
	if !bytes.Equal(AgentKeyName(p.Public), name) {
		return reason.New(reason.ChallengeWrongNode, "the challenge was issued for another agent key")
	}
	digest := AgentDigest(bound)
	if !ecdsa.VerifyASN1(key, digest[:], p.Signature) {
		return reason.New(reason.AgentSignature, "the agent key did not sign this challenge")
	}
	return nil
}
