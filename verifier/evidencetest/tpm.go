package evidencetest

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Noon is the time at which tests begin; certificates of a Maker live then.
var Noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Selection is PCR 0 to 9 and 14: all that a firmware log explains.
var Selection = tpm2.SelectionOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)

// TPM is a TPM that was booted. Its fields may be changed: it quotes what they
// say.
type TPM struct {
	Format   string // of its evidence; "" is verifier.FormatTPM2
	EK       *EK
	AK       *Key
	Clock    tpm2.Clock
	Firmware uint64
	PCRs     [24][32]byte
	EventLog []byte

	EKCertificate []byte   // of a Maker, nil without one
	EKChain       [][]byte // issuers, nearest first
}

// New makes a TPM and boots it through the log of the default machine.
func New(t testing.TB) *TPM {
	t.Helper()
	p := &TPM{
		EK: NewEK(t), AK: NewAK(t), Firmware: 0x2019102300163636,
		Clock: tpm2.Clock{Millis: 100_000, ResetCount: 2, Safe: true},
	}
	p.Boot(build.Machine{}.Log())
	return p
}

// Boot resets the TPM and extends what the log says.
func (p *TPM) Boot(log *build.Builder) {
	p.PCRs = [24][32]byte{}
	p.Clock.ResetCount++
	p.Clock.RestartCount = 0
	for _, e := range log.Extends() {
		p.Extend(e.PCR, e.SHA256)
	}
	p.EventLog = log.Bytes()
}

// Extend is TPM2_PCR_Extend on the SHA-256 bank.
func (p *TPM) Extend(pcr int, digest [32]byte) {
	p.PCRs[pcr] = sha256.Sum256(append(p.PCRs[pcr][:], digest[:]...))
}

// Wait lets the TPM's clock run.
func (p *TPM) Wait(d time.Duration) { p.Clock.Millis += uint64(d.Milliseconds()) }

// Values returns the PCRs of a selection.
func (p *TPM) Values(sel tpm2.Selection) map[int][]byte {
	out := make(map[int][]byte)
	for _, i := range sel.Indexes() {
		out[i] = bytes.Clone(p.PCRs[i][:])
	}
	return out
}

// Quote is TPM2_Quote by the AK over the SHA-256 bank: a TPMS_ATTEST and a
// TPMT_SIGNATURE.
func (p *TPM) Quote(t testing.TB, sel tpm2.Selection, qualifying []byte) (attest, signature []byte) {
	t.Helper()
	h := sha256.New()
	for _, i := range sel.Indexes() {
		h.Write(p.PCRs[i][:])
	}
	w := p.attest(0x8018, qualifying)
	w.u32(1)
	w.u16(algSHA256)
	w.u8(uint8(len(sel)))
	w.raw(sel[:])
	w.sized(h.Sum(nil))
	return w, p.AK.Sign(t, w)
}

// Certify is TPM2_Certify by the AK over a key of the same TPM.
func (p *TPM) Certify(t testing.TB, key *Key, qualifying []byte) *tpm2.CertifyEvidence {
	t.Helper()
	w := p.attest(0x8017, qualifying)
	w.sized(key.Name())
	w.sized(key.QualifiedName())
	return &tpm2.CertifyEvidence{Public: key.Public, Attest: w, Signature: p.AK.Sign(t, w)}
}

// attest is what every TPMS_ATTEST begins with (TPM 2.0 Part 2, 10.12.8).
func (p *TPM) attest(kind uint16, qualifying []byte) wire {
	var w wire
	w.u32(0xff544347)
	w.u16(kind)
	w.sized(p.AK.QualifiedName())
	w.sized(qualifying)
	w.u64(p.Clock.Millis)
	w.u32(p.Clock.ResetCount)
	w.u32(p.Clock.RestartCount)
	if p.Clock.Safe {
		w.u8(1)
	} else {
		w.u8(0)
	}
	w.u64(p.Firmware)
	return w
}

// Evidence is the honest answer to an expectation, with TPM2_Certify of key. The
// EK and its certificate stand in it only where a credential was made.
func (p *TPM) Evidence(t testing.TB, want verifier.Expectation, key *Key) verifier.Evidence {
	t.Helper()
	spki, format := key.SPKI(t), p.Format
	if format == "" {
		format = verifier.FormatTPM2
	}
	bound := verifier.Binding(want.Nonce, spki, want.TrustDomain, want.Purpose, format, want.Context)
	e := &verifier.TPM2Evidence{
		AKPublic: p.AK.Public, PCRs: p.Values(want.Selection), EventLog: p.EventLog,
		Certify: p.Certify(t, key, bound[:]),
	}
	e.Quote, e.Signature = p.Quote(t, want.Selection, bound[:])
	if want.Purpose == verifier.PurposeEnrol {
		e.EKPublic, e.EKCertificate, e.EKChain = p.EK.Public, p.EKCertificate, p.EKChain
	}
	return verifier.Evidence{Format: format, SPKI: spki, TPM2: e}
}
