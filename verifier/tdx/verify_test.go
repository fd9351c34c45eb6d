package tdx_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// lab is one verification: what is sent, what is trusted, when.
type lab struct {
	pki        *documenttest.IntelPKI
	quote      documenttest.TDXFields
	collateral documenttest.CollateralFields
	raw        func([]byte) []byte // changes the quote behind its signature
	roots      [][]byte
	none       bool // no collateral
	name       string
	want       tdx.Expectation
	now        time.Time
}

var bound = [64]byte{1, 2, 3}

func newLab() *lab {
	pki := documenttest.NewIntelPKI(noon)
	return &lab{
		pki: pki, roots: [][]byte{pki.RootPEM()}, now: noon, name: documenttest.FMSPC,
		quote: documenttest.TDXFields{ReportData: bound}, want: tdx.Expectation{ReportData: bound[:]},
	}
}

func (l *lab) verify(t testing.TB) (tdx.Quote, error) {
	t.Helper()
	raw := l.pki.Quote(l.quote)
	if l.raw != nil {
		raw = l.raw(raw)
	}
	bundles := map[string][]byte{l.name: l.pki.Collateral(l.collateral)}
	if l.none {
		bundles = nil
	}
	trust, err := tdx.NewTrust(l.roots, bundles)
	if err != nil {
		t.Fatal(err)
	}
	return tdx.Verify(raw, l.want, trust, l.now)
}

func set(at int, b ...byte) func([]byte) []byte {
	return func(raw []byte) []byte { copy(raw[at:], b); return raw }
}

func replaced(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("the document has no " + old)
		}
		return strings.Replace(s, old, with, 1)
	}
}

func bundle(change func(b map[string]string)) documenttest.CollateralFields {
	return documenttest.CollateralFields{EditBundle: change}
}

type row struct {
	name   string
	change func(l *lab)
	want   reason.Code // "": good
}

func (r row) run(t *testing.T) {
	t.Run(r.name, func(t *testing.T) {
		l := newLab()
		if _, err := l.verify(t); err != nil {
			t.Fatalf("the good case is refused: %v", err)
		}
		r.change(l)
		q, err := l.verify(t)
		if reason.Of(err) != r.want && (err != nil || r.want != "") {
			t.Errorf("got %v, want %q", err, r.want)
		}
		if err != nil && (q.Facts().NonceBound || q.ReportData() != nil || q.Status() != "") {
			t.Error("a refused quote has facts")
		}
	})
}

// TestCloudTDX: rows of the catalogue of bad input (cloud.md, section 4), each
// made from a good quote of a test PKI by changing one thing.
func TestCloudTDX(t *testing.T) {
	for _, r := range []row{
		{"row 103 debug bit flipped (test PKI)", func(l *lab) { l.raw = set(48+120, 1) }, reason.TDXSignature},
		{"row 104 RTMR flipped", func(l *lab) { l.raw = set(48+328, 0xff) }, reason.TDXSignature},
		{"row 105 TEE type of SGX", func(l *lab) { l.raw = set(4, 0) }, reason.TDXHeader},
		{"row 106 version 3", func(l *lab) { l.raw = set(0, 3) }, reason.TDXHeader},
		{"row 107 QE vendor", func(l *lab) { l.raw = set(12, 0) }, reason.TDXHeader},
		{"row 107 key type", func(l *lab) { l.raw = set(2, 3) }, reason.TDXHeader},
		{"row 108 truncated in the header", func(l *lab) { l.raw = func(b []byte) []byte { return b[:47] } }, reason.TDXMalformed},
		{"row 108 truncated in the body", func(l *lab) { l.raw = func(b []byte) []byte { return b[:48+583] } }, reason.TDXMalformed},
		{"row 108 truncated at the end", func(l *lab) { l.raw = func(b []byte) []byte { return b[:len(b)-1] } }, reason.TDXMalformed},
		{"row 109 signature length 0x7fffffff", func(l *lab) { l.raw = set(632, 0xff, 0xff, 0xff, 0x7f) }, reason.TDXMalformed},
		{"row 109 certificate length 0xffffffff", func(l *lab) { l.raw = set(632+4+128+2, 0xff, 0xff, 0xff, 0xff) }, reason.TDXMalformed},
		{"row 110 SGX body in version 5", func(l *lab) { l.quote.Version, l.raw = 5, set(48, 1) }, reason.TDXHeader},
		{"row 111 TCB info edited", func(l *lab) {
			l.collateral = bundle(func(b map[string]string) { b["tcb_info"] = replaced("OutOfDate", "UpToDate")(b["tcb_info"]) })
		}, reason.TDXCollateralSignature},
		{"row 111 QE identity edited", func(l *lab) {
			l.collateral = bundle(func(b map[string]string) { b["qe_identity"] = replaced(`"isvsvn":4`, `"isvsvn":3`)(b["qe_identity"]) })
		}, reason.TDXCollateralSignature},
		{"row 112 TCB info of SGX", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"TDX"`, `"SGX"`) }, reason.TDXCollateralMismatch},
		{"row 113 QE identity of SGX", func(l *lab) { l.collateral.EditQEIdentity = replaced(`"TD_QE"`, `"QE"`) }, reason.TDXCollateralMismatch},
		{"row 114 PCK CRL missing", func(l *lab) { l.collateral = bundle(func(b map[string]string) { delete(b, "pck_crl") }) }, reason.TDXCollateralMissing},
		{"row 114 root CRL missing", func(l *lab) { l.collateral = bundle(func(b map[string]string) { delete(b, "root_ca_crl") }) }, reason.TDXCollateralMissing},
		{"row 114 signature of the TCB info missing", func(l *lab) {
			l.collateral = bundle(func(b map[string]string) { delete(b, "tcb_info_signature") })
		}, reason.TDXCollateralMissing},
		{"row 114 signature of the QE identity missing", func(l *lab) {
			l.collateral = bundle(func(b map[string]string) { delete(b, "qe_identity_signature") })
		}, reason.TDXCollateralMissing},
		{"row 114 no collateral", func(l *lab) { l.none = true }, reason.TDXCollateralMissing},
		{"row 114 another family's collateral only", func(l *lab) { l.name = "00806f050000" }, reason.TDXCollateralMissing},
		{"row 115 collateral expired", func(l *lab) { l.now = noon.AddDate(0, 0, 31) }, reason.TDXCollateralExpired},
		{"row 115 collateral not yet issued", func(l *lab) { l.now = noon.AddDate(0, 0, -2) }, reason.TDXCollateralExpired},
		{"row 116 below every level", func(l *lab) { l.quote.EditBody = func(b []byte) { b[2] = 1 } }, reason.TDXTCBStatus},
		{"another REPORTDATA", func(l *lab) { l.quote.ReportData[63] = 1 }, reason.TDXReportData},
		{"another REPORTDATA, no collateral", func(l *lab) { l.quote.ReportData[63], l.none = 1, true }, reason.TDXCollateralMissing},
		{"another REPORTDATA, collateral expired", func(l *lab) { l.quote.ReportData[63], l.now = 1, noon.AddDate(0, 0, 31) }, reason.TDXCollateralExpired},
		{"another REPORTDATA, below every level", func(l *lab) {
			l.quote.ReportData[63], l.quote.EditBody = 1, func(b []byte) { b[2] = 1 }
		}, reason.TDXTCBStatus},
		{"row 103 debug guest, no collateral", func(l *lab) { l.quote.Debug, l.none = true, true }, reason.TDXDebug},
		{"row 103 debug guest, collateral expired", func(l *lab) { l.quote.Debug, l.now = true, noon.AddDate(0, 0, 31) }, reason.TDXDebug},
		{"row 103 debug guest, below every level", func(l *lab) {
			l.quote.EditBody = func(b []byte) { b[2], b[120] = 1, 1 }
		}, reason.TDXDebug},
		{"row 103 debug guest, PCK revoked", func(l *lab) { l.quote.Debug, l.collateral.RevokePCK = true, true }, reason.TDXUntrusted},
		{"row 103 debug guest, signature flipped", func(l *lab) {
			l.quote.Debug, l.none, l.raw = true, true, set(48+328, 0xff)
		}, reason.TDXSignature},
		{"an empty expectation", func(l *lab) { l.want.ReportData = []byte{} }, reason.TDXReportData},
		{"an expectation that is too long", func(l *lab) { l.want.ReportData = make([]byte, 65) }, reason.TDXReportData},
	} {
		r.run(t)
	}
}

// TestQuoteForm: lengths have to be those of the parts, in both versions.
func TestQuoteForm(t *testing.T) {
	inner := func(b []byte) int { return 632 + 4 + 128 + 6 + 448 + 2 + 32 } // certificate data in the certificate data
	for _, r := range []row{
		{"version 5", func(l *lab) { l.quote.Version = 5 }, ""},
		{"version 5 with a body of TDX 1.5", func(l *lab) { l.quote.Version, l.quote.TD15 = 5, true }, ""},
		{"version 5 with another length", func(l *lab) { l.quote.Version, l.raw = 5, set(50, 0x49) }, reason.TDXMalformed},
		{"version 5 cut before the body", func(l *lab) { l.quote.Version, l.raw = 5, func(b []byte) []byte { return b[:53] } }, reason.TDXMalformed},
		{"version 5 called 4", func(l *lab) { l.quote.Version, l.raw = 5, set(0, 4) }, reason.TDXMalformed},
		{"fill behind", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, make([]byte, 3000)...) } }, ""},
		{"fill of ones behind", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xff}, 3000)...) } }, ""},
		{"a message behind", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, "message"...) } }, reason.TDXMalformed},
		{"one byte in the fill", func(l *lab) { l.raw = func(b []byte) []byte { return append(append(b, make([]byte, 70)...), 1) } }, reason.TDXMalformed},
		{"fill of two kinds", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, 0, 0xff) } }, reason.TDXMalformed},
		{"too large", func(l *lab) { l.raw = func(b []byte) []byte { return append(b, make([]byte, tdx.MaxQuote)...) } }, reason.RequestTooLarge},
		{"no auth data", func(l *lab) { l.quote.Auth = []byte{} }, ""},
		{"auth data longer than the rest", func(l *lab) { l.raw = set(632+4+128+6+448, 0xff, 0xff) }, reason.TDXMalformed},
		{"a chain by reference", func(l *lab) { l.raw = set(632+4+128, 5) }, reason.TDXMalformed},
		{"an id in place of the chain", func(l *lab) { l.raw = func(b []byte) []byte { b[inner(b)] = 2; return b } }, reason.TDXMalformed},
		{"a shorter chain", func(l *lab) {
			l.raw = func(b []byte) []byte {
				at := inner(b) + 2
				binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])-1)
				return b
			}
		}, reason.TDXMalformed},
		{"no PEM", func(l *lab) { l.raw = func(b []byte) []byte { b[inner(b)+6] = 'x'; return b } }, reason.TDXMalformed},
		{"broken base64", func(l *lab) { l.raw = func(b []byte) []byte { b[inner(b)+6+40] = '!'; return b } }, reason.TDXMalformed},
		{"no DER", func(l *lab) { l.raw = func(b []byte) []byte { b[inner(b)+6+28] = 'N'; return b } }, reason.TDXMalformed},
		{"a reserved attribute", func(l *lab) { l.quote.EditBody = func(b []byte) { b[121] = 1 } }, reason.TDXMalformed},
	} {
		r.run(t)
	}
}

// TestPCKChain: who signed the quoting enclave's report.
func TestPCKChain(t *testing.T) {
	ext := func(value []byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtraExtensions[0].Value = value }
	}
	for _, r := range []row{
		{"root of another", func(l *lab) { l.roots = [][]byte{documenttest.NewIntelPKI(noon).RootPEM()} }, reason.TDXUntrusted},
		{"no root", func(l *lab) { l.roots = nil }, reason.TDXUntrusted},
		{"PCK expired", func(l *lab) { l.pki.IssuePCK(func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }) }, reason.TDXValidity},
		{"PCK not yet valid", func(l *lab) { l.pki.IssuePCK(func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) }) }, reason.TDXValidity},
		{"no time", func(l *lab) { l.now = time.Time{} }, reason.TDXValidity},
		{"certificate of another purpose", func(l *lab) {
			l.pki.IssuePCK(func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX TCB Signing" })
		}, reason.TDXUntrusted},
		{"a CA", func(l *lab) {
			l.pki.IssuePCK(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
		}, reason.TDXUntrusted},
		{"key usage", func(l *lab) { l.pki.IssuePCK(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }) }, reason.TDXUntrusted},
		{"unknown critical extension", func(l *lab) {
			l.pki.IssuePCK(func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			})
		}, reason.TDXUntrusted},
		{"no SGX extension", func(l *lab) { l.pki.IssuePCK(func(c *x509.Certificate) { c.ExtraExtensions = nil }) }, reason.TDXUntrusted},
		{"SGX extension of nothing", func(l *lab) { l.pki.IssuePCK(ext([]byte{0x30, 0})) }, reason.TDXUntrusted},
		{"SGX extension and bytes behind", func(l *lab) {
			l.pki.IssuePCK(ext(append(documenttest.SGXExtension(documenttest.FMSPC, 11), 0)))
		}, reason.TDXUntrusted},
		{"fmspc of seven bytes", func(l *lab) { l.pki.IssuePCK(ext(documenttest.SGXExtension("b0c06f00000000", 11))) }, reason.TDXUntrusted},
		{"PCE SVN of three bytes", func(l *lab) { l.pki.IssuePCK(ext(documenttest.SGXExtension(documenttest.FMSPC, 1<<20))) }, reason.TDXUntrusted},
		{"a component called otherwise", func(l *lab) {
			value := documenttest.SGXExtension(documenttest.FMSPC, 11)
			at := bytes.LastIndex(value, []byte{0x4d, 1, 13, 1, 2, 2})
			value[at+5] = 1 // component 2 becomes a second component 1
			l.pki.IssuePCK(ext(value))
		}, reason.TDXUntrusted},
		{"PCK revoked", func(l *lab) { l.collateral.RevokePCK = true }, reason.TDXUntrusted},
		{"CA revoked", func(l *lab) { l.collateral.RevokeCA = true }, reason.TDXUntrusted},
		{"enclave report of another PCK", func(l *lab) {
			l.raw = func(b []byte) []byte { b[632+4+128+6+384] ^= 1; return b }
		}, reason.TDXSignature},
		{"attestation key not in the report", func(l *lab) { l.quote.EditReport = func(r []byte) { r[320] ^= 1 } }, reason.TDXSignature},
		{"more in the report", func(l *lab) { l.quote.EditReport = func(r []byte) { r[383] = 1 } }, reason.TDXSignature},
		{"another auth data", func(l *lab) { l.raw = set(632+4+128+6+448+2, 1) }, reason.TDXSignature},
		{"r and s zero", func(l *lab) { l.raw = set(636, make([]byte, 64)...) }, reason.TDXSignature},
		{"key off the curve", func(l *lab) { l.raw = set(636+64, make([]byte, 64)...) }, reason.TDXSignature},
	} {
		r.run(t)
	}
}

// TestFacts: what a good quote says, with and without a nonce asked for.
func TestFacts(t *testing.T) {
	l := newLab()
	l.quote.Version, l.quote.TD15 = 5, true
	q, err := l.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := q.Facts()
	if f.Class != document.ClassA || !f.NonceBound || !f.KeyBound || len(f.Findings) != 3 || !bytes.Equal(q.ReportData(), bound[:]) {
		t.Errorf("%+v", f)
	}
	for name, want := range map[string]string{
		"tdx.version": "5", "tdx.mrtd": strings.Repeat("88", 48), "tdx.rtmr.3": strings.Repeat("00", 48),
		"tdx.mrconfigid": strings.Repeat("b8", 48), "tdx.mrowner": strings.Repeat("e8", 48), "tdx.mrownerconfig": strings.Repeat("18", 48),
		"tdx.mrseam": strings.Repeat("10", 48), "tdx.mrservicetd": strings.Repeat("00", 48), "tdx.attributes": "0000001000000000",
		"tdx.xfam": "e700000000000000", "tdx.debug": "false", "tdx.sept_ve_disable": "true", "tdx.migratable": "false",
		"tdx.fmspc": documenttest.FMSPC, "tdx.tee_tcb_svn": "06010300000000000000000000000000", "tdx.tcb_date": "2024-03-13", "tdx.tcb_evaluation": "17",
	} {
		if got := f.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
	if len(f.Owners) != 2 || f.Owners[0] != (document.Owner{Kind: document.OwnerTDXConfig, Value: strings.Repeat("b8", 48)}) {
		t.Errorf("owners %v", f.Owners)
	}
	l.want, l.quote.EditBody = tdx.Expectation{}, func(b []byte) { clear(b[184:232]) }
	if q, err = l.verify(t); err != nil {
		t.Fatal(err)
	}
	if f = q.Facts(); f.Class != document.ClassC || f.NonceBound || f.KeyBound || len(f.Owners) != 1 {
		t.Errorf("without a nonce: %+v", f)
	}
	if f := (tdx.Quote{}).Facts(); f.Class != document.ClassC || len(f.Selectors) != 0 || (tdx.Quote{}).Debug() {
		t.Errorf("the zero quote: %+v", f)
	}
}

// TestTrust: what an operator is told about roots and collateral.
func TestTrust(t *testing.T) {
	pki := documenttest.NewIntelPKI(noon)
	good := pki.Collateral(documenttest.CollateralFields{})
	roots := [][]byte{pki.RootPEM()}
	trust, err := tdx.NewTrust(roots, map[string][]byte{
		documenttest.FMSPC: good, "000000000000": good, "000000000001": []byte("{}"), "000000000002": make([]byte, tdx.MaxCollateral+1),
	})
	if err != nil {
		t.Fatal(err)
	}
	if until, err := trust.Standing(documenttest.FMSPC, noon); err != nil || !until.Equal(noon.AddDate(0, 0, 30)) {
		t.Errorf("good until %s, %v", until, err)
	}
	for name, want := range map[string]reason.Code{
		"000000000000": reason.TDXCollateralMismatch, "000000000001": reason.TDXCollateralMissing,
		"000000000002": reason.TDXCollateralMissing, "000000000003": reason.TDXCollateralMissing,
	} {
		if _, err := trust.Standing(name, noon); reason.Of(err) != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := trust.Standing(documenttest.FMSPC, noon.AddDate(0, 2, 0)); reason.Of(err) != reason.TDXCollateralExpired {
		t.Errorf("later: %v", err)
	}
	for _, name := range []string{"B0C06F000000", "b0c06f", "b0c06f00000z"} {
		if _, err := tdx.NewTrust(roots, map[string][]byte{name: good}); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	if _, err := tdx.NewTrust([][]byte{[]byte("x")}, nil); err == nil {
		t.Error("roots that are none are taken")
	}
	for _, name := range []string{documenttest.FMSPC, tdx.AnyPlatform} {
		l := newLab()
		l.name = name
		if _, err := l.verify(t); err != nil {
			t.Errorf("collateral under %q: %v", name, err)
		}
	}
}

// TestEventLog: a log has to lead to the registers of this boot; row 117 is one of
// another.
func TestEventLog(t *testing.T) {
	log, rtmrs := documenttest.CCEL()
	for _, r := range []row{
		{"of this boot", func(l *lab) { l.quote.RTMRs, l.want.EventLog = rtmrs, log }, ""},
		{"row 117 of another boot", func(l *lab) { l.want.EventLog = log }, reason.EventLogReplayMismatch},
		{"a register without events", func(l *lab) {
			l.quote.RTMRs, l.want.EventLog = rtmrs, log
			l.quote.RTMRs[3][0] ^= 1
		}, reason.EventLogReplayMismatch},
		{"cut", func(l *lab) { l.quote.RTMRs, l.want.EventLog = rtmrs, log[:len(log)-70] }, reason.EventLogTruncated},
		{"too large", func(l *lab) { l.want.EventLog = make([]byte, tdx.MaxEventLog+1) }, reason.RequestTooLarge},
	} {
		r.run(t)
	}
	l := newLab()
	l.quote.RTMRs, l.want.EventLog = rtmrs, log
	q, err := l.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if f := q.Facts(); strings.Join(f.Values("tdx.secure_boot"), " ") != "on" || strings.Join(f.Values("tdx.event_log"), " ") != "explained" {
		t.Errorf("%v", f.Selectors)
	}
}
