package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// specimen is a good case: a TPM, what a broker expects of it, what it answers.
type specimen struct {
	tpm   *evidencetest.TPM
	key   *evidencetest.Key
	maker *evidencetest.Maker

	want  verifier.Expectation
	ev    verifier.Evidence
	trust verifier.Trust
	now   time.Time
}

// newEnrolment is an endorsed TPM that answers a credential; its EK certificate
// has to verify.
func newEnrolment(t *testing.T) *specimen { return enrolmentWith(t, evidencetest.NewEK(t)) }

func newRSAEnrolment(t *testing.T) *specimen { return enrolmentWith(t, evidencetest.RSAEK(t)) }

func enrolmentWith(t *testing.T, ek *evidencetest.EK) *specimen {
	t.Helper()
	s := &specimen{tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t), maker: evidencetest.NewMaker(t)}
	s.tpm.EK = ek
	s.maker.Endorse(t, s.tpm)
	s.trust = verifier.Trust{EKRoots: s.maker.Roots(t)}
	s.challenge(verifier.PurposeEnrol)
	s.want.RequireGenuine = true
	s.answer(t)
	return s
}

// newRenewal is a known TPM's next attestation: there is a baseline, and the log
// is sent.
func newRenewal(t *testing.T) *specimen { return renewalWith(t, evidencetest.NewAK(t)) }

func newRSARenewal(t *testing.T) *specimen { return renewalWith(t, evidencetest.RSAAK(t)) }

func renewalWith(t *testing.T, ak *evidencetest.Key) *specimen {
	t.Helper()
	s := &specimen{tpm: evidencetest.New(t), key: evidencetest.NewSVIDKey(t)}
	s.tpm.AK = ak
	s.challenge(verifier.PurposeRenew)
	s.want.Baseline = &verifier.Baseline{Clock: s.tpm.Clock, ClockAt: s.want.IssuedAt.Add(-time.Minute), Firmware: s.tpm.Firmware}
	s.tpm.Wait(time.Minute)
	s.answer(t)
	return s
}

func (s *specimen) challenge(purpose string) {
	nonce := sha256.Sum256([]byte(purpose))
	s.want = verifier.Expectation{
		TrustDomain: trustDomain, Purpose: purpose, Nonce: nonce[:], AKName: s.tpm.AK.Name(),
		Selection: evidencetest.Selection, IssuedAt: evidencetest.Noon,
	}
	s.now = evidencetest.Noon.Add(time.Second)
}

func (s *specimen) answer(t *testing.T) { s.ev = s.tpm.Evidence(t, s.want, s.key) }

func (s *specimen) judge() (verifier.Appraisal, error) {
	return verifier.Appraise(s.ev, s.want, s.trust, s.now)
}

func (s *specimen) bound() []byte {
	b := verifier.Binding(s.want.Nonce, s.ev.SPKI, s.want.TrustDomain, s.want.Purpose, s.ev.Format, s.want.Context)
	return b[:]
}

// Ways to change one field. Those of signed structures sign again: a TPM that
// would sign that is the point of the row.

type change = func(t *testing.T, s *specimen)

func evidence(f func(e *verifier.TPM2Evidence)) change {
	return func(_ *testing.T, s *specimen) { f(s.ev.TPM2) }
}

func quoteBytes(f func(b []byte) []byte) change {
	return func(t *testing.T, s *specimen) {
		e := s.ev.TPM2
		e.Quote = f(bytes.Clone(e.Quote))
		e.Signature = s.tpm.AK.Sign(t, e.Quote)
	}
}

func quoteField(f func(a *attestFields)) change {
	return quoteBytes(func(b []byte) []byte {
		a := readAttest(b)
		f(&a)
		return a.marshal()
	})
}

func signatureBytes(f func(b []byte) []byte) change {
	return evidence(func(e *verifier.TPM2Evidence) { e.Signature = f(bytes.Clone(e.Signature)) })
}

// clockField changes what the TPM says, so the quote is a real one.
func tpmState(f func(p *evidencetest.TPM)) change {
	return func(t *testing.T, s *specimen) {
		f(s.tpm)
		s.answer(t)
	}
}

func akField(f func(p *publicFields)) change {
	return evidence(func(e *verifier.TPM2Evidence) { e.AKPublic = changePublic(e.AKPublic, f) })
}

func changePublic(b []byte, f func(p *publicFields)) []byte {
	p := readPublic(b)
	f(&p)
	return p.marshal()
}

// otherLog presents another log for the same boot: the PCRs are those of the
// good one.
func otherLog(f func(events []build.Event) []build.Event) change {
	return func(_ *testing.T, s *specimen) {
		s.ev.TPM2.EventLog = build.New(f(build.Machine{}.Log().Events())...).Bytes()
	}
}

// otherBoot boots the machine through the changed events, and then presents what
// lie makes of them: digests are the TPM's word, types and data the sender's.
func otherBoot(f, lie func(events []build.Event) []build.Event) change {
	return func(t *testing.T, s *specimen) {
		s.tpm.PCRs = [24][32]byte{}
		booted := build.New(f(build.Machine{}.Log().Events())...)
		for _, e := range booted.Extends() {
			s.tpm.Extend(e.PCR, e.SHA256)
		}
		s.tpm.EventLog = build.New(lie(booted.Events())...).Bytes()
		s.answer(t)
	}
}

func asMeasured(events []build.Event) []build.Event { return events }

// logBytes changes the encoding of the good log.
func logBytes(f func(b []byte) []byte) change {
	return evidence(func(e *verifier.TPM2Evidence) { e.EventLog = f(bytes.Clone(e.EventLog)) })
}

// eventAt returns the index of the n-th event of a PCR and type, from 0.
func eventAt(events []build.Event, pcr int, typ uint32, n int) int {
	for i, e := range events {
		if e.PCR == pcr && e.Type == typ {
			if n == 0 {
				return i
			}
			n--
		}
	}
	panic("the machine's log has no such event")
}

// measuredEvent is an event whose digests are those of its data.
func measuredEvent(pcr int, typ uint32, data []byte) build.Event {
	b := build.New()
	b.Measure(pcr, typ, data)
	return b.Events()[0]
}

func secureBoot(pcr int, state byte) build.Event {
	return measuredEvent(pcr, eventlog.TypeVariableDriverConfig, build.VariableData(build.GlobalVariable, "SecureBoot", []byte{state}))
}

func put32le(b []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}
