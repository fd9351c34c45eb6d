package enrich_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/enrich"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// computeJSON is an answer of instances.get (Compute Engine API reference), in the
// fields that are asked for.
const computeJSON = `{"id":"4567890123456789012","status":"RUNNING","labels":{"team":"web"},"tags":{"items":["http-server"]}}`

// tokenJSON is an answer of Google's metadata service.
const tokenJSON = `{"access_token":"ya29.example","expires_in":3599,"token_type":"Bearer"}`

var jwtKey = documenttest.NewJWTKey("key-1", "RS256")

func gceItem(more documenttest.Claims) verifier.Item {
	claims := documenttest.GCEClaims("zonebroker:x", now).With(documenttest.Claims{"google": documenttest.Claims{"compute_engine": documenttest.GCEInstance().With(more)}})
	return verifier.Item{Format: verifier.FormatGCEIdentity, Document: jwtKey.Token(claims)}
}

func TestGCE(t *testing.T) {
	p, metadata := newPlatform(t, says(200, "application/json; charset=UTF-8", computeJSON)), newMetadata(t, says(200, "application/json", tokenJSON))
	g := enrich.NewGCE(enrich.GCEConfig{Compute: p.endpoint(), Metadata: metadata.address(), Now: clock})
	if g.Name() != "gce.instances" || g.Format() != verifier.FormatGCEIdentity || g.Essential() {
		t.Error("another enricher")
	}
	item := gceItem(nil)
	for range 2 {
		parts, err := g.Enrich(within(t), item, bound)
		if want := `{"id":"4567890123456789012","labels":{"team":"web"},"status":"RUNNING","tags":["http-server"]}`; err != nil || string(parts[gce.PartInstance]) != want {
			t.Fatalf("%s, %v", parts[gce.PartInstance], err)
		}
	}
	if len(metadata.seen()) != 1 {
		t.Errorf("%d tokens for two calls", len(metadata.seen()))
	}
	if got := metadata.seen()[0]; got.header.Get("Metadata-Flavor") != "Google" || got.target != "/computeMetadata/v1/instance/service-accounts/default/token" || got.host != "metadata.google.internal" {
		t.Errorf("%+v", got)
	}
	ce := documenttest.GCEInstance()
	got := p.seen()[0]
	want := "/compute/v1/projects/" + ce["project_id"].(string) + "/zones/" + ce["zone"].(string) + "/instances/" + ce["instance_name"].(string) + "?fields=id,status,labels,tags(items)"
	if got.method != http.MethodGet || got.host != "compute.googleapis.com" || got.target != want || got.header.Get("Authorization") != "Bearer ya29.example" {
		t.Errorf("%+v", got)
	}
	for name, tc := range map[string][2]string{
		"no marks": {`{"id":"1","status":"RUNNING"}`, `{"id":"1","labels":{},"status":"RUNNING","tags":[]}`},
		"stopped":  {`{"id":"1","status":"TERMINATED"}`, `{"id":"1","labels":{},"status":"TERMINATED","tags":[]}`},
	} {
		g := enrich.NewGCE(enrich.GCEConfig{Compute: newPlatform(t, says(200, "application/json", tc[0])).endpoint(), Token: file(t, "ya29.x\n", 0o600)})
		if parts, err := g.Enrich(within(t), item, bound); err != nil || string(parts[gce.PartInstance]) != tc[1] {
			t.Errorf("%s: %s, %v", name, parts[gce.PartInstance], err)
		}
	}
	gone := enrich.NewGCE(enrich.GCEConfig{Compute: newPlatform(t, says(404, "application/json", "{}")).endpoint(), Token: file(t, "ya29.x", 0o600)})
	if parts, err := gone.Enrich(within(t), item, bound); err != nil || string(parts[gce.PartInstance]) != `{"id":"","labels":{},"status":"NOT_FOUND","tags":[]}` {
		t.Errorf("gone: %s, %v", parts[gce.PartInstance], err)
	}
}

func TestGCENames(t *testing.T) {
	p := newPlatform(t, says(200, "application/json", computeJSON))
	g := enrich.NewGCE(enrich.GCEConfig{Compute: p.endpoint(), Token: file(t, "ya29.x", 0o600)})
	for name, item := range map[string]verifier.Item{
		"a name as path":    gceItem(documenttest.Claims{"instance_name": "../../x"}),
		"a zone as query":   gceItem(documenttest.Claims{"zone": "a?b"}),
		"a project as path": gceItem(documenttest.Claims{"project_id": "a/b"}),
		"no instance":       {Document: jwtKey.Token(documenttest.GCEClaims("x", now).With(documenttest.Claims{"google": nil}))},
		"no token":          {Document: []byte("x")},
		"no claims":         {Document: []byte("a.%.c")},
		"a long token":      {Document: []byte(strings.Repeat("a", 17<<10))},
	} {
		if _, err := g.Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(p.seen()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// graphJSON is an answer of Azure Resource Graph (REST API reference, resources).
const graphJSON = `{"totalRecords":1,"count":1,"resultTruncated":"false","facets":[],"data":[{"id":"/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/PROD/providers/Microsoft.Compute/virtualMachines/web-1","location":"eastus","tags":{"team":"web"},"tenantId":"77777777-7777-7777-7777-777777777777","vmId":"55555555-5555-5555-5555-555555555555","power":"PowerState/running"}]}`

// entraJSON is an answer of Azure's metadata service: its numbers are text.
const entraJSON = `{"access_token":"eyJ0.example","client_id":"x","expires_in":"86399","expires_on":"1506484173","not_before":"1506397473","resource":"https://management.azure.com/","token_type":"Bearer"}`

func attestedItem() (*documenttest.AzureIMDSPKI, verifier.Item) {
	pki := documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com")
	return pki, verifier.Item{Format: verifier.FormatAzureIMDS, Document: pki.Document(documenttest.NewAzureVM("nonce", now))}
}

func azureOf(t testing.TB, c enrich.AzureConfig) *enrich.Azure {
	t.Helper()
	c.Now = clock
	out, err := enrich.NewAzure(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAzure(t *testing.T) {
	p, metadata := newPlatform(t, says(200, "application/json; charset=utf-8", graphJSON)), newMetadata(t, says(200, "application/json; charset=utf-8", entraJSON))
	a := azureOf(t, enrich.AzureConfig{Manager: p.endpoint(), Metadata: metadata.address()})
	if a.Name() != "azure.vms" || a.Format() != verifier.FormatAzureIMDS || a.Essential() {
		t.Error("another enricher")
	}
	pki, item := attestedItem()
	parts, err := a.Enrich(within(t), item, bound)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := x509chain.NewRoots(pki.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := azure.VerifyIMDS(item.Document, "nonce", roots, now)
	if err != nil {
		t.Fatal(err)
	}
	live, err := doc.Live(parts[azure.PartVM])
	if f := live.Facts(); err != nil || len(f.Values("azure.imds.tenant")) != 1 {
		t.Errorf("%s: %v", parts[azure.PartVM], err)
	}
	if got := metadata.seen()[0]; got.header.Get("Metadata") != "true" || got.target != "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F" {
		t.Errorf("%+v", got)
	}
	got := p.seen()[0]
	var asked struct {
		Subscriptions []string
		Query         string
	}
	if err := json.Unmarshal([]byte(got.body), &asked); err != nil || len(asked.Subscriptions) != 1 || asked.Subscriptions[0] != "44444444-4444-4444-4444-444444444444" ||
		!strings.Contains(asked.Query, "properties.vmId =~ '55555555-5555-5555-5555-555555555555'") || got.host != "management.azure.com" ||
		got.target != "/providers/Microsoft.ResourceGraph/resources?api-version=2022-10-01" || got.header.Get("Authorization") != "Bearer eyJ0.example" {
		t.Errorf("%+v", got)
	}
	for name, body := range map[string]string{
		"gone":        `{"data":[]}`,
		"deallocated": strings.Replace(graphJSON, "PowerState/running", "PowerState/deallocated", 1),
		"no tags":     strings.Replace(strings.Replace(graphJSON, `{"team":"web"}`, "null", 1), "PowerState/running", "", 1),
	} {
		a := azureOf(t, enrich.AzureConfig{Manager: newPlatform(t, says(200, "application/json", body)).endpoint(), Token: file(t, "eyJ0", 0o600)})
		parts, err := a.Enrich(within(t), item, bound)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := doc.Live(parts[azure.PartVM]); reason.Of(err) != reason.AzureResource {
			t.Errorf("%s: %s, %v", name, parts[azure.PartVM], err)
		}
	}
	if _, err := a.Enrich(within(t), verifier.Item{Document: []byte("x")}, bound); reason.Of(err) != reason.PKCS7Encoding {
		t.Errorf("no document: %v", err)
	}
	if _, err := enrich.NewAzure(enrich.AzureConfig{Cloud: "mars"}); err == nil {
		t.Error("a cloud that is none")
	}
}

// TestMetadataTokens: what is no token never reaches a header.
func TestMetadataTokens(t *testing.T) {
	p := newPlatform(t, says(200, "application/json", graphJSON))
	_, item := attestedItem()
	for name, handler := range map[string]http.HandlerFunc{
		"another type":  says(200, "text/plain", entraJSON),
		"an error":      says(400, "application/json", entraJSON),
		"no token":      says(200, "application/json", `{"access_token":"a b","expires_in":"1"}`),
		"no end":        says(200, "application/json", `{"access_token":"ab"}`),
		"an end afar":   says(200, "application/json", `{"access_token":"ab","expires_in":9999999}`),
		"an end before": says(200, "application/json", `{"access_token":"ab","expires_in":-1}`),
	} {
		a := azureOf(t, enrich.AzureConfig{Manager: p.endpoint(), Metadata: newMetadata(t, handler).address()})
		if _, err := a.Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, path := range map[string]string{"no token": file(t, "a b", 0o600), "an open file": file(t, "ab", 0o644)} {
		if _, err := azureOf(t, enrich.AzureConfig{Manager: p.endpoint(), Token: path}).Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(p.seen()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// reviewedJSON is an answer to a TokenReview (Kubernetes API reference,
// authentication.k8s.io/v1).
const reviewedJSON = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"audiences":["zonebroker:x"],"user":{"username":"system:serviceaccount:web:zoneagent"}}}`

func reviews(t testing.TB, p *platform, token string) *enrich.TokenReviews {
	t.Helper()
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})), 0o644)
	out, err := enrich.NewTokenReviews(map[string]enrich.Cluster{
		documenttest.ClusterIssuer: {Address: p.address(), CA: ca, Token: file(t, token, 0o640), Timeout: 200 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTokenReviews(t *testing.T) {
	p := newPlatform(t, says(201, "application/json", reviewedJSON))
	r := reviews(t, p, "broker-token\n")
	if r.Name() != "k8s.tokenreview" || r.Format() != verifier.FormatK8sPSAT || r.Essential() {
		t.Error("another enricher")
	}
	claims := documenttest.PSATClaims("zonebroker:x", now)
	item := verifier.Item{Format: verifier.FormatK8sPSAT, Document: jwtKey.Token(claims)}
	parts, err := r.Enrich(within(t), item, bound)
	if err != nil || string(parts[k8s.PartTokenReview]) != reviewedJSON {
		t.Fatalf("%s, %v", parts[k8s.PartTokenReview], err)
	}
	want, err := k8s.Review(item.Document, "zonebroker:x")
	if err != nil {
		t.Fatal(err)
	}
	got := p.seen()[0]
	if got.method != http.MethodPost || got.target != "/apis/authentication.k8s.io/v1/tokenreviews" || got.body != string(want) || got.header.Get("Authorization") != "Bearer broker-token" {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string]documenttest.Claims{
		"another cluster": {"iss": "https://other.example"}, "two audiences": {"aud": []string{"zonebroker:x", "api"}}, "no audience": {"aud": []string{}},
	} {
		if _, err := r.Enrich(within(t), verifier.Item{Document: jwtKey.Token(claims.With(c))}, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := r.Enrich(within(t), verifier.Item{Document: []byte("x")}, bound); err == nil || len(p.seen()) != 1 {
		t.Errorf("no token: %v, %d calls", err, len(p.seen()))
	}
	for name, token := range map[string]string{"empty": "", "two lines": "a\nb", "long": strings.Repeat("a", 17<<10)} {
		if _, err := reviews(t, p, token).Enrich(within(t), item, bound); err == nil {
			t.Errorf("a token file that is %s: no error", name)
		}
	}
	for name, c := range map[string]enrich.Cluster{
		"no CA": {Address: "x:443", CA: "/nonexistent"}, "a CA that is none": {Address: "x:443", CA: file(t, "x", 0o644)},
		"no address": {CA: file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})), 0o644)},
	} {
		if _, err := enrich.NewTokenReviews(map[string]enrich.Cluster{"x": c}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRow120CloudsHostile: what hostile servers answer leaves the part out, in
// time, and nobody follows it.
func TestRow120CloudsHostile(t *testing.T) {
	evil := newPlatform(t, says(200, "application/json", computeJSON))
	_, attested := attestedItem()
	token := file(t, "token", 0o600)
	for name, handler := range hostile(evil) {
		t.Run("row 120 "+name, func(t *testing.T) {
			p := newPlatform(t, handler)
			e := p.endpoint()
			e.Timeout = 200 * time.Millisecond
			began := time.Now()
			if parts, err := enrich.NewGCE(enrich.GCEConfig{Compute: e, Token: token}).Enrich(within(t), gceItem(nil), bound); err == nil {
				t.Errorf("Google: %s", parts)
			}
			if parts, err := azureOf(t, enrich.AzureConfig{Manager: e, Token: token}).Enrich(within(t), attested, bound); err == nil {
				t.Errorf("Azure: %s", parts)
			}
			psat := verifier.Item{Document: jwtKey.Token(documenttest.PSATClaims("x", now))}
			if parts, err := reviews(t, p, "token").Enrich(within(t), psat, bound); err == nil {
				t.Errorf("Kubernetes: %s", parts)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	if n := len(evil.seen()); n != 0 {
		t.Errorf("%d calls were led elsewhere", n)
	}
}
