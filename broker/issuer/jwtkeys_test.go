package issuer_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestTokenKeyRows(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	keys, rows, err := i.NewJWTKeys(c.now())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, row := range rows {
		kinds = append(kinds, row.Kind)
		pub, err := x509.ParsePKIXPublicKey(row.DER)
		if err != nil {
			t.Fatal(err)
		}
		want := ledger.Key{
			ID: hexSHA256(spki(t, pub)), Kind: row.Kind, Replica: "one", DER: row.DER,
			NotBefore: start.Add(-time.Minute), NotAfter: start.Add(24*time.Hour - time.Minute),
		}
		if diff := cmp.Diff(want, row); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]string{issuer.KindJWTES256, issuer.KindJWTRS256}, kinds); diff != "" {
		t.Error(diff)
	}
	text := "jwt keys " + rows[0].ID + " " + rows[1].ID
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(form, keys); got != text {
			t.Errorf("%s shows %s", form, got)
		}
	}
	if keys.LogValue().String() != text {
		t.Error("the log shows more than the ids")
	}
}

func TestTokenKeysReady(t *testing.T) {
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now, CALifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	unavailable := func(name string) {
		t.Helper()
		if err := i.ReadyJWT(c.now()); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := i.PrepareJWT(jwtRequest(c.now())); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	unavailable("no keys")
	if !i.RotateJWTAt().IsZero() || !i.UseJWTFrom(nil).Equal(c.at) {
		t.Error("the first keys must not wait")
	}
	activateJWT(t, i, c)
	if err := i.ReadyJWT(c.now()); err != nil {
		t.Error(err)
	}
	if err := i.Ready(c.now()); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("token keys stand for a CA: %v", err)
	}
	c.at = start.Add(time.Hour - time.Second)
	unavailable("T53_keys ended")
	c.at = start.Add(-time.Minute - time.Second)
	unavailable("T53_clock before the keys")
}

func TestActivateJWTRefuses(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, time.Hour)
	other, _, _ := newTokenIssuer(t, start, time.Hour)
	foreign, _, err := other.NewJWTKeys(start)
	if err != nil {
		t.Fatal(err)
	}
	old, _, err := i.NewJWTKeys(start.Add(-2 * time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	before := i.RotateJWTAt()
	for name, k := range map[string]*issuer.JWTKeys{"none": nil, "foreign": foreign, "ended": old} {
		if err := i.ActivateJWT(k); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !i.RotateJWTAt().Equal(before) || i.ReadyJWT(c.now()) != nil {
		t.Error("a refused key took the place of the one in use")
	}
}

func TestTokenKeyRotation(t *testing.T) {
	i, c, old := newTokenIssuer(t, start, 0)
	if due := i.RotateJWTAt(); due.Sub(start) < 11*time.Hour || due.Sub(start) > 12*time.Hour {
		t.Errorf("rotation due %s after the start, want half life", due.Sub(start))
	}
	c.at = i.RotateJWTAt()
	before, err := i.PrepareJWT(jwtRequest(c.at))
	if err != nil {
		t.Fatal(err)
	}
	keys, rows, err := i.NewJWTKeys(c.at)
	if err != nil {
		t.Fatal(err)
	}
	if from := i.UseJWTFrom(keys); !from.Equal(c.at.Add(issuer.PublishAhead)) {
		t.Errorf("use from %s, made %s", from, c.at)
	}
	if _, record := issueJWT(t, i, jwtRequest(c.at)); record.CAKeyID != old[0].ID {
		t.Error("a key signs before it is activated")
	}
	if err := i.ActivateJWT(keys); err != nil {
		t.Fatal(err)
	}
	if _, record := issueJWT(t, i, jwtRequest(c.at)); record.CAKeyID != rows[0].ID {
		t.Error("the new key does not sign")
	}
	if _, err := i.SignJWT(before); err != nil || before.Record().CAKeyID != old[0].ID {
		t.Errorf("what was prepared before is lost: %v", err)
	}
	if got := len(bundle(t, append(rows, old...)...).JWTAuthorities()); got != 4 {
		t.Errorf("%d authorities during rotation", got)
	}
	short, sc, _ := newTokenIssuer(t, start, 4*time.Minute)
	late, _, err := short.NewJWTKeys(sc.now())
	if err != nil {
		t.Fatal(err)
	}
	if from := short.UseJWTFrom(late); !from.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("keys of minutes: use from %s", from.Sub(start))
	}
	sc.at = start.Add(5 * time.Minute)
	if from := short.UseJWTFrom(late); !from.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("made in time, late in use: %s", from.Sub(start))
	}
}

// One document for SPIFFE readers with both kinds of keys, one for OIDC readers.
func TestBundleAndKeySet(t *testing.T) {
	i, c, tokenRows := newTokenIssuer(t, start, 0)
	rows := append([]ledger.Key{activate(t, i, c)}, tokenRows...)
	doc, err := issuer.Bundle(trustDomain, append(rows, rows...), 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := spiffebundle.Parse(td, doc)
	if err != nil {
		t.Fatal(err)
	}
	if x, j := len(b.X509Authorities()), slices.Sorted(maps.Keys(b.JWTAuthorities())); x != 1 || !slices.Equal(j, sortedIDs(tokenRows)) {
		t.Errorf("%d authorities, token keys %v", x, j)
	}
	slices.Reverse(rows)
	if turned, err := issuer.Bundle(trustDomain, rows, 7, 0); err != nil || string(turned) != string(doc) {
		t.Errorf("replicas with equal keys differ: %v", err)
	}
	set, err := issuer.JWKS(append(rows, rows...))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		doc []byte
		use string
	}{"bundle": {doc, "jwt-svid"}, "key set": {set, "sig"}} {
		members := entries(t, want.doc)
		if name == "key set" && len(members) != 2 {
			t.Errorf("the key set has %d keys", len(members))
		}
		for _, row := range tokenRows {
			kty, alg, public := "EC", "ES256", []string{"crv", "x", "y"}
			if row.Kind == issuer.KindJWTRS256 {
				kty, alg, public = "RSA", "RS256", []string{"n", "e"}
			}
			at := slices.IndexFunc(members, func(k map[string]any) bool { return k["kid"] == row.ID })
			if at < 0 {
				t.Fatalf("%s lacks %s", name, row.Kind)
			}
			got := members[at]
			for _, p := range public {
				delete(got, p)
			}
			if diff := cmp.Diff(map[string]any{"kid": row.ID, "kty": kty, "alg": alg, "use": want.use}, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	if empty, err := issuer.JWKS(nil); err != nil || string(empty) != `{"keys":[]}` {
		t.Errorf("%s, %v", empty, err)
	}
}

func sortedIDs(rows []ledger.Key) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return slices.Sorted(slices.Values(out))
}

func entries(t *testing.T, doc []byte) []map[string]any {
	t.Helper()
	var out struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(doc, &out); err != nil {
		t.Fatal(err)
	}
	return out.Keys
}

func TestForgedTokenKeysAreRefused(t *testing.T) {
	i, c, rows := newTokenIssuer(t, start, 0)
	ca := activate(t, i, c)
	edit := func(k ledger.Key, f func(*ledger.Key)) ledger.Key {
		k.DER = slices.Clone(k.DER)
		f(&k)
		return k
	}
	published := func(kind string, der []byte) ledger.Key {
		return edit(rows[0], func(k *ledger.Key) { k.Kind, k.DER, k.ID = kind, der, hexSHA256(der) })
	}
	ec, large := rows[0], rows[1]
	forged := map[string]ledger.Key{
		"EC key as RSA":        edit(ec, func(k *ledger.Key) { k.Kind = issuer.KindJWTRS256 }),
		"RSA key as EC":        edit(large, func(k *ledger.Key) { k.Kind = issuer.KindJWTES256 }),
		"CA as token key":      edit(ca, func(k *ledger.Key) { k.Kind = issuer.KindJWTES256 }),
		"unknown kind":         edit(ec, func(k *ledger.Key) { k.Kind = "jwt-eddsa" }),
		"id of another key":    edit(ec, func(k *ledger.Key) { k.ID = large.ID }),
		"cut":                  edit(ec, func(k *ledger.Key) { k.DER = k.DER[:len(k.DER)-1] }),
		"empty":                {Kind: issuer.KindJWTES256},
		"longer than a day":    edit(ec, func(k *ledger.Key) { k.NotAfter = k.NotAfter.Add(time.Second) }),
		"other curve":          published(issuer.KindJWTES256, spki(t, p384(t).Public())),
		"RSA of 3072 bits":     published(issuer.KindJWTRS256, spki(t, rsaPublic(3072, 65537))),
		"RSA of small power":   published(issuer.KindJWTRS256, spki(t, rsaPublic(2048, 3))),
		"RSA in another DER":   published(issuer.KindJWTRS256, otherEncoding(t, large.DER)),
		"Ed25519, not of ours": published(issuer.KindJWTES256, ed25519SPKI(t)),
	}
	for name, k := range forged {
		if _, err := issuer.Bundle(trustDomain, []ledger.Key{ca, ec, large, k}, 1, 0); reason.Of(err) != reason.StoreRowForged {
			t.Errorf("bundle, %s: %v", name, err)
		}
		if _, err := issuer.JWKS([]ledger.Key{ca, ec, large, k}); reason.Of(err) != reason.StoreRowForged {
			t.Errorf("key set, %s: %v", name, err)
		}
	}
	if _, err := issuer.Bundle(trustDomain, []ledger.Key{edit(ec, func(k *ledger.Key) { k.Kind = issuer.KindCA })}, 1, 0); reason.Of(err) != reason.StoreRowForged {
		t.Errorf("token key as CA: %v", err)
	}
}

func TestDiscovery(t *testing.T) {
	doc, err := issuer.Discovery("https://zb.example:8443")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer": "https://zb.example:8443", "jwks_uri": "https://zb.example:8443/oidc/jwks.json",
		"response_types_supported": []any{"id_token"}, "subject_types_supported": []any{"public"},
		"id_token_signing_alg_values_supported": []any{"ES256", "RS256"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreMapEntries(func(k string, _ any) bool { return k == "claims_supported" })); diff != "" {
		t.Error(diff)
	}
	for _, url := range []string{"", "http://zb.example", "https://zb.example/", "https://zb.example?x", strings.Repeat("https://zb.example", 20)} {
		if _, err := issuer.Discovery(url); err == nil {
			t.Errorf("%q is accepted", url)
		}
	}
}
