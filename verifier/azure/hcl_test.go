package azure_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// This file is a confidential machine under a test PKI of AMD's shape, in which a
// test changes one thing.

var hclNoon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const hclVM = "911B0EF8-9DBA-48B0-B275-4E4DF2D39252"

var hclAMD = sync.OnceValue(func() *documenttest.AMD {
	a, err := documenttest.NewAMD("Milan", hclNoon)
	if err != nil {
		panic(err)
	}
	return a
})

var hclAK = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

type hclScene struct {
	hcl     documenttest.HCL
	report  documenttest.SNPReport
	unbound bool
	rewrite func([]byte) []byte
	noCert  bool
	quote   []byte
	trust   azure.HCLTrust
	now     time.Time
}

func newHCL(t testing.TB) *hclScene {
	t.Helper()
	s := &hclScene{now: hclNoon, report: hclAMD().Report()}
	s.hcl = documenttest.HCL{Version: 1, Type: 2, Runtime: documenttest.AzureRuntime(&hclAK().PublicKey, hclVM), Size: 2600}
	key, err := hex.DecodeString(documenttest.AzureIDKey)
	if err != nil {
		t.Fatal(err)
	}
	copy(s.report.IDKey[:], key)
	if s.trust.SNP, err = snp.NewTrust(snp.Objects{Roots: [][]byte{hclAMD().Roots()}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *hclScene) blob(t testing.TB) (blob, cert []byte) {
	t.Helper()
	if !s.unbound {
		s.report.ReportData = s.hcl.Bind()
	}
	e, err := hclAMD().VCEK(s.report.ChipID, s.report.Reported, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := e.Sign(s.report.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if s.hcl.Type == 4 {
		signed = documenttest.TDReport(s.hcl.Bind())
	}
	blob = s.hcl.Bytes(signed)
	if s.rewrite != nil {
		blob = s.rewrite(blob)
	}
	return blob, e.Certificate
}

func (s *hclScene) verify(t testing.TB) (azure.CVM, error) {
	t.Helper()
	blob, cert := s.blob(t)
	if s.noCert {
		cert = nil
	}
	h, err := azure.ParseHCL(blob)
	if err != nil {
		return azure.CVM{}, err
	}
	return azure.VerifyHCL(h, azure.Hardware{Certificate: cert, TDQuote: s.quote}, s.trust, s.now)
}

// runtime replaces the first occurrence in the JSON.
func (s *hclScene) runtime(old, new string) {
	s.hcl.Runtime = bytes.Replace(s.hcl.Runtime, []byte(old), []byte(new), 1)
}

func TestHCLFacts(t *testing.T) {
	s := newHCL(t)
	s.runtime(strings.Repeat("00", 64), strings.Repeat("00", 63)+"7f")
	s.runtime(`"tpm-enabled":true,`, `"tpm-enabled":true,"root-cert-thumbprint":"abc","something-new":[1],"current-time":5,`)
	m, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := m.Facts()
	spki, err := x509.MarshalPKIXPublicKey(&hclAK().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	vm := strings.ToLower(hclVM)
	if f.Class != document.ClassC || f.NonceBound || f.KeyBound || !bytes.Equal(f.AK, spki) || f.Machine != (document.Machine{Kind: document.MachineAzure, Name: vm}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Owner{{Kind: document.OwnerAzureVM, Value: vm}}, f.Owners); diff != "" || len(f.Anchors) > 0 || len(f.Hazards) > 0 {
		t.Errorf("owners, anchors %v, hazards %v:\n%s", f.Anchors, f.Hazards, diff)
	}
	for name, want := range map[string]string{
		"azure.vm_id": vm, "azure.cvm.tee": "snp", "azure.cvm.paravisor": documenttest.AzureIDKey, "azure.cvm.secure_boot": "true",
		"azure.cvm.tpm": "true", "azure.cvm.tpm_persisted": "true", "azure.cvm.console": "true", "azure.cvm.root_certificate": "abc",
		"azure.cvm.user_data": strings.Repeat("00", 63) + "7f", "snp.product": "milan", "snp.vmpl": "0",
	} {
		if got := f.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if !slices.IsSortedFunc(f.Selectors, func(a, b document.Selector) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not in order: %v", f.Selectors)
	}
	if diff := cmp.Diff(document.Facts{}, azure.CVM{}.Facts()); diff != "" {
		t.Error(diff)
	}
}

// TestHCLAccepted: what Azure's reports differ in.
func TestHCLAccepted(t *testing.T) {
	for name, change := range map[string]func(s *hclScene){
		"no fill":             func(s *hclScene) { s.hcl.Size = 0 },
		"fill of erased NV":   func(s *hclScene) { s.hcl.Size = 0; s.rewrite = func(b []byte) []byte { return append(b, 0xff, 0xff) } },
		"header of version 2": func(s *hclScene) { s.hcl.Version = 2 },
		"no user data":        func(s *hclScene) { s.runtime(`,"user-data":"`+strings.Repeat("00", 64)+`"`, "") },
		"no flags": func(s *hclScene) {
			s.runtime(`"console-enabled":true,"secure-boot":true,"tpm-enabled":true,"tpm-persisted":true,`, "")
		},
		"another key beside": func(s *hclScene) { s.runtime(`[{"kid"`, `[{"kid":"HCLEkPub"},{"kid"`) },
		"configured VCEK": func(s *hclScene) {
			blob, cert := s.blob(t)
			s.rewrite = func([]byte) []byte { return blob }
			s.noCert = true
			trust, err := snp.NewTrust(snp.Objects{Roots: [][]byte{hclAMD().Roots()}, Endorsements: [][]byte{cert}})
			if err != nil {
				t.Fatal(err)
			}
			s.trust.SNP = trust
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHCL(t)
			change(s)
			m, err := s.verify(t)
			if f := m.Facts(); err != nil || len(f.Hazards) > 0 || len(f.Values("azure.cvm.user_data")) > 0 {
				t.Errorf("%v, %v", err, f.Hazards)
			}
		})
	}
}

func TestHCLRefused(t *testing.T) {
	put := func(off int, v byte) func(s *hclScene) {
		return func(s *hclScene) {
			s.rewrite = func(b []byte) []byte {
				b[off] = v
				return b
			}
		}
	}
	const runtime = 32 + 1184
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(k *rsa.PublicKey) string { return base64.RawURLEncoding.EncodeToString(k.N.Bytes()) }
	for _, tc := range []struct {
		name   string
		change func(s *hclScene)
		want   reason.Code
	}{
		{"9 KiB", func(s *hclScene) { s.hcl.Size = 9 << 10 }, reason.RequestTooLarge},
		{"empty", func(s *hclScene) { s.rewrite = func([]byte) []byte { return nil } }, reason.AzureHclMalformed},
		{"only headers", func(s *hclScene) { s.rewrite = func(b []byte) []byte { return b[:runtime+19] } }, reason.AzureHclMalformed},
		{"row 118 magic", put(0, 'X'), reason.AzureHclMalformed},
		{"version 0", func(s *hclScene) { s.hcl.Version = 0 }, reason.AzureHclMalformed},
		{"version 3", func(s *hclScene) { s.hcl.Version = 3 }, reason.AzureHclMalformed},
		{"another size in the header", put(8, 0), reason.AzureHclMalformed},
		{"another request", put(12, 1), reason.AzureHclMalformed},
		{"a failed one", put(16, 1), reason.AzureHclMalformed},
		{"reserved", put(31, 1), reason.AzureHclMalformed},
		{"another size of the runtime data", put(runtime, 1), reason.AzureHclMalformed},
		{"another version of it", put(runtime+4, 2), reason.AzureHclMalformed},
		{"VBS", put(runtime+8, 3), reason.AzureHclMalformed},
		{"SHA-384", put(runtime+12, 2), reason.AzureHclMalformed},
		{"row 118 length", func(s *hclScene) {
			s.rewrite = func(b []byte) []byte { b[runtime+16], b[runtime+17] = 0xff, 0xff; return b }
		}, reason.AzureHclMalformed},
		{"length of 4 GiB", func(s *hclScene) {
			s.rewrite = func(b []byte) []byte { copy(b[runtime+16:], "\xff\xff\xff\xff"); return b }
		}, reason.AzureHclMalformed},
		{"no runtime data", func(s *hclScene) { s.hcl.Runtime = nil }, reason.AzureHclMalformed},
		{"something behind", put(2599, 1), reason.AzureHclMalformed},

		{"row 118 runtime data flipped", func(s *hclScene) {
			s.rewrite = func(b []byte) []byte {
				return bytes.Replace(b, []byte("secure-boot\":true"), []byte("secure-boot\":null"), 1)
			}
		}, reason.AzureRuntimeData},
		{"REPORT_DATA of something else", func(s *hclScene) { s.unbound = true }, reason.AzureRuntimeData},
		{"more in REPORT_DATA", func(s *hclScene) {
			s.unbound, s.report.ReportData = true, s.hcl.Bind()
			s.report.ReportData[63] = 1
		}, reason.AzureRuntimeData},
		{"an SNP report as TDX", put(runtime+8, 4), reason.AzureRuntimeData},
		{"a list", func(s *hclScene) { s.hcl.Runtime = []byte("[]") }, reason.AzureRuntimeData},
		{"trailing", func(s *hclScene) { s.hcl.Runtime = append(s.hcl.Runtime, '1') }, reason.AzureRuntimeData},
		{"a second member", func(s *hclScene) { s.runtime(`"user-data"`, `"keys":[],"user-data"`) }, reason.AzureRuntimeData},
		{"a member in another case", func(s *hclScene) { s.runtime(`"user-data"`, `"Keys":[],"user-data"`) }, reason.AzureRuntimeData},
		{"an unknown member", func(s *hclScene) { s.runtime(`"user-data"`, `"policy":1,"user-data"`) }, reason.AzureRuntimeData},
		{"deep", func(s *hclScene) {
			s.runtime(`"console-enabled":true`, `"x":`+strings.Repeat("[", 400)+strings.Repeat("]", 400))
		}, reason.AzureRuntimeData},
		{"no keys", func(s *hclScene) {
			s.runtime(`"keys"`, `"vm-configuration"`)
			s.runtime(`,"vm-configuration":{`, `,"keys":{`)
		}, reason.AzureRuntimeData},
		{"no AK", func(s *hclScene) { s.runtime("HCLAkPub", "HCLEkPub") }, reason.AzureRuntimeData},
		{"AK in another case", func(s *hclScene) { s.runtime("HCLAkPub", "hclAkPub") }, reason.AzureRuntimeData},
		{"two AKs", func(s *hclScene) { s.runtime(`[{"kid"`, `[{"kid":"HCLAkPub"},{"kid"`) }, reason.AzureRuntimeData},
		{"nine keys", func(s *hclScene) { s.runtime(`[{"kid"`, `[`+strings.Repeat(`{"kid":"x"},`, 8)+`{"kid"`) }, reason.AzureRuntimeData},
		{"a key that is no object", func(s *hclScene) { s.runtime(`[{"kid"`, `[1,{"kid"`) }, reason.AzureRuntimeData},
		{"EC", func(s *hclScene) { s.runtime(`"RSA"`, `"EC"`) }, reason.AzureRuntimeData},
		{"exponent 3", func(s *hclScene) { s.runtime(`"AQAB"`, `"Aw"`) }, reason.AzureRuntimeData},
		{"no exponent", func(s *hclScene) { s.runtime(`"e":"AQAB",`, ``) }, reason.AzureRuntimeData},
		{"1024 bits", func(s *hclScene) { s.runtime(modulus(&hclAK().PublicKey), modulus(&small.PublicKey)) }, reason.AzureRuntimeData},
		{"8192 bits", func(s *hclScene) { s.runtime(modulus(&hclAK().PublicKey), strings.Repeat("f", 1024)) }, reason.AzureRuntimeData},
		{"padded modulus", func(s *hclScene) { s.runtime(modulus(&hclAK().PublicKey), modulus(&hclAK().PublicKey)+"==") }, reason.AzureRuntimeData},
		{"modulus as a number", func(s *hclScene) { s.runtime(`"n":"`+modulus(&hclAK().PublicKey)+`"`, `"n":5`) }, reason.AzureRuntimeData},
		{"user data of 63 bytes", func(s *hclScene) { s.runtime(strings.Repeat("00", 64), strings.Repeat("00", 63)) }, reason.AzureRuntimeData},
		{"user data that is no hex", func(s *hclScene) { s.runtime(strings.Repeat("00", 64), strings.Repeat("0x", 64)) }, reason.AzureRuntimeData},
		{"no configuration", func(s *hclScene) { s.runtime(`"vm-configuration":{`, `"vm-configuration":null,"user-data":{`) }, reason.AzureRuntimeData},
		{"row 62 no machine", func(s *hclScene) { s.runtime(hclVM, "") }, reason.AzureRuntimeData},
		{"a machine of zeros", func(s *hclScene) { s.runtime(hclVM, "00000000-0000-0000-0000-000000000000") }, reason.AzureRuntimeData},
		{"a machine without dashes", func(s *hclScene) { s.runtime(hclVM, strings.ReplaceAll(hclVM, "-", "0")) }, reason.AzureRuntimeData},
		{"a machine with a path", func(s *hclScene) { s.runtime(hclVM, "../"+hclVM[3:]) }, reason.AzureRuntimeData},
		{"secure boot as text", func(s *hclScene) { s.runtime(`"secure-boot":true`, `"secure-boot":"true"`) }, reason.AzureRuntimeData},
		{"thumbprint as number", func(s *hclScene) { s.runtime(`"secure-boot"`, `"root-cert-thumbprint":1,"secure-boot"`) }, reason.AzureRuntimeData},

		{"no VCEK", func(s *hclScene) { s.noCert = true }, reason.AzureHardwareMissing},
		{"another root", func(s *hclScene) { s.trust = azure.HCLTrust{} }, reason.SNPUntrusted},
		{"another signature", func(s *hclScene) {
			s.rewrite = func(b []byte) []byte { b[32+0x90] ^= 1; return b }
		}, reason.SNPSignature},
		{"expired", func(s *hclScene) { s.now = hclNoon.AddDate(8, 0, 0) }, reason.SNPValidity},
		{"written by the guest at level 2", func(s *hclScene) { s.report.VMPL = 2 }, reason.SNPVMPL},
		{"TDX without a quote", func(s *hclScene) { s.hcl.Version, s.hcl.Type = 2, 4 }, reason.AzureHardwareMissing},
		{"TDX with a long quote", func(s *hclScene) { s.hcl.Type, s.quote = 4, make([]byte, azure.MaxTDQuote+1) }, reason.RequestTooLarge},
		{"TDX without trust", func(s *hclScene) { s.hcl.Type, s.quote = 4, []byte{1} }, reason.TDXUntrusted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := newHCL(t).verify(t); err != nil {
				t.Fatalf("the good case is refused: %v", err)
			}
			s := newHCL(t)
			tc.change(s)
			m, err := s.verify(t)
			if got := reason.Of(err); got != tc.want {
				t.Errorf("%q, want %q (%v)", got, tc.want, err)
			}
			if f := m.Facts(); len(f.Selectors) > 0 {
				t.Errorf("a refused report says %v", f.Selectors)
			}
		})
	}
	if _, err := azure.VerifyHCL(azure.ClaimedHCL{}, azure.Hardware{}, azure.HCLTrust{}, hclNoon); reason.Of(err) != reason.AzureHardwareMissing {
		t.Errorf("the zero report: %v", err)
	}
}

// TestHCLHazards: firmware that Azure did not sign can write any runtime data into
// a genuine report, and so name any machine.
func TestHCLHazards(t *testing.T) {
	codes := func(change func(s *hclScene)) []reason.Code {
		s := newHCL(t)
		change(s)
		m, err := s.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		var out []reason.Code
		for _, h := range m.Facts().Hazards {
			out = append(out, h.Code)
		}
		return out
	}
	for name, tc := range map[string]struct {
		change func(s *hclScene)
		want   []reason.Code
	}{
		"no ID block":    {func(s *hclScene) { s.report.IDKey = [48]byte{} }, []reason.Code{reason.AzureRuntimeData}},
		"another ID key": {func(s *hclScene) { s.report.IDKey[47] ^= 1 }, []reason.Code{reason.AzureRuntimeData}},
		"debug, and another ID key": {func(s *hclScene) {
			s.report.IDKey[0]++
			s.report.Policy |= 1 << 19
		}, []reason.Code{reason.SNPDebug, reason.AzureRuntimeData}},
	} {
		if got := codes(tc.change); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestHCLOnTDX: the quote is asked for the REPORTDATA of the report, and its
// verifier's word is taken over.
func TestHCLOnTDX(t *testing.T) {
	const azureMRTD = "024a32b070383331181619fa387cb4d55d1e38879f989933055ccad5bc2db795d1737b66205949d15469dc8c1ba7ab7b"
	for name, tc := range map[string]struct {
		mrtd string
		want []document.Hazard
	}{
		"a known paravisor":    {azureMRTD, nil},
		"an unknown paravisor": {"00", []document.Hazard{{Code: reason.AzureRuntimeData}}},
		"no measurement":       {"", []document.Hazard{{Code: reason.AzureRuntimeData}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHCL(t)
			s.hcl.Version, s.hcl.Type, s.quote, s.noCert = 2, 4, []byte("a quote"), true
			s.trust.TDX = func(quote, data []byte, now time.Time) (document.Facts, error) {
				bind := s.hcl.Bind()
				if string(quote) != "a quote" || !bytes.Equal(data, bind[:]) || !now.Equal(hclNoon) {
					t.Errorf("asked for %x with %q at %s", data, quote, now)
				}
				var f document.Facts
				f.Add("tdx.mrtd", tc.mrtd)
				return f, nil
			}
			m, err := s.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			f := m.Facts()
			if len(f.Hazards) != len(tc.want) || len(tc.want) > 0 && f.Hazards[0].Code != tc.want[0].Code || !slices.Equal(f.Values("azure.cvm.tee"), []string{"tdx"}) {
				t.Errorf("%+v", f)
			}
			s.trust.TDX = func([]byte, []byte, time.Time) (document.Facts, error) {
				return document.Facts{}, reason.New(reason.TDXSignature, "")
			}
			if _, err := s.verify(t); reason.Of(err) != reason.TDXSignature {
				t.Errorf("a quote that does not verify: %v", err)
			}
		})
	}
}

// TestHCLCatalogue has row 118 of the list of bad inputs with a real report.
func TestHCLCatalogue(t *testing.T) {
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	genuine, err := os.ReadFile(filepath.Join(dir, "cloud", "azure-hcl", "trustee-az-snp-vtpm-hcl-report.bin"))
	if err != nil {
		t.Skipf("no vectors: %v; set ZONEBROKER_VECTORS to run these cases", err)
	}
	if h, err := azure.ParseHCL(genuine); err != nil || h.TEE() != azure.SNP || len(h.AK()) == 0 {
		t.Fatalf("the real report: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(b []byte)
		want   reason.Code
	}{
		"row 118 runtime data flipped (real)": {func(b []byte) { b[1300] ^= 1 }, reason.AzureRuntimeData},
		"row 118 length (real)":               {func(b []byte) { b[1232]++ }, reason.AzureHclMalformed},
		"row 118 magic (real)":                {func(b []byte) { b[3] = 'B' }, reason.AzureHclMalformed},
		"REPORT_DATA flipped (real)":          {func(b []byte) { b[32+0x50] ^= 1 }, reason.AzureRuntimeData},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(genuine)
			tc.change(b)
			if _, err := azure.ParseHCL(b); reason.Of(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// FuzzHCL: no panic, and nothing that parses is of other runtime data than the
// hardware report carries the hash of.
func FuzzHCL(f *testing.F) {
	s := newHCL(f)
	good, _ := s.blob(f)
	f.Add(good)
	s.hcl.Type = 4
	td, _ := s.blob(f)
	f.Add(td)
	f.Fuzz(func(t *testing.T, blob []byte) {
		h, err := azure.ParseHCL(blob)
		if err != nil {
			return
		}
		if len(h.AK()) == 0 || len(blob) > azure.MaxHCL {
			t.Errorf("parsed: %x", blob)
		}
		again := append(bytes.Clone(blob), 7)
		if _, err := azure.ParseHCL(again); err == nil {
			t.Errorf("a byte behind passed: %x", again)
		}
	})
}

func BenchmarkVerifyHCL(b *testing.B) {
	s := newHCL(b)
	blob, cert := s.blob(b)
	b.ReportAllocs()
	for b.Loop() {
		h, err := azure.ParseHCL(blob)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := azure.VerifyHCL(h, azure.Hardware{Certificate: cert}, s.trust, s.now); err != nil {
			b.Fatal(err)
		}
	}
}
