package tpm2collect

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// signTime bounds a signature in a TLS handshake, which brings no context.
const signTime = 15 * time.Second

// SVIDKey is the key of the node's SVID. It is P-256, it signs for TLS, and it
// cannot leave the TPM: what is copied from the host's disk is of no use.
type SVIDKey struct {
	tpm    *TPM
	public *ecdsa.PublicKey
	raw    []byte // TPMT_PUBLIC
	spki   []byte
}

var _ crypto.Signer = (*SVIDKey)(nil)

// Certified is TPM2_Certify over the SVID key by the AK.
type Certified struct {
	Public    []byte // TPMT_PUBLIC of the SVID key
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
}

// svidTemplate: attributes 0x40472. The rotation value goes into unique, which
// takes part in deriving a primary key, so a new value makes a new key without
// a blob to keep. The owner hierarchy's seed changes with TPM2_Clear, as a new
// owner wants it.
func svidTemplate(rotation []byte) tpm2.TPMTPublic {
	unique := sha256.Sum256(append([]byte("zonebroker-svid-key-v1"), rotation...))
	return eccSigner(tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
		UserWithAuth: true, NoDA: true, SignEncrypt: true,
	}, unique[:])
}

// SVIDKey returns the SVID key of Config.Rotation.
func (t *TPM) SVIDKey(ctx context.Context) (*SVIDKey, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, err := t.loadSVIDKey(ctx)
	if err != nil {
		return nil, err
	}
	spki, err := subjectPublicKeyInfo(o.public)
	if err != nil {
		return nil, fmt.Errorf("read the SVID key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("read the SVID key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read the SVID key: a %T", parsed)
	}
	return &SVIDKey{tpm: t, public: public, raw: o.public, spki: spki}, nil
}

func (t *TPM) loadSVIDKey(ctx context.Context) (*object, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	if t.svid != nil {
		return t.svid, nil
	}
	o, err := t.createProtected(ctx, svidTemplate(t.cfg.Rotation), svidPassword(t.cfg.Rotation))
	if err != nil {
		return nil, explain("make the SVID key", err)
	}
	t.svid = o
	return o, nil
}

// Public returns the public key.
func (k *SVIDKey) Public() crypto.PublicKey { return k.public }

// SPKI returns the SubjectPublicKeyInfo in DER; the caller must not change it.
func (k *SVIDKey) SPKI() []byte { return k.spki }

// Sign signs a SHA-256 digest in the TPM and returns an ASN.1 ECDSA signature.
// The source of randomness is the TPM's; the argument is not read.
func (k *SVIDKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("the SVID key signs SHA-256 digests only")
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), signTime, errors.New("the TPM did not sign in time"))
	defer cancel()
	k.tpm.mu.Lock()
	defer k.tpm.mu.Unlock()
	o, err := k.tpm.loadSVIDKey(ctx)
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Sign{
		KeyHandle:  o.auth(),
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(k.tpm.commands(ctx))
	if err != nil {
		return nil, explain("sign with the SVID key", err)
	}
	sig, err := rsp.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("sign with the SVID key: %w", err)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer),
	})
}

// Certify lets the AK say that the SVID key lives in this TPM, bound to the
// same qualifying bytes as the quote. It needs the use of the SVID key, so it
// proves possession too.
func (t *TPM) Certify(ctx context.Context, qualifying []byte) (Certified, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ak, err := t.loadAK(ctx)
	if err != nil {
		return Certified{}, err
	}
	key, err := t.loadSVIDKey(ctx)
	if err != nil {
		return Certified{}, err
	}
	rsp, err := tpm2.Certify{
		ObjectHandle:   key.auth(),
		SignHandle:     ak.auth(),
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(t.commands(ctx))
	if err != nil {
		return Certified{}, explain("certify the SVID key", err)
	}
	return Certified{Public: key.public, Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
}
