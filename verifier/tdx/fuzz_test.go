package tdx_test

import (
	"bytes"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// FuzzVerify: no bytes but those that were signed verify, and none make the
// parser reserve what they claim.
func FuzzVerify(f *testing.F) {
	pki := documenttest.NewIntelPKI(noon)
	trust, err := tdx.NewTrust([][]byte{pki.RootPEM()}, map[string][]byte{documenttest.FMSPC: pki.Collateral(documenttest.CollateralFields{})})
	if err != nil {
		f.Fatal(err)
	}
	good := pki.Quote(documenttest.TDXFields{ReportData: bound})
	later := pki.Quote(documenttest.TDXFields{ReportData: bound, Version: 5, TD15: true})
	for _, seed := range [][]byte{good, later, good[:100], set(632, 0xff, 0xff, 0xff, 0x7f)(bytes.Clone(good))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		evidencetest.Bounded(t, len(b), 64, func() { _, err = tdx.Parse(b) })
		q, err := tdx.Verify(b, tdx.Expectation{ReportData: bound[:]}, trust, noon)
		if err != nil {
			return
		}
		if signed := 48 + 584; !bytes.HasPrefix(b, good[:signed]) && !bytes.HasPrefix(b, later[:54+648]) {
			t.Errorf("a quote that nobody signed verifies: %+v", q.Facts())
		}
	})
}

// FuzzCollateral: no bundle but the signed one makes a quote good.
func FuzzCollateral(f *testing.F) {
	pki := documenttest.NewIntelPKI(noon)
	roots := [][]byte{pki.RootPEM()}
	quote := pki.Quote(documenttest.TDXFields{EditBody: func(b []byte) { b[2] = 2 }}) // OutOfDate
	f.Add(pki.Collateral(documenttest.CollateralFields{}))
	f.Add(pki.Collateral(documenttest.CollateralFields{RevokePCK: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var trust tdx.Trust
		var err error
		evidencetest.Bounded(t, len(b), 512, func() { trust, err = tdx.NewTrust(roots, map[string][]byte{tdx.AnyPlatform: b}) })
		if err != nil {
			t.Fatal(err)
		}
		if q, err := tdx.Verify(quote, tdx.Expectation{}, trust, noon); err == nil && q.Status() != tdx.StatusOutOfDate {
			t.Errorf("the level is %s", q.Status())
		}
	})
}
