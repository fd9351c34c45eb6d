package verifier_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestTrustObjectsOfAMD: what an operator imported is what reports are judged by: a
// root, a VCEK of the chip for reports without one, and a list that revokes.
func TestTrustObjectsOfAMD(t *testing.T) {
	amd := amdAtNoon()
	bound := [32]byte{7}
	r := amd.Report()
	r.ReportData = document.ReportData(bound, nil)
	e, err := amd.VCEK(r.ChipID, r.Reported, nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := e.Sign(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	revoking, err := amd.CRL(true, noon.AddDate(0, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	root := verifier.TrustObject{Kind: verifier.TrustSNP, Name: "milan", Raw: amd.Roots()}
	vcek := verifier.TrustObject{Kind: verifier.TrustVCEK, Name: "milan-4041", Raw: e.Certificate}
	list := verifier.TrustObject{Kind: verifier.TrustSNPCRL, Name: "milan", Raw: revoking}
	for name, tc := range map[string]struct {
		objects []verifier.TrustObject
		want    reason.Code
	}{
		"root and VCEK":    {[]verifier.TrustObject{root, vcek}, ""},
		"no VCEK":          {[]verifier.TrustObject{root}, reason.SNPUntrusted},
		"no root":          {[]verifier.TrustObject{vcek}, reason.SNPUntrusted},
		"a list as well":   {[]verifier.TrustObject{root, vcek, list}, reason.SNPUntrusted},
		"nothing imported": {nil, reason.SNPUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			trust, err := verifier.NewDocuments(tc.objects)
			if err != nil {
				t.Fatal(err)
			}
			item := verifier.Item{Format: verifier.FormatSNP, Document: report}
			if _, err := verifier.JudgeItem(&item, bound, nil, &trust, noon); reason.Of(err) != tc.want {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	for name, o := range map[string]verifier.TrustObject{
		"an ASK without ARK": {Kind: verifier.TrustSNP, Name: "a", Raw: amd.ASK()},
		"an ASK as VCEK":     {Kind: verifier.TrustVCEK, Name: "a", Raw: amd.ASK()},
		"no list":            {Kind: verifier.TrustSNPCRL, Name: "a", Raw: []byte("x")},
		"no CA of Google":    {Kind: verifier.TrustGoogleAK, Name: "a", Raw: []byte("x")},
	} {
		if _, err := verifier.NewDocuments([]verifier.TrustObject{o}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTrustObjectsOfGoogle: the CA of AK certificates comes out of its kind.
func TestTrustObjectsOfGoogle(t *testing.T) {
	s := newAKScene(t, func(*akScene) {})
	google, err := documenttest.NewGCEAK(noon)
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]reason.Code{string(s.google.Roots()): "", string(google.Roots()): reason.TPM2AKCertUntrusted} {
		if s.trust, err = verifier.NewDocuments([]verifier.TrustObject{{Kind: verifier.TrustGoogleAK, Name: "ca", Raw: []byte(raw)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.judge(); reason.Of(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestTrustObjectsRevoke: lists of Google and of an existing PKI come out of their
// kinds, and an evidence file of their formats takes them along.
func TestTrustObjectsRevoke(t *testing.T) {
	s := newAKScene(t, func(*akScene) {})
	ca, key := documenttest.NewX509CA(noon), documenttest.ECKey(elliptic.P256())
	bound := [32]byte{7}
	machine := verifier.Item{
		Format: verifier.FormatX509PoP, Document: ca.Issue(ca.Template("a"), key.Public()),
		Parts: map[string][]byte{"chain": ca.ChainPEM(), "signature": documenttest.Possess(key, bound)},
	}
	for _, revoked := range []bool{false, true} {
		list, err := s.google.CRL(revoked)
		if err != nil {
			t.Fatal(err)
		}
		s.trust, err = verifier.NewDocuments([]verifier.TrustObject{
			{Kind: verifier.TrustGoogleAK, Name: "ca", Raw: s.google.Roots()},
			{Kind: verifier.TrustGoogleCRL, Name: "ca", Raw: list},
			{Kind: verifier.TrustX509PoP, Name: "ca", Raw: ca.RootPEM()},
			{Kind: verifier.TrustX509CRL, Name: "ca", Raw: ca.CRL(revoked, noon.AddDate(0, 1, 0))},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.judge(); (reason.Of(err) == reason.TPM2AKCertUntrusted) != revoked || (err != nil) != revoked {
			t.Errorf("Google, revoked %t: %v", revoked, err)
		}
		if _, err := verifier.JudgeItem(&machine, bound, nil, &s.trust, noon); (reason.Of(err) == reason.X509PoPUntrusted) != revoked || (err != nil) != revoked {
			t.Errorf("x509pop, revoked %t: %v", revoked, err)
		}
	}
	for format, kind := range map[string]string{verifier.FormatGCEAKCert: verifier.TrustGoogleCRL, verifier.FormatX509PoP: verifier.TrustX509CRL} {
		if _, err := verifier.NewDocuments([]verifier.TrustObject{{Kind: kind, Name: "a", Raw: []byte("x")}}); err == nil {
			t.Errorf("%s: a list that is none is taken", kind)
		}
		if !verifier.TrustedBy(format, kind) || verifier.TrustedBy(verifier.FormatTDX, kind) {
			t.Errorf("%s: not told of %s alone", kind, format)
		}
	}
}
