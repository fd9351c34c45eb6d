package tpm2collect_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TestOurVerifierTakesWhatIsCollected: the broker's strict decoders and this
// collector agree on every kind of key.
func TestOurVerifierTakesWhatIsCollected(t *testing.T) {
	tpm := startTPM(t, "")
	bound := bytes.Repeat([]byte{3}, 32)
	selection, err := tpm2.ParseSelection("ff4300")
	if err != nil {
		t.Fatal(err)
	}
	for _, kinds := range [][2]tpm2collect.Kind{
		{tpm2collect.RSA, tpm2collect.P256},
		{tpm2collect.P256, tpm2collect.RSA},
		{tpm2collect.RSAHigh, tpm2collect.P256},
		{tpm2collect.P384, tpm2collect.P256},
	} {
		t.Run("ek_"+string(kinds[0])+"_ak_"+string(kinds[1]), func(t *testing.T) {
			host := tpm.open(t, tpm2collect.Config{EK: kinds[0], AK: kinds[1]})
			defer host.Close()
			shown, err := host.EK(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ek, err := tpm2.ParseEK(shown.Public)
			if err != nil {
				t.Fatal(err)
			}
			if ek.RootHash() != shown.Hash {
				t.Error("the agent prints another EK hash than the broker computes")
			}
			raw, err := host.AK(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ak, err := tpm2.ParseAK(raw.Public)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ak.Name(), raw.Name) {
				t.Error("names differ")
			}
			secret := bytes.Repeat([]byte{8}, 32)
			blob, encrypted, err := ek.MakeCredential(rand.Reader, ak.Name(), secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := host.Activate(t.Context(), blob, encrypted); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("activation: %v", err)
			}
			quote, err := host.Quote(t.Context(), selection, bound)
			if err != nil {
				t.Fatal(err)
			}
			attested, err := tpm2.AuthenticateQuote(ak, quote.Attest, quote.Signature, bound)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := attested.Quote(selection, quote.PCRs); err != nil {
				t.Error(err)
			}
			if c := attested.Clock(); c.ResetCount != quote.ResetCount || c.RestartCount != quote.RestartCount {
				t.Error("counters differ")
			}
			key, err := host.SVIDKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			certified, err := host.Certify(t.Context(), bound)
			if err != nil {
				t.Fatal(err)
			}
			resident, err := tpm2.VerifyCertify(ak, tpm2.CertifyEvidence(certified), bound)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(resident.SPKI(), key.SPKI()) {
				t.Error("the certified key is not the SVID key")
			}
			if _, err := tpm2.VerifyCertify(ak, tpm2.CertifyEvidence(certified), make([]byte, 32)); reason.Of(err) != reason.TPM2CertifyNonceMismatch {
				t.Errorf("another binding: %v", err)
			}
		})
	}
}
