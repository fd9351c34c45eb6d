package oracle

import (
	"crypto/x509"
	"testing"
	"time"

	tdxguest "github.com/google/go-tdx-guest/verify"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

var (
	tdxNoon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	tdxJune = time.Date(2025, 6, 25, 0, 0, 0, 0, time.UTC)
)

// flipped changes a bit of MRTD.
func flipped(quote []byte) []byte { quote[200] ^= 1; return quote }

// TestAgainstGoTDXGuest: an independent implementation takes the quotes that are
// taken here, and refuses those refused for their signatures; it judges no
// collateral here. It takes debug guests too, which is why a hazard is made of
// them.
func TestAgainstGoTDXGuest(t *testing.T) {
	judge := func(raw, root []byte, now time.Time) error {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(root)
		return tdxguest.RawTdxQuote(raw, &tdxguest.Options{TrustedRoots: pool, Now: now})
	}
	pki := documenttest.NewIntelPKI(tdxNoon)
	debug := documenttest.TDXFields{Debug: true}
	for name, c := range map[string]struct {
		raw, root []byte
		at        time.Time
	}{
		"phala":     {cloudVector(t, "intel-tdx/phala-tdx_quote"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"debug bit": {cloudVector(t, "intel-tdx/neg-debug-attr.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"RTMR":      {cloudVector(t, "intel-tdx/neg-rtmr0.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"vendor":    {cloudVector(t, "intel-tdx/neg-qevendor.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"TEE type":  {cloudVector(t, "intel-tdx/neg-teetype-sgx.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"length":    {cloudVector(t, "intel-tdx/neg-siglen-huge.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"cos-113":   {cloudVector(t, "intel-tdx/gotdx-cos-113-tdx-quote.dat"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"SPR":       {cloudVector(t, "intel-tdx/gotdx-tdx_prod_quote_SPR_E4.dat"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"azure":     {cloudVector(t, "azure-hcl/trustee-az-tdx-vtpm-td-quote.bin"), cloudVector(t, "intel-tdx/intel-sgx-root.pem"), tdxJune},
		"made here": {pki.Quote(documenttest.TDXFields{}), pki.RootPEM(), tdxNoon},
		"debug":     {pki.Quote(debug), pki.RootPEM(), tdxNoon},
		"expired":   {pki.Quote(debug), pki.RootPEM(), tdxNoon.AddDate(8, 0, 0)},
		"flipped":   {flipped(pki.Quote(debug)), pki.RootPEM(), tdxNoon},
	} {
		trust, err := tdx.NewTrust([][]byte{c.root}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tdx.Verify(c.raw, tdx.Expectation{}, trust, c.at)
		// Both are told only of a quote whose signatures are all good.
		ours := reason.Of(err) == reason.TDXCollateralMissing || reason.Of(err) == reason.TDXDebug
		if theirs := judge(c.raw, c.root, c.at); (theirs == nil) != ours {
			t.Errorf("%s: go-tdx-guest says %v, we say %v", name, theirs, err)
		}
	}
}
