package nvidia_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
)

// BenchmarkVerifyNVIDIA: reports of eight devices with 64 measurements each, and a
// bundle of tokens about eight.
func BenchmarkVerifyNVIDIA(b *testing.B) {
	l := newLab()
	many := map[byte][]byte{}
	for i := range byte(64) {
		many[i+1] = documenttest.GPUMeasurement(i + 1)
	}
	var devices []documenttest.GPU
	for range 8 {
		devices = append(devices, l.pki.Device(documenttest.GPUFields{Nonce: nonce, Measurements: many}))
	}
	e := newEAT()
	for _, name := range []string{"GPU-2", "GPU-3", "GPU-4", "GPU-5", "GPU-6", "GPU-7"} {
		e.devices[name] = e.devices["GPU-0"]
	}
	keys, err := jwt.ParseKeys(e.service.JWKS())
	if err != nil {
		b.Fatal(err)
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), []jwt.Settings{{Name: "nras", Issuer: e.issuer, Keys: keys}})
	if err != nil {
		b.Fatal(err)
	}
	trust, err := nvidia.NewTrust(l.roots, nil, issuers)
	if err != nil {
		b.Fatal(err)
	}
	for name, raw := range map[string][]byte{"reports": documenttest.GPUEvidence(devices...), "tokens": e.bundle()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := nvidia.Verify(raw, nvidia.Expectation{Nonce: nonce[:]}, trust, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
