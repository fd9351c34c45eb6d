package verifier_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestAppraiseRefused has one row for each way to fail. Authentic says how far
// the evidence got: up to the nonce its author is a stranger.
func TestAppraiseRefused(t *testing.T) {
	for _, tt := range []struct {
		name      string
		enrol     bool
		change    func(t testing.TB, a *attempt)
		want      reason.Code
		authentic bool
	}{
		{"no TPM evidence", false, func(_ testing.TB, a *attempt) { a.ev.TPM2 = nil }, reason.RequestMalformed, false},
		{"AK that is none", false, func(_ testing.TB, a *attempt) { a.ev.TPM2.AKPublic = nil }, reason.TPM2AKEncoding, false},
		{"T47 challenge of another AK", false, func(_ testing.TB, a *attempt) {
			a.want.AKName = flip(a.want.AKName, 5)
		}, reason.ChallengeWrongNode, false},
		{"T48 evidence of another TPM", false, func(t testing.TB, a *attempt) {
			other := evidencetest.New(t)
			a.ev = other.Evidence(t, a.want, a.key)
		}, reason.ChallengeWrongNode, false},
		{"signature of another AK", false, func(t testing.TB, a *attempt) {
			a.ev.TPM2.Signature = evidencetest.NewAK(t).Sign(t, a.ev.TPM2.Quote)
		}, reason.TPM2SignatureInvalid, false},
		{"T3 T47 nonce of another challenge", false, func(_ testing.TB, a *attempt) {
			a.want.Nonce = flip(a.want.Nonce, 0)
		}, reason.TPM2QuoteNonceMismatch, false},
		{"T3 T47 the same at enrolment means another TPM", true, func(_ testing.TB, a *attempt) {
			a.want.Nonce = flip(a.want.Nonce, 0)
		}, reason.TPM2AKActivationFailed, false},
		{"T14 tpm-50 nonce not learnt from the credential", true, func(t testing.TB, a *attempt) {
			a.quoteOther(t, a.want.Selection, make([]byte, 32))
		}, reason.TPM2AKActivationFailed, false},
		{"bad signature at enrolment keeps its code", true, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.Quote = flip(a.ev.TPM2.Quote, 80)
		}, reason.TPM2SignatureInvalid, false},
		{"T47 T48 key of another requester", false, func(t testing.TB, a *attempt) {
			a.ev.SPKI = evidencetest.NewSVIDKey(t).SPKI(t)
		}, reason.TPM2QuoteNonceMismatch, false},
		{"T47 other trust domain", false, func(_ testing.TB, a *attempt) {
			a.want.TrustDomain = "example.com"
		}, reason.TPM2QuoteNonceMismatch, false},
		{"T47 evidence of a renewal as proof for a relying party", false, func(_ testing.TB, a *attempt) {
			a.want.Purpose = verifier.PurposeWorkload
		}, reason.TPM2QuoteNonceMismatch, false},
		{"T47 other context", false, func(_ testing.TB, a *attempt) {
			a.want.Context = make([]byte, 32)
		}, reason.TPM2QuoteNonceMismatch, false},
		{"T7 fewer PCRs than asked for", false, func(t testing.TB, a *attempt) {
			a.quoteOther(t, tpm2.SelectionOf(0, 1), a.binding())
		}, reason.TPM2QuoteSelection, true},
		{"T6 value of another PCR", false, func(_ testing.TB, a *attempt) {
			p := a.ev.TPM2.PCRs
			p[0], p[7] = p[7], p[0]
		}, reason.TPM2PCRDigest, true},
		{"T8 value missing", false, func(_ testing.TB, a *attempt) { delete(a.ev.TPM2.PCRs, 3) }, reason.TPM2PCRLength, true},
		{"T8 value too many", false, func(_ testing.TB, a *attempt) {
			a.ev.TPM2.PCRs[16] = make([]byte, 32)
		}, reason.TPM2PCRUnquoted, true},
		{"certify over another nonce", false, func(t testing.TB, a *attempt) {
			a.ev.TPM2.Certify = a.tpm.Certify(t, a.key, make([]byte, 32))
		}, reason.TPM2CertifyNonceMismatch, true},
		{"certify of another key of the TPM", false, func(t testing.TB, a *attempt) {
			a.ev.TPM2.Certify = a.tpm.Certify(t, evidencetest.NewSVIDKey(t), a.binding())
		}, reason.TPM2CertifyMismatch, true},
		{"certify by another TPM", false, func(t testing.TB, a *attempt) {
			a.ev.TPM2.Certify = evidencetest.New(t).Certify(t, a.key, a.binding())
		}, reason.TPM2CertifyMismatch, true},
		{"a bad certify is not saved by a good CSR", false, func(t testing.TB, a *attempt) {
			a.ev.TPM2.Certify = a.tpm.Certify(t, a.key, make([]byte, 32))
			a.ev.CSR = a.key.CSR(t)
		}, reason.TPM2CertifyNonceMismatch, true},
		{"T49 neither certify nor CSR", false, func(_ testing.TB, a *attempt) { a.useCSR(nil) }, reason.RequestMalformed, true},
		{"CSR is no PKCS#10", false, func(_ testing.TB, a *attempt) { a.useCSR([]byte("0")) }, reason.RequestMalformed, true},
		{"T49 CSR of another key", false, func(t testing.TB, a *attempt) {
			a.useCSR(evidencetest.CSR(t, p256Key(t)))
		}, reason.RequestMalformed, true},
		{"T49 CSR with a signature that does not verify", false, func(t testing.TB, a *attempt) {
			csr := a.key.CSR(t)
			a.useCSR(flip(csr, len(csr)-1))
		}, reason.RequestMalformed, true},
		{"EK that is none", true, func(_ testing.TB, a *attempt) { a.ev.TPM2.EKPublic = nil }, reason.TPM2EKEncoding, true},
		{"EK certificate of another EK", true, func(t testing.TB, a *attempt) {
			a.ev.TPM2.EKCertificate = a.maker.Certificate(t, evidencetest.NewEK(t))
		}, reason.EKCertKeyMismatch, true},
		{"EK certificate of another EK where it has to verify", true, func(t testing.TB, a *attempt) {
			a.want.RequireGenuine = true
			a.ev.TPM2.EKCertificate = a.maker.Certificate(t, evidencetest.NewEK(t))
		}, reason.EKCertKeyMismatch, true},
		{"tpm-56 no EK certificate where it has to verify", true, func(_ testing.TB, a *attempt) {
			a.want.RequireGenuine, a.ev.TPM2.EKCertificate = true, nil
		}, reason.EKCertUntrusted, true},
		{"T20 maker of the EK certificate is unknown", true, func(t testing.TB, a *attempt) {
			a.want.RequireGenuine, a.trust.EKRoots = true, evidencetest.NewMaker(t).Roots(t)
		}, reason.EKCertUntrusted, true},
		{"T20 without the issuer's certificate", true, func(_ testing.TB, a *attempt) {
			a.want.RequireGenuine, a.ev.TPM2.EKChain = true, nil
		}, reason.EKCertUntrusted, true},
		{"T20 EK certificate expired at the time of judgement", true, func(_ testing.TB, a *attempt) {
			a.want.RequireGenuine, a.now = true, noon.AddDate(9, 0, 1)
		}, reason.EKCertValidity, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newRenew(t)
			if tt.enrol {
				a = newEnrol(t)
			}
			tt.change(t, a)
			got, err := a.appraise()
			if reason.Of(err) != tt.want {
				t.Errorf("code %q, want %q (%v)", reason.Of(err), tt.want, err)
			}
			if got.Authentic() != tt.authentic {
				t.Errorf("authentic is %t, want %t", got.Authentic(), tt.authentic)
			}
			if held := verifier.AuthorHolds(a.ev, a.want); (held == nil) != tt.authentic || held != nil && reason.Of(held) != tt.want {
				t.Errorf("the author alone: %v", held)
			}
			if !tt.authentic {
				expectNoFacts(t, got)
			} else if r := got.Refusals(); len(r) != 1 || r[0].Code != tt.want || r[0].Detail == "" {
				t.Errorf("refusals %v, want exactly %q with a detail", r, tt.want)
			}
		})
	}
}

// expectNoFacts: what a stranger sent has no way into an Appraisal.
func expectNoFacts(t *testing.T, a verifier.Appraisal) {
	t.Helper()
	if _, ok := a.PCR(0); ok || a.PCRs() != nil || a.EventDigests(4) != nil || a.EventLog() != nil {
		t.Error("PCRs or events of a stranger became facts")
	}
	if a.Genuine() || a.Manufacturer() != "" || a.KeyResidency() != "" || a.SecureBoot() != "unknown" {
		t.Errorf("facts of a stranger: genuine %t, made by %q, key %q, secure boot %q", a.Genuine(), a.Manufacturer(), a.KeyResidency(), a.SecureBoot())
	}
	if a.Clock() != (tpm2.Clock{}) || a.FirmwareVersion() != 0 || len(a.Findings()) > 0 {
		t.Error("clock, firmware version or findings of a stranger became facts")
	}
}

func TestAppraiseUnknownFormat(t *testing.T) {
	a := newRenew(t)
	a.ev.Format = "sgx"
	got, err := a.appraise()
	if reason.Of(err) != reason.RequestUnknownFormat || got.Authentic() || got.Format() != "" {
		t.Errorf("format %q, authentic %t, %v", got.Format(), got.Authentic(), err)
	}
	expectNoFacts(t, got)
	if verifier.Verifies("sgx") || verifier.Verifies("") || !verifier.Verifies(verifier.FormatTPM2) {
		t.Error("Verifies does not tell what there is a verifier for")
	}
}

func TestAppraiseCSR(t *testing.T) {
	t.Run("possession of a software key", func(t *testing.T) {
		a := newRenew(t)
		a.useCSR(a.key.CSR(t))
		if got := mustAppraise(t, a); got.KeyResidency() != verifier.KeySoftware {
			t.Errorf("a key that nobody certified is said to be in %q", got.KeyResidency())
		}
	})
	for name, key := range map[string]*ecdsa.PrivateKey{"P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521())} {
		t.Run(name+" is no SVID key", func(t *testing.T) {
			a := newRenew(t)
			spki := evidencetest.SPKI(t, key.Public())
			a.ev.SPKI = spki
			a.quoteOther(t, a.want.Selection, a.binding())
			a.useCSR(evidencetest.CSR(t, key))
			if _, err := a.appraise(); reason.Of(err) != reason.RequestMalformed {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("RSA is no SVID key", func(t *testing.T) {
		a := newRenew(t)
		ek := evidencetest.RSAEK(t)
		a.ev.SPKI = ek.SPKI(t)
		a.quoteOther(t, a.want.Selection, a.binding())
		a.useCSR(evidencetest.CSR(t, ek.Signer()))
		if _, err := a.appraise(); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%v", err)
		}
	})
}

// TestAppraiseCollectsEveryRefusal: one answer tells all that is to be repaired,
// and the error is the first in the order of the checks.
func TestAppraiseCollectsEveryRefusal(t *testing.T) {
	a := newEnrol(t)
	a.want.Baseline = &verifier.Baseline{Clock: tpm2.Clock{ResetCount: 99}, ClockAt: noon}
	a.want.RequireGenuine = true
	a.ev.TPM2.PCRs[0] = make([]byte, 32)
	a.ev.TPM2.EKCertificate = nil
	a.useCSR(nil)
	got, err := a.appraise()
	var codes []reason.Code
	for _, r := range got.Refusals() {
		codes = append(codes, r.Code)
	}
	want := []reason.Code{reason.TPM2RolledBack, reason.TPM2PCRDigest, reason.EKCertUntrusted, reason.RequestMalformed}
	if diff := cmp.Diff(want, codes); diff != "" || reason.Of(err) != want[0] {
		t.Errorf("error %v, refusals (-want +got):\n%s", err, diff)
	}
	if got.KeyResidency() != "" || got.PCRs() != nil {
		t.Error("what was refused became a fact")
	}
}

// TestAppraiseGrammarIsNoRefusal: a log that breaks its grammar still explains
// the quote; what its data says is then only claimed.
func TestAppraiseGrammarIsNoRefusal(t *testing.T) {
	a := newRenew(t)
	log := build.Machine{}.Log()
	log.Separator(7)
	a.tpm.Boot(log)
	a.answer(t)
	got := mustAppraise(t, a)
	var codes []reason.Code
	for _, f := range got.Findings() {
		if f.Check == "eventlog.grammar" && f.Code != "" {
			codes = append(codes, f.Code)
			if f.Detail == "" {
				t.Errorf("%s does not say where", f.Code)
			}
		}
	}
	if len(codes) == 0 || got.SecureBoot() != "unknown" || got.SecureBootUnproved() == nil {
		t.Errorf("findings %q, secure boot %q", codes, got.SecureBoot())
	}
}
