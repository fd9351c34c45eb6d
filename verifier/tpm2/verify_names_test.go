package tpm2_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestVerifyNamesTheCheck: the finding that refuses is the check that failed, not
// the first or the last of its step.
func TestVerifyNamesTheCheck(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	ak := func(change func(p *public)) func(*evidence, *tpm2.Evidence) {
		return func(_ *evidence, ev *tpm2.Evidence) {
			p := by.public
			change(&p)
			ev.AKPublic = p.marshal()
		}
	}
	quote := func(change func(e *evidence)) func(*evidence, *tpm2.Evidence) {
		return func(e *evidence, ev *tpm2.Evidence) {
			change(e)
			ev.Attest, ev.Signature = e.signed(t)
		}
	}
	for check, c := range map[string]struct {
		change func(*evidence, *tpm2.Evidence)
		code   reason.Code
	}{
		"tpm2.ak.form":         {func(_ *evidence, ev *tpm2.Evidence) { ev.AKPublic = []byte("no") }, reason.TPM2AKEncoding},
		"tpm2.ak.attributes":   {ak(func(p *public) { p.attributes &^= 1 << 16 }), reason.TPM2AKNotRestricted},
		"tpm2.ak.parameters":   {ak(func(p *public) { p.scheme = []uint16{nullAlg} }), reason.TPM2AKParameters},
		"tpm2.signature.form":  {func(_ *evidence, ev *tpm2.Evidence) { ev.Signature = ev.Signature[:20] }, reason.TPM2SignatureEncoding},
		"tpm2.signature.value": {func(_ *evidence, ev *tpm2.Evidence) { ev.Signature[len(ev.Signature)-1] ^= 1 }, reason.TPM2SignatureInvalid},
		"tpm2.attest.magic":    {quote(func(e *evidence) { e.attest.magic = 1 }), reason.TPM2AttestMagic},
		"tpm2.attest.type":     {quote(func(e *evidence) { e.attest.kind = 0x8019 }), reason.TPM2AttestType},
		"tpm2.attest.form":     {quote(func(e *evidence) { e.attest.tail = []byte{0} }), reason.TPM2AttestTrailing},
		"tpm2.quote.signer":    {quote(func(e *evidence) { e.attest.signer = nil }), reason.TPM2QuoteSignerMismatch},
		"tpm2.quote.nonce":     {quote(func(e *evidence) { e.attest.extra = nil }), reason.TPM2QuoteNonceMismatch},
		"tpm2.pcr.bank":        {quote(func(e *evidence) { e.attest.banks[0].hash = sha1Alg }), reason.TPM2PCRBank},
		"tpm2.quote.selection": {quote(func(e *evidence) { e.attest.banks[0].mask = []byte{1, 0, 0} }), reason.TPM2QuoteSelection},
		"tpm2.pcr.values":      {func(_ *evidence, ev *tpm2.Evidence) { delete(ev.PCRs, 3) }, reason.TPM2PCRLength},
		"tpm2.pcr.digest":      {func(_ *evidence, ev *tpm2.Evidence) { ev.PCRs[0], ev.PCRs[1] = ev.PCRs[1], ev.PCRs[0] }, reason.TPM2PCRDigest},
		"tpm2.quote.selection_count": {quote(func(e *evidence) {
			e.attest.banks = append(e.attest.banks, make([]bank, 4)...)
		}), reason.TPM2QuoteSelectionCount},
	} {
		t.Run(check, func(t *testing.T) {
			e, ev, ctx := capture(t, by)
			c.change(e, &ev)
			_, findings, err := tpm2.Verify(ev, ctx)
			wantCode(t, err, c.code)
			if len(findings) == 0 {
				t.Fatal("nothing is listed")
			}
			if f := findings[len(findings)-1]; f.Check != check || f.Code != c.code || f.Outcome != reason.Refused {
				t.Errorf("refused by %+v", f)
			}
		})
	}
}

// TestVerifyPrefersThePublicArea: where both are given, the one whose attributes
// can be judged counts; where neither is, that one is missed.
func TestVerifyPrefersThePublicArea(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	_, ev, ctx := capture(t, by)
	ev.AKKey = []byte("no key")
	_, findings, err := tpm2.Verify(ev, ctx)
	if err != nil || findings[0].Part != "ak_public" {
		t.Errorf("%v, %+v", err, findings[0])
	}
	_, _, err = tpm2.Verify(tpm2.Evidence{}, ctx)
	if reason.Of(err) != reason.TPM2AKEncoding || !strings.Contains(reason.Detail(err), "TPMT_PUBLIC") {
		t.Errorf("without any AK: %v", err)
	}
}

// TestVerifyListsWhatIsUnchecked: with a bare key and any signer exactly that is
// unchecked, and nothing else.
func TestVerifyListsWhatIsUnchecked(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	_, ev, ctx := capture(t, by)
	der, err := x509.MarshalPKIXPublicKey(by.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ev.AKPublic, ev.AKKey, ctx.AnySigner = nil, der, true
	_, findings, err := tpm2.Verify(ev, ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all, unchecked []string
	for _, f := range findings {
		all = append(all, f.Check)
		if f.Outcome == reason.Unchecked {
			unchecked = append(unchecked, f.Check)
		}
	}
	if got := strings.Join(unchecked, " "); got != "tpm2.ak.attributes tpm2.quote.signer" {
		t.Errorf("unchecked: %s", got)
	}
	if got := strings.Join(all[:4], " "); got != "tpm2.ak.form tpm2.ak.attributes tpm2.ak.parameters tpm2.signature.form" {
		t.Errorf("listed: %s", got)
	}
}
