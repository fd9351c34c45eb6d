package tpm2collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// AK is the attestation key: a restricted signing key that signs only what the
// TPM itself made.
type AK struct {
	Kind   Kind
	Public []byte // TPMT_PUBLIC
	Name   []byte // nameAlg and digest, 34 bytes
}

// SPKI returns the key as SubjectPublicKeyInfo in DER.
func (k AK) SPKI() ([]byte, error) { return subjectPublicKeyInfo(k.Public) }

// akTemplate: attributes 0x50472. noDA matters: a key under dictionary-attack
// protection locks the whole TPM after two or three hard power losses.
func akTemplate(kind Kind) tpm2.TPMTPublic {
	attributes := tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
		UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
	}
	if kind == RSA {
		return tpm2.TPMTPublic{
			Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
				Scheme: tpm2.TPMTRSAScheme{
					Scheme:  tpm2.TPMAlgRSASSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
				},
				KeyBits: 2048,
			}),
			Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{}),
		}
	}
	return eccSigner(attributes, nil)
}

// eccSigner is a P-256 key that signs by ECDSA with SHA-256 and nothing else.
func eccSigner(attributes tpm2.TPMAObject, unique []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attributes,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: unique}}),
	}
}

// AK returns the attestation key, the same one on each run.
func (t *TPM) AK(ctx context.Context) (AK, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, err := t.loadAK(ctx)
	if err != nil {
		return AK{}, err
	}
	return AK{Kind: t.cfg.AK, Public: o.public, Name: o.name.Buffer}, nil
}

func (t *TPM) loadAK(ctx context.Context) (*object, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	if t.ak != nil {
		return t.ak, nil
	}
	var (
		o   *object
		err error
	)
	if t.cfg.AK == GCE || t.cfg.AK == AzureHCL {
		o, err = t.loadCloudAK(ctx)
	} else {
		o, err = t.create(ctx, tpm2.TPMRHEndorsement, akTemplate(t.cfg.AK))
	}
	if err != nil {
		return nil, explain("make the attestation key", err)
	}
	t.ak = o
	return o, nil
}

// Activate opens a credential that was made for this EK and the Name of this
// AK, and returns what is in it: the nonce of the enrolment. Only the TPM that
// owns both keys can. A failure is tpm2.ak.activation_failed and says nothing
// about the credential; the caller must not try the same one again.
func (t *TPM) Activate(ctx context.Context, blob, secret []byte) ([]byte, error) {
	ek, err := t.EK(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ak, err := t.loadAK(ctx)
	if err != nil {
		return nil, err
	}
	o, err := t.create(ctx, tpm2.TPMRHEndorsement, ekTemplates[ek.Kind].public)
	if err != nil {
		return nil, explain("make the endorsement key", err)
	}
	rsp, err := t.openCredential(ctx, ak, o, ek, blob, secret)
	// Three slots are all a TPM without a resource manager has: the EK goes first.
	flushed := t.flush(ctx, o)
	if err != nil {
		return nil, t.activationError(ctx, err)
	}
	if flushed != nil {
		return nil, explain("flush the endorsement key", flushed)
	}
	return rsp.CertInfo.Buffer, nil
}

// openCredential runs the command in a session that is salted with the EK: the
// secret is the nonce of the enrolment, and whoever listens between processor
// and TPM could quote over it for another machine. Whoever stands in between and
// shows an EK of his own gains nothing either: the broker made the credential
// for the one that ek.Public names.
func (t *TPM) openCredential(ctx context.Context, ak, o *object, ek EK, blob, secret []byte) (*tpm2.ActivateCredentialResponse, error) {
	if !bytes.Equal(o.public, ek.Public) {
		return nil, errors.New("the TPM made another endorsement key than before")
	}
	protect, err := salted(o, secretOut)
	if err != nil {
		return nil, err
	}
	auth := tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, append(protect, tpm2.Auth(nil))...)
	if !ekTemplates[ek.Kind].high {
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, sessionNonce, endorsementPolicy, protect...)
	}
	return tpm2.ActivateCredential{
		ActivateHandle: ak.auth(),
		KeyHandle:      tpm2.AuthHandle{Handle: o.handle, Name: o.name, Auth: auth},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: secret},
	}.Execute(t.commands(ctx))
}

// endorsementPolicy satisfies the policy of a low-range EK (L-1, L-2), which
// has no usable password of its own.
func endorsementPolicy(tpm transport.TPM, handle tpm2.TPMISHPolicy, nonceTPM tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: handle,
		NonceTPM:      nonceTPM,
	}.Execute(tpm)
	return err
}

// activationError tells a credential that is not for this TPM from a TPM that
// does not work. A software TPM answers a secret that its RSA key cannot open
// with TPM_RC_FAILURE, as a TPM in failure mode does; that one has no random
// numbers any more.
func (t *TPM) activationError(ctx context.Context, err error) error {
	if errors.Is(err, tpm2.TPMRCFailure) {
		if _, alive := (tpm2.GetRandom{BytesRequested: 1}).Execute(t.commands(ctx)); alive == nil {
			return notForThisTPM(err)
		}
		return explain("activate the credential", err)
	}
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCECCPoint, tpm2.TPMRCPolicyFail} {
		if errors.Is(err, rc) {
			return notForThisTPM(err)
		}
	}
	return explain("activate the credential", err)
}

func notForThisTPM(err error) error {
	return reason.Wrap(reason.TPM2AKActivationFailed, "the credential was not made for the EK and AK of this TPM", fmt.Errorf("activate credential: %w", err))
}
