package verifier_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// TestSNPItem: the binding and the AK of the quote stand in REPORT_DATA, and a
// report without the AK does not go with a quote.
func TestSNPItem(t *testing.T) {
	now, amd := noon, amdAtNoon()
	trust, err := snp.NewTrust(snp.Objects{Roots: [][]byte{amd.Roots()}})
	if err != nil {
		t.Fatal(err)
	}
	bound, ak := [32]byte{1, 2, 3}, []byte("an attestation key")
	sign := func(akInside []byte, vlek bool) (report, cert []byte) {
		r := amd.Report()
		r.ReportData = document.ReportData(bound, akInside)
		e, err := amd.VCEK(r.ChipID, r.Reported, nil)
		if vlek {
			r.KeyInfo = 1 << 2
			e, err = amd.VLEK("CN=cc.example.com", r.Reported, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		report, err = e.Sign(r.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return report, e.Certificate
	}
	akSum := sha256.Sum256(ak)
	for name, tc := range map[string]struct {
		inside, quoted []byte
		vlek           bool
		part           string
		want           reason.Code
	}{
		"alone":                        {nil, nil, false, "vcek", ""},
		"VLEK":                         {nil, nil, true, "vlek", ""},
		"with the AK of the quote":     {ak, ak, false, "vcek", ""},
		"the quote's AK is not inside": {nil, ak, false, "vcek", reason.SNPReportData},
		"another AK inside":            {[]byte("x"), ak, false, "vcek", reason.SNPReportData},
		"an AK, and no quote":          {ak, nil, false, "vcek", reason.SNPReportData},
		"no certificate":               {nil, nil, false, "other", reason.SNPUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			report, cert := sign(tc.inside, tc.vlek)
			item := verifier.Item{Format: verifier.FormatSNP, Document: report, Parts: map[string][]byte{tc.part: cert}}
			f, err := verifier.JudgeItem(&item, bound, tc.quoted, &verifier.Documents{SNP: trust}, now)
			if got := reason.Of(err); got != tc.want {
				t.Fatalf("%q, want %q (%v)", got, tc.want, err)
			}
			if err != nil {
				return
			}
			want := []document.Anchor{{Kind: document.AnchorReport, Value: hex.EncodeToString(bound[:])}}
			if tc.inside != nil {
				want = append(want, document.Anchor{Kind: document.AnchorAK, Value: hex.EncodeToString(akSum[:])})
			}
			if len(f.Anchors) != len(want) || f.Anchors[0] != want[0] || f.Anchors[len(want)-1] != want[len(want)-1] {
				t.Errorf("anchors %v, want %v", f.Anchors, want)
			}
		})
	}
	report, cert := sign(nil, false)
	item := verifier.Item{Format: verifier.FormatSNP, Document: report, Parts: map[string][]byte{"vcek": cert, "vlek": cert}}
	if _, err := verifier.JudgeItem(&item, bound, nil, &verifier.Documents{SNP: trust}, now); reason.Of(err) != reason.RequestMalformed {
		t.Errorf("two certificates: %v", err)
	}
}
