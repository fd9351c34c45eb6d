package verifier_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestTokenItems: each format of tokens carries the bound value in its own place,
// and one that carries another, or is none, names nobody.
func TestTokenItems(t *testing.T) {
	const application = "api://zonebroker"
	key := documenttest.NewJWTKey("k", "RS256")
	object := func(format, issuer string, more documenttest.Claims) jwt.Object {
		return jwt.Object{Name: strings.ReplaceAll(format, ".", "-"), Raw: documenttest.JWTObject(format, issuer, more, key.JWK())}
	}
	trust := verifier.Documents{Tokens: must(verifier.NewTokens([]jwt.Object{
		object(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil),
		object(verifier.FormatGCPConfidential, documenttest.ConfidentialIssuer, nil),
		object(verifier.FormatAzureMSI, documenttest.EntraIssuer, documenttest.Claims{"audience": application}),
		object(verifier.FormatAzureMAA, documenttest.MAAIssuer, nil),
		object(verifier.FormatK8sPSAT, documenttest.ClusterIssuer, nil),
		object(verifier.FormatEAR, "verifier.test", documenttest.Claims{"algorithms": []string{"RS256"}}),
	}))}
	ak := documenttest.NewJWTKey("ak", "RS256").JWK()
	for format, c := range map[string]struct {
		claims func(bound [32]byte) documenttest.Claims
		code   reason.Code // for another bound value; "" where the token carries none
	}{
		verifier.FormatGCEIdentity: {func(b [32]byte) documenttest.Claims { return documenttest.GCEClaims(document.Audience(b), itemNow) }, reason.JWTAudience},
		verifier.FormatGCPConfidential: {func(b [32]byte) documenttest.Claims {
			return documenttest.ConfidentialClaims(document.Audience(b), verifier.Base64Nonce(b), itemNow)
		}, reason.JWTAudience},
		verifier.FormatAzureMSI: {func([32]byte) documenttest.Claims { return documenttest.MSIClaims(application, itemNow) }, ""},
		verifier.FormatAzureMAA: {func(b [32]byte) documenttest.Claims {
			return documenttest.MAAClaims(verifier.Base64Nonce(b), ak, itemNow)
		}, reason.AzureNonceMismatch},
		verifier.FormatK8sPSAT: {func(b [32]byte) documenttest.Claims { return documenttest.PSATClaims(document.Audience(b), itemNow) }, reason.JWTAudience},
		verifier.FormatEAR: {func(b [32]byte) documenttest.Claims {
			return documenttest.EARClaims(verifier.Base64Nonce(b), itemNow).With(documenttest.Claims{"iss": "verifier.test"})
		}, reason.EARNonceMismatch},
	} {
		if f, code := judgeOne(t, &trust, format, key.Token(c.claims(itemBound)), nil); code != "" || f.Class == "" {
			t.Errorf("%s: %s, class %q", format, code, f.Class)
		}
		if _, code := judgeOne(t, &trust, format, key.Token(c.claims([32]byte{})), nil); code != c.code {
			t.Errorf("%s, another challenge: %q, want %q", format, code, c.code)
		}
		if f, code := judgeOne(t, &trust, format, []byte("x"), nil); code != reason.JWTMalformed || f.Class != "" {
			t.Errorf("%s, no token: %q", format, code)
		}
	}
}

// TestTokenIssuers: an issuer that nobody would read is a cluster that nobody can
// use, and one that is read in part trusts another key than the operator's.
func TestTokenIssuers(t *testing.T) {
	key := documenttest.NewJWTKey("k", "RS256").JWK()
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"no JSON":             {[]byte("x"), "jwks/a"},
		"a misspelled format": {documenttest.JWTObject("gce.identitiy", documenttest.GoogleIssuer, nil, key), "which has no issuers"},
		"a format of reports": {documenttest.JWTObject("snp", documenttest.GoogleIssuer, nil, key), "which has no issuers"},
		"no key":              {documenttest.JWTObject("gce.identity", documenttest.GoogleIssuer, nil), "jwks/a"},
		"no issuer":           {documenttest.JWTObject("gce.identity", "", nil, key), "issuer is missing"},
	} {
		if _, err := verifier.NewTokens([]jwt.Object{{Name: "a", Raw: c.raw}}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
