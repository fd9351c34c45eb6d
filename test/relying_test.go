package test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var testTD = spiffeid.RequireTrustDomainFromString(trustDomain)

const azureAudience = "api://AzureADTokenExchange" // takes RS256 only

func relyingZone(uid int) string {
	return `apiVersion: zonebroker/v1
kind: Zone
name: payments
tier: 1
selectors: {any: [{group: rack-7}]}
admit: [inventory]
requires: {class: A, format: [tpm2]}
evidence: {max_age: 5m}
issue: {x509_ttl: 1h, jwt_ttl: 3s, audiences: [payments-api, "` + azureAudience + `"]}
workloads: [{name: checkout, uid: ` + strconv.Itoa(uid) + `}]
`
}

// TestRelyingParties: a token from the Workload API means the same to everybody
// who reads it, whichever way the keys came, and nobody takes one that was
// changed.
func TestRelyingParties(t *testing.T) {
	c := newCluster(t, relyingZone(os.Geteuid()))
	p, other := c.start(t), c.start(t)
	for _, r := range []*replica{p, other} {
		eventually(t, 20*time.Second, "the keys of both replicas are published", func() bool {
			bundle, _ := r.servedKeys(t)
			return len(bundle.JWTAuthorities()) == 4
		})
	}
	w := newWorkloadHost(t, p, p.url, "rack-7")
	source, err := workloadapi.NewJWTSource(t.Context(), workloadapi.WithClientOptions(w.addr()))
	must(t, err)
	t.Cleanup(func() { _ = source.Close() })
	keys := map[string]jwtbundle.Source{"workload_api": source}
	for name, r := range map[string]*replica{"": p, "_of_another_replica": other} {
		keys["bundle_endpoint"+name], keys["oidc_keys"+name] = r.servedKeys(t)
	}
	fetch := func(t *testing.T, audience string) string {
		t.Helper()
		svid, err := source.FetchJWTSVID(t.Context(), jwtsvid.Params{Audience: audience})
		must(t, err)
		return svid.Marshal()
	}
	for audience, alg := range map[string]string{"payments-api": claim.AlgES256, azureAudience: claim.AlgRS256} {
		for name, bundle := range keys {
			t.Run(alg+"_by_"+name, func(t *testing.T) { relied(t, w, fetch(t, audience), bundle, audience, alg) })
		}
	}
	t.Run("T52_forged", func(t *testing.T) {
		f := forger{w: w, keys: keys["bundle_endpoint"].(*jwtbundle.Bundle), own: freshKey(t), fetch: func() string { return fetch(t, "payments-api") }}
		f.run(t)
	})
	t.Run("T53_ended", func(t *testing.T) { tokenEnded(t, w, source, fetch(t, "payments-api")) })
}

// servedKeys reads both documents as strangers do who have the trust anchor.
func (p *replica) servedKeys(t *testing.T) (spiffe, oidc *jwtbundle.Bundle) {
	t.Helper()
	anchor, err := os.ReadFile(filepath.Join(p.cluster.dir, "anchor.pem"))
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(anchor)
	bundle, err := federation.FetchBundle(t.Context(), testTD, p.url+"/spiffe/bundle.json", federation.WithWebPKIRoots(roots))
	must(t, err)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer c.CloseIdleConnections()
	res, err := c.Get(p.url + "/oidc/jwks.json")
	must(t, err)
	defer res.Body.Close()
	oidc, err = jwtbundle.Read(testTD, res.Body)
	must(t, err)
	return bundle.JWTBundle(), oidc
}

func relied(t *testing.T, w *workloadHost, token string, bundle jwtbundle.Source, audience, alg string) {
	u, err := claim.ParseJWTInsecure(token)
	must(t, err)
	v, err := claim.VerifyJWT(token, bundle, audience, time.Now())
	must(t, err)
	s, err := jwtsvid.ParseAndValidate(token, bundle, []string{audience})
	must(t, err)
	status, _ := w.status()
	if v.ID() != s.ID || v.ID().String() != "spiffe://test.example/zone/payments/workload/checkout" ||
		v.Node() != status.Node || v.Zone() != "payments" || v.Bearer() || u.Header.Algorithm != alg || !v.Expires().Equal(s.Expiry) {
		t.Errorf("%+v, %+v", v, s)
	}
	_, err = claim.VerifyJWT(token, bundle, "billing", time.Now())
	wantCode(t, err, reason.JWTAudience)
	if _, err := jwtsvid.ParseAndValidate(token, bundle, []string{"billing"}); err == nil {
		t.Error("go-spiffe takes it for another audience")
	}
}

// tokenEnded: at its end a token is worth nothing, to a minute of tolerance.
func tokenEnded(t *testing.T, w *workloadHost, bundle jwtbundle.Source, token string) {
	v, err := claim.VerifyJWT(token, bundle, "payments-api", time.Now())
	must(t, err)
	if life := time.Until(v.Expires()); life > 3*time.Second || v.Expires().After(v.FreshUntil()) {
		t.Errorf("ends in %s, fresh until %s", life, v.FreshUntil())
	}
	if _, err := w.api.ValidateJWTSVID(t.Context(), token, "payments-api"); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Until(v.Expires().Add(10 * time.Millisecond)))
	_, err = claim.VerifyJWT(token, bundle, "payments-api", time.Now())
	wantCode(t, err, reason.JWTExpired)
	if _, err := w.api.ValidateJWTSVID(t.Context(), token, "payments-api"); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("the agent takes a token after its end: %v", err)
	}
}

// forger changes a genuine token as T52 tells, and shows it to three readers.
type forger struct {
	w     *workloadHost
	keys  *jwtbundle.Bundle
	own   *ecdsa.PrivateKey // of somebody who is no broker
	fetch func() string
}

type members = map[string]any

func (f forger) run(t *testing.T) {
	genuine := f.fetch()
	u, err := claim.ParseJWTInsecure(genuine)
	must(t, err)
	kid := u.Header.KeyID
	own, err := x509.MarshalPKIXPublicKey(f.keys.JWTAuthorities()[kid])
	must(t, err)
	kids := slices.DeleteFunc(slices.Sorted(maps.Keys(f.keys.JWTAuthorities())), func(k string) bool { return k == kid })
	var rsaKid, ecKid string
	for _, k := range kids {
		if _, ok := f.keys.JWTAuthorities()[k].(*rsa.PublicKey); ok {
			rsaKid = k
		} else {
			ecKid = k
		}
	}
	if len(kids) != 3 || rsaKid == "" || ecKid == "" {
		t.Fatalf("keys of two replicas: %v", kids)
	}
	header := func(edit members) string { return rebuilt(t, genuine, edit, nil, nil) }
	payload := func(edit members) string { return rebuilt(t, genuine, nil, edit, nil) }
	signed := func(edit members) string { return rebuilt(t, genuine, edit, nil, f.sign) }
	jwk := members{"kty": "EC", "crv": "P-256", "x": coordinate(t, f.own, 1), "y": coordinate(t, f.own, 33)}
	for _, tt := range []struct {
		name, token string
		want        reason.Code
	}{
		{"alg_none", header(members{"alg": "none"}), reason.JWTAlg},
		{"alg_none_without_a_signature", cutSignature(header(members{"alg": "none", "kid": nil})), reason.JWTMalformed},
		{"no_signature", cutSignature(genuine), reason.JWTMalformed},
		{"alg_HS256_with_the_public_key", rebuilt(t, genuine, members{"alg": "HS256"}, nil, func(in []byte) []byte { return hs256(own, in) }), reason.JWTAlg},
		{"alg_RS256", header(members{"alg": "RS256"}), reason.JWTAlg},
		{"kid_of_the_RSA_key", header(members{"kid": rsaKid}), reason.JWTAlg},
		{"kid_and_alg_of_the_RSA_key", header(members{"kid": rsaKid, "alg": "RS256"}), reason.JWTSignature},
		{"kid_of_another_replica", header(members{"kid": ecKid}), reason.JWTSignature},
		{"kid_unknown", signed(members{"kid": "mine"}), reason.JWTKID},
		{"kid_missing", header(members{"kid": nil}), reason.JWTKID},
		{"own_key_under_its_kid", signed(nil), reason.JWTSignature},
		{"own_key_brought_along", signed(members{"jwk": jwk}), reason.JWTMalformed},
		{"own_key_by_url", signed(members{"jku": "https://evil.example/keys"}), reason.JWTMalformed},
		{"crit", header(members{"crit": []string{"exp"}}), reason.JWTCrit},
		{"typ", header(members{"typ": "at+jwt"}), reason.JWTMalformed},
		{"header_member_added", header(members{"x": 1}), reason.JWTMalformed},
		{"sub_of_another_workload", payload(members{"sub": "spiffe://test.example/zone/payments/workload/ledger"}), reason.JWTSignature},
		{"sub_of_the_node", payload(members{"sub": "spiffe://test.example/zone/payments/node/" + u.Claims.Zone.Node}), reason.JWTSignature},
		{"sub_of_another_trust_domain", payload(members{"sub": "spiffe://other.example/zone/payments/workload/checkout"}), reason.AuthInvalid},
		{"aud", payload(members{"aud": []string{"payments-api", "billing"}}), reason.JWTAudience},
		{"aud_other", payload(members{"aud": []string{"billing"}}), reason.JWTSignature},
		{"exp", payload(members{"exp": u.Token.Expires + 60}), reason.JWTSignature},
		{"cnf_taken_out", payload(members{"cnf": nil}), reason.JWTSignature},
		{"payload_member_added", payload(members{"groups": []string{"admin"}}), reason.JWTSignature},
	} {
		t.Run(tt.name, func(t *testing.T) { f.refused(t, tt.token, tt.want) })
	}
	t.Run("keys_of_another_trust_domain", func(t *testing.T) { f.otherTrustDomain(t, genuine, kid) })
	// None was refused for its age.
	if _, err := jwtsvid.ParseAndValidate(genuine, f.keys, []string{"payments-api"}); err != nil {
		t.Error(err)
	}
}

// refused shows a forged token to every reader.
func (f forger) refused(t *testing.T, token string, want reason.Code) {
	t.Helper()
	_, err := claim.VerifyJWT(token, f.keys, "payments-api", time.Now())
	wantCode(t, err, want)
	if s, err := jwtsvid.ParseAndValidate(token, f.keys, []string{"payments-api"}); err == nil {
		t.Errorf("go-spiffe takes it as %s", s.ID)
	}
	if s, err := f.w.api.ValidateJWTSVID(t.Context(), token, "payments-api"); err == nil {
		t.Errorf("the agent takes it as %s", s.ID)
	}
}

// otherTrustDomain: keys count for the trust domain in whose bundle they are,
// also where a federated one holds the attacker's key under our kid.
func (f forger) otherTrustDomain(t *testing.T, genuine, kid string) {
	theirs := spiffeid.RequireTrustDomainFromString("other.example")
	evil := map[string]crypto.PublicKey{"mine": f.own.Public(), kid: f.own.Public()}
	set := jwtbundle.NewSet(f.keys, jwtbundle.FromJWTAuthorities(theirs, evil))
	for _, tt := range []struct {
		name, token string
		keys        jwtbundle.Source
		want        reason.Code
	}{
		{"only_theirs", genuine, jwtbundle.NewSet(jwtbundle.FromJWTAuthorities(theirs, evil)), reason.AuthInvalid},
		{"ours_under_their_name", genuine, jwtbundle.FromJWTAuthorities(theirs, f.keys.JWTAuthorities()), reason.AuthInvalid},
		{"another_broker_of_our_name", genuine, jwtbundle.FromJWTAuthorities(testTD, map[string]crypto.PublicKey{"mine": f.own.Public()}), reason.JWTKID},
		{"their_key_for_our_subject", rebuilt(t, genuine, members{"kid": "mine"}, nil, f.sign), set, reason.JWTKID},
		{"their_key_under_our_kid", rebuilt(t, genuine, nil, nil, f.sign), set, reason.JWTSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := claim.VerifyJWT(tt.token, tt.keys, "payments-api", time.Now())
			wantCode(t, err, tt.want)
			if s, err := jwtsvid.ParseAndValidate(tt.token, tt.keys, []string{"payments-api"}); err == nil {
				t.Errorf("go-spiffe takes it as %s", s.ID)
			}
		})
	}
}

// rebuilt is a token with members set, or taken out by nil; without sign it
// keeps its signature.
func rebuilt(t *testing.T, token string, header, payload members, sign func([]byte) []byte) string {
	t.Helper()
	parts := strings.Split(token, ".")
	for i, edit := range []members{header, payload} {
		if edit == nil {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		must(t, err)
		m := map[string]json.RawMessage{}
		must(t, json.Unmarshal(raw, &m))
		for name, v := range edit {
			if delete(m, name); v != nil {
				m[name], err = json.Marshal(v)
				must(t, err)
			}
		}
		raw, err = json.Marshal(m)
		must(t, err)
		parts[i] = base64.RawURLEncoding.EncodeToString(raw)
	}
	if sign != nil {
		parts[2] = base64.RawURLEncoding.EncodeToString(sign([]byte(parts[0] + "." + parts[1])))
	}
	return strings.Join(parts, ".")
}

func cutSignature(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }

// sign signs as ES256 (RFC 7518, section 3.4).
func (f forger) sign(input []byte) []byte {
	sum := sha256.Sum256(input)
	r, s, err := ecdsa.Sign(rand.Reader, f.own, sum[:])
	if err != nil {
		panic(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func hs256(key, input []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(input)
	return h.Sum(nil)
}

// coordinate is 32 bytes of the uncompressed point.
func coordinate(t *testing.T, key *ecdsa.PrivateKey, from int) string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(point[from : from+32])
}

// jwtBundle reads the keys of tokens as an agent does.
func jwtBundle(t *testing.T, c *client.Client) *jwtbundle.Bundle {
	t.Helper()
	doc, err := c.Bundle(t.Context())
	must(t, err)
	bundle, err := spiffebundle.Parse(testTD, doc)
	must(t, err)
	return bundle.JWTBundle()
}

// jwtEnds holds the end of a token against the attestation of its host.
func (a *asker) jwtEnds(t *testing.T, res api.JWTResponse, bundle *jwtbundle.Bundle) {
	t.Helper()
	u, err := claim.ParseJWTInsecure(res.Token)
	must(t, err)
	end := time.Unix(u.Token.Expires, 0)
	if end.After(a.res.FreshUntil) || !end.Equal(res.ExpiresAt) || u.Claims.Zone.FreshUntil != a.res.FreshUntil.Unix() || u.Claims.Zone.AttestedAt != a.res.AttestedAt.Unix() {
		t.Errorf("ends %s, answered %s, says %d; the evidence until %s", end, res.ExpiresAt, u.Claims.Zone.FreshUntil, a.res.FreshUntil)
	}
	_, err = claim.VerifyJWT(res.Token, bundle, "payments-api", end.Add(-time.Second))
	must(t, err)
	_, err = claim.VerifyJWT(res.Token, bundle, "payments-api", end)
	wantCode(t, err, reason.JWTExpired)
}
