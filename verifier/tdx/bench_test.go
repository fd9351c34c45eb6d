package tdx_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// BenchmarkVerifyTDX: a quote under collateral that was read before.
func BenchmarkVerifyTDX(b *testing.B) {
	pki := documenttest.NewIntelPKI(noon)
	trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})})
	if err != nil {
		b.Fatal(err)
	}
	raw, want := pki.Quote(documenttest.TDXFields{ReportData: bound}), tdx.Expectation{ReportData: bound[:]}
	b.ReportAllocs()
	for b.Loop() {
		q, err := tdx.Verify(raw, want, trust, noon)
		if err != nil {
			b.Fatal(err)
		}
		_ = q.Facts()
	}
}

// BenchmarkCollateralTDX: what a bundle costs when trust is loaded.
func BenchmarkCollateralTDX(b *testing.B) {
	pki := documenttest.NewIntelPKI(noon)
	roots, bundles := [][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tdx.NewTrust(roots, bundles); err != nil {
			b.Fatal(err)
		}
	}
}
