package azure_test

import (
	"crypto/x509"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
)

func spkiOf(t testing.TB, k *documenttest.JWTKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Signer().Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// FuzzTokenClaims: whatever stands in signed claims, a token that passes names a
// machine.
func FuzzTokenClaims(f *testing.F) {
	key := documenttest.NewJWTKey("entra-1", "ES256") // signs faster
	msi, maa := tenants(f, key, documenttest.EntraIssuer), attesters(f, key)
	f.Add(`"tid":"11111111-1111-1111-1111-111111111111","xms_mirid":"/subscriptions/"`)
	f.Add(`"x-ms-attestation-type":"azurevm","x-ms-isolation-tee":{"x-ms-runtime":{"keys":[{"kid":"HCLAkPub","n":"AAAA"}]}}`)
	f.Add(`"x-ms-isolation-tee":null,"oid":[]`)
	f.Fuzz(func(t *testing.T, members string) {
		token := func(issuer string) []byte {
			return key.Raw(key.Header(), []byte(`{"aud":"`+application+`","iat":1795176000,"exp":1795179600,"iss":"`+issuer+`",`+members+`}`))
		}
		identity, _ := azure.VerifyMSI(token(documenttest.EntraIssuer), jwt.Expect{}, msi, tokenTime)
		attestation, _ := azure.VerifyMAA(token(documenttest.MAAIssuer), "", tokenTime, maa, tokenTime)
		for _, facts := range []string{identity.Facts().Class + identity.Facts().Machine.Name, attestation.Facts().Class + attestation.Facts().Machine.Name} {
			if len(facts) == 1 {
				t.Errorf("facts without a machine: %s", members)
			}
		}
	})
}

func BenchmarkVerifyAzureTokens(b *testing.B) {
	msi, maa := tenants(b, entra, documenttest.EntraIssuer), attesters(b, entra)
	identity := entra.Token(documenttest.MSIClaims(application, tokenTime))
	attestation := entra.Token(documenttest.MAAClaims("n", documenttest.NewJWTKey("ak", "RS256").JWK(), tokenTime))
	b.Run("azure.msi", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := azure.VerifyMSI(identity, jwt.Expect{}, msi, tokenTime)
			if err != nil || got.Facts().Class == "" {
				b.Fatal(err)
			}
		}
	})
	b.Run("azure.maa", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := azure.VerifyMAA(attestation, "n", tokenTime, maa, tokenTime)
			if err != nil || got.Facts().Class == "" {
				b.Fatal(err)
			}
		}
	})
}
