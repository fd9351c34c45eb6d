package issuer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestSVIDProfile(t *testing.T) {
	i, c, key := newIssuer(t, 0)
	req := request(t, i, c.now())
	cert, record := issue(t, i, req)
	if cert.Subject.String() != "CN="+node+",O=Zonebroker" || cert.IsCA || !cert.BasicConstraintsValid {
		t.Errorf("subject %s, CA %v", cert.Subject, cert.IsCA)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature || !cmp.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
		t.Errorf("usages %v %v", cert.KeyUsage, cert.ExtKeyUsage)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != req.SPIFFEID || len(cert.DNSNames) != 0 {
		t.Errorf("names %v %v", cert.URIs, cert.DNSNames)
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) && e.Critical {
			t.Error("the alternative name is critical although there is a subject")
		}
	}
	if len(cert.SubjectKeyId) != 20 || len(cert.AuthorityKeyId) != 20 || bytes.Equal(cert.SubjectKeyId, cert.AuthorityKeyId) {
		t.Errorf("key ids %x %x", cert.SubjectKeyId, cert.AuthorityKeyId)
	}
	if serial := cert.SerialNumber; serial.Sign() != 1 || len(serial.Bytes()) != 16 {
		t.Errorf("serial %x", serial)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, req.SPKI) {
		t.Error("the key in the certificate is not the one that was asked for")
	}
	sum := sha256.Sum256(cert.RawTBSCertificate)
	want := ledger.IssuedSVID{
		Profile: "x509", Serial: hex.EncodeToString(cert.SerialNumber.Bytes()), SPIFFEID: req.SPIFFEID,
		NotBefore: start.Add(-time.Minute).Unix(), NotAfter: start.Add(time.Hour).Unix(),
		TBSSHA256: hex.EncodeToString(sum[:]), CAKeyID: key.ID, Key: "tpm",
	}
	if diff := cmp.Diff(want, record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if !cert.NotBefore.Equal(start.Add(-time.Minute)) || !cert.NotAfter.Equal(start.Add(time.Hour)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
}

func TestGoSPIFFEAndClaimAccept(t *testing.T) {
	i, c, key := newIssuer(t, 0)
	source := bundle(t, key)
	for _, path := range []string{"/zone/payments/node/" + node, "/zone/payments/workload/checkout"} {
		req := request(t, i, c.now())
		req.SPIFFEID = "spiffe://" + trustDomain + path
		cert, _ := issue(t, i, req)
		id, _, err := x509svid.ParseAndVerify([][]byte{cert.Raw}, source, x509svid.WithTime(c.now()))
		if err != nil || id.String() != req.SPIFFEID {
			t.Errorf("go-spiffe: %s %v", id, err)
		}
		v, err := claim.Verify([]*x509.Certificate{cert}, source, c.now())
		if err != nil || v.Zone() != "payments" {
			t.Errorf("claim: %v", err)
		}
	}
	other, _, _ := newIssuer(t, 0)
	cert, _ := issue(t, other, request(t, other, start))
	if _, _, err := x509svid.ParseAndVerify([][]byte{cert.Raw}, source, x509svid.WithTime(start)); err == nil {
		t.Error("an SVID of a CA outside the bundle verifies")
	}
}

func TestSubjectKeys(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := &rsa.PublicKey{N: rsa2048.N, E: 3}
	good := spki(t, newKey(t).Public())
	for name, r := range map[string]struct {
		spki []byte
		code reason.Code
	}{
		"P-256":           {good, ""},
		"P-384":           {spki(t, p384.Public()), ""},
		"RSA-2048":        {spki(t, rsa2048.Public()), ""},
		"P-224":           {spki(t, p224.Public()), reason.RequestMalformed},
		"RSA exponent 3":  {spki(t, short), reason.RequestMalformed},
		"Ed25519":         {spki(t, ed), reason.RequestMalformed},
		"trailing byte":   {append(append([]byte{}, good...), 0), reason.RequestMalformed},
		"no key":          {nil, reason.RequestMalformed},
		"other encoding":  {otherEncoding(t, good), reason.RequestMalformed},
		"certificate DER": {[]byte{0x30, 0x00}, reason.RequestMalformed},
	} {
		req := request(t, i, c.now())
		req.SPKI = r.spki
		if _, err := i.Prepare(req); reason.Of(err) != r.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// otherEncoding adds an element at the end of the SPKI, which Go reads over and
// does not write: the quote would bind other bytes than the certificate has.
func otherEncoding(t testing.TB, key []byte) []byte {
	t.Helper()
	var parts struct{ Algorithm, Key asn1.RawValue }
	if _, err := asn1.Unmarshal(key, &parts); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct{ Algorithm, Key, More asn1.RawValue }{parts.Algorithm, parts.Key, asn1.NullRawValue})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		t.Fatalf("the row shows nothing: %v", err)
	}
	return der
}

func TestT49_identities(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	for name, id := range map[string]string{
		"other trust domain":  "spiffe://other.example/zone/payments/node/" + node,
		"parent":              "spiffe://zb.example/zone/../node/" + node,
		"percent escape":      "spiffe://zb.example/zone/a%2fb/node/" + node,
		"unicode":             "spiffe://zb.example/zone/pаyments/node/" + node,
		"empty segment":       "spiffe://zb.example/zone//node/" + node,
		"trailing slash":      "spiffe://zb.example/zone/payments/node/",
		"query":               "spiffe://zb.example/zone/payments/node/" + node + "?a",
		"no path":             "spiffe://zb.example",
		"the broker's name":   "spiffe://zb.example/broker",
		"trial":               "spiffe://zb.example/trial/payments/node/" + node,
		"quarantine":          "spiffe://zb.example/quarantine/node/" + node,
		"exception":           "spiffe://zb.example/exception/payments/node/" + node,
		"deeper":              "spiffe://zb.example/zone/payments/node/" + node + "/x",
		"zone alone":          "spiffe://zb.example/zone/payments",
		"other kind":          "spiffe://zb.example/zone/payments/agent/" + node,
		"https":               "https://zb.example/zone/payments/node/" + node,
		"empty":               "",
		"trust domain prefix": "spiffe://zb.example.evil/zone/payments/node/" + node,
	} {
		req := request(t, i, c.now())
		req.SPIFFEID = id
		if _, err := i.Prepare(req); reason.Of(err) != reason.PolicyIdentityInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, cn := range map[string]string{"empty": "", "escape": "a/b", "long": strings.Repeat("a", 65), "newline": "a\nb"} {
		req := request(t, i, c.now())
		req.CommonName = cn
		if _, err := i.Prepare(req); reason.Of(err) != reason.PolicyIdentityInvalid {
			t.Errorf("common name %s: %v", name, err)
		}
	}
}

func TestPrepareRefusesOtherExtensions(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	for name, edit := range map[string]func(*issuer.Request){
		"no claim":            func(r *issuer.Request) { r.ClaimExtension = pkix.Extension{} },
		"critical":            func(r *issuer.Request) { r.ClaimExtension.Critical = true },
		"a second name":       func(r *issuer.Request) { r.ClaimExtension.Id = asn1.ObjectIdentifier{2, 5, 29, 17} },
		"empty":               func(r *issuer.Request) { r.ClaimExtension.Value = nil },
		"key nowhere":         func(r *issuer.Request) { r.Key = "" },
		"no fresh_until":      func(r *issuer.Request) { r.FreshUntil = time.Time{} },
		"no end":              func(r *issuer.Request) { r.NotAfter = time.Time{} },
		"grace below nothing": func(r *issuer.Request) { r.Grace = -time.Second },
	} {
		req := request(t, i, c.now())
		edit(&req)
		if _, err := i.Prepare(req); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvariant2_noSVIDOutlivesFreshUntilPlusGrace(t *testing.T) {
	i, c, key := newIssuer(t, 2*time.Hour)
	caEnd := key.NotAfter
	for name, r := range map[string]struct {
		fresh, wanted time.Time
		grace         time.Duration
		want          time.Time
	}{
		"ttl is the shortest":       {start.Add(5 * time.Minute), start.Add(30 * time.Minute), 55 * time.Minute, start.Add(30 * time.Minute)},
		"grace is the shortest":     {start.Add(5 * time.Minute), start.Add(24 * time.Hour), 55 * time.Minute, start.Add(time.Hour)},
		"no grace":                  {start.Add(5 * time.Minute), start.Add(24 * time.Hour), 0, start.Add(5 * time.Minute)},
		"CA is the shortest":        {start.Add(23 * time.Hour), start.Add(24 * time.Hour), 55 * time.Minute, caEnd},
		"fraction is rounded down":  {start.Add(5*time.Minute + 900*time.Millisecond), start.Add(24 * time.Hour), 0, start.Add(5 * time.Minute)},
		"other zone of the machine": {start.Add(5 * time.Minute).In(time.FixedZone("", 7200)), start.Add(24 * time.Hour), 0, start.Add(5 * time.Minute)},
	} {
		req := request(t, i, c.now())
		req.FreshUntil, req.NotAfter, req.Grace = r.fresh, r.wanted, r.grace
		cert, record := issue(t, i, req)
		if !cert.NotAfter.Equal(r.want) || record.NotAfter != r.want.Unix() {
			t.Errorf("%s: ends %s, record %d, want %s", name, cert.NotAfter, record.NotAfter, r.want)
		}
		exp, err := i.Expiry(c.now(), r.fresh, r.wanted.Sub(start), r.grace)
		if err != nil || !exp.Equal(r.want) {
			t.Errorf("%s: Expiry says %s, %v", name, exp, err)
		}
	}
	for name, edit := range map[string]func(*issuer.Request){
		"evidence too old": func(r *issuer.Request) { r.FreshUntil, r.Grace = start, 0 },
		"ended already":    func(r *issuer.Request) { r.NotAfter = start },
		"starts at end":    func(r *issuer.Request) { r.NotBefore = start.Add(time.Hour) },
	} {
		req := request(t, i, c.now())
		edit(&req)
		if _, err := i.Prepare(req); reason.Of(err) != reason.PolicyEvidenceAge {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The private key is out of reach until Sign: Prepare works with any key in its
// place, and Sign refuses to work with another one.
func TestInvariant1_prepareDoesNotUseTheKey(t *testing.T) {
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	ca, _, err := i.NewCA(start)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Activate(ca); err != nil {
		t.Fatal(err)
	}
	key := ca.SwapKey(nil)
	p, err := i.Prepare(request(t, i, start))
	if err != nil {
		t.Fatalf("without the private key: %v", err)
	}
	ca.SwapKey(newKey(t))
	if _, err := i.Sign(p); reason.Of(err) != reason.Internal {
		t.Errorf("signed by another key: %v", err)
	}
	ca.SwapKey(key)
	p, err = i.Prepare(request(t, i, start))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Sign(p); err != nil {
		t.Errorf("with the key: %v", err)
	}
}

func TestSignIsForExactlyTheRecordedBytes(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	prepare := func() *issuer.Prepared {
		p, err := i.Prepare(request(t, i, c.now()))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prepare()
	tbs := p.TBS()
	tbs[0] ^= 0xff // the caller's copy
	chain, err := i.Sign(p)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil || !bytes.Equal(cert.RawTBSCertificate, p.TBS()) {
		t.Errorf("signed bytes are not the prepared ones: %v", err)
	}
	if len(chain) != 1 {
		t.Errorf("chain of %d; the root must stay out", len(chain))
	}
	for name, edit := range map[string]func(*issuer.Prepared){
		"recorded bytes changed": (*issuer.Prepared).Break,
		"certificate changed":    func(p *issuer.Prepared) { p.Retitle("somebody") },
	} {
		p := prepare()
		edit(p)
		if chain, err := i.Sign(p); reason.Of(err) != reason.Internal || chain != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignIsSingleUse(t *testing.T) {
	i, c, _ := newIssuer(t, 0)
	p, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	signed := 0
	for range 16 {
		wg.Go(func() {
			if _, err := i.Sign(p); err == nil {
				mu.Lock()
				signed++
				mu.Unlock()
			} else if reason.Of(err) != reason.Internal {
				t.Errorf("second call: %v", err)
			}
		})
	}
	wg.Wait()
	if signed != 1 {
		t.Errorf("%d signatures for one record", signed)
	}
	broken, err := i.Prepare(request(t, i, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	broken.Break()
	if _, err := i.Sign(broken); err == nil {
		t.Error("broken bytes are signed")
	}
	broken.Break()
	if _, err := i.Sign(broken); reason.Of(err) != reason.Internal {
		t.Errorf("retry after a failure: %v", err)
	}
}

func TestSignRefusesForeignPrepared(t *testing.T) {
	one, c, _ := newIssuer(t, 0)
	two, _, _ := newIssuer(t, 0)
	p, err := one.Prepare(request(t, one, c.now()))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*issuer.Prepared{"foreign": p, "zero": {}, "nil": nil} {
		if _, err := two.Sign(p); reason.Of(err) != reason.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := one.Sign(p); err != nil {
		t.Errorf("a foreign try used it up: %v", err)
	}
}

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

func BenchmarkPrepare(b *testing.B) {
	i, c, _ := newIssuer(b, 0)
	req := request(b, i, c.now())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Prepare(req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	i, c, _ := newIssuer(b, 0)
	req := request(b, i, c.now())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		p, err := i.Prepare(req)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := i.Sign(p); err != nil {
			b.Fatal(err)
		}
	}
}
