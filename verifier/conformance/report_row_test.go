package conformance_test

import (
	"strings"
	"testing"
)

// TestRowsThatNameTheReport: the file of a row is what the case is about, which may
// be the certificate or a quote beside the report (test PKI).
func TestRowsThatNameTheReport(t *testing.T) {
	files, stranger := newAzureRow(t), newAzureRow(t)
	files["forged"] = stranger["vcek"]
	files["report"] = files["hcl"][32 : 32+1184]
	files["pem"] = pemOf("CERTIFICATE", []byte(files["vcek"]))
	files["td"] = "\x04\x00" + strings.Repeat("\x00", 700)
	const base, at = atNoon + ";roots=amd.pem", ";qualifying=" + nonce
	for _, c := range []struct{ kind, path, context, want string }{
		{"snp", "vcek", ";report=report", "accept"},
		{"snp", "pem", ";report=report", "accept"},
		{"snp", "forged", ";report=report", "snp.untrusted"},
		{"snp", "forged", ";report=report;vcek=vcek", "accept"},
		{"snp", "vcek", ";report=report;vcek=forged", "snp.untrusted"},
		{"snp", "vcek", ";report=report;vcek=none", "snp.untrusted"},
		{"snp", "vcek", ";report=hcl", "snp.malformed"},
		{"snp", "vcek", ";report=gone", "broken"},
		{"snp", "gone", ";report=report", "broken"},
		{"snp", "gone", "", "broken"},
		{"azure.cvm", "vcek", ";report=hcl", "accept"},
		{"azure.cvm", "forged", ";report=hcl", "snp.untrusted"},
		{"azure.cvm", "quote", ";report=hcl;vcek=vcek;sig=sig" + at, "accept"},
		{"azure.cvm", "quote", ";report=hcl;vcek=vcek;sig=sig;qualifying=00", "tpm2.quote.nonce_mismatch"},
		{"azure.cvm", "quote", ";report=hcl;sig=sig" + at, "azure.hardware_missing"},
		{"azure.cvm", "td", ";report=hcl", "azure.hardware_missing"},
		{"azure.cvm", "vcek", ";report=gone", "broken"},
		{"azure.cvm", "gone", ";report=hcl", "broken"},
	} {
		if got := verdict(t, c.kind, c.path, base+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.kind, c.path, c.context, got, c.want)
		}
	}
}

// TestRowsOfCollateral: a row that names the quote is about its collateral, which
// is then its own file unless it names that too (test PKI).
func TestRowsOfCollateral(t *testing.T) {
	files := documents(t)
	files["junk"] = "{}"
	const base = atNoon + ";roots=intel.pem;quote=td"
	for _, c := range []struct{ path, context, want string }{
		{"collateral", "", "accept"},
		{"junk", "", "tdx.collateral_missing"},
		{"junk", ";collateral=collateral", "accept"},
		{"collateral", ";collateral=junk", "tdx.collateral_missing"},
		{"collateral", ";collateral=none", "tdx.collateral_missing"},
	} {
		if got := verdict(t, "tdx", c.path, base+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.path, c.context, got, c.want)
		}
	}
}
