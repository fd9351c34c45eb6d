package broker_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestLaterRefusals: whatever is wrong, nothing is recorded and nothing signed;
// a node that is known gets its refusal counted.
func TestLaterRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(r *rig, h *host, c *broker.Caller)
		want   reason.Code
		nobody bool // who asks is not proved, or it is not their fault
	}{
		{"none", func(*rig, *host, *broker.Caller) {}, "", true},
		{"no certificate", func(_ *rig, _ *host, c *broker.Caller) { c.Certificate = nil }, reason.AuthRequired, true},
		{"T56_an operator, no node", func(_ *rig, _ *host, c *broker.Caller) {
			*c = broker.Caller{Operator: "uid:0", Role: broker.RoleAdmin}
		}, reason.AuthRequired, true},
		{"no node proved", func(_ *rig, _ *host, c *broker.Caller) { c.NodeID = "" }, reason.AuthRequired, true},
		{"a certificate without a claim", func(r *rig, _ *host, c *broker.Caller) {
			ca, err := x509.ParseCertificate(r.store.keys[0].DER)
			r.must(err)
			c.Certificate = ca
		}, reason.AuthInvalid, true},
		{"T47_the name of another node", func(r *rig, _ *host, c *broker.Caller) { c.NodeID = r.enrolled().node }, reason.AuthInvalid, true},
		{"T48_the SVID of another node", func(r *rig, _ *host, c *broker.Caller) {
			other := r.admitted()
			c.Certificate = other.callerOf(other.enrol()).Certificate
		}, reason.AuthInvalid, true},
		{"T45_the SVID and the name of another node, under the own identity", func(r *rig, _ *host, c *broker.Caller) {
			other := r.admitted()
			them := other.callerOf(other.enrol())
			c.NodeID, c.Certificate = them.NodeID, them.Certificate
		}, reason.AuthInvalid, true},
		{"T48_a workload's SVID of the node", func(r *rig, _ *host, c *broker.Caller) {
			out, err := r.svid(*c, "web")
			r.must(err)
			c.SPIFFEID, c.Certificate = out.SPIFFEID, leaf(r.t, out.Chain)
		}, reason.AuthInvalid, true},
		{"T48_a claim of another node under the own name", func(r *rig, _ *host, c *broker.Caller) {
			r.remade(c, func(z *claim.Zone) { z.Node = r.enrolled().node })
		}, reason.AuthInvalid, true},
		{"T49_the name of another zone than that of the claim", func(r *rig, _ *host, c *broker.Caller) {
			r.remade(c, func(z *claim.Zone) { z.Name = "vault" })
		}, reason.AuthInvalid, true},
		{"T49_a caller's name that is not the certificate's", func(r *rig, _ *host, c *broker.Caller) {
			r.remade(c, func(z *claim.Zone) { z.Name = "vault" })
			c.SPIFFEID = strings.Replace(c.SPIFFEID, "/lab/", "/vault/", 1)
		}, reason.AuthInvalid, true},
		{"T54_no attestation stands, and the claim names none", func(r *rig, h *host, c *broker.Caller) {
			r.remade(c, func(z *claim.Zone) { z.AttestationID = uuid.Nil.String() })
			r.store.change(h.node, func(s *ledger.Snapshot) { s.State.Last = uuid.Nil })
		}, reason.AuthInvalid, false},
		{"the same certificate, made again", func(r *rig, _ *host, c *broker.Caller) { r.remade(c, func(*claim.Zone) {}) }, "", false},
		{"T53_the SVID has not begun", func(r *rig, h *host, c *broker.Caller) {
			r.wait(time.Hour)
			h.tpm.Wait(time.Hour)
			*c = h.callerOf(h.renew())
			r.wait(-time.Minute - time.Millisecond)
		}, reason.AuthInvalid, true},
		{"T53_the SVID has ended", func(r *rig, _ *host, c *broker.Caller) {
			r.wait(c.Certificate.NotAfter.Sub(r.now()))
		}, reason.AuthInvalid, true},
		{"T53_the SVID has not begun: the clock went back", func(r *rig, _ *host, c *broker.Caller) {
			r.wait(c.Certificate.NotBefore.Sub(r.now()) - time.Millisecond)
		}, reason.IssuerUnavailable, true},
		{"T53_the clock stands before the attestation", func(r *rig, _ *host, _ *broker.Caller) {
			r.wait(-10*time.Second - time.Millisecond)
		}, reason.IssuerUnavailable, true},
		{"T53_within the skew of replicas", func(r *rig, _ *host, _ *broker.Caller) { r.wait(-10 * time.Second) }, "", true},
		{"T53_a moment before fresh_until", func(r *rig, _ *host, _ *broker.Caller) { r.wait(5*time.Minute - time.Millisecond) }, "", true},
		{"T53_at fresh_until", func(r *rig, _ *host, _ *broker.Caller) { r.wait(5 * time.Minute) }, reason.PolicyEvidenceAge, false},
		{"T54_the node is gone", func(r *rig, h *host, _ *broker.Caller) { delete(r.store.nodes, ledger.NodeID(h.node)) }, reason.AuthInvalid, false},
		{"T54_disabled", func(r *rig, h *host, _ *broker.Caller) {
			r.must(second(r.b.Disable(r.t.Context(), operator, h.node, api.DisableRequest{})))
		}, reason.NodeDisabled, false},
		{"T54_disabled and approved again: the SVID counts again", func(r *rig, h *host, _ *broker.Caller) {
			r.must(second(r.b.Disable(r.t.Context(), operator, h.node, api.DisableRequest{})))
			r.must(second(r.b.Approve(r.t.Context(), operator, h.node, api.ApproveRequest{})))
		}, "", false},
		{"T54_waits for approval", func(r *rig, h *host, _ *broker.Caller) {
			r.store.change(h.node, func(s *ledger.Snapshot) { s.Node.Status = ledger.StatusPending })
		}, reason.NodeAdmissionPending, true},
		{"T54_a fork is suspected", func(r *rig, h *host, _ *broker.Caller) {
			h.prev = uuid.NewString()
			wantCode(r.t, api.AttestResponse{}, second(h.tryRenew()), reason.NodeForkSuspected)
		}, reason.NodeForkSuspected, false},
		{"T54_its admission is revoked", func(r *rig, h *host, _ *broker.Caller) {
			r.store.revoke(h.tpm.EK.RootHash(r.t))
			r.must(r.b.PollAdmissions(r.t.Context()))
		}, reason.NodeDisabled, false},
		{"T54_an SVID from before the last attestation", func(_ *rig, h *host, _ *broker.Caller) { h.renew() }, reason.AuthInvalid, false},
		{"T54_the last attestation was refused", func(r *rig, h *host, _ *broker.Caller) {
			h.minute()
			ch, err := h.askRenew()
			r.must(err)
			req := h.answer(ch)
			req.TPM2.PCRs["0"] = slices.Repeat([]byte{9}, 32)
			if err := second(h.attest(req)); err == nil {
				r.t.Fatal("accepted")
			}
			r.store.change(h.node, func(s *ledger.Snapshot) { s.State.Verdict = ledger.VerdictDeny })
		}, reason.PolicyEvidenceAge, false},
		{"T54_no attestation stands", func(r *rig, h *host, _ *broker.Caller) {
			r.store.change(h.node, func(s *ledger.Snapshot) { s.State.Last = uuid.Nil })
		}, reason.AuthInvalid, false},
		{"the node's row is forged", func(r *rig, _ *host, _ *broker.Caller) {
			r.store.failing("NodeByID", reason.New(reason.StoreRowForged, "forged"))
		}, reason.StoreRowForged, true},
		{"the database is away", func(r *rig, _ *host, _ *broker.Caller) {
			r.store.failing("NodeByID", reason.New(reason.StoreUnavailable, "away"))
		}, reason.StoreUnavailable, true},
		{"the clocks of broker and database differ", func(r *rig, _ *host, _ *broker.Caller) {
			r.store.skew = 3 * time.Second
			_ = r.b.CheckClock(r.t.Context())
		}, reason.IssuerUnavailable, true},
		{"the log forked", func(r *rig, _ *host, _ *broker.Caller) {
			r.mu.Lock()
			r.anchor = reason.New(reason.LedgerFork, "rolled back")
			r.mu.Unlock()
			_ = r.b.SignNow(r.t.Context())
		}, reason.LedgerFork, true},
		{"no policy", func(r *rig, _ *host, _ *broker.Caller) {
			r.b, _ = r.newReplica("b")
			r.must(r.b.Start(r.t.Context()))
		}, reason.PolicyMissing, true},
		{"T51_the zone is gone", policyOf(strings.Replace(zoneWork, "name: lab", "name: other", 1)), reason.PolicyNoZone, false},
		{"T51_the zone has another tier", policyOf(strings.Replace(zoneWork, "tier: 1", "tier: 0", 1)), reason.PolicyNoZone, false},
		{"T51_the zone takes machines admitted otherwise", policyOf(strings.Replace(zoneWork, "[inventory, ", "[", 1)), reason.PolicyNoZone, false},
		{"T51_the zone is for another group", policyOf(strings.Replace(zoneWork, "{format: tpm2}", "{group: vault}", 1)), reason.PolicyNoZone, false},
		{"T51_the zone is for another node", policyOf(strings.Replace(zoneWork, "{format: tpm2}", "{node: aaaaaaaaaaaaaaaaaaaaaaaaaa}", 1)), reason.PolicyNoZone, false},
		{"T51_the zone wants younger evidence", func(r *rig, h *host, c *broker.Caller) {
			policyOf(strings.NewReplacer("max_age: 5m", "max_age: 1m", "jwt_ttl: 2m", "jwt_ttl: 1m").Replace(zoneWork))(r, h, c)
			r.wait(time.Minute)
		}, reason.PolicyEvidenceAge, false},
		{"T51_a longer max_age does not reach back", func(r *rig, h *host, c *broker.Caller) {
			policyOf(strings.Replace(zoneWork, "max_age: 5m", "max_age: 1h", 1))(r, h, c)
			r.wait(5 * time.Minute)
		}, reason.PolicyEvidenceAge, false},
		{"T51_the zone lists no workload any more", policyOf(zoneWork[:strings.Index(zoneWork, "workloads:")]), reason.PolicyIdentityInvalid, false},
		{"T51_the workload moved to another group", policyOf(strings.Replace(zoneWork, "uid: 1000", "uid: 1000, groups: [vault]", 1)), reason.PolicyIdentityInvalid, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, h, c := newLater(t)
			tt.before(r, h, &c)
			r.refused(h, tt.want, !tt.nobody && tt.want != "", func() (string, error) {
				out, err := r.svid(c, "web")
				return strings.Repeat("x", len(out.Chain)) + out.RecordID, err
			})
		})
	}
}

// remade is the caller's certificate with a changed claim, as only a CA of the
// bundle could sign it; who signed it is the transport's business.
func (r *rig) remade(c *broker.Caller, change func(*claim.Zone)) {
	r.t.Helper()
	claims := claimOf(r.t, c.Certificate)
	change(&claims.Zone)
	ext, err := claim.EncodeCMW(claims)
	r.must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err)
	template := *c.Certificate
	template.PublicKey = nil
	template.ExtraExtensions = []pkix.Extension{ext}
	template.SignatureAlgorithm = x509.ECDSAWithSHA256
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	r.must(err)
	c.Certificate, err = x509.ParseCertificate(der)
	r.must(err)
}

func policyOf(doc string) func(*rig, *host, *broker.Caller) {
	return func(r *rig, _ *host, _ *broker.Caller) { r.activate(doc) }
}

// refused asks once and compares what is left behind. What ask returns is ""
// where nothing was issued.
func (r *rig) refused(h *host, want reason.Code, counted bool, ask func() (string, error)) {
	r.t.Helper()
	before := r.records()
	var got string
	var err error
	trace := r.traced(func() { got, err = ask() })
	if reason.Of(err) != want {
		r.t.Fatalf("code %q, want %q (%v)", reason.Of(err), want, err)
	}
	if want == "" {
		if got == "" || r.records() != before+1 {
			r.t.Errorf("%d records, answer %q", r.records()-before, got)
		}
		return
	}
	if got != "" || r.records() != before || slices.Contains(trace, "svid.record") || slices.Contains(trace, "svid.sign") {
		r.t.Errorf("refused, and %d records, answer %q, steps %v", r.records()-before, got, trace)
	}
	r.flush()
	wantCount := int64(0)
	if counted {
		wantCount = 1
	}
	if n := r.store.count(want, h.node); n != wantCount {
		r.t.Errorf("counted %d times, want %d", n, wantCount)
	}
	if n := r.store.count(want, ""); n != 0 {
		r.t.Errorf("counted %d times for strangers", n)
	}
}

// TestT49_WorkloadNames: only a workload that the zone places on this node's
// groups, byte by byte.
func TestT49_WorkloadNames(t *testing.T) {
	for name, want := range map[string]reason.Code{
		"web": "", "db": reason.PolicyIdentityInvalid, "": reason.PolicyIdentityInvalid, "Web": reason.PolicyIdentityInvalid,
		"web ": reason.PolicyIdentityInvalid, "../node/x": reason.PolicyIdentityInvalid, "web/../db": reason.PolicyIdentityInvalid,
		"%77eb": reason.PolicyIdentityInvalid, "wéb": reason.PolicyIdentityInvalid,
	} {
		t.Run(name, func(t *testing.T) {
			r, h, c := newTokens(t)
			r.refused(h, want, true, func() (string, error) {
				out, err := r.svid(c, name)
				return out.RecordID, err
			})
			if name == "" {
				return // a token without a workload is the node's own
			}
			r.flush()
			out, err := r.jwt(c, "payments-api", name)
			if reason.Of(err) != want || (err == nil) != (out.Token != "") {
				t.Errorf("a token: %v", err)
			}
		})
	}
}

// TestAudiences: exactly those that the zone lists; a zone that lists none has no
// tokens.
func TestAudiences(t *testing.T) {
	for _, tt := range []struct {
		audience, doc string
		want          reason.Code
	}{
		{"payments-api", zoneWork, ""},
		{"payments", zoneWork, reason.PolicyAudience},
		{"payments-api/", zoneWork, reason.PolicyAudience},
		{"Payments-API", zoneWork, reason.PolicyAudience},
		{"*", zoneWork, reason.PolicyAudience},
		{"", zoneWork, reason.PolicyAudience},
		{"payments-api", zoneLab + "workloads: [{name: web, uid: 1}]\n", reason.PolicyAudience},
	} {
		t.Run(tt.audience+" of "+tt.doc[len(tt.doc)-20:], func(t *testing.T) {
			r, h, c := newTokens(t)
			r.activate(tt.doc)
			r.refused(h, tt.want, true, func() (string, error) {
				out, err := r.jwt(c, tt.audience, "")
				return out.Token, err
			})
		})
	}
	t.Run("before the first token keys", func(t *testing.T) {
		r, h, c := newLater(t)
		r.refused(h, reason.IssuerUnavailable, false, func() (string, error) {
			out, err := r.jwt(c, "payments-api", "")
			return out.Token, err
		})
	})
}

// TestCSR: a workload's key proves itself and asks for nothing else.
func TestCSR(t *testing.T) {
	id := &url.URL{Scheme: "spiffe", Host: testDomain, Path: "/zone/lab/workload/web"}
	other := &url.URL{Scheme: "spiffe", Host: testDomain, Path: "/zone/lab/workload/db"}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	large, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	with := func(c x509.CertificateRequest) func(*host) []byte {
		return func(*host) []byte { return csrOf(t, c) }
	}
	key := func(k any) func(*host) []byte {
		return func(*host) []byte { return csrWith(t, x509.CertificateRequest{}, k) }
	}
	for name, tt := range map[string]struct {
		csr func(h *host) []byte
		ok  bool
	}{
		"empty":                  {with(x509.CertificateRequest{}), true},
		"the SPIFFE ID":          {with(x509.CertificateRequest{URIs: []*url.URL{id}}), true},
		"P-384":                  {key(p384), true},
		"RSA":                    {key(large), true},
		"P-521":                  {key(p521), false},
		"Ed25519":                {key(edwards), false},
		"T47_the node's own key": {func(h *host) []byte { return h.key.CSR(t) }, false},
		"nothing":                {func(*host) []byte { return nil }, false},
		"no request":             {func(*host) []byte { return []byte("no") }, false},
		"another SPIFFE ID":      {with(x509.CertificateRequest{URIs: []*url.URL{other}}), false},
		"two SPIFFE IDs":         {with(x509.CertificateRequest{URIs: []*url.URL{id, id}}), false},
		"a DNS name":             {with(x509.CertificateRequest{DNSNames: []string{"bank.example"}}), false},
		"a mail address":         {with(x509.CertificateRequest{EmailAddresses: []string{"a@example.org"}}), false},
		"an address":             {with(x509.CertificateRequest{IPAddresses: []net.IP{{10, 0, 0, 1}}}), false},
		"a subject":              {with(x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}}), false},
		"an extension: CA": {with(x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}},
		}}), false},
		"the SPIFFE ID as an extension of another kind": {with(x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 18}, Value: append([]byte{0x30, byte(len(id.String()) + 2), 0x86, byte(len(id.String()))}, id.String()...)},
		}}), false},
		"a name of another kind": {with(x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 17}, Value: []byte{0x30, 4, 0x88, 2, 0x2a, 3}},
		}}), false},
		"T47_signed by another key": {func(*host) []byte {
			der := csrOf(t, x509.CertificateRequest{})
			der[len(der)-1] ^= 1
			return der
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, h, c := newLater(t)
			want := reason.Code("")
			if !tt.ok {
				want = reason.RequestMalformed
			}
			r.refused(h, want, true, func() (string, error) {
				out, err := r.b.SVID(t.Context(), c, api.SVIDRequest{Workload: "web", CSR: tt.csr(h)})
				return out.RecordID, err
			})
		})
	}
}
