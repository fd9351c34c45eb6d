package nitro_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// sized issues a certificate of n bytes of DER. Signatures differ in length, so
// that it takes some tries.
func sized(t *testing.T, issuer *documenttest.Certified, template *x509.Certificate, n int) *documenttest.Certified {
	t.Helper()
	pad := 1000
	for range 200 {
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, pad)}}
		c, err := issuer.Issue(template, p384)
		must(t, err)
		if len(c.Raw) == n {
			return c
		}
		pad += n - len(c.Raw)
	}
	t.Fatalf("no certificate of %d bytes", n)
	return nil
}

// below puts other CAs in the place of the last two.
func below(make func(t *testing.T, region *documenttest.Certified, zone, instance *x509.Certificate) (z, i *documenttest.Certified)) func(*testing.T, *lab) {
	return func(t *testing.T, l *lab) {
		zone := l.Authority("zone", noon.Add(-time.Hour), noon.Add(time.Hour), 1)
		instance := l.Authority("instance", noon.Add(-time.Hour), noon.Add(time.Hour), 0)
		z, i := make(t, l.Issuer[1], zone, instance)
		p := *l.NitroPKI
		p.Issuer = []*documenttest.Certified{l.Issuer[0], l.Issuer[1], z, i}
		l.NitroPKI = &p
	}
}

// checks are one case for each check that the catalogue and what is beside it would
// not miss; "" is a good document.
func checks() []forgery {
	type fields = documenttest.NitroFields
	module := func(m string) func(*fields) { return func(f *fields) { f.Module = m } }
	region := func(r string) func(*fields) {
		return func(f *fields) { f.Leaf = named(documenttest.NitroModule + "." + r + ".aws") }
	}
	leaf := func(change func(*x509.Certificate)) func(*fields) {
		return func(f *fields) {
			f.Leaf = named(documenttest.NitroModule + ".us-east-1.aws")
			change(f.Leaf)
		}
	}
	instance := func(change func(*fields)) func(*fields) {
		return func(f *fields) { f.Instance = true; change(f) }
	}
	asked := func(e *nitro.Expectation) { e.Type = nitro.Instance }
	const enclave = "i-0123456789abcdef0-enc"
	hex := strings.Repeat("a", 32)
	return []forgery{
		{name: "64 KiB", want: reason.CBORTrailing, edit: replaced(make([]byte, nitro.MaxDocument))},
		{name: "the last timestamp", want: reason.NitroTimestamp, make: contentAs(func(c map[any]any) { c["timestamp"] = uint64(math.MaxInt64) })},
		{name: "digest as a number", want: reason.CBORMalformed, make: contentAs(func(c map[any]any) { c["digest"] = 1 })},
		{name: "instance without PCRs", want: reason.NitroPCR, ask: asked, make: instance(contentAs(func(c map[any]any) { c["nitrotpm_pcrs"] = map[any]any{} }))},
		{name: "instance with some PCRs", want: "", ask: asked, make: instance(func(f *fields) { f.PCRs = map[int][]byte{0: nil, 1: nil} })},
		{name: "instance whose PCR 0 is zero", want: "", ask: asked, make: instance(func(f *fields) { f.PCRs = map[int][]byte{0: make([]byte, 48)} })},
		{name: "PCR 1 absent", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{1: nil} }},
		{name: "PCR 2 absent", want: reason.NitroPCR, make: func(f *fields) { f.PCRs = map[int][]byte{2: nil} }},

		{name: "module of no instance", want: reason.NitroFields, make: module(enclave[2:] + "01")},
		{name: "instance of seven digits", want: reason.NitroFields, make: module("i-0123456-enc01")},
		{name: "instance of eight digits", want: "", make: module("i-01234567-enc01")},
		{name: "instance of eighteen digits", want: reason.NitroFields, make: module("i-0123456789abcdef01-enc01")},
		{name: "module without its kind", want: reason.NitroFields, make: module("i-0123456789abcdef0-abc")},
		{name: "module without a number", want: reason.NitroFields, make: module(enclave)},
		{name: "module of 32 digits", want: "", make: module(enclave + hex)},
		{name: "module of 33 digits", want: reason.NitroFields, make: module(enclave + hex + "a")},
		{name: "module of letters", want: reason.NitroFields, make: module(enclave + "xyz")},

		{name: "certificate of no domain", want: reason.NitroLeaf, make: func(f *fields) { f.Leaf = named(documenttest.NitroModule + ".us-east-1") }},
		{name: "certificate of another TPM of the instance", want: reason.NitroLeaf, ask: asked, make: instance(func(f *fields) {
			f.Leaf = named(documenttest.NitroInstance + "-tpm1.us-east-1.aws")
		})},
		{name: "region of two parts", want: reason.NitroLeaf, make: region("us-1")},
		{name: "region of 32 letters", want: "", make: region("us-" + strings.Repeat("a", 27) + "-1")},
		{name: "region of 33 letters", want: reason.NitroLeaf, make: region("us-" + strings.Repeat("a", 28) + "-1")},
		{name: "region with an empty part", want: reason.NitroLeaf, make: region("us--1")},
		{name: "region with a capital", want: reason.NitroLeaf, make: region("us-East-1")},
		{name: "region without a number", want: reason.NitroLeaf, make: region("us-east-")},
		{name: "region with a letter for its number", want: reason.NitroLeaf, make: region("us-east-x")},

		{name: "made after its certificate", want: reason.NitroTimestamp, make: func(f *fields) {
			leaf(func(c *x509.Certificate) { c.NotAfter = noon.Add(30 * time.Second) })(f)
			f.At = noon.Add(45 * time.Second)
		}},
		{name: "leaf is a CA that may not issue", want: reason.NitroLeaf, make: leaf(func(c *x509.Certificate) { c.IsCA = true })},
		{name: "leaf without a key usage", want: "", make: leaf(func(c *x509.Certificate) { c.KeyUsage = 0 })},
		{name: "leaf with an unknown critical extension", want: reason.NitroUntrusted, make: leaf(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		})},
		{name: "bundle of eight", want: reason.NitroUntrusted, make: contentAs(func(c map[any]any) {
			c["cabundle"] = slices.Repeat(c["cabundle"].([]any)[:1], 8)
		})},
		{name: "issuer that may sign and is no CA", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.IsCA, c.MaxPathLen, c.KeyUsage = false, 0, x509.KeyUsageCertSign
			}
		})},
		{name: "issuer that is a CA and may not sign", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.KeyUsage = x509.KeyUsageDigitalSignature
			}
		})},
		{name: "issuer without a key usage", want: "", lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 2 {
				c.KeyUsage = 0
			}
		})},
		{name: "path of two where one is allowed", want: reason.NitroUntrusted, lab: rebuilt(func(c *x509.Certificate, i int) {
			if i == 1 {
				c.MaxPathLen = 1
			}
		})},
		{name: "issuer with a key on P-256", want: reason.NitroUntrusted, lab: below(func(t *testing.T, region *documenttest.Certified, zone, instance *x509.Certificate) (z, i *documenttest.Certified) {
			z, err := region.Issue(zone, p256)
			must(t, err)
			i, err = z.Issue(instance, p384)
			must(t, err)
			return z, i
		})},
		{name: "issuer of another name with the same key", want: reason.NitroUntrusted, lab: below(func(t *testing.T, region *documenttest.Certified, zone, instance *x509.Certificate) (z, i *documenttest.Certified) {
			z, err := region.Issue(zone, p384)
			must(t, err)
			other := *z.Certificate
			other.RawSubject, err = asn1.Marshal(pkix.Name{CommonName: "another"}.ToRDNSequence())
			must(t, err)
			i, err = (&documenttest.Certified{Certificate: &other, Key: z.Key}).Issue(instance, p384)
			must(t, err)
			return z, i
		})},
	}
}

func TestChecks(t *testing.T) {
	shared := newLab(t)
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.judge(t, shared) })
	}
	for n, want := range map[int]reason.Code{2048: "", 2049: reason.NitroLeaf} {
		signer := sized(t, shared.Issuer[3], named(documenttest.NitroModule+".us-east-1.aws"), n)
		forgery{want: want, make: func(f *documenttest.NitroFields) { f.Signer = signer }}.judge(t, shared)
	}
	for n, want := range map[int]reason.Code{2048: reason.NitroUntrusted, 2049: reason.NitroCabundle} {
		long := sized(t, shared.Issuer[3], named("x"), n)
		forgery{want: want, make: contentAs(func(c map[any]any) { c["cabundle"] = []any{c["cabundle"].([]any)[0], long.Raw} })}.judge(t, shared)
	}
}

// TestRootChecks: a root is a CA with a key on P-384, and there are few of them.
func TestRootChecks(t *testing.T) {
	l := newLab(t)
	for n, good := range map[int]bool{16: true, 17: false} {
		if _, err := nitro.NewTrust(slices.Repeat([][]byte{l.RootPEM()}, n)...); (err == nil) != good {
			t.Errorf("%d roots: %v", n, err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := l.Authority("RSA", noon.Add(-time.Hour), noon.Add(time.Hour), -1)
	template.SerialNumber, template.SignatureAlgorithm = big.NewInt(1), x509.UnknownSignatureAlgorithm
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	if _, err := nitro.NewTrust(inPEM("CERTIFICATE", der)); err == nil {
		t.Error("a root with an RSA key is taken")
	}
}

// TestFactsNamed: which checks held, and what an instance is called.
func TestFactsNamed(t *testing.T) {
	l := newLab(t)
	f := documenttest.NitroFields{Instance: true, Nonce: nonce, PCRs: map[int][]byte{0: make([]byte, 48)}}
	d, err := nitro.Verify(l.document(t, f), wanted(f), l.trust, noon)
	must(t, err)
	if d.Debug() {
		t.Error("an instance is called an enclave in debug mode")
	}
	facts := d.Facts()
	var names []string
	for _, c := range facts.Findings {
		names = append(names, c.Check)
	}
	if got := strings.Join(names, " "); !strings.HasPrefix(got, "nitro.chain nitro.signature nitro.timestamp") {
		t.Errorf("findings %s", got)
	}
	for name, want := range map[string]string{
		"nitrotpm.module_id": documenttest.NitroTPM, "nitrotpm.instance_id": documenttest.NitroInstance, "nitrotpm.region": documenttest.NitroRegion,
	} {
		if got := facts.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
