package tpm2collect

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Error is a failure of this host's TPM with what a person can do about it.
// Texts hold no key material, credential or nonce.
type Error struct {
	What string // the operation, lower case
	Why  string // one sentence
	Fix  string // one sentence, "" where nothing is known to help
	err  error
}

// Error returns what and why.
func (e *Error) Error() string { return e.What + ": " + e.Why }

// Unwrap returns the TPM's own answer or the error of the operating system.
func (e *Error) Unwrap() error { return e.err }

// explained are the answers of a TPM that people meet, with the way out.
var explained = []struct {
	rc       tpm2.TPMRC
	why, fix string
}{
	{
		tpm2.TPMRCLockout, "the TPM is in dictionary-attack lockout",
		"wait for the lockout to heal, or reset it with: tpm2_dictionarylockout --clear-lockout",
	},
	{
		tpm2.TPMRCObjectMemory, "the TPM has no free slot for a key",
		"use the resource manager (/dev/tpmrm0), or flush what others left with: tpm2_flushcontext -t",
	},
	{
		tpm2.TPMRCSessionMemory, "the TPM has no free slot for a session",
		"use the resource manager (/dev/tpmrm0), or flush what others left with: tpm2_flushcontext -l",
	},
	{
		tpm2.TPMRCInitialize, "the TPM was not started with TPM2_Startup",
		"start it (swtpm: --flags startup-clear; a real TPM: its firmware does it)",
	},
	{
		tpm2.TPMRCFailure, "the TPM is in failure mode",
		"power-cycle the host; if it comes back, the TPM is broken",
	},
	{
		tpm2.TPMRCHierarchy, "a hierarchy of the TPM is disabled",
		"enable the endorsement and owner hierarchies in the firmware setup",
	},
	{
		tpm2.TPMRCBadAuth, "a hierarchy of the TPM has a password",
		"remove it with: tpm2_changeauth -c owner (or -c endorsement)",
	},
	{
		tpm2.TPMRCAuthFail, "a hierarchy of the TPM has a password",
		"remove it with: tpm2_changeauth -c owner (or -c endorsement)",
	},
	{
		tpm2.TPMRCCurve, "the TPM does not have this elliptic curve",
		"choose RSA keys with --ak rsa or --ek rsa",
	},
	{
		tpm2.TPMRCRetry, "the TPM stayed busy and asked to try again until the patience ran out",
		"try again; if it stays so, restart the host",
	},
}

// explain wraps err with the operation and, where the TPM's answer is a known
// one, with its reason and the way out.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	for _, x := range explained {
		if errors.Is(err, x.rc) {
			return &Error{What: what, Why: x.why, Fix: x.fix, err: err}
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
