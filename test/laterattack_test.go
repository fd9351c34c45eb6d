package test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// laterZone places another workload on each rack and wants Secure Boot, so that
// a host can fall.
const laterZone = `apiVersion: zonebroker/v1
kind: Zone
name: lab
tier: 1
selectors: {any: [{group: rack-7}, {group: rack-8}]}
admit: [inventory]
requires: {class: A, format: [tpm2], secure_boot: true}
evidence: {max_age: 5m}
issue: {x509_ttl: 10m, grace: 10m, audiences: [payments-api]}
workloads:
  - {name: web, uid: 1001, groups: [rack-7]}
  - {name: db, uid: 1002, groups: [rack-8]}
`

// asker is whoever holds the SVID of an enrolled host, and its key.
type asker struct {
	*raw
	client *client.Client
	cert   *tls.Certificate
	res    api.AttestResponse
}

func newAsker(t *testing.T, p *replica, group string) *asker {
	t.Helper()
	h := newHost(t, p.cluster.rig)
	p.ctl(t, nil, append([]string{"node", "admit", "--group", group}, h.ekHashes()...)...)
	a := &asker{raw: h.raw(p)}
	a.res = a.enrol()
	a.cert = certificate(a.res.Chain, a.key)
	a.client = a.at(t, p)
	return a
}

// at is the same SVID over a connection of its own, to any replica.
func (a *asker) at(t *testing.T, p *replica) *client.Client {
	t.Helper()
	return presenting(t, p, a.cert)
}

func certificate(chain []api.Bytes, key crypto.PrivateKey) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: key}
	for _, der := range chain {
		cert.Certificate = append(cert.Certificate, der)
	}
	return cert
}

func presenting(t *testing.T, p *replica, cert *tls.Certificate) *client.Client {
	t.Helper()
	trust, err := client.Pin(p.pin)
	must(t, err)
	c, err := client.New(client.Config{
		Server: p.url, Trust: trust, TrustDomain: trustDomain,
		ClientCertificate: func() (*tls.Certificate, error) { return cert, nil },
	})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func freshKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func csrBy(t *testing.T, key crypto.Signer, names ...string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	for _, n := range names {
		u, err := url.Parse(n)
		must(t, err)
		template.URIs = append(template.URIs, u)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	must(t, err)
	return csr
}

func askSVID(t *testing.T, c *client.Client, workload string) (api.SVIDResponse, error) {
	t.Helper()
	return c.SVID(t.Context(), api.SVIDRequest{Workload: workload, CSR: csrBy(t, freshKey(t))})
}

func askJWT(t *testing.T, c *client.Client, workload string) (api.JWTResponse, error) {
	t.Helper()
	return c.JWT(t.Context(), api.JWTRequest{Workload: workload, Audience: "payments-api"})
}

// wantBoth demands the same answer of both routes; "" is an SVID.
func wantBoth(t *testing.T, c *client.Client, workload string, want reason.Code) {
	t.Helper()
	_, err := askSVID(t, c, workload)
	_, jwtErr := askJWT(t, c, workload)
	for _, err := range []error{err, jwtErr} {
		switch {
		case want == "" && err != nil:
			t.Errorf("refused: %v", err)
		case want != "":
			wantCode(t, err, want)
		}
	}
}

// issued counts the records of later SVIDs.
func (c *cluster) issued(t testing.TB) (n int) {
	t.Helper()
	must(t, c.super.QueryRow(t.Context(), `SELECT count(*) FROM attestation WHERE type = 'svid.issued'`).Scan(&n))
	return n
}

// TestT45_T48_IdentitiesOfAnother: a host that holds a genuine SVID gets nothing
// of another host's with it, nor does who has the SVID without its key.
func TestT45_T48_IdentitiesOfAnother(t *testing.T) {
	c := newCluster(t, laterZone)
	p := c.start(t)
	a, b := newAsker(t, p, "rack-7"), newAsker(t, p, "rack-8")
	elsewhere := newCluster(t, laterZone).start(t)
	webKey := freshKey(t)
	svid, err := a.client.SVID(t.Context(), api.SVIDRequest{Workload: "web", CSR: csrBy(t, webKey, "spiffe://test.example/zone/lab/workload/web")})
	must(t, err)
	behind := certificate(append(svid.Chain[:1:1], a.res.Chain...), webKey)
	keyOfB := bytes.Replace(csrBy(t, webKey), spkiOf(t, webKey), b.key.SPKI(), 1)
	broken := csrBy(t, webKey)
	broken[len(broken)-1] ^= 1
	t.Run("T48_token_is_bound_to_the_svid_that_asked", func(t *testing.T) { tokenBound(t, a, b) })

	before := c.issued(t)
	csr := func(der []byte) func(*testing.T) error {
		return func(t *testing.T) error {
			_, err := a.client.SVID(t.Context(), api.SVIDRequest{Workload: "web", CSR: der})
			return err
		}
	}
	for _, tt := range []struct {
		name string
		ask  func(t *testing.T) error
		want reason.Code
	}{
		{"T45_svid_of_a_workload_of_another_host", func(t *testing.T) error { _, err := askSVID(t, a.client, "db"); return err }, reason.PolicyIdentityInvalid},
		{"T45_token_of_a_workload_of_another_host", func(t *testing.T) error { _, err := askJWT(t, b.client, "web"); return err }, reason.PolicyIdentityInvalid},
		{"T45_svid_shown_to_another_broker_of_that_name", func(t *testing.T) error { _, err := askJWT(t, a.at(t, elsewhere), "web"); return err }, reason.AuthInvalid},
		{"T45_svid_of_a_workload_asks", func(t *testing.T) error {
			_, err := askJWT(t, presenting(t, p, certificate(svid.Chain, webKey)), "web")
			return err
		}, reason.AuthInvalid},
		{"T45_svid_of_the_node_behind_that_of_a_workload", func(t *testing.T) error { _, err := askJWT(t, presenting(t, p, behind), "web"); return err }, reason.AuthInvalid},
		{"T47_csr_with_the_key_of_the_node", csr(csrBy(t, a.key)), reason.RequestMalformed},
		{"T47_csr_with_the_key_of_another_node", csr(keyOfB), reason.RequestMalformed},
		{"T47_csr_whose_signature_is_wrong", csr(broken), reason.RequestMalformed},
		{"T47_csr_that_names_another_workload", csr(csrBy(t, webKey, "spiffe://test.example/zone/lab/workload/db")), reason.RequestMalformed},
		{"T47_csr_that_names_the_node", csr(csrBy(t, webKey, a.res.SPIFFEID)), reason.RequestMalformed},
		{"T48_quote_of_A_over_the_key_of_B", func(t *testing.T) error {
			ch := a.challenge(a.renewRequest())
			bound := verifier.Binding(ch.Nonce, b.key.SPKI(), trustDomain, ch.Purpose, api.FormatTPM2, nil)
			req := a.quoteOver(ch, bound[:])
			req.SPKI, req.Prev = b.key.SPKI(), a.res.AttestationID
			_, err := a.client.Attest(t.Context(), req)
			return err
		}, reason.TPM2CertifyMismatch},
		{"T48_quote_of_A_over_the_key_that_B_certifies", func(t *testing.T) error {
			ch := a.challenge(a.renewRequest())
			bound := verifier.Binding(ch.Nonce, b.key.SPKI(), trustDomain, ch.Purpose, api.FormatTPM2, nil)
			req := a.quoteOver(ch, bound[:])
			req.TPM2.Certify = b.quoteOver(ch, bound[:]).TPM2.Certify
			req.SPKI, req.Prev = b.key.SPKI(), a.res.AttestationID
			_, err := a.client.Attest(t.Context(), req)
			return err
		}, reason.TPM2CertifyMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) { wantCode(t, tt.ask(t), tt.want) })
	}
	t.Run("T48_svid_of_A_with_the_key_of_B", func(t *testing.T) {
		c := presenting(t, p, &tls.Certificate{Certificate: a.cert.Certificate, PrivateKey: b.key})
		if res, err := askJWT(t, c, "web"); err == nil || refusal(err) != nil {
			t.Errorf("%+v, %v: want no handshake", res, err)
		}
	})
	if n := c.issued(t) - before; n != 0 {
		t.Errorf("%d SVIDs were recorded of all that was refused", n)
	}
	c.wantWhole(t, p)
}

func spkiOf(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return der
}

func tokenBound(t *testing.T, a, b *asker) {
	token, err := askJWT(t, a.client, "")
	must(t, err)
	v, err := claim.VerifyJWT(token.Token, jwtBundle(t, a.client), "payments-api", time.Now())
	must(t, err)
	if v.ID().String() != a.res.SPIFFEID || v.Node() != a.res.Node || v.Bearer() {
		t.Errorf("%s of node %s, bearer %t", v.ID(), v.Node(), v.Bearer())
	}
	for who, of := range map[*asker]bool{a: true, b: false} {
		leaf, err := x509.ParseCertificate(who.res.Chain[0])
		must(t, err)
		if v.ConfirmsCertificate(leaf) != of {
			t.Errorf("confirms the SVID of %s: %t", who.res.Node, !of)
		}
	}
}

// TestT54_RevokedThenReplayed: an SVID that is valid by every signature earns
// nothing once its node fell, at no replica and over no connection, also one
// that stood before.
func TestT54_RevokedThenReplayed(t *testing.T) {
	c := newCluster(t, laterZone)
	p, other := c.start(t), c.start(t)
	for _, tt := range []struct {
		name string
		fall func(t *testing.T, a *asker)
		want reason.Code
	}{
		{"disabled", func(t *testing.T, a *asker) { p.ctl(t, nil, "node", "disable", a.res.Node) }, reason.NodeDisabled},
		{"approved_again", func(t *testing.T, a *asker) {
			p.ctl(t, nil, "node", "disable", a.res.Node)
			p.ctl(t, nil, "node", "approve", a.res.Node)
		}, ""},
		{"denied_after_a_reboot", func(t *testing.T, a *asker) {
			a.reboot(build.Machine{SecureBootOff: true}.Log())
			_, err := a.renew(t)
			if err == nil {
				t.Fatal("attested without Secure Boot")
			}
		}, reason.PolicyEvidenceAge},
		{"well_again_and_the_old_one_replayed", func(t *testing.T, a *asker) {
			a.reboot(build.Machine{SecureBootOff: true}.Log())
			_, err := a.renew(t)
			if err == nil {
				t.Fatal("attested without Secure Boot")
			}
			a.reboot(build.Machine{}.Log())
			res, err := a.renew(t)
			must(t, err)
			wantBoth(t, presenting(t, p, certificate(res.Chain, a.key)), "web", "")
		}, reason.AuthInvalid},
		{"renewed", func(t *testing.T, a *asker) { _, err := a.renew(t); must(t, err) }, reason.AuthInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAsker(t, p, "rack-7")
			far := a.at(t, other)
			wantBoth(t, a.client, "web", "")
			wantBoth(t, far, "web", "")
			tt.fall(t, a)
			before := c.issued(t)
			for _, conn := range []*client.Client{a.client, far, a.at(t, p), a.at(t, other)} {
				wantBoth(t, conn, "web", tt.want)
			}
			if n := c.issued(t) - before; n != 0 && tt.want != "" {
				t.Errorf("%d records after the fall", n)
			}
		})
	}
	c.wantWhole(t, p)
}

// reboot boots the host through another log; the TPM forgets its open keys.
func (a *asker) reboot(log *build.Builder) {
	a.h.t.Helper()
	must(a.h.t, a.tpm.Close())
	a.h.boot(log)
	a.open()
	var err error
	a.ak, err = a.tpm.AK(a.h.t.Context())
	must(a.h.t, err)
	a.key, err = a.tpm.SVIDKey(a.h.t.Context())
	must(a.h.t, err)
	a.cert = certificate(a.res.Chain, a.key)
}

func (a *asker) renew(t *testing.T) (api.AttestResponse, error) {
	t.Helper()
	req := a.evidence(a.challenge(a.renewRequest()))
	req.Prev = a.res.AttestationID
	return a.raw.client.Attest(t.Context(), req)
}

// TestT59_LaterSVIDsKilledBetweenSteps: wherever the broker dies, no later SVID
// left it without a committed record, and another replica goes on.
func TestT59_LaterSVIDsKilledBetweenSteps(t *testing.T) {
	c := newCluster(t, laterZone)
	survivor := c.start(t)
	a := newAsker(t, survivor, "rack-7")
	for _, tt := range []struct {
		step    string
		token   bool
		records int
	}{
		{"svid.prepare", false, 0},
		{"svid.record", true, 0},
		{"store.precommit", false, 0},
		{"store.postcommit", true, 1},
		{"svid.sign", false, 1},
		{"svid.sign", true, 1},
		{"svid.answer", false, 1},
	} {
		name := tt.step + "_x509"
		if tt.token {
			name = tt.step + "_jwt"
		}
		t.Run(name, func(t *testing.T) {
			victim := c.start(t, "ZONEBROKER_FAILPOINT=kill:"+tt.step, "ZONEBROKER_FAILPOINT_ARM=svid.check")
			before := c.issued(t)
			var err error
			if tt.token {
				_, err = askJWT(t, a.at(t, victim), "web")
			} else {
				_, err = askSVID(t, a.at(t, victim), "web")
			}
			if err == nil || refusal(err) != nil {
				t.Errorf("answered: %v", err)
			}
			select {
			case <-victim.done:
			case <-time.After(5 * time.Second):
				t.Fatalf("the broker did not die\n%s", victim.logText())
			}
			if n := c.issued(t) - before; n != tt.records {
				t.Errorf("%d records, want %d", n, tt.records)
			}
			wantBoth(t, a.client, "web", "")
			c.wantWhole(t, survivor)
		})
	}
}
