package azure_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestMSIChecks(t *testing.T) {
	const common = "https://sts.windows.net/common/"
	good := documenttest.MSIClaims(application, tokenTime)
	vm, _ := good["xms_mirid"].(string)
	instead := func(old, with string) tokenClaims {
		if !strings.Contains(vm, old) {
			t.Fatalf("%s has no %s", vm, old)
		}
		return good.With(tokenClaims{"xms_mirid": strings.Replace(vm, old, with, 1)})
	}
	parts := strings.Split(vm, "/")
	for name, c := range map[string]struct {
		claims tokenClaims
		code   reason.Code
	}{
		"a tenant that is no tenant":  {good.With(tokenClaims{"iss": common, "tid": "common"}), reason.AzureTenant},
		"the name of a family":        {good.With(tokenClaims{"family_name": "Doe"}), reason.AzurePrincipal},
		"a host before":               {good.With(tokenClaims{"xms_mirid": "evil" + vm}), reason.AzureResource},
		"no subscriptions":            {instead(parts[1], "subscription"), reason.AzureResource},
		"no resource group":           {instead(parts[3], "managementGroups"), reason.AzureResource},
		"no providers":                {instead(parts[5], "provider"), reason.AzureResource},
		"a group with a space in it":  {instead("/"+parts[4]+"/", "/r g/"), reason.AzureResource},
		"the same machine, unchanged": {good, ""},
	} {
		_, err := azure.VerifyMSI(entra.Token(c.claims), jwt.Expect{}, tenants(t, entra, documenttest.EntraIssuer, common), tokenTime)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
	got, err := azure.VerifyMSI(entra.Token(good), jwt.Expect{}, tenants(t, entra, documenttest.EntraIssuer), tokenTime)
	if err != nil || checksOf(got.Facts()) != "azure.msi.signature azure.msi.principal" {
		t.Errorf("%s, %v", checksOf(got.Facts()), err)
	}
}

// TestIssuersWithoutKeys: trust that could verify nothing is told when it is read.
func TestIssuersWithoutKeys(t *testing.T) {
	if _, err := azure.NewMSIIssuers([]jwt.Settings{{Issuer: documenttest.EntraIssuer, Audience: application}}); err == nil {
		t.Error("a tenant without keys is taken")
	}
	if _, err := azure.NewMAAIssuers([]jwt.Settings{{Issuer: documenttest.MAAIssuer}}); err == nil {
		t.Error("an attestation service without keys is taken")
	}
}

func TestMAAChecks(t *testing.T) {
	trusted := attesters(t, entra)
	ak := documenttest.NewJWTKey("ak", "RS256").JWK()
	good := documenttest.MAAClaims("n", ak, tokenTime)
	tee, _ := good["x-ms-isolation-tee"].(tokenClaims)
	n, _ := ak["n"].(string)
	key := func(more tokenClaims) tokenClaims {
		return good.With(tokenClaims{"x-ms-isolation-tee": tee.With(tokenClaims{
			"x-ms-runtime": tokenClaims{"keys": []tokenClaims{ak.With(tokenClaims{"kid": "HCLAkPub"}).With(more)}},
		})})
	}
	modulus := func(n int) tokenClaims {
		return tokenClaims{"n": base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, n))}
	}
	bad := reason.AzureAttestationClaims
	for name, c := range map[string]struct {
		claims tokenClaims
		code   reason.Code
	}{
		"a modulus with no base64 behind":   {key(tokenClaims{"n": n + "AA!"}), bad},
		"an exponent with no base64 behind": {key(tokenClaims{"e": "AQAB!"}), bad},
		"a key of 4096 bits":                {key(modulus(512)), ""},
		"a key of 4104 bits":                {key(modulus(513)), bad},
		"an exponent of four bytes":         {key(tokenClaims{"e": base64.RawURLEncoding.EncodeToString([]byte{1, 0, 0, 1})}), ""},
		"an exponent of zero":               {key(tokenClaims{"e": "AA"}), bad},
	} {
		_, err := azure.VerifyMAA(entra.Token(c.claims), "n", tokenTime, trusted, tokenTime)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
	for nonce, want := range map[string]string{"n": "azure.maa.signature azure.maa.nonce", "": "azure.maa.signature"} {
		claims := good.With(tokenClaims{"x-ms-isolation-tee": tee.With(tokenClaims{"x-ms-attestation-type": "sgx", "x-ms-sevsnpvm-hostdata": "ab"})})
		got, err := azure.VerifyMAA(entra.Token(claims), nonce, tokenTime, trusted, tokenTime)
		if err != nil {
			t.Fatal(err)
		}
		f := got.Facts()
		if checksOf(f) != want || strings.Join(f.Values("azure.maa.host_data"), " ") != "ab" {
			t.Errorf("nonce %q: %s\n%s", nonce, checksOf(f), selectorsOf(f))
		}
		if len(f.Hazards) != 1 || !strings.Contains(f.Hazards[0].Detail, "not confidential") {
			t.Errorf("an enclave's isolation: %v", f.Hazards)
		}
	}
}
