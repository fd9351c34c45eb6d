package akcert_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

func TestVerifyAccepted(t *testing.T) {
	c := newCloud(t)
	google := akcert.Instance{
		Cloud: "gce", Zone: "europe-west3-b", Project: "acme-prod", ProjectNumber: "4711",
		ID: "9223372036854775813", Name: "db-1",
	}
	azure := func(name string) func(r *request) {
		return func(r *request) {
			r.template.ExtraExtensions = nil
			r.template.Subject = pkix.Name{CommonName: name}
			r.template.UnknownExtKeyUsage = []encoding_asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 10, 3, 12}, oidAK}
		}
	}
	for name, tc := range map[string]struct {
		change func(r *request)
		want   akcert.Instance
	}{
		"gce P-256": {func(*request) {}, google},
		"gce RSA":   {func(r *request) { r.pub = rsaKey().Public() }, google},
		"gce of 2022, with the usage of an EK certificate": {func(r *request) {
			r.template.UnknownExtKeyUsage = []encoding_asn1.ObjectIdentifier{oidEK}
			r.template.ExtraExtensions = append(r.template.ExtraExtensions,
				pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: []byte{0x30, 0}},
				pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 9}, Critical: true, Value: []byte{0x30, 0}})
		}, google},
		"fill of the NV index": {func(r *request) {
			r.rewrap = func(d []byte) []byte { return append(d, make([]byte, 300)...) }
		}, google},
		"intermediate configured": {func(r *request) {
			r.roots, r.chain = roots(t, c.root.cert.Raw, c.issuer.cert.Raw), nil
		}, google},
		"no production": {func(r *request) {
			vm := testVM
			vm.production = false
			r.template.ExtraExtensions[0].Value = vm.der()
		}, akcert.Instance{}},
		"no security properties": {func(r *request) {
			vm := testVM
			vm.noProperties = true
			r.template.ExtraExtensions[0].Value = vm.der()
		}, akcert.Instance{}},
		"azure trusted launch": {azure("f859864a6a31.TrustedVM.Azure.windows.net"), akcert.Instance{Cloud: "azure", ID: "f859864a6a31"}},
		"azure confidential":   {azure("a1.ConfidentialVM.Azure.windows.net"), akcert.Instance{Cloud: "azure", ID: "a1"}},
		"azure, no key usage": {func(r *request) {
			azure("a1.TrustedVM.Azure.windows.net")(r)
			r.template.KeyUsage = 0
		}, akcert.Instance{Cloud: "azure", ID: "a1"}},
		"no machine named":         {azure("TrustedVM.Azure.windows.net"), akcert.Instance{}},
		"an empty name":            {azure(".TrustedVM.Azure.windows.net"), akcert.Instance{}},
		"a name of several labels": {azure("a.b.TrustedVM.Azure.windows.net"), akcert.Instance{}},
		"first moment":             {func(r *request) { r.now = r.template.NotBefore }, google},
		"last moment":              {func(r *request) { r.now = r.template.NotAfter }, google},
		"another serial is revoked": {func(r *request) {
			r.opts.CRLs = c.issuer.revoking(t, 78, noon.AddDate(0, 1, 0))
		}, google},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.request(t)
			tc.change(r)
			cert, err := r.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if cert.Instance() != tc.want || cert.Issuer() != "Cloud EK/AK CA Intermediate" || !cert.NotAfter().Equal(r.template.NotAfter) {
				t.Errorf("%+v, issuer %q, until %s", cert.Instance(), cert.Issuer(), cert.NotAfter())
			}
			if got, err := x509.ParseCertificate(cert.Raw()); err != nil || got.SerialNumber.Cmp(r.template.SerialNumber) != 0 {
				t.Errorf("Raw(): %v", err)
			}
		})
	}
}

func TestVerifyRefused(t *testing.T) {
	c := newCloud(t)
	stranger := newCloud(t)
	ext := func(value []byte) func(r *request) {
		return func(r *request) { r.template.ExtraExtensions[0].Value = value }
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short := testVM.der()
	for _, tc := range []struct {
		name   string
		change func(r *request)
		code   reason.Code
	}{
		{"empty", func(r *request) { r.rewrap = func([]byte) []byte { return nil } }, reason.TPM2AKCertEncoding},
		{"cut short", func(r *request) { r.rewrap = func(d []byte) []byte { return d[:len(d)-1] } }, reason.TPM2AKCertEncoding},
		{"not X.509", func(r *request) { r.rewrap = func([]byte) []byte { return []byte{0x30, 0} } }, reason.TPM2AKCertEncoding},
		{"too long", func(r *request) { r.rewrap = func(d []byte) []byte { return append(d, make([]byte, 4096)...) } }, reason.RequestTooLarge},
		{"five issuers", func(r *request) { r.chain = make([][]byte, 5) }, reason.RequestTooLarge},
		{"a long issuer", func(r *request) { r.chain = [][]byte{make([]byte, 4097)} }, reason.RequestTooLarge},
		{"an issuer that does not parse", func(r *request) { r.chain = [][]byte{{0x30, 0}} }, reason.TPM2AKCertEncoding},
		{"a key that no TPM has", func(r *request) { r.pub = ed }, reason.TPM2AKCertEncoding},
		{"an instance cut short", ext(short[:len(short)-1]), reason.TPM2AKCertEncoding},
		{"an instance with more behind", ext(append(bytes.Clone(short), 0)), reason.TPM2AKCertEncoding},
		{"an instance that is no text", ext(instance{zone: "\xff", production: true}.der()), reason.TPM2AKCertEncoding},
		{"an instance of another form", ext([]byte{0x30, 3, 2, 1, 5}), reason.TPM2AKCertEncoding},
		{"properties that do not parse", ext(bytes.Replace(short, []byte{0xa1, 3, 1, 1, 0xff}, []byte{0xa1, 3, 1, 1, 0x55}, 1)), reason.TPM2AKCertEncoding},
		{"another key", func(r *request) { r.ak = spkiOf(t, newKey(t).Public()) }, reason.TPM2AKCertKeyMismatch},
		{"another key, told though it is expired", func(r *request) {
			r.ak, r.now = []byte{}, noon.AddDate(30, 0, 0)
		}, reason.TPM2AKCertKeyMismatch},
		{"expired", func(r *request) { r.now = r.template.NotAfter.Add(time.Second) }, reason.TPM2AKCertValidity},
		{"not yet valid", func(r *request) { r.now = r.template.NotBefore.Add(-time.Second) }, reason.TPM2AKCertValidity},
		{"no time", func(r *request) { r.now = time.Time{} }, reason.TPM2AKCertValidity},
		{"an expired CA", func(r *request) {
			r.template.IsCA, r.now = true, noon.AddDate(30, 0, 0)
		}, reason.TPM2AKCertValidity},
		{"a CA", func(r *request) { r.template.IsCA = true }, reason.TPM2AKCertUsage},
		{"key encipherment", func(r *request) { r.template.KeyUsage |= x509.KeyUsageKeyEncipherment }, reason.TPM2AKCertUsage},
		{"key agreement", func(r *request) { r.template.KeyUsage = x509.KeyUsageKeyAgreement }, reason.TPM2AKCertUsage},
		{"data encipherment", func(r *request) { r.template.KeyUsage |= x509.KeyUsageDataEncipherment }, reason.TPM2AKCertUsage},
		{"signs certificates", func(r *request) { r.template.KeyUsage |= x509.KeyUsageCertSign }, reason.TPM2AKCertUsage},
		{"content commitment alone", func(r *request) { r.template.KeyUsage = x509.KeyUsageContentCommitment }, reason.TPM2AKCertUsage},
		{"no usage at all", func(r *request) { r.template.KeyUsage = 0 }, reason.TPM2AKCertUsage},
		{"an EK certificate without key usage", func(r *request) {
			r.template.KeyUsage, r.template.UnknownExtKeyUsage = 0, []encoding_asn1.ObjectIdentifier{oidEK}
		}, reason.TPM2AKCertUsage},
		{"a TLS certificate", func(r *request) { r.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, reason.TPM2AKCertUsage},
		{"an empty extended key usage", func(r *request) {
			r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0}})
		}, reason.TPM2AKCertUsage},
		{"a usage before an unknown root", func(r *request) {
			r.template.KeyUsage, r.roots = x509.KeyUsageKeyAgreement, stranger.roots
		}, reason.TPM2AKCertUsage},
		{"an unknown critical extension", func(r *request) {
			r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: encoding_asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
		}, reason.TPM2AKCertUntrusted},
		{"an unknown root", func(r *request) { r.roots = stranger.roots }, reason.TPM2AKCertUntrusted},
		{"no roots", func(r *request) { r.roots = x509chain.Roots{} }, reason.TPM2AKCertUntrusted},
		{"issuer missing", func(r *request) { r.chain = nil }, reason.TPM2AKCertUntrusted},
		{"an issuer of the same name", func(r *request) { r.issuer = stranger.issuer }, reason.TPM2AKCertUntrusted},
		{"a root sent along", func(r *request) {
			r.issuer, r.chain = stranger.issuer, [][]byte{stranger.issuer.cert.Raw, stranger.root.cert.Raw}
		}, reason.TPM2AKCertUntrusted},
		{"revoked", func(r *request) { r.opts.CRLs = c.issuer.revoking(t, 77, noon.AddDate(0, 1, 0)) }, reason.TPM2AKCertUntrusted},
		{"issuer revoked", func(r *request) { r.opts.CRLs = c.root.revoking(t, 1, noon.AddDate(0, 1, 0)) }, reason.TPM2AKCertUntrusted},
		{"stale revocation list", func(r *request) { r.opts.CRLs = c.issuer.revoking(t, 5, noon.Add(-time.Second)) }, reason.TPM2AKCertUntrusted},
		{"expired issuer", func(r *request) {
			old := caTemplate("Cloud EK/AK CA Old")
			old.NotAfter = noon.Add(-time.Hour)
			r.issuer = newCA(t, old, c.root)
			r.chain = [][]byte{r.issuer.cert.Raw}
		}, reason.TPM2AKCertValidity},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := c.request(t)
			tc.change(r)
			cert, err := r.verify(t)
			wantCode(t, err, tc.code)
			if cert.Raw() != nil || cert.Instance() != (akcert.Instance{}) {
				t.Error("a refused certificate still says something")
			}
		})
	}
}

// An RSA-16384 key in a chain would cost milliseconds for each verification.
func TestVerifyHugeKey(t *testing.T) {
	c := newCloud(t)
	r := c.request(t)
	r.pub = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 4200, 1), E: 65537}
	_, err := r.verify(t)
	wantCode(t, err, reason.RequestTooLarge)
}

func TestSubjectKey(t *testing.T) {
	c := newCloud(t)
	for _, pub := range []crypto.PublicKey{rsaKey().Public(), newKey(t).Public()} {
		raw, err := x509.CreateCertificate(rand.Reader, akTemplate(), c.issuer.cert, pub, c.issuer.key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := akcert.SubjectKey(raw); err != nil || !bytes.Equal(got, spkiOf(t, pub)) {
			t.Errorf("%x, %v", got, err)
		}
	}
	_, err := akcert.SubjectKey([]byte{0x30, 0})
	wantCode(t, err, reason.TPM2AKCertEncoding)
}

// FuzzVerify: whatever lies in the NV index, nothing but what the cloud signed
// passes.
func FuzzVerify(f *testing.F) {
	c := newCloud(f)
	pub := newKey(f).Public()
	der, err := x509.CreateCertificate(rand.Reader, akTemplate(), c.issuer.cert, pub, c.issuer.key)
	if err != nil {
		f.Fatal(err)
	}
	good, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	spki, trusted := spkiOf(f, pub), roots(f, c.root.cert.Raw, c.issuer.cert.Raw)
	f.Add(der, []byte{})
	f.Add(append(bytes.Clone(der), 0, 0), c.issuer.cert.Raw)
	f.Fuzz(func(t *testing.T, raw, issuer []byte) {
		var chain [][]byte
		if len(issuer) > 0 {
			chain = [][]byte{issuer}
		}
		var cert akcert.Certificate
		var err error
		evidencetest.Bounded(t, len(raw)+len(issuer), 64, func() {
			cert, err = akcert.Verify(raw, chain, spki, trusted, akcert.Options{}, noon)
		})
		if err != nil {
			return
		}
		if got, err := x509.ParseCertificate(cert.Raw()); err != nil || !bytes.Equal(got.RawTBSCertificate, good.RawTBSCertificate) {
			t.Errorf("another certificate passed: %x", raw)
		}
	})
}
