package tpm2

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// maxAttest bounds a TPMS_ATTEST in bytes; a quote of one bank takes 145.
	maxAttest = 1 << 10

	magicGenerated = 0xff544347 // TPM_GENERATED_VALUE
	typeCertify    = 0x8017     // TPM_ST_ATTEST_CERTIFY
	typeQuote      = 0x8018     // TPM_ST_ATTEST_QUOTE

	// maxBanks is how many PCR selections are decoded. We ask for one; no
	// verifier work may grow with what an attester adds.
	maxBanks = 4
)

// bankSelection is a TPMS_PCR_SELECTION; mask points into the input.
type bankSelection struct {
	hash uint16
	mask []byte
}

// attest is a decoded TPMS_ATTEST. Slices point into the input.
type attest struct {
	magic     uint32
	kind      uint16
	signer    []byte // qualifiedSigner
	extraData []byte
	clock     Clock
	firmware  uint64

	// typeQuote
	count      uint32 // selections that the list claims
	selections [maxBanks]bankSelection
	pcrDigest  []byte

	// typeCertify
	name          []byte
	qualifiedName []byte
}

// parseAttest decodes a TPMS_ATTEST of one type front to back, and names the
// first field that is not what it must be. Of a quote with more than maxBanks
// selections it decodes the head: the callers refuse that.
//
// Errors: tpm2.attest.truncated, .magic, .type, .safe, .trailing.
func parseAttest(b []byte, kind uint16) (*attest, error) {
	r := &reader{rest: b}
	a := &attest{magic: r.u32(), kind: r.u16()}
	switch {
	case r.failed:
		return a, errAttestTruncated()
	case a.magic != magicGenerated:
		return a, reason.New(reason.TPM2AttestMagic, "the magic is not TPM_GENERATED: the TPM did not make this")
	case a.kind != kind:
		return a, reason.Newf(reason.TPM2AttestType, "attestation of type %#04x where %#04x was expected", a.kind, kind)
	}
	a.signer, a.extraData = r.sized(), r.sized()
	a.clock.Millis, a.clock.ResetCount, a.clock.RestartCount = r.u64(), r.u32(), r.u32()
	safe := r.u8()
	a.clock.Safe = safe == 1
	a.firmware = r.u64()
	whole := a.parseBody(r)
	switch {
	case r.failed:
		return a, errAttestTruncated()
	case safe > 1:
		return a, reason.New(reason.TPM2AttestSafe, "safe is neither 0 nor 1")
	case whole && len(r.rest) != 0:
		return a, reason.New(reason.TPM2AttestTrailing, "bytes behind the TPMS_ATTEST")
	}
	return a, nil
}

func errAttestTruncated() error {
	return reason.New(reason.TPM2AttestTruncated, "TPMS_ATTEST ends early")
}

// parseBody reports whether it decoded the body to its end.
func (a *attest) parseBody(r *reader) bool {
	switch a.kind {
	case typeQuote:
		a.count = r.u32()
		if a.count > maxBanks {
			return false
		}
		for i := range a.count {
			a.selections[i] = bankSelection{hash: r.u16(), mask: r.bytes(int(r.u8()))}
		}
		a.pcrDigest = r.sized()
		return true
	case typeCertify:
		a.name, a.qualifiedName = r.sized(), r.sized()
		return true
	}
	return false
}

// openAttest verifies the signature first and only then reads the structure
// with care: nothing that a stranger sends costs more than one verification.
// It returns a structure of the wanted type made by the TPM that holds ak.
func openAttest(ak *AK, raw, sig []byte, kind uint16) (*attest, error) {
	if isVersion1Quote(raw) {
		return nil, errVersion1Quote()
	}
	if err := verifySignature(ak, raw, sig); err != nil {
		return nil, err
	}
	a, err := parseAttest(raw, kind)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func errVersion1Quote() error { return reason.New(reason.TPM2Version, "the quote is of a TPM 1.2") }

func checkAttestSize(raw []byte) error {
	if len(raw) > maxAttest {
		return reason.New(reason.RequestTooLarge, "TPMS_ATTEST is longer than 1024 bytes")
	}
	return nil
}

// isVersion1Quote recognises TPM_QUOTE_INFO (version 1.1, "QUOT") and
// TPM_QUOTE_INFO2 (tag 0x0036, "QUT2").
func isVersion1Quote(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\x01\x01\x00\x00QUOT")) || bytes.HasPrefix(b, []byte("\x00\x36QUT2"))
}
