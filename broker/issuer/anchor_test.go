package issuer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestBundleDocument(t *testing.T) {
	_, _, one := newIssuer(t, 0)
	_, _, two := newIssuer(t, 0)
	doc, err := issuer.Bundle(trustDomain, []ledger.Key{two, one, two}, 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	turned, err := issuer.Bundle(trustDomain, []ledger.Key{one, two}, 7, issuer.DefaultRefreshHint)
	if err != nil || !bytes.Equal(doc, turned) {
		t.Errorf("replicas with equal keys differ: %v", err)
	}
	b, err := spiffebundle.Parse(td, doc)
	if err != nil {
		t.Fatal(err)
	}
	hint, _ := b.RefreshHint()
	sequence, _ := b.SequenceNumber()
	if len(b.X509Authorities()) != 2 || hint != 5*time.Minute || sequence != 7 {
		t.Errorf("%d authorities, hint %s, sequence %d", len(b.X509Authorities()), hint, sequence)
	}
	var raw struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(doc, &raw); err != nil {
		t.Fatal(err)
	}
	for _, k := range raw.Keys {
		if k["use"] != "x509-svid" || k["kid"] != nil || k["d"] != nil || len(k["x5c"].([]any)) != 1 {
			t.Errorf("key %v", k)
		}
	}
}

func TestEmptyBundleTrustsNobody(t *testing.T) {
	doc, err := issuer.Bundle(trustDomain, nil, 8, time.Minute)
	if err != nil || !strings.Contains(string(doc), `"keys":[]`) {
		t.Fatalf("%s %v", doc, err)
	}
	b, err := spiffebundle.Parse(td, doc)
	if err != nil || len(b.X509Authorities()) != 0 {
		t.Errorf("%v", err)
	}
}

func TestBundleRefusesForgedRows(t *testing.T) {
	i, c, key := newIssuer(t, 0)
	anchor, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := issuer.New(issuer.Config{TrustDomain: "other.example", Replica: "one", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := other.NewCA(start)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := issue(t, i, request(t, i, c.now()))
	row := func(cert *x509.Certificate) ledger.Key {
		return ledger.Key{ID: strings.TrimPrefix(issuer.Pin(cert), "sha256:"), Kind: "x509-ca", DER: cert.Raw}
	}
	renamed, typed, cut := key, key, key
	renamed.ID = strings.Repeat("0", 64)
	typed.Kind = "jwt"
	cut.DER = cut.DER[:len(cut.DER)-1]
	private, stranger := newKey(t), newKey(t)
	made := func(key *ecdsa.PrivateKey, edit func(*x509.Certificate)) ledger.Key {
		cert := *caTemplate(t)
		edit(&cert)
		der, err := x509.CreateCertificate(rand.Reader, &cert, &cert, private.Public(), key)
		if key != private {
			parent := cert
			parent.PublicKey = nil
			der, err = x509.CreateCertificate(rand.Reader, &cert, &parent, private.Public(), key)
		}
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return row(parsed)
	}
	if _, err := issuer.Bundle(trustDomain, []ledger.Key{made(private, func(*x509.Certificate) {})}, 1, 0); err != nil {
		t.Fatalf("the rows below show nothing: %v", err)
	}
	for name, k := range map[string]ledger.Key{
		"no CA": made(private, func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen, c.MaxPathLenZero, c.KeyUsage = false, -1, false, x509.KeyUsageDigitalSignature
		}),
		"longer than a day":    made(private, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }),
		"signed by a stranger": made(stranger, func(*x509.Certificate) {}),
		"trust anchor":         row(anchor.Certificate()), "other trust domain": foreign, "leaf": row(leaf),
		"id of another key": renamed, "other kind": typed, "cut": cut, "empty": {},
	} {
		if _, err := issuer.Bundle(trustDomain, []ledger.Key{key, k}, 1, 0); reason.Of(err) != reason.StoreRowForged {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := issuer.Bundle("", nil, 1, 0); err == nil {
		t.Error("a bundle without a trust domain")
	}
}

// caTemplate returns the certificate of a CA as a template for others.
func caTemplate(t *testing.T) *x509.Certificate {
	t.Helper()
	_, _, key := newIssuer(t, 0)
	cert, err := x509.ParseCertificate(key.DER)
	if err != nil {
		t.Fatal(err)
	}
	cert.PublicKey = nil
	return cert
}

func TestAnchor(t *testing.T) {
	a, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	cert := a.Certificate()
	if cert.Subject.CommonName != "Zonebroker trust anchor" || !cert.IsCA || !cert.MaxPathLenZero || len(cert.URIs) != 0 {
		t.Errorf("certificate %s, CA %v", cert.Subject, cert.IsCA)
	}
	if cert.NotAfter.Before(start.AddDate(9, 11, 0)) || cert.NotAfter.After(start.AddDate(10, 0, 0)) {
		t.Errorf("ends %s", cert.NotAfter)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if a.Pin() != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("pin %s", a.Pin())
	}
	file, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	back, err := issuer.LoadAnchor(file)
	if err != nil || back.Pin() != a.Pin() || !bytes.Equal(back.CertificatePEM(), a.CertificatePEM()) {
		t.Errorf("does not load: %v", err)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(form, a); text != "trust anchor "+a.Pin() {
			t.Errorf("%s shows %s", form, text)
		}
	}
	if a.LogValue().String() != "trust anchor "+a.Pin() {
		t.Error("the log shows more than the pin")
	}
}

func TestLoadAnchorRefuses(t *testing.T) {
	one, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := one.PEM()
	if err != nil {
		t.Fatal(err)
	}
	block, certificate := pem.Decode(file)
	key := pem.EncodeToMemory(block)
	i, _, caKey := newIssuer(t, 0)
	leaf, _ := issue(t, i, request(t, i, start))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	asPEM := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384DER, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	template := caTemplate(t)
	template.SignatureAlgorithm = x509.ECDSAWithSHA384
	p384Cert, err := x509.CreateCertificate(rand.Reader, template, template, p384.Public(), p384)
	if err != nil {
		t.Fatal(err)
	}
	own := *leaf
	own.PublicKey = nil
	ownKey := newKey(t)
	ownDER, err := x509.MarshalPKCS8PrivateKey(ownKey)
	if err != nil {
		t.Fatal(err)
	}
	ownCert, err := x509.CreateCertificate(rand.Reader, &own, &own, ownKey.Public(), ownKey)
	if err != nil {
		t.Fatal(err)
	}
	certBlock, _ := pem.Decode(certificate)
	for name, file := range map[string][]byte{
		"P-384":                join(asPEM("PRIVATE KEY", p384DER), asPEM("CERTIFICATE", p384Cert)),
		"certificate of no CA": join(asPEM("PRIVATE KEY", ownDER), asPEM("CERTIFICATE", ownCert)),
		"key of another type":  join(asPEM("EC PRIVATE KEY", block.Bytes), certificate),
		"other certificate":    join(key, asPEM("TRUSTED CERTIFICATE", certBlock.Bytes)),
		"empty":                nil,
		"key alone":            key,
		"certificate alone":    certificate,
		"certificate first":    join(certificate, key),
		"other key":            join(key, two.CertificatePEM()),
		"two certificates":     join(file, two.CertificatePEM()),
		"text behind":          join(file, []byte("x")),
		"key that is none":     join(asPEM("PRIVATE KEY", []byte("x")), certificate),
		"certificate is none":  join(key, asPEM("CERTIFICATE", []byte("x"))),
		"leaf":                 join(key, asPEM("CERTIFICATE", leaf.Raw)),
		"CA of a replica":      join(key, asPEM("CERTIFICATE", caKey.DER)),
		"larger than any file": join(file, bytes.Repeat([]byte("\n"), 20<<10)),
	} {
		if _, err := issuer.LoadAnchor(file); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestServerCertificate(t *testing.T) {
	a, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := issuer.ServerCertificate(a, trustDomain, start)
	if err != nil {
		t.Fatal(err)
	}
	leaf := server.Leaf
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://zb.example/broker" || leaf.IsCA {
		t.Errorf("names %v, CA %v", leaf.URIs, leaf.IsCA)
	}
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || leaf.NotAfter.Sub(leaf.NotBefore) != 24*time.Hour {
		t.Errorf("usage %v, lives %s", leaf.ExtKeyUsage, leaf.NotAfter.Sub(leaf.NotBefore))
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start}); err != nil {
		t.Errorf("does not chain to the anchor: %v", err)
	}
	if len(server.Certificate) != 2 || !bytes.Equal(server.Certificate[1], a.Certificate().Raw) {
		t.Error("a host that holds the pin gets no anchor certificate")
	}
	again, err := issuer.ServerCertificate(a, trustDomain, start)
	if err != nil || issuer.Pin(again.Leaf) == issuer.Pin(leaf) {
		t.Errorf("two replicas share a key: %v", err)
	}
	nearEnd := a.Certificate().NotAfter.Add(-time.Hour)
	last, err := issuer.ServerCertificate(a, trustDomain, nearEnd)
	if err != nil || last.Leaf.NotAfter.After(a.Certificate().NotAfter) {
		t.Errorf("outlives the anchor: %v", err)
	}
	for name, at := range map[string]time.Time{"before": start.AddDate(-1, 0, 0), "after": a.Certificate().NotAfter} {
		if _, err := issuer.ServerCertificate(a, trustDomain, at); err == nil {
			t.Errorf("%s the anchor's life: accepted", name)
		}
	}
	if _, err := issuer.ServerCertificate(a, "no domain", start); err == nil {
		t.Error("accepted for no trust domain")
	}
}

func TestServerCertificateNamesItsHosts(t *testing.T) {
	a, err := issuer.NewAnchor(start, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"zb.example", "10.0.0.7", "broker-1.internal", "::1", "::ffff:10.0.0.8", "zb.example", "localhost"}
	server, err := issuer.ServerCertificate(a, trustDomain, start, names...)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	for name, known := range map[string]bool{
		"zb.example": true, "broker-1.internal": true, "localhost": true, "10.0.0.7": true, "[::1]": true, "10.0.0.8": true,
		"evil.example": false, "10.0.0.9": false, "a.zb.example": false,
	} {
		_, err := server.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, DNSName: name})
		if (err == nil) != known {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(server.Leaf.DNSNames) + len(server.Leaf.IPAddresses); got != 6 || len(server.Leaf.URIs) != 1 {
		t.Errorf("%d names, URIs %v", got, server.Leaf.URIs)
	}
	var many []string
	for n := range 33 {
		many = append(many, fmt.Sprintf("host-%d", n))
	}
	for name, names := range map[string][]string{
		"wildcard": {"*.zb.example"}, "empty": {""}, "trailing dot": {"zb.example."}, "with port": {"zb.example:443"},
		"URL": {"https://zb.example"}, "any address": {"0.0.0.0"}, "any address of IPv6": {"::"}, "any address, mapped": {"::ffff:0.0.0.0"}, "address with zone": {"fe80::1%eth0"},
		"digits": {"1.2.3"}, "hyphen before": {"-a.example"}, "hyphen behind": {"a-.example"}, "underscore": {"a_b.example"},
		"long label": {strings.Repeat("a", 64) + ".example"}, "long name": {strings.Repeat("a.", 126) + "ab"}, "other letters": {"zä.example"},
		"too many": many,
	} {
		if _, err := issuer.ServerCertificate(a, trustDomain, start, names...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := issuer.ServerCertificate(a, trustDomain, start, append(many[:31], strings.Repeat("a.", 126)+"a")...); err != nil {
		t.Errorf("the limits themselves: %v", err)
	}
}
