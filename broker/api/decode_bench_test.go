package api_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
)

func BenchmarkDecodeAttestRequest(b *testing.B) {
	text, err := api.Encode(attestation())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		var r api.AttestRequest
		if err := api.DecodeBytes(text, &r); err != nil {
			b.Fatal(err)
		}
	}
}
