package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type tokenClaims = documenttest.Claims

var tokenNoon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// tokenIssuers are the test PKI of all issuers of tokens: they share a signing key,
// and publish one for encryption beside it.
type tokenIssuers struct {
	sign, enc, ear *documenttest.JWTKey
	trust          verifier.Trust
}

const tokenApplication = "api://zonebroker"

func newTokenIssuers(t testing.TB) *tokenIssuers {
	t.Helper()
	s := &tokenIssuers{
		sign: documenttest.NewJWTKey("test-1", "RS256"), enc: documenttest.NewJWTKey("enc-1", "RS256"), ear: documenttest.NewJWTKey("ear-1", "ES256"),
	}
	keys := []documenttest.Claims{s.sign.JWK(), s.enc.JWK().With(tokenClaims{"use": "enc"})}
	audience := tokenClaims{"audience": tokenApplication}
	s.trust.Documents.Tokens = tokensOf(t, map[string][]byte{
		"google":     documenttest.JWTObject("gce.identity", documenttest.GoogleIssuer, nil, keys...),
		"space":      documenttest.JWTObject("gcp.confidential", documenttest.ConfidentialIssuer, nil, keys...),
		"tenant":     documenttest.JWTObject("azure.msi", documenttest.EntraIssuer, audience, keys...),
		"tenant-two": documenttest.JWTObject("azure.msi", "https://sts.windows.net/99999999-9999-9999-9999-999999999999/", audience, keys...),
		"weu":        documenttest.JWTObject("azure.maa", documenttest.MAAIssuer, nil, keys...),
		"cluster":    documenttest.JWTObject("k8s.psat", documenttest.ClusterIssuer, nil, keys...),
		"veraison":   documenttest.JWTObject("ear", "", nil, s.ear.JWK()),
	})
	return s
}

func tokensOf(t testing.TB, objects map[string][]byte) verifier.Tokens {
	t.Helper()
	var list []jwt.Object
	for name, raw := range objects {
		list = append(list, jwt.Object{Name: name, Raw: raw})
	}
	out, err := verifier.NewTokens(list)
	must(t, err)
	return out
}

// documentHost is a host without a TPM that answers one challenge.
type documentHost struct {
	agent *ecdsa.PrivateKey
	ev    verifier.Evidence
	want  verifier.Expectation
}

func newDocumentHost(t testing.TB, format string) *documentHost {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		return k
	}
	h, svid := &documentHost{agent: key()}, key()
	spki, err := x509.MarshalPKIXPublicKey(h.agent.Public())
	must(t, err)
	h.ev = verifier.Evidence{
		Format: format, SPKI: evidencetest.SPKI(t, svid.Public()), CSR: evidencetest.CSR(t, svid), Agent: &verifier.AgentProof{Public: spki},
	}
	h.want = verifier.Expectation{
		TrustDomain: "td.test", Purpose: verifier.PurposeRenew, Nonce: []byte(strings.Repeat("n", 32)), AKName: verifier.AgentKeyName(spki), IssuedAt: tokenNoon,
	}
	return h
}

// bound is what a document of a format has to carry.
func (h *documentHost) bound(format string) [32]byte {
	return verifier.Binding(h.want.Nonce, h.ev.SPKI, h.want.TrustDomain, h.want.Purpose, format, nil)
}

func (h *documentHost) audience(format string) string { return document.Audience(h.bound(format)) }

func (h *documentHost) nonce(format string) string {
	b := h.bound(format)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (h *documentHost) add(format string, raw []byte, parts map[string][]byte) *documentHost {
	h.ev.Items = append(h.ev.Items, verifier.Item{Format: format, Document: raw, Parts: parts})
	return h
}

func (h *documentHost) judge(t testing.TB, trust verifier.Trust) (verifier.Appraisal, error) {
	t.Helper()
	if h.ev.Agent.Signature == nil {
		digest := verifier.AgentDigest(h.bound(h.ev.Format))
		sig, err := ecdsa.SignASN1(rand.Reader, h.agent, digest[:])
		must(t, err)
		h.ev.Agent.Signature = sig
	}
	return verifier.Appraise(h.ev, h.want, trust, tokenNoon.Add(10*time.Second))
}

// tokenForgery is one bad token; claims and header change a good one, or made is
// all of it.
type tokenForgery struct {
	name   string
	format string // gce.identity where empty
	claims tokenClaims
	header tokenClaims
	made   func(s *tokenIssuers, good tokenClaims) []byte
	want   reason.Code
}

// good returns the claims of a good token of the format for this host.
func (h *documentHost) good(format string) tokenClaims {
	switch format {
	case "gcp.confidential":
		return documenttest.ConfidentialClaims(h.audience(format), h.nonce(format), tokenNoon)
	case "azure.msi":
		return documenttest.MSIClaims(tokenApplication, tokenNoon)
	case "azure.maa":
		return documenttest.MAAClaims(h.nonce(format), nil, tokenNoon)
	case "k8s.psat":
		return documenttest.PSATClaims(h.audience(format), tokenNoon)
	case "ear":
		return documenttest.EARClaims(h.nonce(format), tokenNoon)
	}
	return documenttest.GCEClaims(h.audience(format), tokenNoon)
}

func (s *tokenIssuers) key(format string) *documenttest.JWTKey {
	if format == "ear" {
		return s.ear
	}
	return s.sign
}

func tokenJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// TestCloudTokenCatalogue is the part of the catalogue (cloud.md, section 4) that
// is about tokens, under a test PKI, judged as the broker judges them.
func TestCloudTokenCatalogue(t *testing.T) {
	s := newTokenIssuers(t)
	for _, f := range tokenCatalogue() {
		t.Run(f.name+" (test PKI)", func(t *testing.T) {
			format := f.format
			if format == "" {
				format = "gce.identity"
			}
			h, k := newDocumentHost(t, format), s.key(format)
			raw := k.Raw(k.Header().With(f.header), tokenJSON(h.good(format).With(f.claims)))
			if f.made != nil {
				raw = f.made(s, h.good(format))
			}
			_, err := newDocumentHost(t, format).sameAs(h).add(format, k.Token(h.good(format)), nil).judge(t, s.trust)
			if err != nil {
				t.Fatalf("the good token is refused: %v", err)
			}
			if _, err := h.add(format, raw, nil).judge(t, s.trust); reason.Of(err) != f.want {
				t.Errorf("%v, want %s", err, f.want)
			}
		})
	}
}

// sameAs makes a host answer as another one: the good token is for its keys.
func (h *documentHost) sameAs(other *documentHost) *documentHost {
	h.agent, h.ev, h.want = other.agent, other.ev, other.want
	agent := *other.ev.Agent
	h.ev.Agent = &agent
	return h
}

func tokenCatalogue() []tokenForgery {
	evil := documenttest.NewJWTKey("evil", "RS256")
	arm := func(id string) tokenClaims { return tokenClaims{"xms_mirid": id} }
	const vm = "/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/Microsoft.Compute/virtualMachines/vm1"
	pod := func(more tokenClaims) tokenClaims {
		k, _ := documenttest.PSATClaims("", tokenNoon)["kubernetes.io"].(tokenClaims)
		return tokenClaims{"kubernetes.io": k.With(more)}
	}
	status := func(s any) tokenClaims {
		return tokenClaims{"submods": tokenClaims{"cpu0": documenttest.EARSubmodule(s)}}
	}
	return append(headerCatalogue(evil), []tokenForgery{
		{name: "row 64 aud wrong", claims: tokenClaims{"aud": "vault/prod"}, want: reason.JWTAudience},
		{name: "row 64 aud missing", claims: tokenClaims{"aud": nil}, want: reason.JWTAudience},
		{name: "row 64 aud multi", claims: tokenClaims{"aud": []string{"a", "b"}}, want: reason.JWTAudience},
		{name: "row 65 iss http", claims: tokenClaims{"iss": "http://accounts.google.com"}, want: reason.JWTIssuer},
		{name: "row 65 iss bare", claims: tokenClaims{"iss": "accounts.google.com"}, want: reason.JWTIssuer},
		{name: "row 65 iss missing", claims: tokenClaims{"iss": nil}, want: reason.JWTIssuer},
		{name: "row 66 no compute_engine", claims: tokenClaims{"google": nil}, want: reason.GCENoInstance},
		{name: "row 68 empty instance_id", claims: tokenClaims{"google": tokenClaims{"compute_engine": documenttest.GCEInstance().With(tokenClaims{"instance_id": ""})}}, want: reason.GCENoInstance},
		{name: "row 69 expired", claims: tokenClaims{"exp": tokenNoon.Unix()}, want: reason.JWTExpired},
		{name: "row 69 no exp", claims: tokenClaims{"exp": nil}, want: reason.JWTLifetime},
		{name: "row 69 ten years", claims: tokenClaims{"exp": tokenNoon.AddDate(10, 0, 0).Unix()}, want: reason.JWTLifetime},
		{name: "row 70 iat in the future", claims: tokenClaims{"iat": tokenNoon.Add(time.Hour).Unix()}, want: reason.JWTIssuedAt},
		{name: "row 70 iat before the challenge", claims: tokenClaims{"iat": tokenNoon.Add(-50 * time.Minute).Unix(), "exp": tokenNoon.Add(9 * time.Minute).Unix()}, want: reason.JWTIssuedAt},
		{name: "row 82 token of a person from Google", claims: tokenClaims{"google": nil, "hd": "example.org", "azp": "32555940559.apps.googleusercontent.com"}, want: reason.GCENoInstance},
		{name: "row 83 MAA edited", format: "azure.maa", made: func(s *tokenIssuers, good tokenClaims) []byte {
			p := strings.Split(string(s.sign.Token(good.With(tokenClaims{"secureboot": false}))), ".")
			return []byte(p[0] + "." + base64.RawURLEncoding.EncodeToString(tokenJSON(good)) + "." + p[2])
		}, want: reason.JWTSignature},
		{name: "row 83 MAA jku", format: "azure.maa", made: func(_ *tokenIssuers, good tokenClaims) []byte {
			return evil.Raw(evil.Header().With(tokenClaims{"jku": "https://evil.weu.attest.azure.net/certs"}), tokenJSON(good))
		}, want: reason.JWTKID},
		{name: "row 83 MAA expired", format: "azure.maa", claims: tokenClaims{"iat": tokenNoon.Add(-8 * time.Hour).Unix(), "exp": tokenNoon.Unix()}, want: reason.JWTExpired},
		{name: "row 83 MAA issuer", format: "azure.maa", claims: tokenClaims{"iss": "https://evil.weu.attest.azure.net"}, want: reason.JWTIssuer},
		{name: "row 83 MAA of another challenge", format: "azure.maa", claims: tokenClaims{"x-ms-runtime": tokenClaims{"client-payload": tokenClaims{"nonce": "other"}}}, want: reason.AzureNonceMismatch},
		{name: "row 83 MAA about an enclave", format: "azure.maa", claims: tokenClaims{"x-ms-attestation-type": "sgx"}, want: reason.AzureAttestationClaims},
		{name: "row 84 MSI foreign tenant", format: "azure.msi", claims: tokenClaims{"iss": "https://sts.windows.net/55555555-5555-5555-5555-555555555555/"}, want: reason.JWTIssuer},
		{name: "row 84 MSI tid is not iss", format: "azure.msi", claims: tokenClaims{"iss": "https://sts.windows.net/99999999-9999-9999-9999-999999999999/"}, want: reason.AzureTenant},
		{name: "row 84 MSI for Resource Manager", format: "azure.msi", claims: tokenClaims{"aud": "https://management.azure.com/"}, want: reason.JWTAudience},
		{name: "row 84 MSI of a person", format: "azure.msi", claims: tokenClaims{"idtyp": "user", "upn": "a@b", "xms_mirid": nil}, want: reason.AzurePrincipal},
		{name: "row 84 MSI user-assigned only", format: "azure.msi", claims: arm("/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"), want: reason.AzureResource},
		{name: "row 84 MSI nested resource", format: "azure.msi", claims: arm(vm + "/extensions/x"), want: reason.AzureResource},
		{name: "row 85 PSAT for the API server", format: "k8s.psat", claims: tokenClaims{"aud": []string{documenttest.ClusterIssuer}}, want: reason.JWTAudience},
		{name: "row 85 PSAT two audiences", format: "k8s.psat", claims: tokenClaims{"aud": []string{"api", "spire-server"}}, want: reason.JWTAudience},
		{name: "row 85 PSAT legacy", format: "k8s.psat", made: func(s *tokenIssuers, _ tokenClaims) []byte {
			return s.sign.Token(tokenClaims{"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:payments:agent"})
		}, want: reason.JWTIssuer},
		{name: "row 85 PSAT no pod", format: "k8s.psat", claims: pod(tokenClaims{"pod": nil}), want: reason.K8sNoPod},
		{name: "row 85 PSAT sub mismatch", format: "k8s.psat", claims: tokenClaims{"sub": "system:serviceaccount:payments:admin"}, want: reason.K8sSubject},
		{name: "row 85 PSAT of a year", format: "k8s.psat", claims: tokenClaims{"exp": tokenNoon.AddDate(1, 0, 0).Unix()}, want: reason.JWTLifetime},
		{name: "row 85 PSAT other issuer", format: "k8s.psat", claims: tokenClaims{"iss": "https://other.test"}, want: reason.JWTIssuer},
		{name: "row 86 EAR with its own key", format: "ear", made: func(_ *tokenIssuers, good tokenClaims) []byte {
			return evil.Raw(tokenClaims{"alg": "RS256", "kid": "x", "jwk": evil.JWK()}, tokenJSON(good))
		}, want: reason.JWTKID},
		{name: "row 86 EAR status none", format: "ear", claims: status("none"), want: reason.EARStatus},
		{name: "row 86 EAR status contraindicated", format: "ear", claims: status(96), want: reason.EARStatus},
		{name: "row 86 EAR without the challenge", format: "ear", claims: tokenClaims{"eat_nonce": nil}, want: reason.EARNonceMismatch},
		{name: "row 90 a Confidential Space token of another challenge", format: "gcp.confidential", claims: tokenClaims{"eat_nonce": "other"}, want: reason.JWTAudience},
		{name: "beside: other software than Confidential Space", format: "gcp.confidential", claims: tokenClaims{"swname": "GCE"}, want: reason.PolicyMeasurementMismatch},
	}...)
}

// headerCatalogue are the rows about what stands around the claims.
func headerCatalogue(evil *documenttest.JWTKey) []tokenForgery {
	return []tokenForgery{
		{name: "row 71 duplicate claim", made: func(s *tokenIssuers, good tokenClaims) []byte {
			return s.sign.Raw(s.sign.Header(), []byte(`{"aud":"x",`+string(tokenJSON(good))[1:]))
		}, want: reason.JWTMalformed},
		{name: "row 72 alg none", made: func(s *tokenIssuers, good tokenClaims) []byte {
			p := strings.Split(string(s.sign.Raw(s.sign.Header().With(tokenClaims{"alg": "none"}), tokenJSON(good))), ".")
			return []byte(p[0] + "." + p[1] + ".")
		}, want: reason.JWTAlg},
		{name: "row 73 HS256", header: tokenClaims{"alg": "HS256"}, want: reason.JWTAlg},
		{name: "row 74 RS512 in the header", header: tokenClaims{"alg": "RS512"}, want: reason.JWTAlg},
		{name: "row 75 kid missing", header: tokenClaims{"kid": nil}, want: reason.JWTKID},
		{name: "row 75 kid unknown", header: tokenClaims{"kid": "test-2"}, want: reason.JWTKID},
		{name: "row 75 kid traversal", header: tokenClaims{"kid": "../../../dev/null"}, want: reason.JWTKID},
		{name: "row 76 key of use enc", made: func(s *tokenIssuers, good tokenClaims) []byte { return s.enc.Token(good) }, want: reason.JWTKeyUse},
		{name: "row 77 jku", made: func(_ *tokenIssuers, good tokenClaims) []byte {
			return evil.Raw(evil.Header().With(tokenClaims{"jku": "https://evil.example/jwks.json"}), tokenJSON(good))
		}, want: reason.JWTKID},
		{name: "row 78 embedded jwk", made: func(s *tokenIssuers, good tokenClaims) []byte {
			return evil.Raw(s.sign.Header().With(tokenClaims{"jwk": evil.JWK()}), tokenJSON(good))
		}, want: reason.JWTSignature},
		{name: "row 79 crit", header: tokenClaims{"crit": []string{"exp"}}, want: reason.JWTCrit},
		{name: "row 80 JSON serialization", made: func(s *tokenIssuers, good tokenClaims) []byte {
			p := strings.Split(string(s.sign.Token(good)), ".")
			return tokenJSON(tokenClaims{"payload": p[1], "signatures": []tokenClaims{{"protected": p[0], "signature": p[2]}}})
		}, want: reason.JWTMalformed},
		{name: "row 81 a token of 90 KB", claims: tokenClaims{"pad": strings.Repeat("A", 67<<10)}, want: reason.RequestTooLarge},
	}
}
