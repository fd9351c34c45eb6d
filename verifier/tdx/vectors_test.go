package tdx_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// vector reads a file of the vectors, or skips with a sentence.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cloud", filepath.FromSlash(name)))
	if err != nil {
		t.Skipf("no vectors: %v; set ZONEBROKER_VECTORS to run this test", err)
	}
	return raw
}

var june = time.Date(2025, 6, 25, 0, 0, 0, 0, time.UTC)

func realTrust(t testing.TB) tdx.Trust {
	t.Helper()
	trust, err := tdx.NewTrust([][]byte{vector(t, "intel-tdx/intel-sgx-root.pem")},
		map[string][]byte{"b0c06f000000": vector(t, "intel-tdx/phala-tdx_quote_collateral.json")})
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// TestRealQuote: a quote of a machine in use under Intel's own collateral.
func TestRealQuote(t *testing.T) {
	trust := realTrust(t)
	q, err := tdx.Verify(vector(t, "intel-tdx/phala-tdx_quote"), tdx.Expectation{}, trust, june)
	if err != nil {
		t.Fatal(err)
	}
	if q.Status() != tdx.StatusUpToDate || q.Debug() || len(q.Facts().Hazards) > 0 {
		t.Errorf("%s, %v", q.Status(), q.Facts().Hazards)
	}
	if until, err := trust.Standing("b0c06f000000", june); err != nil || until.Format(time.DateOnly) != "2025-07-19" {
		t.Errorf("collateral until %s, %v", until, err)
	}
}

// TestEveryFlipIsSeen flips one bit of each byte of a real quote up to its
// signature data's end: no such quote verifies, but for one whose length of fill
// changed.
func TestEveryFlipIsSeen(t *testing.T) {
	raw, trust := vector(t, "intel-tdx/phala-tdx_quote"), realTrust(t)
	raw = raw[:48+584+4+4300]
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(raw)-1; i += step { // the last byte is the NUL behind the PEM
		b := bytes.Clone(raw)
		b[i] ^= 1 << (i % 8)
		if q, err := tdx.Verify(b, tdx.Expectation{}, trust, june); err == nil {
			if !bytes.Equal(q.ReportData(), raw[568:632]) {
				t.Fatalf("byte %d: a quote that says something else verifies", i)
			}
		} else if reason.Of(err) == reason.Internal {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// TestRealQuoteCut: of a real quote with 70 bytes of fill, everything up to the
// signature data's end is needed, and nothing behind it.
func TestRealQuoteCut(t *testing.T) {
	raw, trust := vector(t, "intel-tdx/phala-tdx_quote"), realTrust(t)
	const end = 48 + 584 + 4 + 4300
	for n, want := range map[int]reason.Code{end - 1: reason.TDXMalformed, end: "", end + 1: "", len(raw) - 1: ""} {
		if _, err := tdx.Verify(raw[:n], tdx.Expectation{}, trust, june); reason.Of(err) != want {
			t.Errorf("%d of %d bytes: %v, want %q", n, len(raw), err, want)
		}
	}
	if _, err := tdx.Verify(append(bytes.Clone(raw), 1), tdx.Expectation{}, trust, june); reason.Of(err) != reason.TDXMalformed {
		t.Errorf("a byte behind the fill: %v", err)
	}
}
