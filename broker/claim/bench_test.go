package claim_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// BenchmarkEncode makes the extension that every X.509-SVID carries.
func BenchmarkEncode(b *testing.B) {
	c := good()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := claim.Encode(c); err != nil {
			b.Fatal(err)
		}
	}
}
