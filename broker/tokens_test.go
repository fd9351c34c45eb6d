package broker_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// tokenKeys are the published rows of token keys, oldest first.
func (r *rig) tokenKeys() []ledger.Key {
	var out []ledger.Key
	for _, k := range r.store.keys {
		if k.Kind != issuer.KindCA {
			out = append(out, k)
		}
	}
	return out
}

// keysOf counts the entries of a key document, and those of each use and
// algorithm.
func keysOf(t testing.TB, raw []byte, err error) (n int, alg map[string]int) {
	t.Helper()
	var doc struct {
		Keys []struct{ Use, Alg, Kid string } `json:"keys"`
	}
	if err != nil || json.Unmarshal(raw, &doc) != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	alg = map[string]int{}
	for _, k := range doc.Keys {
		alg[k.Use+" "+k.Alg]++
	}
	return len(doc.Keys), alg
}

// TestInvariant12_TokenKeysArePublishedBeforeTheySign, in log, bundle and key
// set, like a CA.
func TestInvariant12_TokenKeysArePublishedBeforeTheySign(t *testing.T) {
	r := newRig(t, zoneWork)
	h := r.admitted()
	h.enrol()
	if _, err := r.b.JWKS(t.Context()); err != nil {
		t.Errorf("a key set without keys: %v", err)
	}
	if _, err := r.b.OIDCDiscovery(t.Context()); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("a discovery document of no issuer: %v", err)
	}
	r.must(r.b.RotateTokens(t.Context()))
	if n := len(r.tokenKeys()); n != 0 {
		t.Errorf("%d token keys of a replica that issues none", n)
	}
	r.must(r.b.StartTokens(t.Context(), oidcIssuer))
	signedBy := func() string {
		h.renew()
		c := h.callerOf(h.renew())
		if _, err := r.jwt(c, "payments-api", ""); err != nil {
			t.Fatal(err)
		}
		all := r.issued()
		return all[len(all)-1].SVIDs[0].CAKeyID
	}
	rotate := func() { r.must(r.b.RotateTokens(t.Context())) }
	first := r.keyOf(issuer.KindJWTES256)
	if signedBy() != first {
		t.Error("the first key does not sign")
	}
	rotate()
	r.wait(12*time.Hour - 5*time.Minute)
	rotate()
	if n := len(r.tokenKeys()); n != 2 {
		t.Fatalf("%d token keys before half their life", n)
	}
	r.must(r.b.RotateCA(t.Context()))
	r.wait(3 * time.Minute)
	sequence, _ := bundleOf(t, r.b)
	rotate()
	keys := r.tokenKeys()
	if len(keys) != 4 || keys[2].Kind != issuer.KindJWTES256 || keys[3].Kind != issuer.KindJWTRS256 || keys[2].Replica != "a" {
		t.Fatalf("%d token keys at half their life", len(keys))
	}
	for i, rec := range r.store.records[len(r.store.records)-2:] {
		var g ledger.Grant
		r.must(json.Unmarshal(rec.Body, &g))
		hash, err := ledger.RowHash(keys[2+i])
		r.must(err)
		if g.Type != ledger.TypeKeyPublished || g.Subject != keys[2+i].ID || g.RowHash != hash || g.By != "replica:a" {
			t.Errorf("record %+v", g)
		}
	}
	raw, err := r.b.JWKS(t.Context())
	if n, alg := keysOf(t, raw, err); n != 4 || alg["sig ES256"] != 2 || alg["sig RS256"] != 2 {
		t.Errorf("key set %v", alg)
	}
	raw, err = r.b.Bundle(t.Context())
	if _, alg := keysOf(t, raw, err); alg["jwt-svid ES256"] != 2 || alg["jwt-svid RS256"] != 2 || alg["x509-svid "] == 0 {
		t.Errorf("bundle %v", alg)
	}
	if s, _ := bundleOf(t, r.b); s <= sequence {
		t.Errorf("the sequence went from %d to %d", sequence, s)
	}
	if signedBy() != first {
		t.Error("a key signs that readers had no time to fetch")
	}
	r.wait(issuer.PublishAhead - 2*time.Minute - time.Millisecond)
	rotate()
	r.wait(time.Millisecond)
	rotate()
	if signedBy() != keys[2].ID {
		t.Error("the next key is not in use")
	}
	rotate()
	if n := len(r.tokenKeys()); n != 4 {
		t.Errorf("%d token keys: a third pair was made at once", n)
	}
}

// TestTokenKeysThatAreNotRecordedNeverSign: half a pair is none.
func TestTokenKeysThatAreNotRecordedNeverSign(t *testing.T) {
	r := newRig(t, zoneWork)
	away := reason.New(reason.StoreUnavailable, "away")
	for n := range 2 {
		appends := 0
		r.store.onAppend = func(ledger.Commit) error {
			if appends++; appends > n {
				return away
			}
			return nil
		}
		if err := r.b.StartTokens(t.Context(), oidcIssuer); reason.Of(err) != reason.StoreUnavailable {
			t.Errorf("%d of two recorded: %v", n, err)
		}
		if err := r.iss.ReadyJWT(r.now()); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%d of two recorded, and they sign", n)
		}
	}
	r.store.onAppend = nil
	r.store.failing("Keys", away)
	if err := r.b.StartTokens(t.Context(), oidcIssuer); reason.Of(err) != reason.StoreUnavailable || r.iss.ReadyJWT(r.now()) == nil {
		t.Errorf("a bundle that could not be made: %v", err)
	}
	r.store.failing("Keys", nil)
	r.must(r.b.RotateTokens(t.Context()))
	r.must(r.iss.ReadyJWT(r.now()))
}

// TestOIDCDocuments name the issuer byte by byte; a URL that no reader could
// compare is refused.
func TestOIDCDocuments(t *testing.T) {
	r := newRig(t)
	for _, bad := range []string{"", "http://broker.example.org", "https://broker.example.org/", "broker.example.org", "https://a@b"} {
		if err := r.b.StartTokens(t.Context(), bad); err == nil || len(r.tokenKeys()) != 0 {
			t.Errorf("issuer %q is taken", bad)
		}
	}
	r.must(r.b.StartTokens(t.Context(), oidcIssuer))
	raw, err := r.b.OIDCDiscovery(t.Context())
	r.must(err)
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	r.must(json.Unmarshal(raw, &doc))
	if doc.Issuer != oidcIssuer || doc.JWKS != oidcIssuer+issuer.JWKSPath {
		t.Errorf("discovery %s", raw)
	}
	// The keys of every replica stand in the documents of each.
	other, _ := r.newReplica("b")
	r.must(other.Start(t.Context()))
	r.must(other.StartTokens(t.Context(), oidcIssuer))
	for _, b := range []*broker.Broker{r.b, other} {
		r.must(b.RefreshBundle(t.Context()))
		raw, err := b.JWKS(t.Context())
		if n, _ := keysOf(t, raw, err); n != 4 {
			t.Errorf("%d keys of two replicas", n)
		}
	}
	r.wait(24 * time.Hour)
	r.must(r.b.RefreshBundle(t.Context()))
	raw, err = r.b.JWKS(t.Context())
	if n, _ := keysOf(t, raw, err); n != 0 {
		t.Errorf("%d keys past their end", n)
	}
	if _, err := func() ([]byte, error) { b, _ := r.newReplica("c"); return b.JWKS(t.Context()) }(); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("a key set before the first reading: %v", err)
	}
}
