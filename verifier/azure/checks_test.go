package azure_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// This file holds one case for each check of HCL reports and attested documents
// that the cases beside it would not miss; tokenchecks_test.go has those of tokens.

func checksOf(f document.Facts) string {
	var out []string
	for _, c := range f.Findings {
		out = append(out, c.Check)
	}
	return strings.Join(out, " ")
}

func selectorsOf(f document.Facts) string {
	var out []string
	for _, s := range f.Selectors {
		out = append(out, s.Name+"="+s.Value)
	}
	return strings.Join(out, "\n")
}

// wants allows "" for no error.
func wants(t *testing.T, err error, want reason.Code) {
	t.Helper()
	if reason.Of(err) != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestHCLChecks(t *testing.T) {
	modulus := base64.RawURLEncoding.EncodeToString(hclAK().N.Bytes())
	large := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 4096), big.NewInt(1)), E: 65537}
	thumbprint := func(n int) func(s *hclScene) {
		return func(s *hclScene) {
			s.runtime(`"secure-boot"`, `"root-cert-thumbprint":"`+strings.Repeat("a", n)+`","secure-boot"`)
		}
	}
	for name, tc := range map[string]struct {
		change func(s *hclScene)
		want   reason.Code
	}{
		"8 KiB":         {func(s *hclScene) { s.hcl.Size = azure.MaxHCL }, ""},
		"headers alone": {func(s *hclScene) { s.rewrite = func(b []byte) []byte { return b[:32+1184+20] } }, reason.AzureHclMalformed},
		"lengths that agree behind the end": {func(s *hclScene) {
			s.rewrite = func(b []byte) []byte {
				for at, v := range map[int]uint32{8: 32 + 1184 + 20 + 0xffff, 32 + 1184: 20 + 0xffff, 32 + 1184 + 16: 0xffff} {
					binary.LittleEndian.PutUint32(b[at:], v)
				}
				return b
			}
		}, reason.AzureHclMalformed},
		"user data with half a byte behind": {func(s *hclScene) { s.runtime(strings.Repeat("00", 64), strings.Repeat("00", 64)+"0") }, reason.AzureRuntimeData},
		"a thumbprint of 128 letters":       {thumbprint(128), ""},
		"a thumbprint of 129 letters":       {thumbprint(129), reason.AzureRuntimeData},
		"eight keys":                        {func(s *hclScene) { s.runtime(`[{"kid"`, `[`+strings.Repeat(`{"kid":"x"},`, 7)+`{"kid"`) }, ""},
		"another key behind":                {func(s *hclScene) { s.runtime(`"}],`, `"},{"kid":"HCLEkPub"}],`) }, ""},
		"a modulus with no base64 behind":   {func(s *hclScene) { s.runtime(modulus, modulus+"AA!") }, reason.AzureRuntimeData},
		"4096 bits":                         {func(s *hclScene) { s.hcl.Runtime = documenttest.AzureRuntime(large, hclVM) }, ""},
		"a machine with a letter too many":  {func(s *hclScene) { s.runtime(hclVM, "g"+hclVM[1:]) }, reason.AzureRuntimeData},
		"TDX with a quote at the limit": {func(s *hclScene) {
			s.hcl.Type, s.quote = 4, make([]byte, azure.MaxTDQuote)
		}, reason.TDXUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHCL(t)
			tc.change(s)
			_, err := s.verify(t)
			wants(t, err, tc.want)
		})
	}
	m, err := newHCL(t).verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if got := checksOf(m.Facts()); !strings.HasPrefix(got, "azure.cvm.runtime_data snp.form snp.chain ") {
		t.Errorf("findings %s", got)
	}
}

// TestHCLOfTDX: the runtime data counts where a TD quote that Intel's keys vouch
// for carries its hash, and is refused with the quote's own code.
func TestHCLOfTDX(t *testing.T) {
	pki := documenttest.NewIntelPKI(hclNoon)
	trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})})
	if err != nil {
		t.Fatal(err)
	}
	s := newHCL(t)
	s.hcl.Version, s.hcl.Type, s.trust.TDX = 2, 4, azure.TDQuotes(trust)
	s.quote = pki.Quote(documenttest.TDXFields{ReportData: s.hcl.Bind()})
	m, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := m.Facts()
	mrtd := strings.Repeat("88", 48)
	if !slices.Equal(f.Values("azure.cvm.tee"), []string{"tdx"}) || !slices.Equal(f.Values("azure.cvm.paravisor"), []string{mrtd}) || !slices.Equal(f.Values("tdx.mrtd"), []string{mrtd}) {
		t.Errorf("%s", selectorsOf(f))
	}
	if len(f.Hazards) != 1 || f.Hazards[0].Code != reason.AzureRuntimeData {
		t.Errorf("a paravisor that nobody knows: %v", f.Hazards)
	}
	s.quote = pki.Quote(documenttest.TDXFields{})
	_, err = s.verify(t)
	wants(t, err, reason.TDXReportData)
}

func TestIMDSChecks(t *testing.T) {
	padded := func(n int) func([]byte) []byte {
		return func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), n-len(b))...) }
	}
	for name, change := range map[string]func(a *attested){
		"32 KiB":       func(a *attested) { a.raw = padded(pkcs7.MaxText) },
		"above 32 KiB": func(a *attested) { a.code, a.raw = reason.RequestTooLarge, padded(pkcs7.MaxText+1) },
		"a signature that is no base64": func(a *attested) {
			a.code, a.raw = reason.PKCS7Encoding, func([]byte) []byte { return []byte(`{"encoding":"pkcs7","signature":"!"}`) }
		},
		"a stranger that chains to nobody": func(a *attested) {
			a.code = reason.AzureSAN
			a.signedBy(a.pki.Leaf("www.example.com"), nil)
		},
		"a name of one label": func(a *attested) {
			a.code = reason.AzureSAN
			a.signedBy(a.pki.Leaf("intranet"), &a.pki.Intermediate)
		},
		"a nonce that is a number": func(a *attested) {
			a.code, a.json = reason.AzureDocument, imdsReplace(`"`+imdsNonce+`"`, "5")
		},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			a := goodIMDS(t)
			change(&a)
			_, err := a.verify()
			wants(t, err, a.code)
		})
	}
}

// TestIMDSFacts: all that a document says, in the time of Greenwich, and which
// checks held.
func TestIMDSFacts(t *testing.T) {
	a := goodIMDS(t)
	a.json = func(b []byte) []byte {
		b = imdsReplace(`"plan":{"name":"","product":"","publisher":""}`, `"plan":{"name":"a","product":"b","publisher":"c"}`)(b)
		b = imdsReplace(`"licenseType":""`, `"licenseType":"d"`)(b)
		return imdsReplace("08:59:30 -0000", "10:59:30 +0200")(b)
	}
	got, err := a.verify()
	if err != nil {
		t.Fatal(err)
	}
	const own = `azure.imds.cloud=public
azure.imds.license_type=d
azure.imds.plan.name=a
azure.imds.plan.product=b
azure.imds.plan.publisher=c
azure.imds.sku=22_04-lts-gen2
azure.imds.subscription=44444444-4444-4444-4444-444444444444
azure.imds.vm_id=55555555-5555-5555-5555-555555555555`
	f := got.Facts()
	if s := selectorsOf(f); s != own {
		t.Error(s)
	}
	if c := checksOf(f); c != "azure.imds.signer azure.imds.window azure.imds.nonce" || !strings.Contains(f.Findings[1].Detail, "made at 2026-11-20T08:59:30Z") {
		t.Errorf("%s: %s", c, f.Findings[1].Detail)
	}
	live, err := got.Live([]byte(liveAnswer(`{"b":"2"}`)))
	if err != nil {
		t.Fatal(err)
	}
	const id = "/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/prod/providers/microsoft.compute/virtualmachines/web-1"
	f = live.Facts()
	for name, want := range map[string]string{
		"azure.imds.tenant": "77777777-7777-7777-7777-777777777777", "azure.imds.resource_id": id, "azure.imds.resource_group": "prod",
		"azure.imds.location": "eastus", "azure.imds.tag": "b=2",
	} {
		if got := f.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q", name, got)
		}
	}
	if c := checksOf(f); c != "azure.imds.signer azure.imds.window azure.imds.nonce azure.imds.live" || !f.Confirmed {
		t.Errorf("%s, confirmed %t", c, f.Confirmed)
	}
	a.nonce = ""
	if got, err = a.verify(); err != nil {
		t.Fatal(err)
	}
	if c := checksOf(got.Facts()); c != "azure.imds.signer azure.imds.window" {
		t.Errorf("without a nonce: %s", c)
	}
}

func liveAnswer(tags string) string {
	return `{"location":"eastus","power_state":"running","resource_id":"/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/Prod/providers/Microsoft.Compute/virtualMachines/web-1","tags":` +
		tags + `,"tenant_id":"77777777-7777-7777-7777-777777777777","vm_id":"55555555-5555-5555-5555-555555555555"}`
}

func TestIMDSLiveChecks(t *testing.T) {
	a := goodIMDS(t)
	got, err := a.verify()
	if err != nil {
		t.Fatal(err)
	}
	tags := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(`"k%d":""`, i))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	good := liveAnswer("{}")
	for name, tc := range map[string]struct {
		said string
		want reason.Code
	}{
		"64 KiB":                 {good + strings.Repeat(" ", azure.MaxLiveVM-len(good)), ""},
		"50 tags":                {liveAnswer(tags(50)), ""},
		"51 tags":                {liveAnswer(tags(51)), reason.AzureResource},
		"tags that are null":     {liveAnswer("null"), reason.AzureResource},
		"a tag that is a number": {liveAnswer(`{"a":1}`), reason.AzureResource},
		"another member in the place of the tags": {strings.Replace(good, `"tags"`, `"labels"`, 1), reason.AzureResource},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := got.Live([]byte(tc.said))
			wants(t, err, tc.want)
		})
	}
}

// TestReadClaimedVM: what Azure is asked about comes from a document of the right
// form, whoever signed it.
func TestReadClaimedVM(t *testing.T) {
	a := goodIMDS(t)
	want := azure.ClaimedVM{VM: a.vm.VM, Subscription: a.vm.Subscription}
	if got, err := azure.ReadClaimedVM(a.pki.Document(a.vm)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	_, err := azure.ReadClaimedVM([]byte("x"))
	wants(t, err, reason.PKCS7Encoding)
	a.vm.Subscription = ""
	got, err := azure.ReadClaimedVM(a.pki.Document(a.vm))
	wants(t, err, reason.AzureDocument)
	if got != (azure.ClaimedVM{}) {
		t.Errorf("a refused document names %+v", got)
	}
}
