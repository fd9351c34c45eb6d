package conformance_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// FuzzManifest: what parses says one clear thing a line.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(header + "a\teventlog\taccept\t\tbank=sha256;pcr.3=00\n"))
	f.Add([]byte(header + "a\tquote\treject\ttpm2.pcr.bank\t\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var rows []conformance.Row
		var err error
		evidencetest.Bounded(t, len(raw), 64, func() { rows, err = conformance.ParseManifest(raw) })
		if err != nil {
			return
		}
		for _, r := range rows {
			if strings.HasPrefix(r.Path, "/") || strings.Contains("/"+r.Path+"/", "/../") || r.Line < 2 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// FuzzPCRValues: whatever comes in, what comes out are PCRs of a bank, or of
// the 32 that a mask of tpm2-tools has room for.
func FuzzPCRValues(f *testing.F) {
	p := evidencetest.New(f)
	f.Add(toolsBlob(p.Values(evidencetest.Selection)), true)
	f.Add([]byte(`{"sha256":{"0":"00"}}`), false)
	f.Add([]byte(`["00","11"]`), false)
	f.Add([]byte("pcrs:\n  sha256:\n    0 : 0x00\n"), false)
	f.Add([]byte("00\n11\n"), false)
	f.Fuzz(func(t *testing.T, raw []byte, tools bool) {
		var values map[int][]byte
		var err error
		evidencetest.Bounded(t, len(raw), 64, func() { values, err = conformance.ReadPCRs(raw, tpm2.BankSHA256, tools) })
		if err != nil {
			return
		}
		for i, v := range values {
			if i < 0 || i >= 32 || v == nil {
				t.Errorf("PCR %d: %x", i, v)
			}
		}
	})
}

// FuzzAK: no form of a key makes one that has no key.
func FuzzAK(f *testing.F) {
	ak := evidencetest.NewAK(f)
	f.Add(ak.Public)
	f.Add(append([]byte{0, byte(len(ak.Public))}, ak.Public...))
	f.Add(ak.SPKI(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ak, err := conformance.ReadAK(raw)
		if err == nil && tpm2.Signed(ak, nil, []byte{0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1}) == nil {
			t.Errorf("%x verifies anything", raw)
		}
	})
}
