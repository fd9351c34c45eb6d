package tpm2_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestLimitsAreWhereTheySay: the last size that is read, and the first that is
// not.
func TestLimitsAreWhereTheySay(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	ak, e := by.ak(t), newEvidence(by)
	attest, sig := e.signed(t)
	zeros := func(n int) []byte { return make([]byte, n) }
	certify := func(public []byte) error {
		c := newCertificate(t, by)
		c.rewrite = func(e *tpm2.CertifyEvidence) { e.Public = public }
		_, err := c.verify(t, ak)
		return err
	}
	for _, c := range []struct {
		name     string
		limit    int
		judge    func(b []byte) error
		at, over reason.Code
	}{
		{"AK", 1024, func(b []byte) error { _, err := tpm2.ParseAK(b); return err }, reason.TPM2AKParameters, reason.RequestTooLarge},
		{"EK", 1024, func(b []byte) error { _, err := tpm2.ParseEK(b); return err }, reason.TPM2EKTemplate, reason.RequestTooLarge},
		{"SPKI", 1024, func(b []byte) error { _, err := tpm2.AKFromSPKI(b); return err }, reason.TPM2AKEncoding, reason.RequestTooLarge},
		{"Name", 1024, func(b []byte) error { _, err := tpm2.NameOf(b); return err }, "", reason.RequestTooLarge},
		{"certified key", 1024, certify, reason.TPM2CertifyMismatch, reason.RequestTooLarge},
		{"attest", 1024, func(b []byte) error { return tpm2.Signed(ak, b, sig) }, reason.TPM2SignatureInvalid, reason.RequestTooLarge},
		{"signature", 600, func(b []byte) error { copy(b, sig); return tpm2.Signed(ak, attest, b) }, reason.TPM2SignatureEncoding, reason.RequestTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			junk := func(n int) []byte { b := zeros(n); copy(b, "\x00\x23\x00\x0b\x00\x05\x04\x72"); return b }
			wantCode(t, c.judge(junk(c.limit)), c.at)
			wantCode(t, c.judge(junk(c.limit+1)), c.over)
		})
	}
}

// TestFourBanksAreRead: as many as a TPM has, and then it is the wrong selection,
// in whatever order they stand.
func TestFourBanksAreRead(t *testing.T) {
	mask := []byte{1, 0, 0}
	all := []bank{{sha256Alg, mask}, {sha1Alg, mask}, {sha384Alg, mask}, {sha512Alg, mask}}
	for _, banks := range [][]bank{all, all[:2], {all[1], all[0]}} {
		by := eccSigner(newECC(t), akAttributes)
		e := newEvidence(by)
		e.attest.banks = banks
		_, err := e.verify(t, by.ak(t))
		wantCode(t, err, reason.TPM2QuoteSelection)
	}
}

func TestKeysAtTheEdge(t *testing.T) {
	odd := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	for _, c := range []struct {
		name   string
		kind   string
		change func(p *public)
		code   reason.Code
	}{
		{"RSA-4096", "rsa", func(p *public) { p.bits, p.x = 4096, odd(512) }, ""},
		{"RSA-4104", "rsa", func(p *public) { p.bits, p.x = 4104, odd(513) }, reason.TPM2AKParameters},
		{"RSA-1024 of a sound form", "rsa", func(p *public) { p.bits, p.x = 1024, odd(128) }, reason.TPM2AKParameters},
		{"RSA-2040 of a sound form", "rsa", func(p *public) { p.bits, p.x = 2040, odd(255) }, reason.TPM2AKParameters},
		{"RSA-2049 with 256 bytes", "rsa", func(p *public) { p.bits, p.x = 2049, odd(256) }, reason.TPM2AKParameters},
		{"RSA-2048 with 257 bytes", "rsa", func(p *public) { p.x = odd(257) }, reason.TPM2AKParameters},
		{"P-192 without a point", "p256", func(p *public) { p.curve, p.x, p.y = 0x0001, nil, nil }, reason.TPM2AKParameters},
		{"policy of 20 bytes under nameAlg SHA-1", "", func(p *public) { p.nameAlg, p.policy = sha1Alg, make([]byte, 20) }, reason.TPM2AKParameters},
	} {
		for kind, by := range akKinds(t) {
			if c.kind != "" && c.kind != kind {
				continue
			}
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				p := by.public
				c.change(&p)
				_, err := tpm2.ParseAK(p.marshal())
				wantCode(t, err, c.code)
			})
		}
	}
	t.Run("four bytes of a TPM 1.2 key", func(t *testing.T) {
		_, err := tpm2.ParseAK([]byte{0, 0, 0, 1})
		wantCode(t, err, reason.TPM2Version)
	})
}

// TestUnknownAlgorithmEndsTheDecoding: what follows one whose length nobody
// knows is not looked at, so its absence is not truncation.
func TestUnknownAlgorithmEndsTheDecoding(t *testing.T) {
	for kind, by := range akKinds(t) {
		for name, change := range map[string]func(p *public){
			"symmetric": func(p *public) { p.sym, p.scheme = []uint16{0x7777}, nil },
			"scheme":    func(p *public) { p.scheme = []uint16{0x7777} },
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				p := by.public
				change(&p)
				head := 10 + 2*len(p.sym) + 2*len(p.scheme)
				_, err := tpm2.ParseAK(p.marshal()[:head])
				wantCode(t, err, reason.TPM2AKParameters)
			})
		}
	}
}

func TestSPKIOfOddSizes(t *testing.T) {
	number := func(bits int, last uint) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return n.SetBit(n, 0, last)
	}
	for name, c := range map[string]struct {
		n    *big.Int
		e    int
		code reason.Code
	}{
		"RSA-2048":   {number(2048, 1), 65537, ""},
		"RSA-4096":   {number(4096, 1), 65537, ""},
		"RSA-4104":   {number(4104, 1), 65537, reason.TPM2AKParameters},
		"RSA-2040":   {number(2040, 1), 65537, reason.TPM2AKParameters},
		"RSA-2049":   {number(2049, 1), 65537, reason.TPM2AKParameters},
		"even":       {number(2048, 0), 65537, reason.TPM2AKParameters},
		"exponent 3": {number(2048, 1), 3, reason.TPM2AKParameters},
	} {
		t.Run(name, func(t *testing.T) {
			der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: c.n, E: c.e})
			if err != nil {
				t.Fatal(err)
			}
			_, err = tpm2.AKFromSPKI(der)
			wantCode(t, err, c.code)
		})
	}
}

// TestNoKeyVerifiesNothing: the zero AK has no scheme, and a signature without
// one is not its.
func TestNoKeyVerifiesNothing(t *testing.T) {
	wantCode(t, tpm2.Signed(tpm2.AK{}, []byte("x"), []byte{0, 0, 0, sha256Alg, 0, 0}), reason.TPM2AKParameters)
}

// TestShortNumberIsBelowTheOrder, however its bytes compare.
func TestShortNumberIsBelowTheOrder(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	e := newEvidence(by)
	e.resign = func([]byte) []byte { return eccSignature(bytes.Repeat([]byte{0xff}, 5), []byte{1}) }
	_, err := e.verify(t, by.ak(t))
	wantCode(t, err, reason.TPM2SignatureInvalid)
}

// TestCertifyWithoutAPin: an AK of which only the key is known has no qualified
// name, and an empty one matches nothing.
func TestCertifyWithoutAPin(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	der, err := x509.MarshalPKIXPublicKey(by.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm2.AKFromSPKI(der)
	if err != nil {
		t.Fatal(err)
	}
	c := newCertificate(t, by)
	c.attest.signer = nil
	_, err = c.verify(t, ak)
	wantCode(t, err, reason.TPM2CertifyMismatch)
}

// TestCertifyNamesTheHashFirst: a signature of another hash is that, whoever the
// structure names as its signer.
func TestCertifyNamesTheHashFirst(t *testing.T) {
	by, other := eccSigner(newECC(t), akAttributes), eccSigner(newECC(t), akAttributes)
	c := newCertificate(t, by)
	c.attest.signer = other.qualifiedName()
	c.rewrite = func(e *tpm2.CertifyEvidence) { e.Signature[3] = sha1Alg }
	_, err := c.verify(t, by.ak(t))
	wantCode(t, err, reason.TPM2SignatureHash)
}

// TestClockAcrossAReset: TPM2_Clear sets Clock back beside a reset, and a broker
// whose own clock went back learns nothing from the TPM's.
func TestClockAcrossAReset(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	before := tpm2.Clock{Millis: 100_000, ResetCount: 1, RestartCount: 2, Safe: true}
	after := tpm2.Clock{Millis: 50, ResetCount: 2, RestartCount: 2, Safe: true}
	events, err := tpm2.CompareClock(before, at, after, at.Add(time.Minute))
	if err != nil || len(events) != 1 || events[0] != reason.TPM2Rebooted {
		t.Errorf("%v, %v", events, err)
	}
	later := before
	later.Millis += 45_000
	if events, err := tpm2.CompareClock(before, at, later, at.Add(-30*time.Second)); err != nil || len(events) > 0 {
		t.Errorf("the broker's clock went back by 30 s: %v, %v", events, err)
	}
}

// TestEKIsIndependentOfTheInput: the caller may reuse its buffer before a
// credential is made.
func TestEKIsIndependentOfTheInput(t *testing.T) {
	ak := eccSigner(newECC(t), akAttributes)
	for kind, e := range ekKinds(t) {
		raw := e.public.marshal()
		ek, err := tpm2.ParseEK(raw)
		if err != nil {
			t.Fatal(err)
		}
		clear(raw)
		blob, wrapped, err := ek.MakeCredential(rand.Reader, ak.name(), []byte("secret"))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got, err := e.activate(ak.name(), blob, wrapped); err != nil || string(got) != "secret" {
			t.Errorf("%s: opened %q, %v", kind, got, err)
		}
	}
}
