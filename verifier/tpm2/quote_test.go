package tpm2_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

func TestQuoteAccepted(t *testing.T) {
	for kind, by := range akKinds(t) {
		t.Run(kind, func(t *testing.T) {
			e := newEvidence(by)
			q, err := e.verify(t, by.ak(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e.pcrs, q.PCRValues()); diff != "" {
				t.Errorf("values (-sent +quoted):\n%s", diff)
			}
			if _, ok := q.PCR(10); ok {
				t.Error("PCR 10 was not quoted and came out")
			}
			want := tpm2.Clock{Millis: 123456, ResetCount: 3, RestartCount: 1, Safe: true}
			if q.Clock() != want || q.FirmwareVersion() != 0x2019102300163636 || q.Selection() != e.want {
				t.Errorf("clock %+v, firmware %x, selection %s", q.Clock(), q.FirmwareVersion(), q.Selection())
			}
		})
	}
}

// TestQuoteValuesAreTheCallers: what comes out cannot change what was verified.
func TestQuoteValuesAreTheCallers(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e := newEvidence(by)
	attest, sig := e.signed(t)
	attested, err := tpm2.AuthenticateQuote(by.ak(t), attest, sig, e.qualifying)
	if err != nil {
		t.Fatal(err)
	}
	clear(attest) // the caller's buffer is reused
	q, err := attested.Quote(e.want, e.pcrs)
	if err != nil {
		t.Fatal(err)
	}
	before := q.PCRValues()
	clear(e.pcrs[0])
	v, _ := q.PCR(1)
	clear(v)
	clear(q.PCRValues()[2])
	if diff := cmp.Diff(before, q.PCRValues()); diff != "" {
		t.Errorf("verified values changed:\n%s", diff)
	}
}

type quoteCase struct {
	name   string
	change func(e *evidence)
	code   reason.Code
}

func runQuoteCases(t *testing.T, cases []quoteCase) {
	for kind, by := range akKinds(t) {
		ak := by.ak(t)
		for _, c := range cases {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				e := newEvidence(by)
				c.change(e)
				_, err := e.verify(t, ak)
				wantCode(t, err, c.code)
			})
		}
	}
}

// TestQuoteStructure: what a TPM never signs, signed all the same.
func TestQuoteStructure(t *testing.T) {
	runQuoteCases(t, []quoteCase{
		{"tpm-1 T1 magic is not TPM_GENERATED", func(e *evidence) { e.attest.magic ^= 1 }, reason.TPM2AttestMagic},
		{"tpm-2 T2 certify sent as quote", func(e *evidence) {
			e.attest.kind, e.attest.name, e.attest.qualifiedName = 0x8017, e.by.name(), e.by.name()
		}, reason.TPM2AttestType},
		{"tpm-2 T2 time sent as quote", func(e *evidence) { e.attest.kind, e.attest.body = 0x8019, make([]byte, 33) }, reason.TPM2AttestType},
		{"tpm-2 creation sent as quote", func(e *evidence) { e.attest.kind, e.attest.body = 0x801a, make([]byte, 68) }, reason.TPM2AttestType},
		{"tpm-2 nv sent as quote", func(e *evidence) { e.attest.kind, e.attest.body = 0x8014, make([]byte, 40) }, reason.TPM2AttestType},
		{"tpm-3 T12 trailing byte", func(e *evidence) { e.attest.tail = []byte{0} }, reason.TPM2AttestTrailing},
		{"tpm-5 signer size 0xffff", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { b[6], b[7] = 0xff, 0xff; return b }
		}, reason.TPM2AttestTruncated},
		{"tpm-5 extraData size one past the end", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { b[42], b[43] = 0xff, 0xff; return b }
		}, reason.TPM2AttestTruncated},
		{"tpm-5 digest size one more than there is", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { b[len(b)-33]++; return b }
		}, reason.TPM2AttestTruncated},
		{"digest size one less than there is", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { b[len(b)-33]--; return b }
		}, reason.TPM2AttestTrailing},
		{"tpm-6 attest of 1025 bytes", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { return append(b, make([]byte, 1025-len(b))...) }
		}, reason.RequestTooLarge},
		{"attest of 1024 bytes is read", func(e *evidence) {
			e.rewrite = func(b []byte) []byte { return append(b, make([]byte, 1024-len(b))...) }
		}, reason.TPM2AttestTrailing},
		{"tpm-6 signature of 601 bytes", func(e *evidence) {
			e.resign = func(b []byte) []byte { return append(b, make([]byte, 601-len(b))...) }
		}, reason.RequestTooLarge},
		{"tpm-31 safe is 2", func(e *evidence) { e.attest.safe = 2 }, reason.TPM2AttestSafe},
		{"tpm-83 TPM_QUOTE_INFO of a TPM 1.2", func(e *evidence) {
			e.rewrite = func([]byte) []byte { return append([]byte("\x01\x01\x00\x00QUOT"), make([]byte, 40)...) }
		}, reason.TPM2Version},
		{"tpm-83 TPM_QUOTE_INFO2 of a TPM 1.2", func(e *evidence) {
			e.rewrite = func([]byte) []byte { return append([]byte("\x00\x36QUT2"), make([]byte, 40)...) }
		}, reason.TPM2Version},
		{"empty attest", func(e *evidence) { e.rewrite = func([]byte) []byte { return nil } }, reason.TPM2AttestTruncated},
	})
}

func TestQuoteTruncated(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	ak, whole := by.ak(t), newEvidence(by)
	attest, _ := whole.signed(t)
	t.Run("tpm-4 T12 cut at every byte", func(t *testing.T) {
		for n := range len(attest) {
			cut := attest[:n]
			_, err := tpm2.AuthenticateQuote(ak, cut, by.sign(t, cut), whole.qualifying)
			if reason.Of(err) != reason.TPM2AttestTruncated {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	})
}

// TestQuoteBinding: authenticated quotes of another question.
func TestQuoteBinding(t *testing.T) {
	runQuoteCases(t, []quoteCase{
		{"tpm-19 T3 extraData empty", func(e *evidence) { e.attest.extra = nil }, reason.TPM2QuoteNonceMismatch},
		{"tpm-19 T3 extraData empty and nothing expected", func(e *evidence) { e.attest.extra, e.qualifying = nil, nil }, reason.TPM2QuoteNonceMismatch},
		{"tpm-20 T3 extraData is the bare nonce", func(e *evidence) { e.attest.extra = make([]byte, 32) }, reason.TPM2QuoteNonceMismatch},
		{"tpm-21 T3 bound to another key", func(e *evidence) {
			other := sha256.Sum256([]byte("binding of another key"))
			e.attest.extra = other[:]
		}, reason.TPM2QuoteNonceMismatch},
		{"T3 extraData truncated", func(e *evidence) { e.attest.extra = e.attest.extra[:31] }, reason.TPM2QuoteNonceMismatch},
		{"T3 extraData longer", func(e *evidence) { e.attest.extra = append(bytes.Clone(e.attest.extra), 0) }, reason.TPM2QuoteNonceMismatch},
		{"tpm-52 qualifiedSigner of another key", func(e *evidence) { e.attest.signer = flip(e.attest.signer, 33) }, reason.TPM2QuoteSignerMismatch},
		{"tpm-52 same Name in the owner hierarchy", func(e *evidence) {
			sum := sha256.Sum256(append([]byte{0x40, 0, 0, 0x01}, e.by.name()...))
			e.attest.signer = append([]byte{0, sha256Alg}, sum[:]...)
		}, reason.TPM2QuoteSignerMismatch},
		{"tpm-52 qualifiedSigner is the Name", func(e *evidence) { e.attest.signer = e.by.name() }, reason.TPM2QuoteSignerMismatch},
		{"tpm-52 qualifiedSigner empty", func(e *evidence) { e.attest.signer = nil }, reason.TPM2QuoteSignerMismatch},
	})
}

func repeat(b bank, n int) []bank {
	out := make([]bank, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// TestQuoteSelection: the TPM signed it, but it is not what was asked for.
func TestQuoteSelection(t *testing.T) {
	five, many := uint32(5), uint32(5000)
	runQuoteCases(t, []quoteCase{
		{"tpm-7 five selections", func(e *evidence) { e.attest.banks = repeat(e.attest.banks[0], 5) }, reason.TPM2QuoteSelectionCount},
		{"tpm-7 five claimed, one there", func(e *evidence) { e.attest.count = &five }, reason.TPM2QuoteSelectionCount},
		{"tpm-7 5000 claimed", func(e *evidence) { e.attest.count = &many }, reason.TPM2QuoteSelectionCount},
		{"tpm-6 tpm-7 5000 duplicates are too many bytes", func(e *evidence) { e.attest.banks = repeat(e.attest.banks[0], 5000) }, reason.RequestTooLarge},
		{"tpm-8 T7 empty selection", func(e *evidence) { e.attest.banks = nil }, reason.TPM2QuoteSelection},
		{"tpm-8 T7 zero mask", func(e *evidence) { e.attest.banks[0].mask = make([]byte, 3) }, reason.TPM2QuoteSelection},
		{"tpm-8 zero mask asked for", func(e *evidence) {
			e.attest.banks[0].mask, e.want, e.pcrs, e.attest.digest = make([]byte, 3), tpm2.Selection{}, nil, digestOf(nil)
		}, reason.TPM2QuoteSelection},
		{"tpm-9 T7 without PCR 7", func(e *evidence) { e.attest.banks[0].mask = []byte{0x7f, 0x43, 0} }, reason.TPM2QuoteSelection},
		{"tpm-10 T7 one PCR more", func(e *evidence) { e.attest.banks[0].mask = []byte{0xff, 0x43, 0x80} }, reason.TPM2QuoteSelection},
		{"tpm-10 SHA-1 beside SHA-256", func(e *evidence) {
			e.attest.banks = append([]bank{{sha1Alg, e.want[:]}}, e.attest.banks...)
		}, reason.TPM2QuoteSelection},
		{"tpm-11 T7 bank twice, other mask", func(e *evidence) {
			e.attest.banks = append(e.attest.banks, bank{sha256Alg, []byte{0, 0, 1}})
		}, reason.TPM2QuoteSelectionDuplicate},
		{"tpm-12 sizeofSelect 2", func(e *evidence) { e.attest.banks[0].mask = []byte{0xff, 0x43} }, reason.TPM2QuoteSelectSize},
		{"tpm-12 sizeofSelect 5", func(e *evidence) { e.attest.banks[0].mask = []byte{0xff, 0x43, 0, 0, 0} }, reason.TPM2QuoteSelectSize},
		{"tpm-12 sizeofSelect 255", func(e *evidence) {
			e.attest.banks[0].mask = append([]byte{0xff, 0x43, 0}, make([]byte, 252)...)
		}, reason.TPM2QuoteSelectSize},
		{"tpm-13 T9 SHA-1 bank only", func(e *evidence) {
			e.attest.banks[0].hash = sha1Alg
			for i := range e.pcrs {
				sum := sha1.Sum([]byte{byte(i)})
				e.pcrs[i] = sum[:]
			}
			e.attest.digest = digestOf(e.pcrs)
		}, reason.TPM2PCRBank},
		{"T9 quoted bank SHA-384, sent bank SHA-256", func(e *evidence) {
			e.attest.banks[0].hash = sha384Alg
			other := map[int][]byte{}
			for i := range e.pcrs {
				sum := sha512.Sum384([]byte{byte(i)})
				other[i] = sum[:]
			}
			e.attest.digest = digestOf(other)
		}, reason.TPM2PCRBank},
		{"tpm-14 unknown bank 0x0027", func(e *evidence) { e.attest.banks[0].hash = 0x0027 }, reason.TPM2PCRBank},
		{"tpm-14 unknown bank beside SHA-256", func(e *evidence) {
			e.attest.banks = append(e.attest.banks, bank{0x0027, e.want[:]})
		}, reason.TPM2PCRBank},
		{"T6 PCR 16 and 23 presented as 0 and 7", func(e *evidence) {
			e.want = tpm2.SelectionOf(0, 7)
			good := map[int][]byte{0: e.pcrs[0], 7: e.pcrs[7]}
			e.attest.banks[0].mask = []byte{0, 0, 0x81}
			e.pcrs, e.attest.digest = good, digestOf(good)
		}, reason.TPM2QuoteSelection},
	})
}

func TestQuotePCRValues(t *testing.T) {
	runQuoteCases(t, []quoteCase{
		{"tpm-15 a value changed", func(e *evidence) { e.pcrs[4] = flip(e.pcrs[4], 31) }, reason.TPM2PCRDigest},
		{"tpm-15 signed digest is of other values", func(e *evidence) { e.attest.digest = flip(e.attest.digest, 0) }, reason.TPM2PCRDigest},
		{"tpm-15 signed digest empty", func(e *evidence) { e.attest.digest = nil }, reason.TPM2PCRDigest},
		{"tpm-16 T8 a value outside the selection", func(e *evidence) { e.pcrs[10] = make([]byte, 32) }, reason.TPM2PCRUnquoted},
		{"tpm-16 T8 PCR 24", func(e *evidence) { e.pcrs[24] = make([]byte, 32) }, reason.TPM2PCRUnquoted},
		{"tpm-16 T8 PCR -1", func(e *evidence) { e.pcrs[-1] = nil }, reason.TPM2PCRUnquoted},
		{"tpm-17 T8 20 bytes in the SHA-256 bank", func(e *evidence) { e.pcrs[0] = e.pcrs[0][:20] }, reason.TPM2PCRLength},
		{"tpm-17 T8 33 bytes", func(e *evidence) { e.pcrs[0] = append(bytes.Clone(e.pcrs[0]), 0) }, reason.TPM2PCRLength},
		{"tpm-17 T8 a value missing", func(e *evidence) { delete(e.pcrs, 14) }, reason.TPM2PCRLength},
		{"tpm-17 bytes moved from one value to the next", func(e *evidence) {
			joined := append(bytes.Clone(e.pcrs[0]), e.pcrs[1]...)
			e.pcrs[0], e.pcrs[1] = joined[:31], joined[31:]
		}, reason.TPM2PCRLength},
		{"tpm-17 no values", func(e *evidence) { e.pcrs = nil }, reason.TPM2PCRLength},
		{"tpm-18 two values swapped", func(e *evidence) { e.pcrs[0], e.pcrs[1] = e.pcrs[1], e.pcrs[0] }, reason.TPM2PCRDigest},
	})
}

// TestZeroAttestedQuotesNothing: an Attested that no verification made is void.
func TestZeroAttestedQuotesNothing(t *testing.T) {
	_, err := tpm2.Attested{}.Quote(tpm2.SelectionOf(0), map[int][]byte{0: make([]byte, 32)})
	wantCode(t, err, reason.TPM2QuoteSelection)
	if v, ok := (tpm2.Quote{}).PCR(0); ok || v != nil {
		t.Error("the zero Quote has a PCR")
	}
}

// TestZeroAKVerifiesNothing: an AK that was never checked signs for nobody.
func TestZeroAKVerifiesNothing(t *testing.T) {
	e := newEvidence(eccSigner(newECC(t), akAttributes))
	attest, sig := e.signed(t)
	if _, err := tpm2.AuthenticateQuote(tpm2.AK{}, attest, sig, e.qualifying); err == nil {
		t.Error("the zero AK verified a quote")
	}
	if _, err := tpm2.AuthenticateQuote(tpm2.AK{}, attest, []byte{0, 0, 0, sha256Alg, 0, 0}, e.qualifying); err == nil {
		t.Error("the zero AK verified a quote without a signature")
	}
}
