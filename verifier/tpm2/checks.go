package tpm2

import (
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// check is one line of what Verify lists.
type check struct {
	name   string
	passed string // detail where it passed
	part   string
	span   func(*verification) (offset int, bytes []byte)
	codes  []reason.Code // what its failure is called
}

func (c *check) fails(code reason.Code) bool { return slices.Contains(c.codes, code) }

// The steps of Verify, each with its checks in the order in which they are made.
var (
	akChecks = []check{
		{"tpm2.ak.form", "one canonical TPMT_PUBLIC", "ak_public", wholeAK, []reason.Code{reason.RequestTooLarge, reason.TPM2Version, reason.TPM2AKEncoding}},
		{"tpm2.ak.attributes", "restricted to what its TPM made, and never leaves it", "ak_public", attributesOfAK, []reason.Code{reason.TPM2AKNotRestricted, reason.TPM2AKAttributes}},
		{"tpm2.ak.parameters", "RSA-2048 or larger with RSASSA-SHA256, or P-256 with ECDSA-SHA256", "ak_public", wholeAK, nil},
	}
	signatureChecks = []check{
		{"tpm2.signature.form", "scheme, hash and lengths are the AK's", "signature", wholeSignature, []reason.Code{
			reason.RequestTooLarge, reason.TPM2Version, reason.TPM2SignatureScheme, reason.TPM2SignatureHash, reason.TPM2SignatureEncoding,
		}},
		{"tpm2.signature.value", "verifies under the AK over the whole quote", "signature", wholeSignature, nil},
	}
	structureChecks = []check{
		{"tpm2.attest.magic", "TPM_GENERATED: made inside a TPM", "quote", fixed(0, 4), []reason.Code{reason.TPM2AttestMagic}},
		{"tpm2.attest.type", "a quote", "quote", fixed(4, 2), []reason.Code{reason.TPM2AttestType}},
		{"tpm2.attest.form", "one whole TPMS_ATTEST and nothing behind it", "quote", wholeQuote, nil},
	}
	signerChecks = []check{
		{"tpm2.quote.signer", "the qualified name of the AK", "quote", spanSigner, nil},
	}
	nonceChecks = []check{
		{"tpm2.quote.nonce", "extraData is what was asked for", "quote", spanExtra, nil},
	}
	selectionChecks = []check{
		{"tpm2.quote.selection_count", "no more PCR selections than banks", "quote", spanCount, []reason.Code{reason.TPM2QuoteSelectionCount}},
		{"tpm2.pcr.bank", "the bank that was asked for", "quote", spanSelections, []reason.Code{reason.TPM2PCRBank}},
		{"tpm2.quote.selection", "exactly the PCRs that were asked for", "quote", spanSelections, nil},
	}
	pcrChecks = []check{
		{"tpm2.pcr.values", "a value of the right length for each quoted PCR, and no other", "pcrs", nil, []reason.Code{reason.TPM2PCRLength, reason.TPM2PCRUnquoted}},
		{"tpm2.pcr.digest", "the values hash to the signed digest", "quote", spanDigest, nil},
	}
)

func wholeAK(v *verification) (int, []byte)        { return 0, v.ev.AKPublic }
func wholeSignature(v *verification) (int, []byte) { return 0, v.ev.Signature }
func wholeQuote(v *verification) (int, []byte)     { return 0, v.ev.Attest }

// attributesOfAK: TPMA_OBJECT stands behind type and nameAlg.
func attributesOfAK(v *verification) (int, []byte) { return window(v.ev.AKPublic, 4, 4) }

func fixed(offset, length int) func(*verification) (int, []byte) {
	return func(v *verification) (int, []byte) { return window(v.ev.Attest, offset, length) }
}

// window cuts what there is; structures may end early.
func window(b []byte, offset, length int) (int, []byte) {
	begin, end := min(offset, len(b)), min(offset+length, len(b))
	return begin, b[begin:end:end]
}

// Layout of TPMS_ATTEST (Part 2, 10.12.12): magic 4, type 2, qualifiedSigner,
// extraData, clockInfo 17, firmwareVersion 8, then the body.
const (
	offsetSigner = 4 + 2 + 2
	lengthClock  = 8 + 4 + 4 + 1
)

func spanSigner(v *verification) (int, []byte) {
	return window(v.ev.Attest, offsetSigner, len(v.a.signer))
}

func spanExtra(v *verification) (int, []byte) {
	return window(v.ev.Attest, offsetSigner+len(v.a.signer)+2, len(v.a.extraData))
}

func (v *verification) body() int {
	return offsetSigner + len(v.a.signer) + 2 + len(v.a.extraData) + lengthClock + 8
}

func spanCount(v *verification) (int, []byte) { return window(v.ev.Attest, v.body(), 4) }

func spanSelections(v *verification) (int, []byte) {
	length := 0
	for _, s := range v.a.selections[:min(v.a.count, maxBanks)] {
		length += 3 + len(s.mask)
	}
	return window(v.ev.Attest, v.body()+4, length)
}

func spanDigest(v *verification) (int, []byte) {
	return window(v.ev.Attest, len(v.ev.Attest)-len(v.a.pcrDigest), len(v.a.pcrDigest))
}
