package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
)

// BenchmarkDecode reads the body of an attestation: of a renewal, and of a first
// contact with an event log of 32 KiB.
func BenchmarkDecode(b *testing.B) {
	blob := func(n int) api.Bytes { return bytes.Repeat([]byte{0xa5}, n) }
	renew := api.AttestRequest{
		Token: base64.RawURLEncoding.EncodeToString(blob(400)), SPKI: blob(91),
		TPM2: &api.TPM2Evidence{
			AKPublic: blob(88), Quote: blob(145), Signature: blob(72), PCRs: map[string]api.Bytes{},
			Certify: &api.Certify{Public: blob(88), Attest: blob(150), Signature: blob(72)},
		},
	}
	for _, pcr := range strings.Fields("0 1 2 3 4 5 6 7 8 9 14") {
		renew.TPM2.PCRs[pcr] = blob(32)
	}
	enrol, evidence := renew, *renew.TPM2
	evidence.EKPublic, evidence.EKCertificate, evidence.EventLog = blob(122), blob(1100), blob(32<<10)
	enrol.TPM2 = &evidence
	for name, req := range map[string]api.AttestRequest{"renew": renew, "enrol": enrol} {
		body, err := json.Marshal(req)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var out api.AttestRequest
				if err := decode(bytes.NewReader(body), api.MaxBody, &out); err != nil {
					b.Fatal(err)
				}
				if err := out.Validate(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
