package tdx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// This file holds one case for each check of collateral and quotes that the cases
// beside it would not miss; pckchecks_test.go has those of the certificate.

// fillTo appends fill up to a length.
func fillTo(n int, with byte) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, bytes.Repeat([]byte{with}, n-len(b))...) }
}

func ended(s string) string {
	return replaced(noon.AddDate(0, 0, 30).Format(time.RFC3339), noon.Add(-time.Second).Format(time.RFC3339))(s)
}

// raw64 signs as Intel's documents are signed: r and s, one behind the other.
func raw64(t *testing.T, key *ecdsa.PrivateKey, text string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func TestCollateralChecks(t *testing.T) {
	edit := func(change func(l *lab, b map[string]string)) func(l *lab) {
		return func(l *lab) { l.collateral = bundle(func(b map[string]string) { change(l, b) }) }
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []row{
		{"TCB info ended", func(l *lab) { l.collateral.EditTCBInfo = ended }, reason.TDXCollateralExpired},
		{"QE identity ended", func(l *lab) { l.collateral.EditQEIdentity = ended }, reason.TDXCollateralExpired},
		{"list of PCKs ended", edit(func(l *lab, b map[string]string) {
			b["pck_crl"] = l.pki.List(false, func(list *x509.RevocationList, _ *x509.Certificate) { list.NextUpdate = noon.Add(-time.Second) })
		}), reason.TDXCollateralExpired},
		{"signing certificate revoked", func(l *lab) {
			l.pki.IssueSigning(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(77) })
			edit(func(l *lab, b map[string]string) {
				b["root_ca_crl"] = l.pki.List(true, func(list *x509.RevocationList, _ *x509.Certificate) {
					list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(77), RevocationTime: noon.AddDate(0, 0, -2)}}
				})
			})(l)
		}, reason.TDXUntrusted},
		{"list of the root with letters that are no hex behind", edit(func(_ *lab, b map[string]string) { b["root_ca_crl"] += "zz" }), reason.TDXCollateralSignature},
		{"list of PCKs with letters that are no hex behind", edit(func(_ *lab, b map[string]string) { b["pck_crl"] += "zz" }), reason.TDXCollateralSignature},
		{"list that changes another", edit(func(l *lab, b map[string]string) {
			b["pck_crl"] = l.pki.List(false, func(list *x509.RevocationList, _ *x509.Certificate) {
				list.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}
			})
		}), reason.TDXCollateralSignature},
		{"list in PEM in hex", edit(func(_ *lab, b map[string]string) {
			der, _ := hex.DecodeString(b["pck_crl"])
			b["pck_crl"] = hex.EncodeToString(pemBlock(der))
		}), reason.TDXCollateralSignature},
		{"list of the root under another name", edit(func(l *lab, b map[string]string) {
			b["root_ca_crl"] = l.pki.List(true, func(_ *x509.RevocationList, issuer *x509.Certificate) {
				issuer.RawSubject, _ = asn1.Marshal(pkix.Name{CommonName: "nobody"}.ToRDNSequence())
			})
		}), reason.TDXCollateralSignature},
		{"list by another's key under the right name", edit(func(_ *lab, b map[string]string) {
			b["pck_crl"] = documenttest.NewIntelPKI(noon).List(false, func(*x509.RevocationList, *x509.Certificate) {})
		}), reason.TDXCollateralSignature},
		{"signature with half a byte behind", edit(func(_ *lab, b map[string]string) { b["tcb_info_signature"] += "0" }), reason.TDXCollateralSignature},
		{"signature with a zero before s", edit(func(_ *lab, b map[string]string) {
			sig := b["tcb_info_signature"]
			b["tcb_info_signature"] = sig[:64] + "00" + sig[64:]
		}), reason.TDXCollateralSignature},
		{"signed by a CA with the name of the signing key", func(l *lab) {
			l.pki.IssueSigning(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
		}, reason.TDXCollateralSignature},
		{"signed by a key on P-224", edit(func(l *lab, b map[string]string) {
			b["tcb_info_issuer_chain"] = string(l.pki.Chain(weak.Public(), false))
			b["tcb_info_signature"] = hex.EncodeToString(raw64(t, weak, b["tcb_info"]))
		}), reason.TDXCollateralSignature},
		{"signed by an RSA key", edit(func(l *lab, b map[string]string) {
			b["tcb_info_issuer_chain"] = string(l.pki.Chain(rsaKey.Public(), false))
		}), reason.TDXCollateralSignature},
	} {
		r.run(t)
	}
}

// TestDocumentForm: what Intel signed with values of impossible length is not used,
// whatever quote comes; the counts have limits.
func TestDocumentForm(t *testing.T) {
	pki := documenttest.NewIntelPKI(noon)
	standing := func(t *testing.T, f documenttest.CollateralFields) error {
		t.Helper()
		trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{tdx.AnyPlatform: pki.Collateral(f)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = trust.Standing(tdx.AnyPlatform, noon)
		return err
	}
	if err := standing(t, documenttest.CollateralFields{}); err != nil {
		t.Fatalf("the good case is refused: %v", err)
	}
	bad := reason.TDXCollateralMismatch
	zeros := func(n int) string { return `"` + strings.Repeat("0", n) + `"` }
	module := `{"id":"TDX_02","mrsigner":` + zeros(96) + `,"attributes":` + zeros(16) + `,"attributesMask":` + zeros(16) + `,"tcbLevels":[]}`
	enclave := `{"tcb":{"isvsvn":1},"tcbDate":"2023-08-09T00:00:00Z","tcbStatus":"Revoked"}`
	before := func(anchor string, n int, one string) func(string) string {
		return replaced(anchor, anchor+strings.Repeat(one+",", n))
	}
	platform := func(n int) func(string) string { // the two levels and n copies of the last
		return func(s string) string {
			at := strings.LastIndex(s, `{"tcb":`)
			return s[:at] + strings.Repeat(strings.TrimSuffix(s[at:], "]}")+",", n) + s[at:]
		}
	}
	second := func(old, with string) func(string) string { // in the identity of the module, behind that without a version
		return func(s string) string {
			at := strings.Index(s, "TDX_01")
			return s[:at] + replaced(old, with)(s[at:])
		}
	}
	for name, tc := range map[string]struct {
		edit func(string) string
		want reason.Code
	}{
		"fmspc of five bytes":             {replaced(`"B0C06F000000"`, `"B0C06F0000"`), bad},
		"fmspc with a letter behind":      {replaced(`"B0C06F000000"`, `"B0C06F000000z"`), bad},
		"PCE id of one byte":              {replaced(`"pceId":"0000"`, `"pceId":"00"`), bad},
		"null for the module":             {nullModule, bad},
		"a module without version and id": {replaced(`"tdxModule":{`, `"tdxModule":{"id":"TDX_00",`), bad},
		"a signer of 47 bytes":            {replaced(zeros(96), zeros(94)), bad},
		"attributes of seven bytes":       {replaced(zeros(16), zeros(14)), bad},
		"a mask of seven bytes":           {replaced(`"FFFFFFFFFFFFFFFF"`, `"FFFFFFFFFFFFFF"`), bad},
		"an identity with a short signer": {second(zeros(96), zeros(94)), bad},
		"an identity of SGX":              {replaced(`"TDX_01"`, `"SGX_01"`), bad},
		"64 modules":                      {before(`"tdxModuleIdentities":[`, 63, module), ""},
		"65 modules":                      {before(`"tdxModuleIdentities":[`, 64, module), bad},
		"256 levels":                      {platform(254), ""},
		"257 levels":                      {platform(255), bad},
		"fifteen components of TDX":       {replaced(`"tdxtcbcomponents":[{"svn":5},`, `"tdxtcbcomponents":[`), bad},
		"256 levels of a module":          {before(`"tcbLevels":[`, 254, enclave), ""},
		"257 levels of a module":          {before(`"tcbLevels":[`, 255, enclave), bad},
		"a module that needs hardening":   {second(`"OutOfDate"`, `"SWHardeningNeeded"`), bad},
	} {
		t.Run("TCB info: "+name, func(t *testing.T) {
			if err := standing(t, documenttest.CollateralFields{EditTCBInfo: tc.edit}); reason.Of(err) != tc.want && (err != nil || tc.want != "") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for name, tc := range map[string]struct {
		edit func(string) string
		want reason.Code
	}{
		"of version 1":                    {replaced(`"version":2`, `"version":1`), bad},
		"miscselect of three bytes":       {replaced(`"miscselect":"00000000"`, `"miscselect":"000000"`), bad},
		"a mask of three bytes":           {replaced(`"FFFFFFFF"`, `"FFFFFF"`), bad},
		"attributes of fifteen bytes":     {replaced(`"11000000000000000000000000000000"`, `"110000000000000000000000000000"`), bad},
		"a mask of fifteen bytes":         {replaced(`"FBFFFFFFFFFFFFFF0000000000000000"`, `"FBFFFFFFFFFFFFFF00000000000000"`), bad},
		"a signer of 31 bytes":            {replaced(`A8C5"`, `A8"`), bad},
		"no levels":                       {func(s string) string { return s[:strings.Index(s, `"tcbLevels"`)] + `"tcbLevels":[]}` }, bad},
		"256 levels":                      {before(`"tcbLevels":[`, 254, enclave), ""},
		"257 levels":                      {before(`"tcbLevels":[`, 255, enclave), bad},
		"an enclave that needs hardening": {lastStatus("OutOfDate", "SWHardeningNeeded"), bad},
	} {
		t.Run("QE identity: "+name, func(t *testing.T) {
			if err := standing(t, documenttest.CollateralFields{EditQEIdentity: tc.edit}); reason.Of(err) != tc.want && (err != nil || tc.want != "") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for n, want := range map[int]reason.Code{tdx.MaxCollateral: "", tdx.MaxCollateral + 1: reason.TDXCollateralMissing} {
		raw := fillTo(n, ' ')(pki.Collateral(documenttest.CollateralFields{}))
		trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{tdx.AnyPlatform: raw})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trust.Standing(tdx.AnyPlatform, noon); reason.Of(err) != want && (err != nil || want != "") {
			t.Errorf("%d bytes: %v, want %q", n, err, want)
		}
	}
}

// nullModule puts null in the place of the module without a version.
func nullModule(s string) string {
	begin, end := strings.Index(s, `"tdxModule":`)+len(`"tdxModule":`), strings.Index(s, `,"tdxModuleIdentities"`)
	return s[:begin] + "null" + s[end:]
}

// TestQuoteChecks: an attacker's bytes have no place in what stands around the
// signed part.
func TestQuoteChecks(t *testing.T) {
	log, rtmrs := documenttest.CCEL()
	for _, r := range []row{
		{"fill up to the limit", func(l *lab) { l.raw = fillTo(tdx.MaxQuote, 0) }, ""},
		{"fill of letters", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, "AAAA"...) } }, reason.TDXMalformed},
		{"a signed quote of version 6", func(l *lab) { l.quote.Version = 6 }, reason.TDXHeader},
		{"a body of TDX 1.5 called one of 1.0", func(l *lab) { l.quote.Version, l.quote.TD15, l.raw = 5, true, set(48, 2) }, reason.TDXMalformed},
		{"a message inside the signature data", func(l *lab) {
			l.raw = func(b []byte) []byte {
				binary.LittleEndian.PutUint32(b[632:], binary.LittleEndian.Uint32(b[632:])+7)
				return append(b, "message"...)
			}
		}, reason.TDXMalformed},
		{"a key off the curve that the enclave vouches for", func(l *lab) {
			l.quote.EditReport = func(r []byte) {
				named := sha256.Sum256(make([]byte, 64+32))
				copy(r[320:], named[:])
			}
			l.raw = set(636+64, make([]byte, 64)...)
		}, reason.TDXSignature},
		{"an event log up to the limit", func(l *lab) {
			l.quote.RTMRs, l.want.EventLog = rtmrs, fillTo(tdx.MaxEventLog, 0xff)(slices.Clone(log))
		}, ""},
		{"an event log above the limit, and no quote", func(l *lab) {
			l.want.EventLog, l.raw = make([]byte, tdx.MaxEventLog+1), func([]byte) []byte { return nil }
		}, reason.RequestTooLarge},
	} {
		r.run(t)
	}
	q, err := tdx.Parse(documenttest.NewIntelPKI(noon).Quote(documenttest.TDXFields{RTMRs: rtmrs}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.ReplayLog(fillTo(tdx.MaxEventLog, 0xff)(slices.Clone(log))); err != nil {
		t.Errorf("a log up to the limit: %v", err)
	}
	if _, err := q.ReplayLog(fillTo(tdx.MaxEventLog+1, 0xff)(slices.Clone(log))); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("a log above the limit: %v", err)
	}
}

// TestLevelChecks: a module without a version takes nothing from the enclave's
// level, and advisories are told once, in order.
func TestLevelChecks(t *testing.T) {
	l := newLab()
	l.quote.EditBody = func(b []byte) { b[0], b[1] = 5, 0 }
	l.quote.EditReport = func(r []byte) { r[258] = 3 }
	l.collateral.EditTCBInfo = func(s string) string {
		at := strings.Index(s, `{"tcb":{"sgx`)
		return s[:at] + replaced(`"tcbStatus"`, `"advisoryIDs":["INTEL-SA-00999","INTEL-SA-00837"],"tcbStatus"`)(s[at:])
	}
	q, err := l.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := q.Facts()
	if got := strings.Join(f.Values("tdx.advisory"), " "); q.Status() != tdx.StatusOutOfDate || got != "INTEL-SA-00837 INTEL-SA-00999" {
		t.Errorf("%s, advisories %s", q.Status(), got)
	}
	for i := range f.Selectors[1:] {
		if f.Selectors[i].Name > f.Selectors[i+1].Name {
			t.Errorf("%s stands before %s", f.Selectors[i].Name, f.Selectors[i+1].Name)
		}
	}
	log, rtmrs := documenttest.CCEL()
	l = newLab()
	l.quote.RTMRs, l.want.EventLog = rtmrs, log
	if q, err = l.verify(t); err != nil {
		t.Fatal(err)
	}
	var checks []string
	for _, c := range q.Facts().Findings {
		checks = append(checks, c.Check)
	}
	if got := strings.Join(checks, " "); got != "tdx.signature tdx.report_data tdx.collateral tdx.event_log" {
		t.Errorf("findings %s", got)
	}
}
