package evidencefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Verdict is what judging a file found.
type Verdict struct {
	Refusal  error            // the first refusal in the order of the checks, nil where the evidence is accepted
	Findings []reason.Finding // every check that was made, in order
	Boot     eventlog.Boot    // what the log says about the boot; zero without a log that explains the quote
	PCRs     map[int][]byte   // as quoted; empty where the quote does not verify
	// Documents are what those documents proved that verify, the one that names the
	// node first; they count for nothing where Refusal is set.
	Documents []verifier.Document

	// Appraisal is the hash of the canonical appraisal, "sha256:" and hex; "" for
	// a capture. Same says whether it is the recorded one; true where none is.
	Appraisal string
	Same      bool
}

// Parse reads an evidence file, strictly.
//
// Errors: request.too_large, request.malformed with a JSON pointer.
func Parse(raw []byte) (api.EvidenceFile, error) {
	var f api.EvidenceFile
	if len(raw) > api.MaxEvidenceFile {
		return f, reason.New(reason.RequestTooLarge, "the evidence file is larger than 16 MiB")
	}
	if err := api.DecodeBytes(raw, &f); err != nil {
		return f, err
	}
	return f, f.Validate()
}

// Judge judges a file. The error is one of the file itself (request.malformed):
// what the evidence is refused for stands in the verdict.
func Judge(f api.EvidenceFile) (Verdict, error) {
	if !verifier.Verifies(f.Format) {
		return Verdict{}, reason.New(reason.RequestUnknownFormat, "evidence of this format is not verified here")
	}
	t, err := trust(f.Context)
	if err != nil {
		return Verdict{}, err
	}
	var v Verdict
	if len(f.Context.Nonce) > 0 {
		v, err = judgeAttestation(f, t)
	} else {
		v, err = judgeCapture(f, t)
	}
	if err != nil {
		return Verdict{}, err
	}
	v.expect(f.Context.ExpectedPCRs)
	return v, nil
}

// judgeAttestation judges as the broker did: Appraise decides, and Verify says
// of its quote what was looked at.
func judgeAttestation(f api.EvidenceFile, t verifier.Trust) (Verdict, error) {
	want, err := expectation(f.Context)
	if err != nil {
		return Verdict{}, err
	}
	ev := Evidence(f.Format, f.Evidence)
	var findings []reason.Finding
	var quoteErr error
	if ev.TPM2 != nil {
		ev.TPM2.IMA = IMA(f.Evidence.TPM2)
		bound := verifier.Binding(want.Nonce, ev.SPKI, want.TrustDomain, want.Purpose, ev.Format, want.Context)
		_, findings, quoteErr = tpm2.Verify(quoteOf(f), tpm2.Context{
			Qualifying: bound[:], Selection: want.Selection, AnySigner: verifier.Quoted(ev.Format),
		})
	}
	appraisal, refusal := verifier.Appraise(ev, want, t, f.Context.Time)
	canonical, err := appraisal.Canonical()
	if err != nil {
		return Verdict{}, err
	}
	sum := sha256.Sum256(canonical)
	v := Verdict{
		Refusal: refusal, Findings: findings, Boot: appraisal.Boot(), PCRs: appraisal.PCRs(), Documents: appraisal.Documents(),
		Appraisal: "sha256:" + hex.EncodeToString(sum[:]), Same: true,
	}
	if f.Recorded != nil {
		v.Same = f.Recorded.Appraisal == v.Appraisal
	}
	v.addAppraised(appraisal, quoteErr)
	v.name(refusal)
	return v, nil
}

// quoteChecks are those findings of an appraisal that Verify gives in detail.
var quoteChecks = map[string]bool{"tpm2.quote": true, "tpm2.pcrs": true}

// addAppraised adds what was judged beside the quote.
func (v *Verdict) addAppraised(a verifier.Appraisal, quoteErr error) {
	for _, d := range a.Documents() {
		v.Findings = append(v.Findings, d.Findings...)
	}
	for _, f := range a.Findings() {
		if quoteChecks[f.Check] && (f.Outcome != reason.Refused || quoteErr != nil) {
			continue
		}
		v.Findings = append(v.Findings, f)
	}
}

// name makes sure that the refusal is among the findings: some are not of one
// check (a challenge for another AK, a nonce that was a credential's secret).
func (v *Verdict) name(refusal error) {
	if refusal == nil {
		return
	}
	for _, f := range v.Findings {
		if f.Outcome == reason.Refused && f.Code == reason.Of(refusal) {
			return
		}
	}
	v.Findings = append(v.Findings, reason.Finding{
		Check: "attestation", Outcome: reason.Refused, Code: reason.Of(refusal), Detail: reason.Detail(refusal),
	})
}

func quoteOf(f api.EvidenceFile) tpm2.Evidence {
	e := f.Evidence.TPM2
	out := tpm2.Evidence{AKPublic: e.AKPublic, Attest: e.Quote, Signature: e.Signature, PCRs: pcrValues(e.PCRs)}
	if len(e.AKPublic) == 0 {
		out.AKPublic, out.AKKey = nil, f.Context.AKKey
	}
	if f.Context.RawRSASSA {
		out.Signature = tpm2.RawRSASSA(e.Signature)
	}
	return out
}

// judgeCapture judges a quote of which only the qualifying data is known, and
// what came with it.
func judgeCapture(f api.EvidenceFile, t verifier.Trust) (Verdict, error) {
	x := f.Context
	if f.Evidence.TPM2 == nil {
		return Verdict{}, reason.New(reason.RequestMalformed, "/evidence/tpm2: a capture without a nonce is a quote")
	}
	sel, err := tpm2.ParseSelection(x.Select)
	if err != nil {
		return Verdict{}, err
	}
	bank, _ := tpm2.ParseBank(x.Bank)
	quote, findings, err := tpm2.Verify(quoteOf(f), tpm2.Context{
		Qualifying: x.Qualifying, Selection: sel, Bank: bank, Signer: x.Signer, AnySigner: x.AnySigner, WithoutValues: x.WithoutPCRs,
	})
	v := Verdict{Findings: findings, Refusal: err, Same: true}
	if err != nil {
		return v, nil
	}
	v.PCRs = quote.PCRValues()
	v.logs(f.Evidence.TPM2, quote)
	v.certify(f, quoteOf(f))
	v.ekCertificate(f.Evidence.TPM2, t, x.Time)
	return v, nil
}

func (v *Verdict) certify(f api.EvidenceFile, quote tpm2.Evidence) {
	c := f.Evidence.TPM2.Certify
	if c == nil {
		return
	}
	ak, err := akOf(quote, f.Context)
	if err == nil {
		_, err = tpm2.VerifyCertify(ak, tpm2.CertifyEvidence{Public: c.Public, Attest: c.Attest, Signature: c.Signature}, f.Context.Qualifying)
	}
	if err != nil {
		v.refuse("key", "certify", err)
		return
	}
	v.add(reason.Finding{Check: "key", Detail: "lives in the TPM that quoted", Part: "certify", Bytes: c.Attest})
}

// akOf returns the AK as it was pinned; where nobody did, as the structure that
// it signed names it.
func akOf(quote tpm2.Evidence, x api.EvidenceContext) (tpm2.AK, error) {
	var ak tpm2.AK
	var err error
	if quote.AKKey != nil {
		ak, err = tpm2.AKFromSPKI(quote.AKKey)
	} else {
		ak, err = tpm2.ParseAK(quote.AKPublic)
	}
	if err != nil {
		return ak, err
	}
	switch {
	case len(x.Signer) > 0:
		ak = ak.Pinned(x.Signer)
	case x.AnySigner:
		s, err := tpm2.ReadAttest(quote.Attest, tpm2.KindQuote)
		if err != nil {
			return ak, err
		}
		ak = ak.Pinned(s.Signer)
	}
	return ak, nil
}

// ekCertificate judges the certificate for the EK that came along, else for its
// own key.
func (v *Verdict) ekCertificate(e *api.TPM2Evidence, t verifier.Trust, at time.Time) {
	if len(e.EKCertificate) == 0 {
		return
	}
	var key []byte
	var err error
	if len(e.EKPublic) > 0 {
		var ek tpm2.EK
		ek, err = tpm2.ParseEK(e.EKPublic)
		key = ek.SPKI()
	} else {
		key, err = ekcert.SubjectKey(e.EKCertificate)
		v.add(reason.Finding{Check: "ekcert.key", Outcome: reason.Unchecked, Detail: "no EK came along: the certificate is judged for its own key"})
	}
	if err == nil {
		var chain [][]byte
		for _, c := range e.EKChain {
			chain = append(chain, c)
		}
		_, err = ekcert.Verify(e.EKCertificate, chain, key, t.EKRoots, ekcert.Options{ExtraVendors: t.ExtraVendors, CRLs: t.CRLs}, at)
	}
	if err != nil {
		v.refuse("ekcert", "ek_certificate", err)
		return
	}
	v.add(reason.Finding{Check: "ekcert", Detail: "chain verified", Part: "ek_certificate", Bytes: e.EKCertificate})
}

// expect wants the quoted values to be one of the given sets.
func (v *Verdict) expect(sets []map[string]api.Bytes) {
	if len(sets) == 0 || v.Refusal != nil {
		return
	}
	var nearest error
	for _, set := range sets {
		err := v.meets(pcrValues(set))
		if err == nil {
			v.add(reason.Finding{Check: "expected_pcrs", Detail: "the quoted values are those of an expected set", Part: "pcrs"})
			return
		}
		if nearest == nil {
			nearest = err
		}
	}
	v.refuse("expected_pcrs", "pcrs", nearest)
}

func (v *Verdict) meets(set map[int][]byte) error {
	for i := range tpm2.PCRs {
		want, ok := set[i]
		if !ok {
			continue
		}
		if got := v.PCRs[i]; !bytes.Equal(got, want) {
			return reason.Newf(reason.PolicyPCRMismatch, "pcr=%d is %x, expected %x", i, got, want)
		}
	}
	return nil
}

func (v *Verdict) add(f reason.Finding) { v.Findings = append(v.Findings, f) }

func (v *Verdict) refuse(check, part string, err error) {
	v.add(reason.Finding{Check: check, Outcome: reason.Refused, Code: reason.Of(err), Detail: reason.Detail(err), Part: part})
	if v.Refusal == nil {
		v.Refusal = err
	}
}
