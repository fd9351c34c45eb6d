package conformance_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestTokensOfInstancesInRows: what a row states of the instance that a token
// names has to be so, and another project or subscription is not admitted (test
// PKI).
func TestTokensOfInstancesInRows(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	key := documenttest.NewJWTKey("k1", "RS256")
	open := documenttest.ConfidentialClaims("aud", "nonce-of-the-row", now).With(documenttest.Claims{"dbgstat": "enabled"})
	files := map[string]string{
		"keys": string(documenttest.JWKS(key.JWK())),
		"gce":  string(key.Token(documenttest.GCEClaims("aud", now))),
		"gcp":  string(key.Token(documenttest.ConfidentialClaims("aud", "nonce-of-the-row", now))),
		"open": string(key.Token(open)),
		"msi":  string(key.Token(documenttest.MSIClaims("aud", now))),
	}
	const (
		at           = "time=2026-11-20T09:00:10Z;jwks=keys;audience=aud;issuer="
		google       = at + documenttest.GoogleIssuer
		confidential = at + documenttest.ConfidentialIssuer + ";nonce=nonce-of-the-row"
		entra        = at + documenttest.EntraIssuer
	)
	for _, c := range []struct{ kind, path, context, want string }{
		{"gce.identity", "gce", google + ";project=proj-a;zone=us-central1-c;instance_id=3015378661047007286;instance_name=vm-1", "accept"},
		{"gce.identity", "gce", google + ";project=proj-b", "node.not_admitted"},
		{"gce.identity", "gce", google + ";account=123456789012", "node.not_admitted"},
		{"gcp.confidential", "gcp", confidential + ";project=proj-a", "accept"},
		{"gcp.confidential", "gcp", confidential + ";project=proj-b", "node.not_admitted"},
		{"gcp.confidential", "open", confidential + ";project=proj-b", "policy.measurement_mismatch"},
		{"azure.msi", "msi", entra, "accept"},
		{"azure.msi", "msi", entra + ";account=44444444-4444-4444-4444-444444444444", "accept"},
		{"azure.msi", "msi", entra + ";account=00000000-0000-0000-0000-000000000000", "node.not_admitted"},
	} {
		verdict := "reject\t" + c.want
		if c.want == "accept" {
			verdict = "accept\t"
		}
		if r := one(t, c.path+"\t"+c.kind+"\t"+verdict+"\t"+c.context, files); r.Status != conformance.Same {
			t.Errorf("%s %s %s: %+v", c.kind, c.path, c.context, r)
		}
	}
	r := one(t, "gce\tgce.identity\taccept\t\t"+google+";zone=us-central1-f", files)
	if r.Status != conformance.Differs || len(r.Facts) != 1 || r.Facts[0].Got != "us-central1-c" {
		t.Errorf("another zone, accepted: %+v", r)
	}
}
