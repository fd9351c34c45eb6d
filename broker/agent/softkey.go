package agent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// Files of the keys of a host without a TPM, mode 0600. Who copies them and the
// state can answer challenges as this host; documents that carry a challenge stop
// that, bearer documents do not.
const (
	agentKeyFile = "agent.key"
	svidKeyFile  = "svid.key"
	maxKeyFile   = 4 << 10
)

// signingKey is the key of the node's SVID, in the TPM or in software.
type signingKey interface {
	crypto.Signer
	SPKI() []byte // DER
}

// softKey is a P-256 key in the state folder.
type softKey struct {
	*ecdsa.PrivateKey
	spki []byte
}

// SPKI returns the SubjectPublicKeyInfo in DER.
func (k *softKey) SPKI() []byte { return k.spki }

// key reads a key of the folder and makes it where it does not exist.
func (f *folder) key(name string) (*softKey, error) {
	path := filepath.Join(f.path, name)
	text, err := collect.Read(path, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return f.newKey(name)
	}
	if err != nil {
		return nil, stateFault(err.Error(), "", err)
	}
	if err := private(path, 0o600); err != nil {
		return nil, err
	}
	spoilt := stateFault(path+": not a P-256 key in PKCS #8", "move the file away; the host is then another node, which has to be admitted anew", nil)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, spoilt
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, spoilt // what the parser says could quote the key
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, spoilt
	}
	return soft(private)
}

func (f *folder) newKey(name string) (*softKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeDurably(f.path, name, text, 0o600); err != nil {
		return nil, &Fault{Kind: FaultState, What: "write " + name, Why: err.Error(), Fix: "make room, and see that this user may write " + f.path, err: err}
	}
	return soft(key)
}

func soft(key *ecdsa.PrivateKey) (*softKey, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	return &softKey{key, spki}, nil
}
