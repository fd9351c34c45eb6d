package tsm_test

import (
	"crypto/elliptic"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/collecttest"
	"github.com/zonebroker/zonebroker/broker/agent/collect/tsm"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// This file holds what the collectors make of a guest's answers against the
// verifier: the answers are signed by test PKIs of the makers' shape, over whatever
// the collector handed to the kernel.

// processor is a machine of AMD's with both kinds of keys.
type processor struct {
	t          *testing.T
	amd        *documenttest.AMD
	vcek, vlek *documenttest.Endorser
	provider   bool // the provider's key signs
}

func newProcessor(t *testing.T, product string) *processor {
	t.Helper()
	p := &processor{t: t}
	var err error
	if p.amd, err = documenttest.NewAMD(product, collecttest.Noon); err != nil {
		t.Fatal(err)
	}
	r := p.amd.Report()
	if p.vcek, err = p.amd.VCEK(r.ChipID, r.Reported, nil); err != nil {
		t.Fatal(err)
	}
	if p.vlek, err = p.amd.VLEK("Test Cloud", r.Reported, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *processor) trust() verifier.TrustObject {
	return verifier.TrustObject{Kind: verifier.TrustSNP, Name: "test", Raw: p.amd.Roots()}
}

// report signs a report of what the guest asked for.
func (p *processor) report(data []byte) []byte {
	p.t.Helper()
	r, by := p.amd.Report(), p.vcek
	copy(r.ReportData[:], data)
	if p.provider {
		r.KeyInfo, by = 1<<2, p.vlek
		r.ChipID = [64]byte{}
	}
	raw, err := by.Sign(r.Bytes())
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// certificates is the table that a host gives along with both keys and the chain,
// each under the GUID of GHCB 2.03, table 13, as it is written there.
func (p *processor) certificates() []byte {
	entries := []struct {
		guid string
		der  []byte
	}{
		{"c0b406a4-a803-4952-9743-3fb6014cd0ae", p.amd.ARK()},
		{"4ab7b379-bbac-4fe4-a02f-05aef327c782", p.amd.ASK()},
		{"63da758d-e664-4564-adc5-f4b93be8accd", p.vcek.Certificate},
		{"a8074bc2-a25a-483e-aae6-39c045a0b8a1", p.vlek.Certificate},
	}
	var head, body []byte
	for _, e := range entries {
		guid, err := hex.DecodeString(strings.ReplaceAll(e.guid, "-", ""))
		if err != nil {
			p.t.Fatal(err)
		}
		head = binary.LittleEndian.AppendUint32(append(head, guid...), uint32((len(entries)+1)*24+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(e.der)))
		body = append(body, e.der...)
	}
	return append(append(head, make([]byte, 24)...), body...)
}

// Present and Report are the older device.
func (p *processor) Present() bool { return true }

func (p *processor) Report(data [64]byte) ([]byte, []byte, error) {
	return p.report(data[:]), p.certificates(), nil
}

// judged has a collector answer a challenge and the verifier judge it, for this
// challenge and for another one, which refuses with code.
func judged(t *testing.T, c collect.Collector, code reason.Code, trust ...verifier.TrustObject) {
	t.Helper()
	h := collecttest.NewHost(t, c.Format(), "now")
	item := h.Collect(t, c)
	h.Proves(t, item, trust...)
	if _, err := collecttest.NewHost(t, c.Format(), "then").Judge(t, item, trust...); reason.Of(err) != code {
		t.Errorf("another challenge: %v, want %s", err, code)
	}
}

func TestReportsVerifyUnderTestPKI(t *testing.T) {
	for _, product := range []string{"Milan", "Genoa", "Turin"} {
		p := newProcessor(t, product)
		for name, provider := range map[string]bool{"chip": false, "provider": true} {
			t.Run(product+" key of the "+name, func(t *testing.T) {
				p.t, p.provider = t, provider
				k := newKernel("sev_guest")
				k.out, k.auxblob = p.report, p.certificates()
				judged(t, tsm.SNP{Tree: k, Guest: noGuest}, reason.SNPReportData, p.trust())
				judged(t, tsm.SNP{Tree: newKernel(""), Guest: p}, reason.SNPReportData, p.trust())
				if len(k.entries) != 0 {
					t.Errorf("%d reports are left behind", len(k.entries))
				}
			})
		}
	}
}

// TestReportBesideAQuote: the second half of REPORT_DATA ties the report to the key
// of the TPM that quotes. (test PKI)
func TestReportBesideAQuote(t *testing.T) {
	p := newProcessor(t, "Milan")
	k := newKernel("sev_guest")
	k.out, k.auxblob = p.report, p.certificates()
	h := collecttest.NewTPMHost(t, "now")
	item := h.Collect(t, tsm.SNP{Tree: k, Guest: noGuest})
	h.Proves(t, item, p.trust())
	if _, err := collecttest.NewTPMHost(t, "now").Judge(t, item, p.trust()); reason.Of(err) != reason.SNPReportData {
		t.Errorf("beside the quote of another TPM: %v", err)
	}
}

// TestQuotesVerifyUnderTestPKI: quote and event log of a trust domain.
func TestQuotesVerifyUnderTestPKI(t *testing.T) {
	pki := documenttest.NewIntelPKI(collecttest.Noon)
	log, registers := documenttest.CCEL()
	root := t.TempDir()
	path := filepath.Join(root, "sys/firmware/acpi/tables/data/CCEL")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	trust := []verifier.TrustObject{
		{Kind: verifier.TrustIntel, Name: "test", Raw: pki.RootPEM()},
		{Kind: verifier.TrustIntelTCB, Name: documenttest.FMSPC, Raw: pki.Collateral(documenttest.CollateralFields{})},
	}
	for name, fields := range map[string]documenttest.TDXFields{"4": {RTMRs: registers}, "5": {Version: 5, RTMRs: registers}, "5 of TDX 1.5": {Version: 5, TD15: true, RTMRs: registers}} {
		t.Run("version "+name, func(t *testing.T) {
			k := newKernel("tdx_guest")
			k.out = func(data []byte) []byte {
				f := fields
				copy(f.ReportData[:], data)
				return pki.Quote(f)
			}
			c := tsm.TDX{Tree: k, Root: root}
			judged(t, c, reason.TDXReportData, trust...)
			h := collecttest.NewHost(t, verifier.FormatTDX, "now")
			d, err := h.Judge(t, h.Collect(t, c), trust...)
			if err != nil || len(d.Values("tdx.secure_boot")) != 1 {
				t.Errorf("the event log explains nothing: %+v, %v", d.Selectors, err)
			}
		})
	}
}

// TestRealmTokensVerifyUnderTestPKI: tokens of an Arm realm, as both profiles have
// them.
func TestRealmTokensVerifyUnderTestPKI(t *testing.T) {
	machine, err := documenttest.NewCCAMachine(elliptic.P384())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := machine.PEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, legacy := range map[string]bool{"present": false, "legacy": true} {
		t.Run(name, func(t *testing.T) {
			k := newKernel("arm_cca_guest")
			k.out = func(data []byte) []byte {
				if want := document.ReportData([32]byte(data), nil); string(data) != string(want[:]) {
					t.Errorf("the realm was challenged with %x", data)
				}
				token, err := machine.Token(documenttest.CCAFields{Challenge: data, Legacy: legacy})
				if err != nil {
					t.Error(err)
				}
				return token
			}
			judged(t, tsm.CCA{Tree: k}, reason.CCANonceMismatch, verifier.TrustObject{Kind: verifier.TrustCCA, Name: "test", Raw: pem})
		})
	}
}
