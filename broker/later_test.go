package broker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

const oidcIssuer = "https://broker.example.org"

// zoneWork is zoneLab with something to issue beyond the node's SVID.
const zoneWork = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{format: tpm2}]}
admit: [inventory, join_token, operator]
evidence: {max_age: 5m}
issue: {x509_ttl: 30m, jwt_ttl: 2m, grace: 40m, audiences: [payments-api, "api://AzureADTokenExchange"]}
workloads:
  - {name: web, uid: 1000}
  - {name: db, uid: 1001, groups: [database]}
`

// newLater is a broker with one enrolled node, and how that node calls.
func newLater(t testing.TB, groups ...string) (*rig, *host, broker.Caller) {
	t.Helper()
	r := newRig(t, zoneWork)
	h := r.admitted(groups...)
	return r, h, h.callerOf(h.enrol())
}

// newTokens is newLater with token keys.
func newTokens(t testing.TB, groups ...string) (*rig, *host, broker.Caller) {
	t.Helper()
	r, h, c := newLater(t, groups...)
	r.must(r.b.StartTokens(t.Context(), oidcIssuer))
	return r, h, c
}

// callerOf is what the transport proves of a host that shows its SVID.
func (h *host) callerOf(out api.AttestResponse) broker.Caller {
	return broker.Caller{NodeID: h.node, SPIFFEID: out.SPIFFEID, Certificate: leaf(h.r.t, out.Chain)}
}

// csrOf makes a request for a key of its own.
func csrOf(t testing.TB, template x509.CertificateRequest) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return csrWith(t, template, key)
}

func csrWith(t testing.TB, template x509.CertificateRequest, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (r *rig) svid(c broker.Caller, workload string) (api.SVIDResponse, error) {
	return r.b.SVID(r.t.Context(), c, api.SVIDRequest{Workload: workload, CSR: csrOf(r.t, x509.CertificateRequest{})})
}

func (r *rig) jwt(c broker.Caller, audience, workload string) (api.JWTResponse, error) {
	return r.b.JWT(r.t.Context(), c, api.JWTRequest{Audience: audience, Workload: workload})
}

// issued are the bodies of the records of later SVIDs, oldest first.
func (r *rig) issued() []ledger.Issuance {
	r.t.Helper()
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	var out []ledger.Issuance
	for _, rec := range r.store.records {
		if rec.Type == ledger.TypeIssuance {
			var i ledger.Issuance
			r.must(json.Unmarshal(rec.Body, &i))
			out = append(out, i)
		}
	}
	return out
}

// trusted is the bundle that the broker serves.
func (r *rig) trusted() *spiffebundle.Bundle {
	r.t.Helper()
	raw, err := r.b.Bundle(r.t.Context())
	r.must(err)
	b, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString(testDomain), raw)
	r.must(err)
	return b
}

// wantIssuance compares the one record of a later SVID with what was asked.
func (r *rig) wantIssuance(h *host, c broker.Caller, id, workload string, svid ledger.IssuedSVID) {
	r.t.Helper()
	all := r.issued()
	if len(all) != 1 {
		r.t.Fatalf("%d records", len(all))
	}
	presented, st := sha256.Sum256(c.Certificate.Raw), h.state()
	want := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: uuid.MustParse(id), Node: ledger.NodeID(h.node), Workload: workload, Zone: "lab", Tier: 1,
		Attestation: h.prev, AttestedAt: st.AttestedAt.UnixMilli(), FreshUntil: st.FreshUntil.UnixMilli(),
		Presented: hex.EncodeToString(presented[:]), Policy: r.lastAttestation(h.node).Policy, TrustDomain: testDomain,
		SVIDs: []ledger.IssuedSVID{svid}, At: r.now().UnixMilli(), Replica: "a",
	}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		r.t.Errorf("record (-want +got):\n%s", diff)
	}
	commit := r.store.commits[len(r.store.commits)-1]
	if diff := cmp.Diff(&ledger.Guard{Node: ledger.NodeID(h.node), Version: st.Version}, commit.Guard); diff != "" {
		r.t.Errorf("guard (-want +got):\n%s", diff)
	}
	if commit.State != nil || commit.Node != nil || !cmp.Equal(commit.SVIDs, all[0].SVIDs) {
		r.t.Error("the commit changes the node, or its row names another SVID")
	}
}

// TestWorkloadSVID says what the node's SVID says, of a workload and a key that
// may be software.
func TestWorkloadSVID(t *testing.T) {
	r, h, c := newLater(t)
	h.prev = claimOf(t, c.Certificate).Zone.AttestationID
	h.minute()
	out, err := r.svid(c, "web")
	r.must(err)
	cert := leaf(t, out.Chain)
	v, err := claim.Verify([]*x509.Certificate{cert}, r.trusted(), r.now())
	r.must(err)
	want := claimOf(t, c.Certificate)
	want.Zone.Key, want.IssuedAt, want.Expires = claim.KeySoftware, r.now().Unix(), cert.NotAfter.Unix()
	if diff := cmp.Diff(want, v.Claims()); diff != "" {
		t.Errorf("claim (-want +got):\n%s", diff)
	}
	if v.ID().String() != "spiffe://example.org/zone/lab/workload/web" || cert.Subject.CommonName != h.node {
		t.Errorf("issued for %s, %s", v.ID(), cert.Subject)
	}
	fresh := time.Unix(want.Zone.FreshUntil, 0).UTC()
	wantOut := api.SVIDResponse{
		RecordID: out.RecordID, SPIFFEID: v.ID().String(), Workload: "web", Chain: out.Chain, AttestedAt: fresh.Add(-5 * time.Minute),
		FreshUntil: fresh, ExpiresAt: c.Certificate.NotAfter, Log: api.LogPosition{
			Origin: ledger.Origin(testDomain, logID), Index: int64(r.records() - 1), Size: int64(r.records()), Checkpoint: r.store.latest,
		},
	}
	if diff := cmp.Diff(wantOut, out); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	tbs := sha256.Sum256(cert.RawTBSCertificate)
	r.wantIssuance(h, c, out.RecordID, "web", ledger.IssuedSVID{
		Profile: ledger.ProfileX509, Serial: cert.SerialNumber.Text(16), SPIFFEID: out.SPIFFEID, NotBefore: cert.NotBefore.Unix(),
		NotAfter: cert.NotAfter.Unix(), TBSSHA256: hex.EncodeToString(tbs[:]), CAKeyID: r.store.keys[0].ID, Key: "software",
	})
}

// claimOf is the claim in a caller's own SVID.
func claimOf(t testing.TB, cert *x509.Certificate) claim.Claims {
	t.Helper()
	c, err := claim.FromCertificateInsecure(cert)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTokens: a token of the node or of a workload, bound to the SVID that asked.
func TestTokens(t *testing.T) {
	for name, tt := range map[string]struct {
		audience, workload, id, key, signed string
	}{
		"of the node":                    {"payments-api", "", "node/", "tpm", issuer.KindJWTES256},
		"of a workload":                  {"payments-api", "web", "workload/web", "software", issuer.KindJWTES256},
		"for who takes RSA alone":        {issuer.AudienceEntra, "web", "workload/web", "software", issuer.KindJWTRS256},
		"of a workload of a group of it": {"payments-api", "db", "workload/db", "software", issuer.KindJWTES256},
	} {
		t.Run(name, func(t *testing.T) {
			r, h, c := newTokens(t, "database")
			h.prev = claimOf(t, c.Certificate).Zone.AttestationID
			h.minute()
			out, err := r.jwt(c, tt.audience, tt.workload)
			r.must(err)
			v, err := claim.VerifyJWT(out.Token, r.trusted(), tt.audience, r.now())
			r.must(err)
			if tt.workload == "" {
				tt.id += h.node
			}
			if v.ID().String() != "spiffe://example.org/zone/lab/"+tt.id || v.JTI() != out.RecordID || !v.ConfirmsCertificate(c.Certificate) {
				t.Errorf("a token of %s, %s", v.ID(), v.JTI())
			}
			want := claimOf(t, c.Certificate)
			want.Zone.Key, want.IssuedAt, want.Expires = tt.key, r.now().Unix(), r.now().Add(2*time.Minute).Unix()
			if diff := cmp.Diff(want, v.Claims()); diff != "" {
				t.Errorf("claim (-want +got):\n%s", diff)
			}
			fresh := time.Unix(want.Zone.FreshUntil, 0).UTC()
			wantOut := api.JWTResponse{
				RecordID: out.RecordID, SPIFFEID: v.ID().String(), Workload: tt.workload, Audience: tt.audience, Token: out.Token,
				AttestedAt: fresh.Add(-5 * time.Minute), FreshUntil: fresh, ExpiresAt: r.now().Add(2 * time.Minute), Log: out.Log,
			}
			if diff := cmp.Diff(wantOut, out); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			input := sha256.Sum256([]byte(out.Token[:strings.LastIndexByte(out.Token, '.')]))
			r.wantIssuance(h, c, out.RecordID, tt.workload, ledger.IssuedSVID{
				Profile: ledger.ProfileJWT, Serial: out.RecordID, SPIFFEID: out.SPIFFEID, NotBefore: r.now().Add(-claim.JWTBackdate).Unix(),
				NotAfter: out.ExpiresAt.Unix(), TBSSHA256: hex.EncodeToString(input[:]), CAKeyID: r.keyOf(tt.signed), Key: tt.key, Audience: tt.audience,
			})
			if iss := payloadOf(t, out.Token)["iss"]; iss != oidcIssuer {
				t.Errorf("issued by %v", iss)
			}
		})
	}
}

// keyOf returns the id of the published key of a kind.
func (r *rig) keyOf(kind string) string {
	for _, k := range r.store.keys {
		if k.Kind == kind {
			return k.ID
		}
	}
	return ""
}

func payloadOf(t testing.TB, token string) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
