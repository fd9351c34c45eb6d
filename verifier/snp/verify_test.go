package snp_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// pemOf is how clouds hand certificates out.
func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestVerifyAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		product string
		change  func(s *scene)
		want    snp.TCB
	}{
		"milan":   {"Milan", func(*scene) {}, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"genoa":   {"Genoa", func(*scene) {}, snp.TCB{Bootloader: 10, SNP: 23, Microcode: 84}},
		"bergamo": {"Genoa", func(s *scene) { s.report.CPUID[1] = 0xa0 }, snp.TCB{Bootloader: 10, SNP: 23, Microcode: 84}},
		"turin, test PKI with a chip of eight bytes and a FMC": {
			"Turin", func(*scene) {}, snp.TCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 74},
		},
		"version 2 without CPUID": {"Milan", func(s *scene) { s.report.Version = 2 }, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"mitigation vectors":      {"Turin", func(s *scene) { s.report.LaunchVector, s.report.CurrentVector = 1, 3 }, snp.TCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 74}},
		"VLEK with a masked chip": {"Milan", func(s *scene) {
			s.vlek, s.report.KeyInfo = true, 1<<2
			clear(s.report.ChipID[:])
		}, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"chip as OCTET STRING": {"Genoa", func(s *scene) {
			s.cert = func(c *x509.Certificate) {
				last := &c.ExtraExtensions[len(c.ExtraExtensions)-1]
				last.Value = append([]byte{4, 64}, last.Value...)
			}
		}, snp.TCB{Bootloader: 10, SNP: 23, Microcode: 84}},
		"PEM with the chain behind": {"Milan", func(s *scene) {
			s.send = func(der []byte) []byte { return slices.Concat([]byte("\n"), pemOf(der), s.amd.Roots()) }
		}, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"every known policy bit but debug": {"Milan", func(s *scene) { s.report.Policy = 0x3f70000 }, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"first moment":                     {"Milan", func(s *scene) { s.now = noon.AddDate(0, -1, 0) }, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
		"last moment":                      {"Milan", func(s *scene) { s.now = noon.AddDate(7, 0, 0) }, snp.TCB{Bootloader: 4, SNP: 24, Microcode: 219}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(tc.product)
			tc.change(s)
			a, err := s.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if a.TCB() != tc.want || !bytes.Equal(a.ReportData(), s.want) || !bytes.Equal(a.Measurement(), s.report.Measurement[:]) {
				t.Errorf("%s, REPORT_DATA %x, MEASUREMENT %x", a.TCB(), a.ReportData(), a.Measurement())
			}
			if f := a.Facts(); len(f.Hazards) > 0 || f.Class != document.ClassA || !f.NonceBound || !f.KeyBound {
				t.Errorf("class %s, bound %t %t, hazards %v", f.Class, f.NonceBound, f.KeyBound, f.Hazards)
			}
		})
	}
}

func TestVerifyRefused(t *testing.T) {
	le := func(off int, v byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b[off] = v
			return b
		}
	}
	other := func(s *scene) { s.tcb = new(uint64); *s.tcb = s.report.Reported + 1 }
	stranger, err := documenttest.NewAMD("Milan", noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		product string
		change  func(s *scene)
		code    reason.Code
	}{
		{"empty", "Milan", func(s *scene) { s.rewrite = func([]byte) []byte { return nil } }, reason.SNPMalformed},
		{"1183 bytes", "Milan", func(s *scene) { s.resign = func(b []byte) []byte { return b[:1183] } }, reason.SNPMalformed},
		{"1185 bytes", "Milan", func(s *scene) { s.resign = func(b []byte) []byte { return append(b, 0) } }, reason.SNPMalformed},
		{"a megabyte", "Milan", func(s *scene) { s.resign = func([]byte) []byte { return make([]byte, 1<<20) } }, reason.RequestTooLarge},
		{"a long certificate", "Milan", func(s *scene) { s.send = func([]byte) []byte { return make([]byte, 16<<10+1) } }, reason.RequestTooLarge},
		{"version 0", "Milan", func(s *scene) { s.report.Version = 0 }, reason.SNPMalformed},
		{"version 1", "Milan", func(s *scene) { s.report.Version = 1 }, reason.SNPMalformed},
		{"version 4", "Milan", func(s *scene) { s.report.Version = 4 }, reason.SNPMalformed},
		{"version 6", "Turin", func(s *scene) { s.report.Version = 6 }, reason.SNPMalformed},
		{"policy without its one", "Milan", func(s *scene) { s.report.Policy &^= 1 << 17 }, reason.SNPMalformed},
		{"policy bit 26", "Milan", func(s *scene) { s.report.Policy |= 1 << 26 }, reason.SNPMalformed},
		{"policy bit 63", "Milan", func(s *scene) { s.report.Policy |= 1 << 63 }, reason.SNPMalformed},
		{"key information bit 5", "Milan", func(s *scene) { s.report.KeyInfo = 1 << 5 }, reason.SNPMalformed},
		{"signing key 2", "Milan", func(s *scene) { s.report.KeyInfo = 2 << 2 }, reason.SNPMalformed},
		{"reserved behind the key information", "Milan", func(s *scene) { s.rewrite = le(0x4c, 1) }, reason.SNPMalformed},
		{"CPUID in version 2", "Milan", func(s *scene) { s.report.Version = 2; s.rewrite = le(0x188, 0x19) }, reason.SNPMalformed},
		{"reserved behind CPUID", "Milan", func(s *scene) { s.rewrite = le(0x18b, 1) }, reason.SNPMalformed},
		{"reserved before CHIP_ID", "Milan", func(s *scene) { s.rewrite = le(0x19f, 1) }, reason.SNPMalformed},
		{"reserved in the current version", "Milan", func(s *scene) { s.rewrite = le(0x1eb, 1) }, reason.SNPMalformed},
		{"reserved in the committed version", "Milan", func(s *scene) { s.rewrite = le(0x1ef, 1) }, reason.SNPMalformed},
		{"vectors in version 3", "Milan", func(s *scene) { s.rewrite = le(0x1f8, 1) }, reason.SNPMalformed},
		{"reserved behind the vectors", "Turin", func(s *scene) { s.rewrite = le(0x208, 1) }, reason.SNPMalformed},
		{"reserved before the signature", "Turin", func(s *scene) { s.rewrite = le(0x29f, 1) }, reason.SNPMalformed},
		{"behind the signature", "Milan", func(s *scene) { s.resign = flip(0x330, 1) }, reason.SNPMalformed},
		{"last byte", "Milan", func(s *scene) { s.resign = flip(0x49f, 1) }, reason.SNPMalformed},
		{"no algorithm", "Milan", func(s *scene) { s.report.Algorithm = 0 }, reason.SNPAlgorithm},
		{"algorithm 2, and no certificate", "Milan", func(s *scene) {
			s.report.Algorithm, s.send = 2, func([]byte) []byte { return nil }
		}, reason.SNPAlgorithm},

		{"no certificate", "Milan", func(s *scene) { s.send = func([]byte) []byte { return nil } }, reason.SNPUntrusted},
		{"no X.509", "Milan", func(s *scene) { s.send = func([]byte) []byte { return []byte{0x30, 0} } }, reason.SNPUntrusted},
		{"a PEM of something else", "Milan", func(s *scene) {
			s.send = func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}) }
		}, reason.SNPUntrusted},
		{"the ASK as VCEK", "Milan", func(s *scene) { s.send = func([]byte) []byte { return s.amd.ASK() } }, reason.SNPUntrusted},
		{"roots of somebody else with AMD's names", "Milan", func(s *scene) { s.objects.Roots = [][]byte{stranger.Roots()} }, reason.SNPUntrusted},
		{"no roots", "Milan", func(s *scene) { s.objects = snp.Objects{} }, reason.SNPUntrusted},
		{"roots of VCEKs only, for a VLEK", "Milan", func(s *scene) {
			s.vlek, s.report.KeyInfo = true, 1<<2
			s.objects.Roots = [][]byte{s.amd.ASK(), s.amd.ARK()}
		}, reason.SNPUntrusted},
		{"a VCEK signed by the ASVK", "Milan", func(s *scene) {
			s.vlek = true
			s.cert = func(c *x509.Certificate) {
				c.Subject.CommonName = "SEV-VCEK"
				c.ExtraExtensions[len(c.ExtraExtensions)-1] = pkix.Extension{Id: oid(4), Value: s.report.ChipID[:]}
			}
		}, reason.SNPUntrusted},
		{"product of another root", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { c.ExtraExtensions[1].Value = append([]byte{0x16, 8}, "Genoa-B0"...) }
		}, reason.SNPUntrusted},
		{"a product that there is not", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { c.ExtraExtensions[1].Value = append([]byte{0x16, 4}, "Rome"...) }
		}, reason.SNPUntrusted},
		{"no product", "Milan", func(s *scene) { s.cert = without(oid(2)) }, reason.SNPUntrusted},
		{"no microcode level", "Milan", func(s *scene) { s.cert = without(oid(3, 8)) }, reason.SNPUntrusted},
		{"no FMC level on Turin", "Turin", func(s *scene) { s.cert = without(oid(3, 9)) }, reason.SNPUntrusted},
		{"no chip", "Milan", func(s *scene) { s.cert = without(oid(4)) }, reason.SNPUntrusted},
		{"a reserved level", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { replace(c, oid(3, 5), []byte{2, 1, 1}) }
		}, reason.SNPUntrusted},
		{"a level of two bytes", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { replace(c, oid(3, 8), []byte{2, 2, 1, 0xdb}) }
		}, reason.SNPUntrusted},
		{"a level with more behind", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { replace(c, oid(3, 2), []byte{2, 1, 0, 0}) }
		}, reason.SNPUntrusted},
		{"structure 2", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { replace(c, oid(1), []byte{2, 1, 2}) }
		}, reason.SNPUntrusted},
		{"a chip of eight bytes on Milan", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { replace(c, oid(4), s.report.ChipID[:8]) }
		}, reason.SNPUntrusted},
		{"another subject", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { c.Subject.CommonName = "SEV-XCEK" }
		}, reason.SNPUntrusted},
		{"a CA", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
		}, reason.SNPUntrusted},
		{"an unknown critical extension", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			}
		}, reason.SNPUntrusted},
		{"expired", "Milan", func(s *scene) { s.now = noon.AddDate(7, 0, 0).Add(time.Second) }, reason.SNPValidity},
		{"not yet valid", "Milan", func(s *scene) { s.now = noon.AddDate(0, -1, 0).Add(-time.Second) }, reason.SNPValidity},
		{"no time", "Milan", func(s *scene) { s.now = time.Time{} }, reason.SNPValidity},
		{"an expired root under a longer VCEK", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) { c.NotAfter = noon.AddDate(30, 0, 0) }
			s.now = noon.AddDate(11, 0, 0)
		}, reason.SNPValidity},
		{"a revoked ASK", "Milan", func(s *scene) { s.objects.CRLs = [][]byte{crl(t, s.amd, true, noon.AddDate(0, 1, 0))} }, reason.SNPUntrusted},
		{"a stale list", "Milan", func(s *scene) { s.objects.CRLs = [][]byte{crl(t, s.amd, false, noon.Add(-time.Second))} }, reason.SNPUntrusted},

		{"signature of another key", "Milan", func(s *scene) {
			s.cert = nil
			own := s.endorser(t)
			s.send = func([]byte) []byte { return own.Certificate }
		}, reason.SNPSignature},
		{"signed by no key", "Milan", func(s *scene) { s.report.KeyInfo = 7 << 2 }, reason.SNPSignature},
		{"masked chip key", "Milan", func(s *scene) {
			s.report.KeyInfo = 1 << 1
			s.resign = func(b []byte) []byte { clear(b[0x2a0:]); return b }
		}, reason.SNPSignature},
		{"r of more than 384 bits", "Milan", func(s *scene) { s.resign = flip(0x2a0+48, 1) }, reason.SNPSignature},
		{"s of more than 384 bits", "Milan", func(s *scene) { s.resign = flip(0x2a0+72+71, 1) }, reason.SNPSignature},

		{"another TCB", "Milan", other, reason.SNPTCBMismatch},
		{"another TCB, and another REPORT_DATA", "Genoa", func(s *scene) { other(s); s.want[0]++ }, reason.SNPTCBMismatch},
		{"another FMC", "Turin", other, reason.SNPTCBMismatch},
		{"reserved bytes of the TCB", "Milan", func(s *scene) { s.tcb = new(uint64); *s.tcb = s.report.Reported; s.report.Reported |= 1 << 20 }, reason.SNPTCBMismatch},
		{"reserved bytes of a Turin TCB", "Turin", func(s *scene) { s.tcb = new(uint64); *s.tcb = s.report.Reported; s.report.Reported |= 1 << 36 }, reason.SNPTCBMismatch},
		{"another chip", "Milan", func(s *scene) { s.chip = new([64]byte) }, reason.SNPTCBMismatch},
		{"another chip on Turin", "Turin", func(s *scene) { s.chip = &[64]byte{9} }, reason.SNPTCBMismatch},
		{"more behind the chip on Turin", "Turin", func(s *scene) {
			chip := s.report.ChipID
			s.chip = &chip
			s.report.ChipID[8] = 1
		}, reason.SNPTCBMismatch},
		{"a masked chip under a VCEK", "Milan", func(s *scene) {
			chip := s.report.ChipID
			s.chip = &chip
			clear(s.report.ChipID[:])
		}, reason.SNPTCBMismatch},
		{"CPUID of Genoa", "Milan", func(s *scene) { s.report.CPUID[1] = 0x11 }, reason.SNPTCBMismatch},
		{"CPUID of nobody", "Milan", func(s *scene) { s.report.CPUID[0] = 0x17 }, reason.SNPTCBMismatch},
		{"the report names a VLEK", "Milan", func(s *scene) { s.report.KeyInfo = 1 << 2 }, reason.SNPTCBMismatch},
		{"the report names a VCEK, under a VLEK", "Milan", func(s *scene) { s.vlek = true }, reason.SNPTCBMismatch},

		{"asked for by the host", "Milan", func(s *scene) { s.report.VMPL = 0xffffffff }, reason.SNPVMPL},
		{"level 4", "Milan", func(s *scene) { s.report.VMPL = 4 }, reason.SNPVMPL},
		{"another REPORT_DATA", "Milan", func(s *scene) { s.want[63] ^= 1 }, reason.SNPReportData},
		{"half a REPORT_DATA", "Milan", func(s *scene) { s.want = s.want[:32] }, reason.SNPReportData},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := newScene(tc.product).verify(t); err != nil {
				t.Fatalf("the good case is refused: %v", err)
			}
			s := newScene(tc.product)
			tc.change(s)
			a, err := s.verify(t)
			wantCode(t, err, tc.code)
			if f := a.Facts(); err != nil && !cmp.Equal(f, document.Facts{}) {
				t.Errorf("a refused report says %+v", f)
			}
		})
	}
}

func oid(arc ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
}

func without(id asn1.ObjectIdentifier) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
	}
}

func replace(c *x509.Certificate, id asn1.ObjectIdentifier, value []byte) {
	for i := range c.ExtraExtensions {
		if c.ExtraExtensions[i].Id.Equal(id) {
			c.ExtraExtensions[i].Value = value
		}
	}
}

func crl(t *testing.T, a *documenttest.AMD, revoked bool, next time.Time) []byte {
	t.Helper()
	der, err := a.CRL(revoked, next)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestListThatNamesNobody: a list of now that revokes nothing changes nothing.
func TestListThatNamesNobody(t *testing.T) {
	s := newScene("Milan")
	s.objects.CRLs = [][]byte{crl(t, s.amd, false, noon.AddDate(0, 1, 0))}
	if _, err := s.verify(t); err != nil {
		t.Error(err)
	}
}

// TestConfiguredEndorsement: a report without a certificate is judged by the
// configured one of its chip and TCB, and by no other.
func TestConfiguredEndorsement(t *testing.T) {
	for _, product := range []string{"Milan", "Genoa", "Turin"} {
		s := newScene(product)
		ev := s.evidence(t)
		s.objects.Endorsements = [][]byte{pemOf(ev.Certificate)}
		ev.Certificate = nil
		if _, err := snp.Verify(ev, s.want, s.trust(t), noon); err != nil {
			t.Errorf("%s: %v", product, err)
		}
		s.report.ChipID[0]++
		ev = s.evidence(t)
		ev.Certificate = nil
		_, err := snp.Verify(ev, s.want, s.trust(t), noon)
		wantCode(t, err, reason.SNPUntrusted)
	}
	s := newScene("Milan")
	s.report.Version = 2
	ev := s.evidence(t)
	s.objects.Endorsements = [][]byte{ev.Certificate}
	ev.Certificate = nil
	if _, err := snp.Verify(ev, s.want, s.trust(t), noon); err != nil {
		t.Errorf("version 2: %v", err)
	}
	s = newScene("Milan")
	s.vlek, s.report.KeyInfo = true, 1<<2
	ev = s.evidence(t)
	s.objects.Endorsements = [][]byte{ev.Certificate}
	ev.Certificate = nil
	if _, err := snp.Verify(ev, s.want, s.trust(t), noon); err != nil {
		t.Errorf("VLEK: %v", err)
	}
}

func TestNewTrustRefused(t *testing.T) {
	a := products["Milan"]()
	genoa := products["Genoa"]()
	for name, o := range map[string]snp.Objects{
		"no ARK":              {Roots: [][]byte{a.ASK()}},
		"ARK alone":           {Roots: [][]byte{a.ARK()}},
		"ARK of another":      {Roots: [][]byte{a.ASK(), genoa.ARK()}},
		"no certificate":      {Roots: [][]byte{[]byte("x")}},
		"PEM that is no X509": {Roots: [][]byte{pemOf([]byte{1})}},
		"a CRL that is none":  {Roots: [][]byte{a.Roots()}, CRLs: [][]byte{{1}}},
		"an ASK as VCEK":      {Roots: [][]byte{a.Roots()}, Endorsements: [][]byte{a.ASK()}},
	} {
		if _, err := snp.NewTrust(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFacts(t *testing.T) {
	s := newScene("Turin")
	s.report.IDKey[0], s.report.AuthorKey[0], s.report.KeyInfo = 1, 2, 1
	s.report.FamilyID[15], s.report.ImageID[0], s.report.HostData[0] = 3, 4, 5
	s.report.Platform = 1<<1 | 1<<5 | 1<<40
	a, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := a.Facts()
	id := hex.EncodeToString(s.report.ReportID[:])
	idKey := hex.EncodeToString(s.report.IDKey[:])
	if f.Machine != (document.Machine{Kind: document.MachineSNP, Name: id}) {
		t.Errorf("machine %+v", f.Machine)
	}
	if diff := cmp.Diff([]document.Owner{{Kind: document.OwnerSNPIDKey, Value: idKey}, {Kind: document.OwnerSNPChip, Value: hex.EncodeToString(s.report.ChipID[:8])}}, f.Owners); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]document.Anchor{
		{Kind: document.AnchorReport, Value: hex.EncodeToString(s.want[:32])}, {Kind: document.AnchorAK, Value: hex.EncodeToString(s.want[32:])},
	}, f.Anchors); diff != "" {
		t.Error(diff)
	}
	got := map[string]string{}
	for i, sel := range f.Selectors {
		if i > 0 && f.Selectors[i-1].Name >= sel.Name {
			t.Errorf("%s stands behind %s", sel.Name, f.Selectors[i-1].Name)
		}
		got[sel.Name] = sel.Value
	}
	want := map[string]string{
		"snp.product": "turin", "snp.key": "vcek", "snp.chip_id": hex.EncodeToString(s.report.ChipID[:8]), "snp.report_id": id,
		"snp.measurement": hex.EncodeToString(s.report.Measurement[:]), "snp.host_data": hex.EncodeToString(s.report.HostData[:]),
		"snp.family_id": "00000000000000000000000000000003", "snp.image_id": "04000000000000000000000000000000",
		"snp.id_key": idKey, "snp.author_key": hex.EncodeToString(s.report.AuthorKey[:]), "snp.guest_svn": "2", "snp.vmpl": "0",
		"snp.tcb.fmc": "1", "snp.tcb.bootloader": "1", "snp.tcb.tee": "1", "snp.tcb.snp": "4", "snp.tcb.microcode": "74",
		"snp.policy.smt": "true", "snp.policy.migrate_ma": "false", "snp.policy.debug": "false", "snp.policy.single_socket": "false",
		"snp.policy.cxl": "false", "snp.policy.aes256": "false", "snp.policy.rapl_disabled": "false", "snp.policy.ciphertext_hiding": "false", "snp.policy.page_swap_disabled": "false",
		"snp.platform.smt": "false", "snp.platform.tsme": "true", "snp.platform.ecc": "false", "snp.platform.rapl_disabled": "false",
		"snp.platform.ciphertext_hiding": "false", "snp.platform.alias_check": "true", "snp.platform.tio": "false",
		"snp.firmware.current": "1.55.29", "snp.firmware.committed": "1.55.29",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFactsOfLess: what a report does not have is not said of it.
func TestFactsOfLess(t *testing.T) {
	s := newScene("Milan")
	s.vlek, s.report.KeyInfo, s.want = true, 1<<2, nil
	clear(s.report.ChipID[:])
	clear(s.report.ReportID[:])
	s.report.AgentID = [32]byte{1}
	s.report.AuthorKey[0] = 9 // without the bit that says that there is one
	a, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := a.Facts()
	if f.Class != document.ClassC || f.NonceBound || f.KeyBound || len(f.Anchors) > 0 || len(f.Owners) > 0 || f.Machine != (document.Machine{}) {
		t.Errorf("%+v", f)
	}
	for name, want := range map[string][]string{
		"snp.chip_id": nil, "snp.report_id": nil, "snp.author_key": nil, "snp.tcb.fmc": nil, "snp.id_key": nil,
		"snp.provider": {"CN=cc.example.com"}, "snp.key": {"vlek"},
		"snp.migration_agent": {"0100000000000000000000000000000000000000000000000000000000000000"},
	} {
		if got := f.Values(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	s = newScene("Milan")
	clear(s.report.ReportData[32:])
	clear(s.want[32:])
	if a, err = s.verify(t); err != nil || len(a.Facts().Anchors) != 1 {
		t.Errorf("a REPORT_DATA without AK: %v, %v", a.Facts().Anchors, err)
	}
	if zero := (snp.Attestation{}); zero.ReportData() != nil || zero.Measurement() != nil || zero.IDKey() != nil {
		t.Error("the zero Attestation says something")
	}
	s = newScene("Milan")
	s.vlek, s.report.KeyInfo = true, 1<<2
	a, err = s.verify(t)
	f = a.Facts()
	if err != nil || !slices.Equal(f.Values("snp.chip_id"), []string{hex.EncodeToString(s.report.ChipID[:])}) {
		t.Errorf("a VLEK whose report names the chip: %v", err)
	}
}

func TestHazards(t *testing.T) {
	for name, tc := range map[string]struct {
		product string
		change  func(r *documenttest.SNPReport)
		want    []reason.Code
	}{
		"debug":           {"Milan", func(r *documenttest.SNPReport) { r.Policy |= 1 << 19 }, []reason.Code{reason.SNPDebug}},
		"level 1":         {"Milan", func(r *documenttest.SNPReport) { r.VMPL = 1 }, []reason.Code{reason.SNPVMPL}},
		"level 3":         {"Milan", func(r *documenttest.SNPReport) { r.VMPL = 3 }, []reason.Code{reason.SNPVMPL}},
		"the floor":       {"Milan", func(r *documenttest.SNPReport) { r.Reported = 0x7308000000000003 }, nil},
		"low microcode":   {"Milan", func(r *documenttest.SNPReport) { r.Reported = 0x7208000000000003 }, []reason.Code{reason.SNPTCBLow}},
		"low SNP":         {"Milan", func(r *documenttest.SNPReport) { r.Reported = 0xdb07000000000004 }, []reason.Code{reason.SNPTCBLow}},
		"low bootloader":  {"Milan", func(r *documenttest.SNPReport) { r.Reported = 0xdb18000000000002 }, []reason.Code{reason.SNPTCBLow}},
		"zero on Genoa":   {"Genoa", func(r *documenttest.SNPReport) { r.Reported = 0 }, nil},
		"all of them":     {"Milan", func(r *documenttest.SNPReport) { r.Policy, r.VMPL, r.Reported = 0xb0000, 2, 0 }, []reason.Code{reason.SNPDebug, reason.SNPVMPL, reason.SNPTCBLow}},
		"migration alone": {"Milan", func(r *documenttest.SNPReport) { r.Policy |= 1 << 18 }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(tc.product)
			tc.change(&s.report)
			a, err := s.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			var got []reason.Code
			for _, h := range a.Facts().Hazards {
				got = append(got, h.Code)
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestFindings(t *testing.T) {
	noted := func(change func(r *documenttest.SNPReport)) []string {
		s := newScene("Milan")
		change(&s.report)
		a, err := s.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range a.Facts().Findings {
			if f.Outcome == reason.Noted {
				out = append(out, f.Check)
			}
		}
		return out
	}
	for name, tc := range map[string]struct {
		change func(r *documenttest.SNPReport)
		want   []string
	}{
		"nothing":            {func(*documenttest.SNPReport) {}, nil},
		"provisional":        {func(r *documenttest.SNPReport) { r.Current++ }, []string{"snp.provisional"}},
		"below the bulletin": {func(r *documenttest.SNPReport) { r.Reported = 0xdb17000000000004 }, []string{"snp.advised"}},
		"migration":          {func(r *documenttest.SNPReport) { r.Policy |= 1 << 18 }, []string{"snp.migration"}},
	} {
		if got := noted(tc.change); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}
