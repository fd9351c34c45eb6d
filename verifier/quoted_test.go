package verifier_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// newQuoted is a TPM whose attestation key Google certified.
func newQuoted(t *testing.T, format, purpose string) *attempt {
	t.Helper()
	a := newRenew(t)
	a.want.Purpose, a.tpm.Format = purpose, format
	a.answer(t)
	google := must(documenttest.NewGCEAK(a.now))
	cert := must(google.Certificate(a.tpm.AK.Signer().Public(), google.Instance(), nil))
	a.ev.Items = []verifier.Item{{Format: verifier.FormatGCEAKCert, Document: cert, Parts: parts{"chain": google.Chain()}}}
	a.trust.Documents.GCEAK = must(akcert.NewTrust(akcert.Objects{Roots: [][]byte{google.Roots()}}))
	return a
}

// TestQuotedByACloud: a quote whose key a document vouches for is judged as that of
// any TPM, with its SVID key and the documents beside it.
func TestQuotedByACloud(t *testing.T) {
	for name, c := range map[string]struct {
		purpose   string
		change    func(a *attempt)
		code      reason.Code
		authentic bool
		class     string
		documents int
	}{
		"a renewal":                {verifier.PurposeRenew, func(*attempt) {}, "", true, "A", 1},
		"a first contact":          {verifier.PurposeEnrol, func(*attempt) {}, "", true, "A", 1},
		"a forged document":        {verifier.PurposeRenew, func(a *attempt) { a.ev.Items[0].Document = flip(a.ev.Items[0].Document, len(a.ev.Items[0].Document)-1) }, reason.TPM2AKCertUntrusted, true, "A", 0},
		"one of a stranger":        {verifier.PurposeEnrol, func(a *attempt) { a.ev.Items[0].Parts = nil }, reason.TPM2AKCertUntrusted, false, "", 0},
		"a key that nobody proved": {verifier.PurposeRenew, func(a *attempt) { a.ev.TPM2.Certify = nil }, reason.RequestMalformed, true, "A", 1},
		"a document of nobody beside": {verifier.PurposeRenew, func(a *attempt) {
			a.ev.Items = append(a.ev.Items, verifier.Item{Format: verifier.FormatEC2IID})
		}, reason.PKCS7Encoding, true, "A", 1},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			a := newQuoted(t, verifier.FormatGCEAKCert, c.purpose)
			c.change(a)
			got, err := a.appraise()
			if reason.Of(err) != c.code || got.Authentic() != c.authentic || len(got.Documents()) != c.documents {
				t.Errorf("%v, want %q; authentic %v, documents %v", err, c.code, got.Authentic(), got.Documents())
			}
			if c.class != "" && got.BindingClass() != c.class {
				t.Errorf("class %q", got.BindingClass())
			}
			if c.code == "" && (got.Machine().Kind != document.MachineGCE || !got.Genuine() || got.KeyResidency() != verifier.KeyTPM) {
				t.Errorf("machine %v, genuine %v, key %s", got.Machine(), got.Genuine(), got.KeyResidency())
			}
		})
	}
}

// TestQuoteInAnotherHierarchy: a cloud makes its keys where it likes, so that the
// quote may name another parent than the owner's hierarchy. An EK's may not: a key
// outside of its hierarchy is not one that the EK vouched for.
func TestQuoteInAnotherHierarchy(t *testing.T) {
	for format, want := range map[string]reason.Code{verifier.FormatGCEAKCert: "", verifier.FormatTPM2: reason.TPM2QuoteSignerMismatch} {
		a := newQuoted(t, format, verifier.PurposeRenew)
		if format == verifier.FormatTPM2 {
			a.ev.Items = nil
		}
		own := a.tpm.AK.QualifiedName()
		a.ev.TPM2.Quote = bytes.Replace(a.ev.TPM2.Quote, own, flip(own, len(own)-1), 1)
		a.ev.TPM2.Signature = a.tpm.AK.Sign(t, a.ev.TPM2.Quote)
		if err := verifier.AuthorHolds(a.ev, a.want); reason.Of(err) != want {
			t.Errorf("%s: %v, want %q", format, err, want)
		}
	}
}

// TestAnchoredByTheQuotedKey: what vouches for the key that quoted is about the
// machine of that TPM; the EK names the node all the same.
func TestAnchoredByTheQuotedKey(t *testing.T) {
	a := newQuoted(t, verifier.FormatTPM2, verifier.PurposeRenew)
	got, err := a.appraise()
	if err != nil {
		t.Fatal(err)
	}
	if docs := got.Documents(); len(docs) != 1 || !docs[0].Anchored || got.BindingClass() != "A" {
		t.Errorf("class %s, %+v", got.BindingClass(), docs)
	}
	if got.Machine() != (document.Machine{}) || !got.Launched().IsZero() {
		t.Errorf("named by %v", got.Machine())
	}
	if checks := passed(got); !slices.Contains(checks, verifier.FormatGCEAKCert) {
		t.Errorf("%v", checks)
	}
	if none := (verifier.Appraisal{}); none.Machine() != (document.Machine{}) {
		t.Errorf("nobody is %v", none.Machine())
	}
}

// TestRuntimeDataOfAnotherKey: beside a quote by another key a report says nothing
// of who quoted: a host could show the report of a confidential machine that it
// read somewhere.
func TestRuntimeDataOfAnotherKey(t *testing.T) {
	a := newAzureCVM(t, nil)
	item, own := &a.ev.Items[0], a.tpm.AK.SPKI(t)
	if _, err := verifier.JudgeItem(item, [32]byte{}, own, &a.trust.Documents, a.now); err != nil {
		t.Errorf("its own: %v", err)
	}
	if _, err := verifier.JudgeItem(item, [32]byte{}, evidencetest.NewAK(t).SPKI(t), &a.trust.Documents, a.now); reason.Of(err) != reason.TPM2AKCertKeyMismatch {
		t.Errorf("another's: %v", err)
	}
}

// TestGPUOfAConfidentialMachine: the report of Azure's machines names the key that
// quoted, not the challenge, and the GPU is the machine's all the same.
func TestGPUOfAConfidentialMachine(t *testing.T) {
	a := newAzureCVM(t, nil)
	pki := documenttest.NewNVIDIAPKI(a.now)
	a.trust.Documents.NVIDIA = must(nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, jwt.Issuers{}))
	device := pki.Device(documenttest.GPUFields{Nonce: sha256.Sum256(a.binding())})
	a.ev.Items = append(a.ev.Items, verifier.Item{Format: verifier.FormatNVIDIA, Document: documenttest.GPUEvidence(device)})
	got, err := a.appraise()
	if err != nil {
		t.Fatal(err)
	}
	if docs := got.Documents(); len(docs) != 2 || !docs[1].Anchored || got.BindingClass() != "A" {
		t.Errorf("class %s, %+v", got.BindingClass(), docs)
	}
}
