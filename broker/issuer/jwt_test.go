package issuer_test

import (
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
