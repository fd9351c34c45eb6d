package tpm2_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// capture is good evidence for Verify, and what it has to match.
func capture(t *testing.T, by signer) (*evidence, tpm2.Evidence, tpm2.Context) {
	t.Helper()
	e := newEvidence(by)
	attest, sig := e.signed(t)
	return e, tpm2.Evidence{AKPublic: by.ak(t).Public(), Attest: attest, Signature: sig, PCRs: e.pcrs},
		tpm2.Context{Qualifying: e.qualifying, Selection: e.want}
}

// TestVerifyLists: every check that passed is listed in its order, with the
// bytes that decided.
func TestVerifyLists(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e, ev, ctx := capture(t, by)
	q, findings, err := tpm2.Verify(ev, ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.pcrs, q.PCRValues()); diff != "" || q.Bank() != tpm2.BankSHA256 {
		t.Errorf("%s: %s", q.Bank(), diff)
	}
	type line struct {
		check, part string
		offset      int
		bytes       []byte
	}
	body := 6 + 2 + 34 + 2 + 32 + 17 + 8
	want := []line{
		{"tpm2.ak.form", "ak_public", 0, ev.AKPublic},
		{"tpm2.ak.attributes", "ak_public", 4, ev.AKPublic[4:8]},
		{"tpm2.ak.parameters", "ak_public", 0, ev.AKPublic},
		{"tpm2.signature.form", "signature", 0, ev.Signature},
		{"tpm2.signature.value", "signature", 0, ev.Signature},
		{"tpm2.attest.magic", "quote", 0, []byte{0xff, 0x54, 0x43, 0x47}},
		{"tpm2.attest.type", "quote", 4, []byte{0x80, 0x18}},
		{"tpm2.attest.form", "quote", 0, ev.Attest},
		{"tpm2.quote.signer", "quote", 8, by.qualifiedName()},
		{"tpm2.quote.nonce", "quote", 6 + 2 + 34 + 2, e.qualifying},
		{"tpm2.quote.selection_count", "quote", body, []byte{0, 0, 0, 1}},
		{"tpm2.pcr.bank", "quote", body + 4, append([]byte{0, 0x0b, 3}, e.want[:]...)},
		{"tpm2.quote.selection", "quote", body + 4, append([]byte{0, 0x0b, 3}, e.want[:]...)},
		{"tpm2.pcr.values", "pcrs", 0, nil},
		{"tpm2.pcr.digest", "quote", body + 4 + 6 + 2, digestOf(e.pcrs)},
	}
	if len(findings) != len(want) {
		t.Fatalf("%d findings, want %d", len(findings), len(want))
	}
	for i, w := range want {
		f := findings[i]
		if f.Check != w.check || f.Part != w.part || f.Offset != w.offset || !bytes.Equal(f.Bytes, w.bytes) || f.Detail == "" {
			t.Errorf("finding %d: %+v, want %+v", i, f, w)
		}
	}
}

func TestVerifyPinnedSigner(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e := newEvidence(by)
	e.attest.signer = []byte("child of a storage key")
	attest, sig := e.signed(t)
	ev := tpm2.Evidence{AKPublic: by.ak(t).Public(), Attest: attest, Signature: sig, PCRs: e.pcrs}
	ctx := tpm2.Context{Qualifying: e.qualifying, Selection: e.want}
	_, _, err := tpm2.Verify(ev, ctx)
	wantCode(t, err, reason.TPM2QuoteSignerMismatch)

	ctx.Signer = e.attest.signer
	_, findings, err := tpm2.Verify(ev, ctx)
	wantCode(t, err, "")
	wantOutcome(t, findings, "tpm2.quote.signer", reason.Passed)

	ctx.Signer, ctx.AnySigner = nil, true
	_, findings, err = tpm2.Verify(ev, ctx)
	wantCode(t, err, "")
	wantOutcome(t, findings, "tpm2.quote.signer", reason.Unchecked)

	if _, err := tpm2.AuthenticateQuote(by.ak(t).Pinned(e.attest.signer), attest, sig, e.qualifying); err != nil {
		t.Error(err)
	}
}

func wantOutcome(t *testing.T, findings []reason.Finding, check string, want reason.Outcome) {
	t.Helper()
	for _, f := range findings {
		if f.Check == check {
			if f.Outcome != want {
				t.Errorf("%s: %s, want %s", check, f.Outcome, want)
			}
			return
		}
	}
	t.Errorf("%s is not listed", check)
}

// TestVerifyKeyWithoutAttributes: a key alone verifies a capture, says what it
// left unchecked, and opens nothing on the path of a broker.
func TestVerifyKeyWithoutAttributes(t *testing.T) {
	for kind, by := range akKinds(t) {
		t.Run(kind, func(t *testing.T) {
			_, ev, ctx := capture(t, by)
			spki := spkiOf(t, by)
			ev.AKPublic, ev.AKKey = nil, spki
			_, _, err := tpm2.Verify(ev, ctx)
			wantCode(t, err, reason.TPM2QuoteSignerMismatch)
			ctx.AnySigner = true
			_, findings, err := tpm2.Verify(ev, ctx)
			wantCode(t, err, "")
			wantOutcome(t, findings, "tpm2.ak.attributes", reason.Unchecked)
			wantOutcome(t, findings, "tpm2.ak.parameters", reason.Passed)

			ak, err := tpm2.AKFromSPKI(spki)
			if err != nil || ak.Name() != nil || ak.Public() != nil {
				t.Fatal(err, ak)
			}
			_, err = tpm2.AuthenticateQuote(ak, ev.Attest, ev.Signature, ctx.Qualifying)
			wantCode(t, err, reason.TPM2QuoteSignerMismatch)
			// Not even a quote that names nobody.
			e := newEvidence(by)
			e.attest.signer = nil
			attest, sig := e.signed(t)
			_, err = tpm2.AuthenticateQuote(ak, attest, sig, e.qualifying)
			wantCode(t, err, reason.TPM2QuoteSignerMismatch)
		})
	}
}

func spkiOf(t *testing.T, by signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(by.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeysThatNoAKHas(t *testing.T) {
	der := func(pub any) []byte {
		b, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := rsaKeys()[0].PublicKey
	odd := rsa.PublicKey{N: good.N, E: 3}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der  []byte
		want reason.Code
	}{
		"P-384":    {der(&p384.PublicKey), reason.TPM2AKParameters},
		"exponent": {der(&odd), reason.TPM2AKParameters},
		"RSA-1024": {der(&short.PublicKey), reason.TPM2AKParameters},
		"trailing": {append(der(&good), 0), reason.TPM2AKEncoding},
		"no DER":   {[]byte("key"), reason.TPM2AKEncoding},
		"large":    {make([]byte, 1025), reason.RequestTooLarge},
		"good":     {der(&good), ""},
	} {
		_, err := tpm2.AKFromSPKI(c.der)
		if reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestVerifyWithoutValues(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	_, ev, ctx := capture(t, by)
	ev.PCRs, ctx.WithoutValues = nil, true
	q, findings, err := tpm2.Verify(ev, ctx)
	wantCode(t, err, "")
	wantOutcome(t, findings, "tpm2.pcr.values", reason.Unchecked)
	if len(q.PCRValues()) != 0 || q.Clock().ResetCount != 3 || q.Selection() != (tpm2.Selection{}) {
		t.Errorf("%+v", q)
	}
}

// TestBanks: the bank is the asker's, the digest is by the scheme's hash.
func TestBanks(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e := newEvidence(by)
	for i := range e.pcrs {
		sum := sha512.Sum384([]byte{byte(i)})
		e.pcrs[i] = sum[:]
	}
	e.attest.banks, e.attest.digest = []bank{{0x000c, e.want[:]}}, digestOf(e.pcrs)
	attest, sig := e.signed(t)
	ev := tpm2.Evidence{AKPublic: by.ak(t).Public(), Attest: attest, Signature: sig, PCRs: e.pcrs}
	for bank, want := range map[tpm2.Bank]reason.Code{
		tpm2.BankSHA384: "", tpm2.BankSHA256: reason.TPM2PCRBank, tpm2.BankSHA1: reason.TPM2PCRBank, 0: reason.TPM2PCRBank, 0x27: reason.TPM2PCRBank,
	} {
		q, _, err := tpm2.Verify(ev, tpm2.Context{Qualifying: e.qualifying, Selection: e.want, Bank: bank})
		wantCode(t, err, want)
		if err == nil && q.Bank() != bank {
			t.Errorf("bank %s", q.Bank())
		}
	}
	e.pcrs[3] = e.pcrs[3][:32]
	_, _, err := tpm2.Verify(ev, tpm2.Context{Qualifying: e.qualifying, Selection: e.want, Bank: tpm2.BankSHA384})
	wantCode(t, err, reason.TPM2PCRLength)
}

func TestSHA1BankIsNeverAccepted(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e := newEvidence(by)
	for i := range e.pcrs {
		e.pcrs[i] = e.pcrs[i][:20]
	}
	e.attest.banks, e.attest.digest = []bank{{0x0004, e.want[:]}}, digestOf(e.pcrs)
	attest, sig := e.signed(t)
	ev := tpm2.Evidence{AKPublic: by.ak(t).Public(), Attest: attest, Signature: sig, PCRs: e.pcrs}
	_, _, err := tpm2.Verify(ev, tpm2.Context{Qualifying: e.qualifying, Selection: e.want, Bank: tpm2.BankSHA1})
	wantCode(t, err, reason.TPM2PCRBank)
}

func TestBankNames(t *testing.T) {
	for _, name := range []string{"sha1", "sha256", "sha384"} {
		if b, ok := tpm2.ParseBank(name); !ok || b.String() != name {
			t.Errorf("%s: %v %v", name, b, ok)
		}
	}
	if _, ok := tpm2.ParseBank("SHA256"); ok {
		t.Error("a bank has one spelling")
	}
	if tpm2.Bank(0).String() != "sha256" {
		t.Error("the zero value")
	}
}

func TestRawRSASSA(t *testing.T) {
	by := rsaSigner(rsaKeys()[0], akAttributes)
	_, ev, ctx := capture(t, by)
	raw := ev.Signature[6:]
	_, _, err := tpm2.Verify(tpm2.Evidence{AKPublic: ev.AKPublic, Attest: ev.Attest, Signature: raw, PCRs: ev.PCRs}, ctx)
	if err == nil {
		t.Error("a bare signature was taken for a structure")
	}
	ev.Signature = tpm2.RawRSASSA(raw)
	_, _, err = tpm2.Verify(ev, ctx)
	wantCode(t, err, "")
	ev.Signature = tpm2.RawRSASSA(raw[1:])
	_, _, err = tpm2.Verify(ev, ctx)
	wantCode(t, err, reason.TPM2SignatureEncoding)
	ev.Signature = tpm2.RawRSASSA(make([]byte, 70000))
	_, _, err = tpm2.Verify(ev, ctx)
	wantCode(t, err, reason.RequestTooLarge)
}

func TestReadAttest(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e, ev, _ := capture(t, by)
	s, err := tpm2.ReadAttest(ev.Attest, tpm2.KindQuote)
	if err != nil {
		t.Fatal(err)
	}
	clear(ev.Attest) // nothing may point into the caller's bytes
	if !bytes.Equal(s.ExtraData, e.qualifying) || !bytes.Equal(s.Signer, by.qualifiedName()) || !bytes.Equal(s.PCRDigest, digestOf(e.pcrs)) ||
		len(s.Selections) != 1 || s.Selections[0].Algorithm != 0x000b || !bytes.Equal(s.Selections[0].Mask, e.want[:]) || s.Clock.RestartCount != 1 || s.FirmwareVersion != e.attest.firmware {
		t.Errorf("%+v", s)
	}
	wantCode(t, s.CheckSelection(tpm2.BankSHA256, e.want), "")
	wantCode(t, s.CheckSelection(tpm2.BankSHA384, e.want), reason.TPM2PCRBank)
	wantCode(t, tpm2.Structure{}.CheckSelection(tpm2.BankSHA256, e.want), reason.TPM2QuoteSelection)
	_, err = tpm2.ReadAttest(make([]byte, 1025), tpm2.KindQuote)
	wantCode(t, err, reason.RequestTooLarge)
	_, err = tpm2.ReadAttest([]byte("\x01\x01\x00\x00QUOT"), tpm2.KindQuote)
	wantCode(t, err, reason.TPM2Version)
}

// TestFirstFieldIsNamed: a structure is judged front to back.
func TestFirstFieldIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		b    string
		want reason.Code
	}{
		"nothing":            {"", reason.TPM2AttestTruncated},
		"half a type":        {"\xffTCG\x80", reason.TPM2AttestTruncated},
		"magic before type":  {"\xffTCH\x80\x17", reason.TPM2AttestMagic},
		"type before length": {"\xffTCG\x80\x17", reason.TPM2AttestType},
		"length":             {"\xffTCG\x80\x18", reason.TPM2AttestTruncated},
	} {
		_, err := tpm2.ReadAttest([]byte(c.b), tpm2.KindQuote)
		if reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestHierarchy(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	ak := by.ak(t)
	if got := ak.Hierarchy(ak.QualifiedName()); got != "endorsement" {
		t.Errorf("endorsement: %q", got)
	}
	if got := ak.Hierarchy(by.name()); got != "" {
		t.Errorf("no primary: %q", got)
	}
	key, err := tpm2.AKFromSPKI(spkiOf(t, by))
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Hierarchy(ak.QualifiedName()); got != "" {
		t.Errorf("a key without Name: %q", got)
	}
}

func TestNameOf(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	name, err := tpm2.NameOf(by.ak(t).Public())
	if err != nil || !bytes.Equal(name, by.name()) {
		t.Error(name, err)
	}
	_, err = tpm2.NameOf([]byte(strings.Repeat("x", 1025)))
	wantCode(t, err, reason.RequestTooLarge)
}

func TestSigned(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	_, ev, _ := capture(t, by)
	wantCode(t, tpm2.Signed(by.ak(t), ev.Attest, ev.Signature), "")
	wantCode(t, tpm2.Signed(by.ak(t), flip(ev.Attest, 0), ev.Signature), reason.TPM2SignatureInvalid)
	wantCode(t, tpm2.Signed(by.ak(t), make([]byte, 1025), ev.Signature), reason.RequestTooLarge)
}

func TestReadPublic(t *testing.T) {
	for kind, by := range akKinds(t) {
		public := by.ak(t).Public()
		p, err := tpm2.ReadPublic(public)
		if err != nil || p.Attributes != akAttributes || p.NameAlg != 0x000b || p.Hash != 0x000b {
			t.Errorf("%s: %+v, %v", kind, p, err)
		}
		before := bytes.Clone(p.X)
		clear(public)
		if !bytes.Equal(before, p.X) || len(p.X) == 0 {
			t.Errorf("%s: the key points into the caller's bytes", kind)
		}
	}
	_, err := tpm2.ReadPublic([]byte("x"))
	wantCode(t, err, reason.TPM2AKEncoding)
}
