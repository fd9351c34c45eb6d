package tdx_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// TestCollateral: what is signed by another key, for another platform or enclave.
func TestCollateral(t *testing.T) {
	swap := func(member, from string) func(l *lab) {
		return func(l *lab) { l.collateral = bundle(func(b map[string]string) { b[member] = b[from] }) }
	}
	text := func(member, value string) func(l *lab) {
		return func(l *lab) { l.collateral = bundle(func(b map[string]string) { b[member] = value }) }
	}
	for _, r := range []row{
		{"unknown member", text("more", "x"), reason.TDXCollateralMissing},
		{"TCB info empty", text("tcb_info", ""), reason.TDXCollateralMissing},
		{"signature of 63 bytes", text("tcb_info_signature", strings.Repeat("00", 63)), reason.TDXCollateralSignature},
		{"signature no hex", text("qe_identity_signature", strings.Repeat("zz", 64)), reason.TDXCollateralSignature},
		{"signature of the other document", swap("tcb_info_signature", "qe_identity_signature"), reason.TDXCollateralSignature},
		{"signed by a CA", swap("tcb_info_issuer_chain", "pck_crl_issuer_chain"), reason.TDXCollateralSignature},
		{"issuer no chain", text("qe_identity_issuer_chain", "x"), reason.TDXCollateralSignature},
		{"issuer of another root", func(l *lab) {
			other := documenttest.NewIntelPKI(noon)
			l.collateral = bundle(func(b map[string]string) { b["pck_crl_issuer_chain"] = string(other.RootPEM()) })
		}, reason.TDXCollateralSignature},
		{"list no hex", text("pck_crl", "zz"), reason.TDXCollateralSignature},
		{"list no list", text("root_ca_crl", "3000"), reason.TDXCollateralSignature},
		{"lists swapped", swap("pck_crl", "root_ca_crl"), reason.TDXCollateralSignature},
		{"list of another root", func(l *lab) {
			l.collateral.ListOfRoot = true
			l.collateral.EditBundle = func(b map[string]string) { b["pck_crl_issuer_chain"] = string(l.pki.RootPEM()) }
		}, reason.TDXCollateralMismatch},
		{"signing key called otherwise", func(l *lab) {
			l.pki.IssueSigning(func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX PCK Certificate" })
		}, reason.TDXCollateralSignature},
		{"signing certificate expired", func(l *lab) {
			l.pki.IssueSigning(func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) })
		}, reason.TDXCollateralExpired},
		{"TCB info of another version", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"version":3`, `"version":2`) }, reason.TDXCollateralMismatch},
		{"TCB info with a member twice", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"version":3`, `"version":3,"version":3`) }, reason.TDXCollateralMismatch},
		{"TCB info with an unknown member", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"version":3`, `"version":3,"new":1`) }, reason.TDXCollateralMismatch},
		{"TCB info with an unknown status", func(l *lab) { l.collateral.EditTCBInfo = lastStatus("UpToDate", "Fine") }, reason.TDXCollateralMismatch},
		{"TCB info of another type", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"tcbType":0`, `"tcbType":1`) }, reason.TDXCollateralMismatch},
		{"TCB info without levels", func(l *lab) {
			l.collateral.EditTCBInfo = func(s string) string { return s[:strings.LastIndex(s, `"tcbLevels"`)] + `"tcbLevels":[]}` }
		}, reason.TDXCollateralMismatch},
		{"fifteen components", func(l *lab) { l.collateral.EditTCBInfo = replaced(`{"svn":6},`, ``) }, reason.TDXCollateralMismatch},
		{"another fmspc", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"B0C06F000000"`, `"00806F050000"`) }, reason.TDXCollateralMismatch},
		{"another PCE", func(l *lab) { l.collateral.EditTCBInfo = replaced(`"pceId":"0000"`, `"pceId":"0001"`) }, reason.TDXCollateralMismatch},
		{"unknown TDX module", func(l *lab) { l.quote.EditBody = func(b []byte) { b[1] = 9 } }, reason.TDXCollateralMismatch},
		{"TDX module of another signer", func(l *lab) { l.quote.EditBody = func(b []byte) { b[64] = 1 } }, reason.TDXCollateralMismatch},
		{"TDX module with attributes", func(l *lab) { l.quote.EditBody = func(b []byte) { b[112] = 1 } }, reason.TDXCollateralMismatch},
		{"quoting enclave of another signer", func(l *lab) { l.quote.EditReport = func(r []byte) { r[128] ^= 1 } }, reason.TDXCollateralMismatch},
		{"quoting enclave of another product", func(l *lab) { l.quote.EditReport = func(r []byte) { r[256] = 1 } }, reason.TDXCollateralMismatch},
		{"quoting enclave in debug mode", func(l *lab) { l.quote.EditReport = func(r []byte) { r[48] |= 2 } }, reason.TDXCollateralMismatch},
		{"quoting enclave with misc", func(l *lab) { l.quote.EditReport = func(r []byte) { r[16] = 1 } }, reason.TDXCollateralMismatch},
		{"quoting enclave with attributes outside the mask", func(l *lab) { l.quote.EditReport = func(r []byte) { r[56] = 0xff } }, ""},
		{"quoting enclave below every level", func(l *lab) { l.quote.EditReport = func(r []byte) { r[258] = 1 } }, reason.TDXTCBStatus},
		{"TDX module below every level", func(l *lab) { l.quote.EditBody = func(b []byte) { b[0] = 1 } }, reason.TDXTCBStatus},
		{"platform revoked", func(l *lab) { l.collateral.EditTCBInfo = lastStatus("UpToDate", "Revoked") }, reason.TDXTCBStatus},
		{"PCE below every level", func(l *lab) {
			l.pki.IssuePCK(func(c *x509.Certificate) {
				c.ExtraExtensions[0].Value = documenttest.SGXExtension(documenttest.FMSPC, 4)
			})
		}, reason.TDXTCBStatus},
	} {
		r.run(t)
	}
}

// lastStatus changes the status of the last level that has it: the platform's.
func lastStatus(old, with string) func(string) string {
	return func(s string) string {
		at := strings.LastIndex(s, `"`+old+`"`)
		return s[:at] + `"` + with + `"` + s[at+len(old)+2:]
	}
}

// TestHazards: what is genuine and refused by default, row 103 and row 116, and
// the level that Intel's rules come to.
func TestHazards(t *testing.T) {
	old := func(b []byte) { b[0] = 2 } // TDX module OutOfDate
	for name, c := range map[string]struct {
		change func(l *lab)
		status string
		codes  []reason.Code
		more   string // an advisory
	}{
		"good":                     {func(*lab) {}, tdx.StatusUpToDate, nil, ""},
		"row 103 debug":            {func(l *lab) { l.quote.Debug = true }, tdx.StatusUpToDate, []reason.Code{reason.TDXDebug}, ""},
		"profiling":                {func(l *lab) { l.quote.EditBody = func(b []byte) { b[120] = 1 << 5 } }, tdx.StatusUpToDate, []reason.Code{reason.TDXDebug}, ""},
		"row 116 platform too low": {func(l *lab) { l.quote.EditBody = func(b []byte) { b[2] = 2 } }, tdx.StatusOutOfDate, []reason.Code{reason.TDXTCBStatus}, ""},
		"row 116 PCE too low": {func(l *lab) {
			l.pki.IssuePCK(func(c *x509.Certificate) {
				c.ExtraExtensions[0].Value = documenttest.SGXExtension(documenttest.FMSPC, 10)
			})
		}, tdx.StatusOutOfDate, []reason.Code{reason.TDXTCBStatus}, ""},
		"TDX module too low":     {func(l *lab) { l.quote.EditBody = old }, tdx.StatusOutOfDate, []reason.Code{reason.TDXTCBStatus}, ""},
		"module without version": {func(l *lab) { l.quote.EditBody = func(b []byte) { b[0], b[1] = 5, 0 } }, tdx.StatusUpToDate, nil, ""},
		"module without version and too low": {func(l *lab) {
			l.quote.EditBody = func(b []byte) { b[0], b[1] = 4, 0 }
		}, "", nil, ""},
		"quoting enclave too low": {func(l *lab) { l.quote.EditReport = func(r []byte) { r[258] = 3 } }, tdx.StatusOutOfDate, []reason.Code{reason.TDXTCBStatus}, "INTEL-SA-00837"},
		"both":                    {func(l *lab) { l.quote.Debug, l.quote.EditBody = true, old }, tdx.StatusOutOfDate, []reason.Code{reason.TDXDebug, reason.TDXTCBStatus}, ""},
		"hardening": {func(l *lab) {
			l.collateral.EditTCBInfo = lastStatus("UpToDate", "SWHardeningNeeded")
		}, tdx.StatusSWHardening, []reason.Code{reason.TDXTCBStatus}, ""},
		"hardening and an old module": {func(l *lab) {
			l.collateral.EditTCBInfo, l.quote.EditBody = lastStatus("UpToDate", "SWHardeningNeeded"), old
		}, tdx.StatusOutOfDate, []reason.Code{reason.TDXTCBStatus}, ""},
		"configuration and an old module": {func(l *lab) {
			l.collateral.EditTCBInfo, l.quote.EditBody = lastStatus("UpToDate", "ConfigurationNeeded"), old
		}, tdx.StatusOutOfDateConfiguration, []reason.Code{reason.TDXTCBStatus}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab()
			c.change(l)
			q, err := l.verify(t)
			if c.status == "" {
				if reason.Of(err) != reason.TDXTCBStatus {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f := q.Facts()
			var codes []reason.Code
			for _, h := range f.Hazards {
				codes = append(codes, h.Code)
			}
			if q.Status() != c.status || strings.Join(f.Values("tdx.tcb_status"), " ") != c.status || !same(codes, c.codes) {
				t.Errorf("%s with %v, want %s with %v", q.Status(), codes, c.status, c.codes)
			}
			if strings.Join(f.Values("tdx.advisory"), " ") != c.more {
				t.Errorf("advisories %v, want %q", f.Values("tdx.advisory"), c.more)
			}
		})
	}
}

func same(a, b []reason.Code) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
