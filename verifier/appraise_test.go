package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

var noon = evidencetest.Noon

// attempt is one attestation: a TPM with a key, what is expected of it, and what
// it hands over. A case changes the first three before evidence is made, the
// others afterwards.
type attempt struct {
	tpm   *evidencetest.TPM
	key   *evidencetest.Key
	maker *evidencetest.Maker

	want  verifier.Expectation
	ev    verifier.Evidence
	trust verifier.Trust
	now   time.Time
}

// newEnrol is an endorsed TPM's honest answer to a credential.
func newEnrol(t testing.TB) *attempt {
	t.Helper()
	a := &attempt{tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t), maker: evidencetest.NewMaker(t)}
	a.maker.Endorse(t, a.tpm)
	a.trust = verifier.Trust{EKRoots: a.maker.Roots(t)}
	a.challenge(verifier.PurposeEnrol, noon)
	a.answer(t)
	return a
}

// newRenew is a renewal of that TPM a minute after it enrolled. Its log is sent.
func newRenew(t testing.TB) *attempt {
	t.Helper()
	a := newEnrol(t)
	a.moveOn(t, mustAppraise(t, a))
	return a
}

// moveOn makes what an acceptance left behind the baseline of a renewal.
func (a *attempt) moveOn(t testing.TB, done verifier.Appraisal) {
	t.Helper()
	base := &verifier.Baseline{
		Clock: done.Clock(), ClockAt: a.want.IssuedAt, Firmware: done.FirmwareVersion(), Log: eventlog.Keep(done.EventLog()),
	}
	a.tpm.Wait(time.Minute)
	a.challenge(verifier.PurposeRenew, a.want.IssuedAt.Add(time.Minute))
	a.want.Baseline, a.want.Manufacturer, a.want.TPM = base, done.Manufacturer(), done.TPM()
	a.answer(t)
}

func (a *attempt) challenge(purpose string, at time.Time) {
	nonce := sha256.Sum256([]byte(purpose + at.String()))
	a.want = verifier.Expectation{
		TrustDomain: "example.org", Purpose: purpose, Nonce: nonce[:], AKName: a.tpm.AK.Name(),
		Selection: evidencetest.Selection, IssuedAt: at,
	}
	a.now = at.Add(time.Second)
}

func (a *attempt) answer(t testing.TB) { a.ev = a.tpm.Evidence(t, a.want, a.key) }

func (a *attempt) binding() []byte {
	b := verifier.Binding(a.want.Nonce, a.ev.SPKI, a.want.TrustDomain, a.want.Purpose, a.ev.Format, a.want.Context)
	return b[:]
}

// quoteOther replaces the quote by one over other bytes.
func (a *attempt) quoteOther(t testing.TB, sel tpm2.Selection, qualifying []byte) {
	a.ev.TPM2.Quote, a.ev.TPM2.Signature = a.tpm.Quote(t, sel, qualifying)
}

// useCSR has possession proved by a CSR instead of TPM2_Certify.
func (a *attempt) useCSR(csr []byte) { a.ev.TPM2.Certify, a.ev.CSR = nil, csr }

func (a *attempt) appraise() (verifier.Appraisal, error) {
	return verifier.Appraise(a.ev, a.want, a.trust, a.now)
}

func mustAppraise(t testing.TB, a *attempt) verifier.Appraisal {
	t.Helper()
	out, err := a.appraise()
	if err != nil {
		t.Fatalf("honest evidence was refused: %v", err)
	}
	if !out.Authentic() || len(out.Refusals()) > 0 {
		t.Fatalf("accepted with authentic=%t, refusals %v", out.Authentic(), out.Refusals())
	}
	return out
}

func flip(b []byte, i int) []byte {
	out := bytes.Clone(b)
	out[i] ^= 1
	return out
}

func p256Key(t testing.TB) *ecdsa.PrivateKey { return ecKey(t, elliptic.P256()) }

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// passed lists the checks without a code, in order.
func passed(a verifier.Appraisal) []string {
	var out []string
	for _, f := range a.Findings() {
		if f.Code == "" && f.Check != "eventlog.grammar" {
			out = append(out, f.Check)
		}
	}
	return out
}

func TestAppraiseHonestEnrolment(t *testing.T) {
	for _, kind := range []string{"P-256 EK", "RSA EK"} {
		t.Run(kind, func(t *testing.T) {
			a := newEnrol(t)
			if kind == "RSA EK" {
				a.tpm.EK = evidencetest.RSAEK(t)
				a.maker.Endorse(t, a.tpm)
				a.answer(t)
			}
			a.want.RequireGenuine = true
			got := mustAppraise(t, a)
			if got.Format() != "tpm2" || got.BindingClass() != verifier.ClassA || got.KeyResidency() != verifier.KeyTPM {
				t.Errorf("format %q, class %q, key %q", got.Format(), got.BindingClass(), got.KeyResidency())
			}
			if !got.Genuine() || got.Manufacturer() != "STM" || got.SecureBoot() != "on" || got.SecureBootUnproved() != nil {
				t.Errorf("genuine %t, made by %q, secure boot %q (%v)", got.Genuine(), got.Manufacturer(), got.SecureBoot(), got.SecureBootUnproved())
			}
			if got.Clock() != a.tpm.Clock || got.FirmwareVersion() != a.tpm.Firmware || !bytes.Equal(got.EventLog(), a.tpm.EventLog) {
				t.Error("clock, firmware version or event log are not those of the quote")
			}
			if diff := cmp.Diff(a.tpm.Values(evidencetest.Selection), got.PCRs()); diff != "" {
				t.Errorf("PCRs differ from those quoted (-want +got):\n%s", diff)
			}
			if v, ok := got.PCR(4); !ok || !bytes.Equal(v, a.tpm.PCRs[4][:]) || len(got.EventDigests(4)) == 0 {
				t.Errorf("PCR 4 is %x (%t) with %d events", v, ok, len(got.EventDigests(4)))
			}
			if _, ok := got.PCR(10); ok || got.EventDigests(10) != nil {
				t.Error("a PCR that was not quoted became a fact")
			}
			if diff := cmp.Diff([]string{"tpm2.quote", "tpm2.pcrs", "eventlog", "ekcert", "key"}, passed(got)); diff != "" {
				t.Errorf("passed checks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppraiseHonestRenewal(t *testing.T) {
	t.Run("with its log", func(t *testing.T) {
		got := mustAppraise(t, newRenew(t))
		if diff := cmp.Diff([]string{"tpm2.quote", "tpm2.clock", "tpm2.pcrs", "eventlog", "key"}, passed(got)); diff != "" {
			t.Errorf("passed checks (-want +got):\n%s", diff)
		}
		if got.Events() != nil {
			t.Errorf("events %v on an uneventful renewal", got.Events())
		}
	})
	t.Run("the kept log stands in for one that was not sent", func(t *testing.T) {
		a := newRenew(t)
		a.ev.TPM2.EventLog = nil
		got := mustAppraise(t, a)
		if !bytes.Equal(got.EventLog(), a.tpm.EventLog) || got.EventLogDigest() != sha256.Sum256(a.tpm.EventLog) || got.SecureBoot() != "on" || len(got.EventDigests(7)) == 0 {
			t.Errorf("facts of the kept log are missing: secure boot %q", got.SecureBoot())
		}
	})
	t.Run("the log sent counts, not the kept one", func(t *testing.T) {
		a := newRenew(t)
		a.want.Baseline.Log = eventlog.Keep(build.Machine{Disk: "another"}.Log().Bytes())
		if got := mustAppraise(t, a); !bytes.Equal(got.EventLog(), a.tpm.EventLog) {
			t.Error("another log than the one sent is reported")
		}
	})
	t.Run("genuine as verified at enrolment", func(t *testing.T) {
		a := newRenew(t)
		if got := mustAppraise(t, a); !got.Genuine() || got.Manufacturer() != "STM" {
			t.Errorf("genuine %t, made by %q", got.Genuine(), got.Manufacturer())
		}
		a.want.Manufacturer = ""
		if got := mustAppraise(t, a); got.Genuine() || got.Manufacturer() != "" {
			t.Errorf("nobody verified an EK certificate: genuine %t, made by %q", got.Genuine(), got.Manufacturer())
		}
	})
	t.Run("an EK certificate proves nothing at a renewal", func(t *testing.T) {
		a := newRenew(t)
		a.want.Manufacturer = ""
		e := a.ev.TPM2
		e.EKPublic, e.EKCertificate, e.EKChain = a.tpm.EK.Public, a.tpm.EKCertificate, a.tpm.EKChain
		if got := mustAppraise(t, a); got.Genuine() {
			t.Error("nothing ties that EK to this AK, and the node became genuine")
		}
	})
	t.Run("without an EK certificate nothing is refused at a renewal", func(t *testing.T) {
		a := newRenew(t)
		a.want.RequireGenuine = true
		mustAppraise(t, a)
	})
	t.Run("a first renewal has no baseline", func(t *testing.T) {
		a := newRenew(t)
		a.want.Baseline = nil
		if got := mustAppraise(t, a); slices.Contains(passed(got), "tpm2.clock") {
			t.Error("the clock was compared with nothing")
		}
	})
}
