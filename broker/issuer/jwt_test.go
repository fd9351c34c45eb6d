package issuer_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	audience = "payments-api"
	jti      = "0197b3c2-0000-7000-8000-000000000002"
	zoneNode = "spiffe://" + trustDomain + "/zone/payments/node/"
)

// newTokenIssuer returns an issuer with active token keys and no CA.
func newTokenIssuer(t testing.TB, at time.Time, lifetime time.Duration) (*issuer.Issuer, *clock, []ledger.Key) {
	t.Helper()
	c := &clock{at}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now, CALifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	return i, c, activateJWT(t, i, c)
}

func activateJWT(t testing.TB, i *issuer.Issuer, c *clock) []ledger.Key {
	t.Helper()
	keys, rows, err := i.NewJWTKeys(c.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.ActivateJWT(keys); err != nil {
		t.Fatal(err)
	}
	return rows
}

func claimsSet(attestedAt, freshUntil time.Time) claim.Claims {
	hash := "sha256:" + strings.Repeat("0c", 32)
	return claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://zonebroker.example", Build: "zonebroker test"},
		Status:     claim.StatusAffirming,
		Submods:    map[string]claim.Submod{claim.SubmodTPM: claim.Measured{PolicyID: claim.PolicyID("payments", 1, hash)}.Submod()},
		Zone: claim.Zone{
			Name: "payments", Tier: 2, Epoch: 1, Node: node, AttestationID: "0197b3c2-0000-7000-8000-000000000001",
			AttestedAt: attestedAt.Unix(), FreshUntil: freshUntil.Unix(), Evidence: hash,
			Policy: claim.Policy{Version: 1, Hash: hash, Mode: claim.ModeEnforce}, Key: claim.KeyTPM,
		},
	}
}

// jwtRequest is what a pipeline asks for: five minutes, with evidence that is
// fresh for four more.
func jwtRequest(now time.Time) issuer.JWTRequest {
	return issuer.JWTRequest{
		SPIFFEID: zoneNode + node, Audience: audience, ID: jti,
		NotAfter: now.Add(5 * time.Minute), Claims: claimsSet(now.Add(-time.Minute), now.Add(4*time.Minute)),
	}
}

func issueJWT(t testing.TB, i *issuer.Issuer, req issuer.JWTRequest) (string, ledger.IssuedSVID) {
	t.Helper()
	p, err := i.PrepareJWT(req)
	if err != nil {
		t.Fatal(err)
	}
	token, err := i.SignJWT(p)
	if err != nil {
		t.Fatal(err)
	}
	return token, p.Record()
}

// go-spiffe looks at its own clock, so that this one test runs at the real time.
func TestGoSPIFFEAndClaimAcceptTokens(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	i, _, rows := newTokenIssuer(t, now, 0)
	trusted := bundle(t, rows...)
	for _, r := range []struct{ name, audience, kid, kind string }{
		{"ES256", audience, rows[0].ID, issuer.KindJWTES256},
		{"RS256 where nothing else is taken", issuer.AudienceEntra, rows[1].ID, issuer.KindJWTRS256},
	} {
		t.Run(r.name, func(t *testing.T) {
			req := jwtRequest(now)
			presented := sha256.Sum256([]byte("certificate"))
			req.Audience, req.Issuer, req.Presented = r.audience, "https://zb.example:8443", presented[:]
			token, record := issueJWT(t, i, req)
			svid, err := jwtsvid.ParseAndValidate(token, trusted, []string{r.audience})
			if err != nil {
				t.Fatal(err)
			}
			if svid.ID.String() != req.SPIFFEID || !svid.Expiry.Equal(now.Add(4*time.Minute)) || svid.Claims["trust_zone"] == nil {
				t.Errorf("go-spiffe reads %s until %s", svid.ID, svid.Expiry)
			}
			v, err := claim.VerifyJWT(token, trusted, r.audience, now)
			if err != nil {
				t.Fatal(err)
			}
			if v.Zone() != "payments" || v.JTI() != jti || v.Bearer() || v.Issuer() != req.Issuer {
				t.Errorf("claim reads %+v", v)
			}
			input := sha256.Sum256([]byte(token[:strings.LastIndex(token, ".")]))
			want := ledger.IssuedSVID{
				Profile: ledger.ProfileJWT, Serial: jti, SPIFFEID: req.SPIFFEID, Audience: r.audience,
				NotBefore: now.Add(-claim.JWTBackdate).Unix(), NotAfter: now.Add(4 * time.Minute).Unix(),
				TBSSHA256: hex.EncodeToString(input[:]), CAKeyID: r.kid, Key: claim.KeyTPM,
			}
			if diff := cmp.Diff(want, record); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func p384(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaPublic(size uint, e int) *rsa.PublicKey { return &rsa.PublicKey{N: bits(size), E: e} }

func ed25519SPKI(t testing.TB) []byte {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return spki(t, pub)
}

// Invariant 2 for tokens: the earliest of the wanted end, fresh_until, the limit
// of tokens and the end of the key.
func TestT53_noTokenOutlivesItsEvidence(t *testing.T) {
	for name, r := range map[string]struct{ keys, fresh, wanted, want time.Duration }{
		"T53_ttl is the shortest":      {time.Hour, 10 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		"T53_evidence is the shortest": {time.Hour, 4 * time.Minute, 5 * time.Minute, 4 * time.Minute},
		"T53_expiry clipped by key":    {3 * time.Minute, 4 * time.Minute, 5 * time.Minute, 3 * time.Minute},
		"T53_limit of tokens":          {time.Hour, 50 * time.Minute, 50 * time.Minute, 15 * time.Minute},
		"T53_fraction is rounded down": {time.Hour, 10 * time.Minute, 5*time.Minute - time.Millisecond, 5*time.Minute - time.Second},
	} {
		i, c, rows := newTokenIssuer(t, start, r.keys)
		c.at = start.Add(time.Millisecond)
		req := jwtRequest(start)
		req.NotAfter, req.Claims.Zone.FreshUntil = start.Add(r.wanted), start.Add(r.fresh).Unix()
		p, err := i.PrepareJWT(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		token, err := i.SignJWT(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v, err := claim.VerifyJWT(token, bundle(t, rows...), audience, start)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := start.Add(r.want)
		if !v.Expires().Equal(want) || !p.NotAfter().Equal(want) || p.Record().NotAfter != want.Unix() || v.Claims().Expires != want.Unix() {
			t.Errorf("%s: ends %s, %s, %d, want %s", name, v.Expires(), p.NotAfter(), p.Record().NotAfter, want)
		}
	}
}

// The same evidence never gives a later end, whatever the clock does.
func TestT53_clockSteps(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, time.Hour)
	c.at = start.Add(10 * time.Minute)
	evidence := claimsSet(c.at.Add(-time.Minute), c.at.Add(4*time.Minute))
	fresh := c.at.Add(4 * time.Minute)
	for _, r := range []struct {
		name string
		step time.Duration
		code reason.Code
	}{
		{"T53_no step", 0, ""},
		{"T53_step back within the leeway", -time.Minute - 30*time.Second, ""},
		{"T53_step back before the evidence", -time.Minute - 31*time.Second, reason.IssuerUnavailable},
		{"T53_step back before the keys", -12 * time.Minute, reason.IssuerUnavailable},
		{"T53_step forward, a moment left", 4*time.Minute - time.Millisecond, ""},
		{"T53_step forward to the end", 4 * time.Minute, reason.PolicyEvidenceAge},
		{"T53_step forward over the end", 20 * time.Minute, reason.PolicyEvidenceAge},
		{"T53_step forward over the keys", 2 * time.Hour, reason.IssuerUnavailable},
	} {
		c.at = start.Add(10*time.Minute + r.step)
		req := jwtRequest(c.at)
		req.NotAfter, req.Claims = c.at.Add(24*time.Hour), evidence
		p, err := i.PrepareJWT(req)
		if reason.Of(err) != r.code {
			t.Errorf("%s: %v, want %s", r.name, err, r.code)
		}
		if err == nil && p.NotAfter().After(fresh) {
			t.Errorf("%s: ends %s after the evidence", r.name, p.NotAfter())
		}
	}
	c.at = start.Add(10 * time.Minute)
	req := jwtRequest(c.at)
	req.NotAfter = c.at
	if _, err := i.PrepareJWT(req); reason.Of(err) != reason.PolicyEvidenceAge {
		t.Errorf("ended already: %v", err)
	}
}

func TestPrepareJWTRefuses(t *testing.T) {
	i, c, _ := newTokenIssuer(t, start, 0)
	for name, r := range map[string]struct {
		edit func(*issuer.JWTRequest)
		code reason.Code
	}{
		"T49_other trust domain": {func(r *issuer.JWTRequest) { r.SPIFFEID = "spiffe://other.example/zone/payments/node/" + node }, reason.PolicyIdentityInvalid},
		"T49_trial":              {func(r *issuer.JWTRequest) { r.SPIFFEID = "spiffe://zb.example/trial/payments/node/" + node }, reason.PolicyIdentityInvalid},
		"T49_broker":             {func(r *issuer.JWTRequest) { r.SPIFFEID = "spiffe://zb.example/broker" }, reason.PolicyIdentityInvalid},
		"T49_another node":       {func(r *issuer.JWTRequest) { r.SPIFFEID += "b" }, reason.PolicyIdentityInvalid},
		"T49_another zone":       {func(r *issuer.JWTRequest) { r.Claims.Zone.Name = "billing" }, reason.PolicyIdentityInvalid},
		"T49_not an id":          {func(r *issuer.JWTRequest) { r.SPIFFEID = zoneNode + "../x" }, reason.PolicyIdentityInvalid},
		"no audience":            {func(r *issuer.JWTRequest) { r.Audience = "" }, reason.PolicyAudience},
		"two audiences":          {func(r *issuer.JWTRequest) { r.Audience = "a b" }, reason.PolicyAudience},
		"no record":              {func(r *issuer.JWTRequest) { r.ID = "" }, reason.Internal},
		"issuer without scheme":  {func(r *issuer.JWTRequest) { r.Issuer = "zb.example" }, reason.Internal},
		"short confirmation":     {func(r *issuer.JWTRequest) { r.Presented = []byte("certificate") }, reason.Internal},
		"no key place":           {func(r *issuer.JWTRequest) { r.Claims.Zone.Key = "" }, reason.Internal},
	} {
		req := jwtRequest(c.now())
		r.edit(&req)
		if p, err := i.PrepareJWT(req); reason.Of(err) != r.code || p != nil {
			t.Errorf("%s: %v, want %s", name, err, r.code)
		}
	}
	req := jwtRequest(c.now())
	req.SPIFFEID, req.Claims.Zone.Key = "spiffe://zb.example/zone/payments/workload/checkout", claim.KeySoftware
	if _, record := issueJWT(t, i, req); record.SPIFFEID != req.SPIFFEID || record.Key != "software" {
		t.Errorf("workload: %+v", record)
	}
}
