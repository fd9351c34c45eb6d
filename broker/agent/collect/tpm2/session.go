package tpm2collect

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// sessionNonce is the length of a session's nonces in bytes, half of its hash:
// the least that TPMs take (part 1, 17.6.3).
const sessionNonce = 16

// secretIn and secretOut encrypt the first parameter of a command, or of its
// response, with AES-128 in CFB mode, which every TPM has (part 1, 21).
var (
	secretIn  = tpm2.AESEncryption(128, tpm2.EncryptIn)
	secretOut = tpm2.AESEncryption(128, tpm2.EncryptOut)
)

// salted are the options of a session whose key nobody learns who listens
// between processor and TPM: the salt travels under the public key o, a loaded
// endorsement or storage key (part 1, 17.6.12).
func salted(o *object, encryption tpm2.AuthOption) ([]tpm2.AuthOption, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](o.public)
	if err != nil {
		return nil, fmt.Errorf("read the key that salts a session: %w", err)
	}
	return []tpm2.AuthOption{tpm2.Salted(o.handle, *public), encryption}, nil
}

// svidPassword is the auth value of the SVID key. Like the rotation value that
// it comes from it is known to whoever reads the agent's state, and not to
// everybody who may open the TPM. 128 bits as 32 hex digits, as long as the key's
// nameAlg allows: go-tpm 0.9.8 cuts an auth value at its first zero byte, where
// the TPM drops trailing ones only (part 1, 19.6.5), and digits have none.
func svidPassword(rotation []byte) []byte {
	h := hmac.New(sha256.New, rotation)
	h.Write([]byte("zonebroker-svid-auth-v1"))
	return hex.AppendEncode(nil, h.Sum(nil)[:16])
}

// createProtected makes a primary key of the owner hierarchy with an auth value,
// which goes to the TPM encrypted. The session is salted with a storage key that
// is made for the purpose and unloaded again: that stops who listens, not who
// takes the TPM's place, which no key stops that nobody vouched for.
func (t *TPM) createProtected(ctx context.Context, public tpm2.TPMTPublic, password []byte) (*object, error) {
	storage, err := t.create(ctx, tpm2.TPMRHOwner, tpm2.ECCSRKTemplate)
	if err != nil {
		return nil, err
	}
	protect, err := salted(storage, secretIn)
	if err != nil {
		return nil, errors.Join(err, t.flush(ctx, storage))
	}
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: password},
		}},
		InPublic: tpm2.New2B(public),
	}.Execute(t.commands(ctx), tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, protect...))
	if err := errors.Join(err, t.flush(ctx, storage)); err != nil {
		return nil, err
	}
	return &object{handle: rsp.ObjectHandle, name: rsp.Name, public: rsp.OutPublic.Bytes(), password: password}, nil
}
