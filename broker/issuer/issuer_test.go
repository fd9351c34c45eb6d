package issuer_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestReadyFollowsTheCA(t *testing.T) {
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now, CALifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	unready := func(when string) {
		t.Helper()
		if err := i.Ready(c.now()); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: Ready %v", when, err)
		}
		if _, err := i.Prepare(issuer.Request{}); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: Prepare %v", when, err)
		}
		if _, err := i.Expiry(c.now(), start, time.Hour, 0); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: Expiry %v", when, err)
		}
	}
	unready("before the first CA")
	ca, _, err := i.NewCA(c.now())
	if err != nil {
		t.Fatal(err)
	}
	unready("before Activate")
	if err := i.Activate(ca); err != nil {
		t.Fatal(err)
	}
	if err := i.Ready(c.now()); err != nil {
		t.Error(err)
	}
	p, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	c.at = start.Add(time.Hour)
	unready("after its end")
	if _, err := i.Sign(p); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("prepared before, signed after the end: %v", err)
	}
	if err := i.Activate(ca); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("an ended CA is activated: %v", err)
	}
	c.at = start.Add(-2 * time.Minute)
	unready("with the clock set back")
}

func TestActivateRefusesForeignCA(t *testing.T) {
	one, c, _ := newIssuer(t, 0)
	two, _, _ := newIssuer(t, 0)
	ca, _, err := one.NewCA(c.now())
	if err != nil {
		t.Fatal(err)
	}
	for name, ca := range map[string]*issuer.CA{"foreign": ca, "nil": nil} {
		if err := two.Activate(ca); reason.Of(err) != reason.IssuerUnavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRotation(t *testing.T) {
	i, c, oldKey := newIssuer(t, 0)
	if due := i.RotateAt(); due.Sub(start) < 11*time.Hour || due.Sub(start) > 12*time.Hour {
		t.Errorf("rotation due %s after the start, want half life", due.Sub(start))
	}
	before, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	c.at = i.RotateAt()
	ca, newKey, err := i.NewCA(c.now())
	if err != nil {
		t.Fatal(err)
	}
	if from := i.UseFrom(ca); !from.Equal(c.at.Add(issuer.PublishAhead)) {
		t.Errorf("use from %s, made %s", from, c.at)
	}
	cert, _ := issue(t, i, request(t, i, c.now()))
	if cert.CheckSignatureFrom(ca.Certificate()) == nil {
		t.Error("a CA signs before it is activated")
	}
	if err := i.Activate(ca); err != nil {
		t.Fatal(err)
	}
	cert, record := issue(t, i, request(t, i, c.now()))
	if err := cert.CheckSignatureFrom(ca.Certificate()); err != nil || record.CAKeyID != newKey.ID {
		t.Errorf("the new CA does not sign: %v", err)
	}
	if before.Record().CAKeyID != oldKey.ID {
		t.Error("what was prepared before names another CA")
	}
	if _, err := i.Sign(before); err != nil {
		t.Errorf("what was prepared before is lost: %v", err)
	}
	if got := len(bundle(t, oldKey, newKey).X509Authorities()); got != 2 {
		t.Errorf("%d authorities during rotation", got)
	}
	short, sc, _ := newIssuer(t, 4*time.Minute)
	late, _, err := short.NewCA(sc.now())
	if err != nil {
		t.Fatal(err)
	}
	if from := short.UseFrom(late); !from.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("a CA of minutes: use from %s", from.Sub(start))
	}
	fresh, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if !fresh.RotateAt().IsZero() || !fresh.UseFrom(nil).Equal(c.at) {
		t.Error("the first CA must not wait")
	}
}

func TestCAProfile(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	ca, key, err := i.NewCA(c.now())
	if err != nil {
		t.Fatal(err)
	}
	cert := ca.Certificate()
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("CA %v, path %d, usage %v", cert.IsCA, cert.MaxPathLen, cert.KeyUsage)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://zb.example" || cert.Subject.String() == "" || cert.CheckSignatureFrom(cert) != nil {
		t.Errorf("names %v, subject %s", cert.URIs, cert.Subject)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != 24*time.Hour {
		t.Errorf("lives %s", life)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	want := ledger.Key{ID: hex.EncodeToString(sum[:]), Kind: "x509-ca", Replica: "one", DER: cert.Raw, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	if diff := cmp.Diff(want, key); diff != "" {
		t.Error(diff)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(form, ca); text != "ca "+key.ID {
			t.Errorf("%s shows %s", form, text)
		}
	}
	if ca.LogValue().String() != "ca "+key.ID {
		t.Error("the log shows more than the id")
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]issuer.Config{
		"no trust domain":   {Replica: "one"},
		"URI":               {TrustDomain: "spiffe://zb.example", Replica: "one"},
		"capitals":          {TrustDomain: "ZB.example", Replica: "one"},
		"no replica":        {TrustDomain: trustDomain},
		"CA above a day":    {TrustDomain: trustDomain, Replica: "one", CALifetime: 25 * time.Hour},
		"CA of a moment":    {TrustDomain: trustDomain, Replica: "one", CALifetime: time.Second},
		"CA below a moment": {TrustDomain: trustDomain, Replica: "one", CALifetime: -time.Hour},
	} {
		if _, err := issuer.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Ready(time.Now()); reason.Of(err) != reason.IssuerUnavailable {
		t.Errorf("defaults: %v", err)
	}
}
