package test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

var quotedMask = func() []byte { s := evidencetest.Selection; return s[:] }()

// catalogueOfQuotes: rows 1 to 18, structure and selection.
func catalogueOfQuotes() []row {
	banks := func(b ...bankFields) change { return quoteField(func(a *attestFields) { a.setBanks(b...) }) }
	mask := func(sel tpm2.Selection) change { return banks(bankFields{algSHA256, sel[:]}) }
	five := make([]bankFields, 5)
	for i := range five {
		five[i] = bankFields{algSHA256, quotedMask}
	}
	pcrs := func(f func(p map[int][]byte)) change {
		return evidence(func(e *verifier.TPM2Evidence) { f(e.PCRs) })
	}
	return []row{
		{number: 1, name: "magic", cases: []forgery{
			{"one bit", quoteField(func(a *attestFields) { a.magic ^= 1 }), reason.TPM2AttestMagic, refused},
			{"zero", quoteField(func(a *attestFields) { a.magic = 0 }), reason.TPM2AttestMagic, refused},
		}},
		{number: 2, name: "another type sent as quote", cases: []forgery{
			{"certify", quoteField(func(a *attestFields) { a.kind, a.name, a.qname = kindCertify, a.digest, a.digest }), reason.TPM2AttestType, refused},
			{"time", quoteBytes(otherKind(0x8019)), reason.TPM2AttestType, refused},
			{"creation", quoteBytes(otherKind(0x801a)), reason.TPM2AttestType, refused},
			{"nv", quoteBytes(otherKind(0x8014)), reason.TPM2AttestType, refused},
		}},
		{number: 3, name: "trailing byte", cases: []forgery{
			{"one", quoteBytes(func(b []byte) []byte { return append(b, 0) }), reason.TPM2AttestTrailing, refused},
		}},
		{number: 4, name: "truncated", cases: cutEverywhere()},
		{number: 5, name: "size fields", cases: []forgery{
			{"qualifiedSigner ffff", quoteBytes(func(b []byte) []byte { b[6], b[7] = 0xff, 0xff; return b }), reason.TPM2AttestTruncated, refused},
			{"extraData past the end", quoteBytes(func(b []byte) []byte { b[42] = 0xff; return b }), reason.TPM2AttestTruncated, refused},
			{"pcrDigest ffff", quoteBytes(func(b []byte) []byte { b[len(b)-34], b[len(b)-33] = 0xff, 0xff; return b }), reason.TPM2AttestTruncated, refused},
		}},
		{number: 6, name: "too large", cases: []forgery{
			{"attest", quoteBytes(func(b []byte) []byte { return append(b, make([]byte, 1025-len(b))...) }), reason.RequestTooLarge, refused},
			{"signature", signatureBytes(func(b []byte) []byte { return append(b, make([]byte, 601-len(b))...) }), reason.RequestTooLarge, refused},
		}, broker: []brokerForgery{{"body", sendsHugeBody, reason.RequestTooLarge}}},
		{number: 7, name: "many selections", cases: []forgery{
			{"5", banks(five...), reason.TPM2QuoteSelectionCount, refused},
			{"5000", quoteField(func(a *attestFields) { a.count = 5000 }), reason.TPM2QuoteSelectionCount, refused},
		}},
		{number: 8, name: "empty selection", cases: []forgery{
			{"count 0", banks(), reason.TPM2QuoteSelection, refused},
			{"mask 0", mask(tpm2.Selection{}), reason.TPM2QuoteSelection, refused},
		}},
		{number: 9, name: "subset", cases: []forgery{
			{"no PCR 7", mask(tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 8, 9, 14)), reason.TPM2QuoteSelection, refused},
		}},
		{number: 10, name: "superset", cases: []forgery{
			{"PCR 23 as well", mask(tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 23)), reason.TPM2QuoteSelection, refused},
			{"SHA-1 as well", banks(bankFields{algSHA1, quotedMask}, bankFields{algSHA256, quotedMask}), reason.TPM2QuoteSelection, refused},
		}},
		{number: 11, name: "bank twice", cases: []forgery{
			{"other mask", banks(bankFields{algSHA256, quotedMask}, bankFields{algSHA256, []byte{1, 0, 0}}), reason.TPM2QuoteSelectionDuplicate, refused},
		}},
		{number: 12, name: "sizeofSelect", cases: []forgery{
			{"2", banks(bankFields{algSHA256, quotedMask[:2]}), reason.TPM2QuoteSelectSize, refused},
			{"5", banks(bankFields{algSHA256, append(bytes.Clone(quotedMask), 0, 0)}), reason.TPM2QuoteSelectSize, refused},
			{"255", banks(bankFields{algSHA256, append(bytes.Clone(quotedMask), make([]byte, 252)...)}), reason.TPM2QuoteSelectSize, refused},
		}},
		{number: 13, name: "SHA-1 bank alone", cases: []forgery{{"SHA-1", banks(bankFields{algSHA1, quotedMask}), reason.TPM2PCRBank, refused}}},
		{number: 14, name: "unknown bank", cases: []forgery{{"0x0027", banks(bankFields{0x0027, quotedMask}), reason.TPM2PCRBank, refused}}},
		{number: 15, name: "values of other PCRs", cases: []forgery{
			{"one bit", pcrs(func(p map[int][]byte) { p[4][31] ^= 1 }), reason.TPM2PCRDigest, refused},
			{"the digest", quoteField(func(a *attestFields) { a.digest[0] ^= 1 }), reason.TPM2PCRDigest, refused},
		}},
		{number: 16, name: "value outside the selection", cases: []forgery{
			{"PCR 16", pcrs(func(p map[int][]byte) { p[16] = make([]byte, 32) }), reason.TPM2PCRUnquoted, refused},
		}},
		{number: 17, name: "length of a value", cases: []forgery{
			{"20 bytes", pcrs(func(p map[int][]byte) { p[0] = p[0][:20] }), reason.TPM2PCRLength, refused},
		}},
		{number: 18, name: "PCRs swapped", cases: []forgery{
			{"0 and 7", pcrs(func(p map[int][]byte) { p[0], p[7] = p[7], p[0] }), reason.TPM2PCRDigest, refused},
		}},
	}
}

func otherKind(kind uint16) func(b []byte) []byte {
	return func(b []byte) []byte { b[4], b[5] = byte(kind>>8), byte(kind); return b }
}

// cutEverywhere cuts the quote at each byte: one case a length.
func cutEverywhere() []forgery {
	const length = 145 // of a quote of one bank by a SHA-256 AK
	var out []forgery
	for n := range length {
		out = append(out, forgery{fmt.Sprintf("to %d bytes", n), quoteBytes(func(b []byte) []byte {
			if len(b) != length {
				panic("a quote of another length: cut it at every byte of that")
			}
			return b[:n]
		}), reason.TPM2AttestTruncated, refused})
	}
	return out
}

// catalogueOfChallenges: rows 19 to 27, what the quote is bound to.
func catalogueOfChallenges() []row {
	extra := func(f func(s *specimen) []byte) change {
		return func(t *testing.T, s *specimen) {
			s.ev.TPM2.Quote, s.ev.TPM2.Signature = s.tpm.Quote(t, s.want.Selection, f(s))
		}
	}
	elsewhere := func(f func(s *specimen)) change {
		return extra(func(s *specimen) []byte {
			other := *s
			f(&other)
			return other.bound()
		})
	}
	return []row{
		{number: 19, name: "extraData empty", cases: []forgery{
			{"empty", extra(func(*specimen) []byte { return nil }), reason.TPM2QuoteNonceMismatch, refused},
		}},
		{number: 20, name: "raw nonce", cases: []forgery{
			{"without the SVID key", extra(func(s *specimen) []byte { return s.want.Nonce }), reason.TPM2QuoteNonceMismatch, refused},
		}},
		{number: 21, name: "another SVID key", cases: []forgery{
			{"swapped", func(t *testing.T, s *specimen) { s.ev.SPKI = evidencetest.NewSVIDKey(t).SPKI(t) }, reason.TPM2QuoteNonceMismatch, refused},
		}},
		{number: 22, name: "nonce replayed", broker: []brokerForgery{{"the same body twice", sendsTwice, reason.ChallengeSpent}}},
		{number: 23, name: "nonce expired", broker: []brokerForgery{{"after 60 s", sendsLate, reason.ChallengeExpired}}},
		{number: 24, name: "nonce of another agent", broker: []brokerForgery{{"other AK", sendsTokenOfAnother, reason.ChallengeWrongNode}}},
		{number: 25, name: "nonce altered", broker: []brokerForgery{
			{"one letter", sendsAlteredToken, reason.ChallengeInvalid},
			{"of other keys", sendsTokenOfAnotherBroker, reason.ChallengeInvalid},
		}},
		{number: 26, name: "nonce of another audience", cases: []forgery{
			{"trust domain", elsewhere(func(s *specimen) { s.want.TrustDomain = "other.example" }), reason.TPM2QuoteNonceMismatch, refused},
			{"purpose", elsewhere(func(s *specimen) { s.want.Purpose = verifier.PurposeWorkload }), reason.TPM2QuoteNonceMismatch, refused},
			{"relying party", elsewhere(func(s *specimen) { s.want.Context = make([]byte, 32) }), reason.TPM2QuoteNonceMismatch, refused},
		}},
		{number: 27, name: "quotes made ahead", broker: []brokerForgery{{"handed in later", sendsQuoteMadeAhead, reason.ChallengeExpired}}},
	}
}

// catalogueOfClocks: rows 28 to 34.
func catalogueOfClocks() []row {
	return []row{
		{number: 28, name: "clock smaller", cases: []forgery{
			{"same counters", tpmState(func(p *evidencetest.TPM) { p.Clock.Millis -= 90_000 }), reason.TPM2RolledBack, refused},
		}},
		{number: 29, name: "resetCount smaller", cases: []forgery{
			{"by one", tpmState(func(p *evidencetest.TPM) { p.Clock.ResetCount-- }), reason.TPM2RolledBack, refused},
		}},
		{number: 30, name: "restartCount smaller", good: newResumed, cases: []forgery{
			{"by one", tpmState(func(p *evidencetest.TPM) { p.Clock.RestartCount-- }), reason.TPM2RolledBack, refused},
		}},
		{number: 31, name: "safe", cases: []forgery{
			{"2", quoteField(func(a *attestFields) { a.safe = 2 }), reason.TPM2AttestSafe, refused},
		}},
		{number: 32, name: "clock unsafe", cases: []forgery{
			{"safe=0", tpmState(func(p *evidencetest.TPM) { p.Clock.Safe = false }), reason.TPM2ClockUnsafe, noted},
		}},
		{number: 33, name: "clock set", cases: []forgery{
			{"an hour ahead", tpmState(func(p *evidencetest.TPM) { p.Wait(time.Hour) }), reason.TPM2ClockSet, noted},
		}},
		{number: 34, name: "firmware below the floor", good: newGenuineRenewal, cases: []forgery{
			{"73.63", tpmState(func(p *evidencetest.TPM) { p.Firmware = 73<<48 | 63<<32 }), reason.TPM2FirmwareDenied, outdated},
		}},
	}
}

// newGenuineRenewal is a node whose EK certificate proved its maker at enrolment.
func newGenuineRenewal(t *testing.T) *specimen {
	s := newRenewal(t)
	s.want.Manufacturer = "STM"
	return s
}

// newResumed is a TPM that slept once before its baseline was taken.
func newResumed(t *testing.T) *specimen {
	s := newRenewal(t)
	s.tpm.Clock.RestartCount, s.want.Baseline.Clock.RestartCount = 1, 1
	s.answer(t)
	return s
}
