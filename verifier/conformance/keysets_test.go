package conformance_test

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// certificateOf certifies the key of RSAKey(n) by itself.
func certificateOf(n int) *x509.Certificate {
	t := &x509.Certificate{SerialNumber: big.NewInt(int64(n) + 1), Subject: pkix.Name{CommonName: "federated-signon"}}
	return documenttest.Certify(t, documenttest.RSAKey(n), nil, rowTime).Certificate
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFormsOfKeySets: a row's keys may be a key set, certificates by key id as
// Google publishes them, or several keys in PEM; of a set that nobody could
// configure no key is known (test keys).
func TestFormsOfKeySets(t *testing.T) {
	k, other := documenttest.NewJWTKey("k", "RS256"), documenttest.NewJWTKey("l", "RS256")
	public := func(k *documenttest.JWTKey) string {
		der, err := x509.MarshalPKIXPublicKey(k.Signer().Public())
		if err != nil {
			t.Fatal(err)
		}
		return pemOf("PUBLIC KEY", der)
	}
	private, ok := k.Signer().(*rsa.PrivateKey)
	if !ok {
		t.Fatal("the key is no RSA key")
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "federated-signon"}}
	mine := pemOf("CERTIFICATE", documenttest.Certify(template, private, nil, rowTime).Certificate.Raw)
	set := func(keys ...documenttest.Claims) string { return string(documenttest.JWKS(keys...)) }
	files := map[string]string{"gce": string(k.Token(documenttest.GCEClaims("aud", rowTime)))}
	for name, content := range map[string]string{
		"certificates":   jsonOf(t, map[string]string{"other": pemOf("CERTIFICATE", certificateOf(0).Raw), "k": mine}),
		"others":         jsonOf(t, map[string]string{"other": pemOf("CERTIFICATE", certificateOf(0).Raw)}),
		"swapped":        jsonOf(t, map[string]string{"k": pemOf("CERTIFICATE", certificateOf(0).Raw)}),
		"two in one":     jsonOf(t, map[string]string{"k": mine + mine}),
		"one of two":     jsonOf(t, map[string]string{"k": mine, "l": public(k)}),
		"pem":            public(other) + public(k),
		"pem of others":  public(other) + pemOf("CERTIFICATE", certificateOf(0).Raw),
		"pem, a private": public(k) + pemOf("PRIVATE KEY", []byte("x")),
		"twice":          set(k.JWK(), k.JWK()),
		"no id":          set(k.JWK(), other.JWK().With(documenttest.Claims{"kid": nil})),
		"secret":         set(k.JWK(), documenttest.Claims{"kty": "oct", "kid": "s", "k": "AA"}),
		"empty set":      set(),
		"empty object":   "{}",
		"empty list":     "[]",
		"empty file":     "",
		"odd":            "junk",
	} {
		files[name] = content
	}
	for context, want := range map[string]string{
		"jwks=certificates":   "accept",
		"keys=certificates":   "accept",
		"jwks=others":         "jwt.kid",
		"jwks=swapped":        "jwt.signature",
		"jwks=two in one":     "jwt.kid",
		"jwks=one of two":     "jwt.kid",
		"keys=pem":            "accept",
		"keys=pem of others":  "jwt.signature",
		"keys=pem, a private": "broken",
		"jwks=twice":          "jwt.kid",
		"jwks=no id":          "jwt.kid",
		"jwks=secret":         "jwt.kid",
		"jwks=empty set":      "jwt.kid",
		"jwks=empty object":   "jwt.kid",
		"jwks=empty list":     "jwt.kid",
		"jwks=empty file":     "broken",
		"jwks=odd":            "broken",
		"jwks=gone":           "broken",
		"audience=aud":        "broken",
	} {
		context := atNoon + ";issuer=" + documenttest.GoogleIssuer + strings.TrimSuffix(";audience=aud;"+context, ";audience=aud")
		if got := verdict(t, "gce.identity", "gce", context, want, files); got != want {
			t.Errorf("%s: %s, want %s", context, got, want)
		}
	}
}

// TestStagingServiceOfNVIDIA: its issuer is another than the service's, once its key
// is known (row 87; test keys).
func TestStagingServiceOfNVIDIA(t *testing.T) {
	service, staging := documenttest.NewNRAS("prod-1"), documenttest.NewNRAS("stg-1")
	nonce := strings.Repeat("ab", 32)
	claims := documenttest.GPUClaims(nonce, rowTime)
	claims["iss"] = "https://nras.attestation-stg.nvidia.com"
	tokens := map[string]string{"GPU-0": staging.Token(claims)}
	overall := documenttest.NRASOverall(nonce, rowTime, tokens)
	overall["iss"] = claims["iss"]
	files := map[string]string{
		"staging": string(documenttest.DetachedEAT(staging.Token(overall), tokens)), "good": string(service.Bundle(nonce, rowTime)), "jwks": string(service.JWKS()),
		"staging.jwks": string(staging.JWKS()),
	}
	for _, c := range []struct{ path, context, want string }{
		{"good", ";jwks=jwks", "accept"},
		{"good", ";jwks=none", "jwt.kid"},
		{"good", "", "jwt.kid"},
		{"staging", "", "jwt.kid"},
		{"staging", ";jwks=none", "jwt.kid"},
		{"staging", ";jwks=jwks", "jwt.kid"},
		{"staging", ";jwks=staging.jwks", "jwt.issuer"},
		{"staging", ";jwks=staging.jwks;issuer=https://nras.attestation-stg.nvidia.com", "accept"},
	} {
		if got := verdict(t, "nvidia", c.path, atNoon+";form=eat;nonce="+nonce+c.context, c.want, files); got != c.want {
			t.Errorf("%s%s: %s, want %s", c.path, c.context, got, c.want)
		}
	}
}

// TestTableOfRegions: the certificates of regions may stand in one JSON object, of
// which the row's region counts (test keys).
func TestTableOfRegions(t *testing.T) {
	aws := documenttest.NewEC2("eu-west-1", rowTime)
	table := map[string]string{"eu-west-1": string(aws.CertificatePEM()), "eu-west-2": pemOf("CERTIFICATE", certificateOf(1).Raw)}
	files := map[string]string{
		"iid": string(aws.Document(documenttest.NewEC2Instance("eu-west-1", rowTime))), "table": jsonOf(t, table),
		"other.pem": table["eu-west-2"], "region.pem": table["eu-west-1"],
	}
	for context, want := range map[string]string{
		"region=eu-west-1;roots=table":                "accept",
		"region=eu-west-1;roots=other.pem,table":      "accept",
		"region=eu-west-1;roots=other.pem,region.pem": "accept",
		"region=eu-west-1;roots=other.pem":            "pkcs7.signer_unknown",
		"region=eu-west-2;roots=table":                "pkcs7.signer_unknown",
		"region=eu-west-2;roots=region.pem":           "ec2.region",
		"region=eu-west-3;roots=table":                "pkcs7.signer_unknown",
		"roots=table":                                 "pkcs7.signer_unknown",
	} {
		if got := verdict(t, "ec2.iid", "iid", atNoon+";"+context, want, files); got != want {
			t.Errorf("%s: %s, want %s", context, got, want)
		}
	}
}

// TestOwnersInRows: an account is a tenant or a subscription, in either case of its
// letters; a project is exactly that (test keys).
func TestOwnersInRows(t *testing.T) {
	k := documenttest.NewJWTKey("k", "RS256")
	files := map[string]string{
		"msi": string(k.Token(documenttest.MSIClaims("api://x", rowTime).With(documenttest.Claims{"xms_mirid": "/subscriptions/AAAAAAAA-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"}))),
		"gce": string(k.Token(documenttest.GCEClaims("aud", rowTime))), "jwks": string(documenttest.JWKS(k.JWK())),
	}
	const msi = ";jwks=jwks;audience=api://x;issuer=" + documenttest.EntraIssuer
	const gce = ";jwks=jwks;audience=aud;issuer=" + documenttest.GoogleIssuer
	for _, c := range []struct{ kind, path, context, want string }{
		{"azure.msi", "msi", msi + ";account=" + documenttest.EntraTenant, "accept"},
		{"azure.msi", "msi", msi + ";account=aaaaaaaa-4444-4444-4444-444444444444", "accept"},
		{"azure.msi", "msi", msi + ";account=AAAAAAAA-4444-4444-4444-444444444444", "accept"},
		{"azure.msi", "msi", msi + ";account=99999999-9999-9999-9999-999999999999", "node.not_admitted"},
		{"azure.msi", "msi", msi + ";project=proj-a", "node.not_admitted"},
		{"gce.identity", "gce", gce + ";project=proj-a", "accept"},
		{"gce.identity", "gce", gce + ";project=PROJ-A", "node.not_admitted"},
		{"gce.identity", "gce", gce + ";account=proj-a", "node.not_admitted"},
	} {
		if got := verdict(t, c.kind, c.path, atNoon+c.context, c.want, files); got != c.want {
			t.Errorf("%s%s: %s, want %s", c.kind, c.context, got, c.want)
		}
	}
}
