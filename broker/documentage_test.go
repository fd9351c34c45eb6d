package broker_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestOldDocumentIsRenewedInTime: a token that a cloud hands out again for hours is as
// old as it is, and its host comes back in the middle of what is left of it, not
// after that.
func TestOldDocumentIsRenewedInTime(t *testing.T) {
	const day = 24 * time.Hour
	r := newRig(t, `apiVersion: zonebroker/v1
kind: Zone
name: tenant
tier: 1
selectors: {any: [{format: azure.msi}]}
admit: [owner]
requires: {class: C, format: [azure.msi]}
evidence: {max_age: 24h}
`)
	entra := documenttest.NewJWTKey("entra-1", "RS256")
	trust, err := broker.NewTrustData([]verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: "lab", Raw: r.maker.PEM()},
		{Kind: verifier.TrustJWKS, Name: "tenant", Raw: documenttest.JWTObject(verifier.FormatAzureMSI, documenttest.EntraIssuer, documenttest.Claims{"audience": "api://zonebroker"}, entra.JWK())},
	})
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), trust))
	_, err = r.b.AdmitNode(t.Context(), operator, api.AdmitRequest{Owner: "azure.tenant=" + documenttest.EntraTenant})
	r.must(err)
	made := r.now().Truncate(time.Second).Add(-20 * time.Hour)
	h := r.newDocHost(verifier.FormatAzureMSI, map[string]collect{
		verifier.FormatAzureMSI: func(_, _ [32]byte, _ time.Time) verifier.Item {
			return verifier.Item{Document: entra.Token(documenttest.MSIClaims("api://zonebroker", made))}
		},
	})
	for _, age := range []time.Duration{20 * time.Hour, 23 * time.Hour} {
		r.wait(made.Add(age).Sub(r.now()))
		ask := h.askRenew
		if h.prev == "" {
			ask = h.askEnrol
		}
		out, err := h.attest(ask())
		r.must(err)
		left := day - age
		if !out.AttestedAt.Equal(made) || !out.FreshUntil.Equal(made.Add(day)) || !out.RenewAt.Equal(r.now().Add(left/2)) {
			t.Errorf("%s old at %s: attested %s, fresh until %s, renew at %s", age, r.now(), out.AttestedAt, out.FreshUntil, out.RenewAt)
		}
	}
}
