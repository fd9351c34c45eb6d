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
	"math/big"
	"strings"
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
	if serial := cert.SerialNumber; serial.Sign() != 1 || serial.BitLen() != 127 {
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
		"RSA-2047":        {spki(t, &rsa.PublicKey{N: bits(2047), E: 65537}), reason.RequestMalformed},
		"RSA-4096":        {spki(t, &rsa.PublicKey{N: bits(4096), E: 65537}), ""},
		"RSA-4097":        {spki(t, &rsa.PublicKey{N: bits(4097), E: 65537}), reason.RequestMalformed},
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

// bits returns an odd number of n bits.
func bits(n uint) *big.Int {
	one := big.NewInt(1)
	return one.Add(one, new(big.Int).Lsh(one, n-1))
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
