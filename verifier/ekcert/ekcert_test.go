package ekcert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// request is one certificate handed in, and what it is judged by.
type request struct {
	template *x509.Certificate
	pub      crypto.PublicKey
	issuer   *authority
	rewrap   func(der []byte) []byte
	chain    [][]byte
	ek       []byte // nil: the SPKI of pub
	roots    ekcert.Roots
	opts     ekcert.Options
	now      time.Time
}

func (m *maker) request(pub crypto.PublicKey) *request {
	usage := x509.KeyUsageKeyEncipherment
	if _, ok := pub.(*ecdsa.PublicKey); ok {
		usage = x509.KeyUsageKeyAgreement
	}
	return &request{
		template: ekTemplate(usage), pub: pub, issuer: m.issuer,
		chain: [][]byte{m.issuer.cert.Raw}, roots: m.roots, now: noon,
	}
}

func spkiOf(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *request) verify(t testing.TB) (ekcert.Certificate, error) {
	t.Helper()
	raw := r.issuer.issue(t, r.template, r.pub)
	if r.rewrap != nil {
		raw = r.rewrap(raw)
	}
	if r.ek == nil {
		r.ek = spkiOf(t, r.pub)
	}
	return ekcert.Verify(raw, r.chain, r.ek, r.roots, r.opts, r.now)
}

func TestVerifyAccepted(t *testing.T) {
	m := newMaker(t)
	for name, pub := range map[string]crypto.PublicKey{
		"rsa":  rsaKey().Public(),
		"p256": newKey(t, elliptic.P256()).Public(),
		"p384": newKey(t, elliptic.P384()).Public(),
	} {
		t.Run(name, func(t *testing.T) {
			r := m.request(pub)
			cert, err := r.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if cert.Manufacturer() != "STM" || cert.Model() != "ST33" || cert.FirmwareVersion() != "id:00490004" || !cert.NotAfter().Equal(r.template.NotAfter) {
				t.Errorf("%s %s %s %s", cert.Manufacturer(), cert.Model(), cert.FirmwareVersion(), cert.NotAfter())
			}
			if c, err := x509.ParseCertificate(cert.Raw()); err != nil || c.SerialNumber.Cmp(r.template.SerialNumber) != 0 {
				t.Errorf("Raw(): %v", err)
			}
		})
	}
	for name, change := range map[string]func(r *request){
		"intermediate configured, none sent": func(r *request) {
			r.roots, r.chain = roots(t, append(m.root.pem(), m.issuer.pem()...)), nil
		},
		"root as DER":                       func(r *request) { r.roots = roots(t, m.root.cert.Raw) },
		"issued by the root":                func(r *request) { r.issuer, r.chain = m.root, nil },
		"an unrelated certificate sent too": func(r *request) { r.chain = append(r.chain, newMaker(t).root.cert.Raw) },
		"attributes in one RDN":             func(r *request) { setSAN(r.template, altName(true, stm...)) },
		"alternative name not critical":     func(r *request) { r.template.ExtraExtensions[0].Critical = false },
		"no key usage":                      func(r *request) { r.template.KeyUsage = 0 },
		"no extended key usage":             func(r *request) { r.template.UnknownExtKeyUsage = nil },
		"only a manufacturer":               func(r *request) { setSAN(r.template, altName(false, stm[0])) },
		"vendor named by the zone":          func(r *request) { r.opts.Vendors = []string{"IFX", "STM"} },
		"vendor named by id":                func(r *request) { r.opts.Vendors = []string{"id:53544d20"} },
		"first moment":                      func(r *request) { r.now = r.template.NotBefore },
		"last moment":                       func(r *request) { r.now = r.template.NotAfter },
		"expired where that is allowed":     func(r *request) { r.opts.AllowExpired, r.now = true, noon.AddDate(30, 0, 0) },
		"valid where expired is allowed":    func(r *request) { r.opts.AllowExpired = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			change(r)
			if _, err := r.verify(t); err != nil {
				t.Error(err)
			}
		})
	}
}

type refusal struct {
	name   string
	change func(r *request)
	code   reason.Code
}

func runRefusals(t *testing.T, m *maker, cases []refusal) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			c.change(r)
			_, err := r.verify(t)
			wantCode(t, err, c.code)
		})
	}
}

func TestVerifyKey(t *testing.T) {
	other := spkiOf(t, newKey(t, elliptic.P256()).Public())
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).SetBit(new(big.Int), 1023, 1), 0, 1), E: 65537}
	runRefusals(t, newMaker(t), []refusal{
		{"tpm-55 T14 certificate of another key", func(r *request) {
			n := new(big.Int).Add(rsaKey().N, big.NewInt(2))
			r.ek = spkiOf(t, &rsa.PublicKey{N: n, E: 65537})
		}, reason.EKCertKeyMismatch},
		{"tpm-55 RSA certificate, ECC EK", func(r *request) { r.ek = other }, reason.EKCertKeyMismatch},
		{"tpm-55 no EK", func(r *request) { r.ek = []byte{} }, reason.EKCertKeyMismatch},
		{"tpm-55 the mismatch is told though it is expired", func(r *request) { r.ek, r.now = other, noon.AddDate(30, 0, 0) }, reason.EKCertKeyMismatch},
		{"tpm-63 Ed25519 key", func(r *request) {
			r.rewrap = respki(t, r, "302a300506032b6570032100"+"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
		}, reason.EKCertKeyType},
		{"tpm-63 P-521", func(r *request) { r.pub = newKey(t, elliptic.P521()).Public() }, reason.EKCertKeyType},
		{"tpm-64 ROCA modulus", func(r *request) { r.pub = &rsa.PublicKey{N: rocaModulus(), E: 65537} }, reason.EKCertWeakKey},
		{"tpm-64 RSA-1024", func(r *request) { r.pub = weak }, reason.EKCertWeakKey},
	})
}

func TestVerifyProfile(t *testing.T) {
	m := newMaker(t)
	eku := func(value ...byte) func(r *request) {
		return func(r *request) {
			r.template.UnknownExtKeyUsage = nil
			r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: oidEKU, Value: value})
		}
	}
	two := append([]tpmAttribute{{1, "id:49465800"}}, stm...)
	san := func(value []byte) func(r *request) { return func(r *request) { setSAN(r.template, value) } }
	runRefusals(t, m, []refusal{
		{"tpm-57 T20 expired", func(r *request) { r.now = r.template.NotAfter.Add(time.Second) }, reason.EKCertValidity},
		{"tpm-57 not yet valid", func(r *request) { r.now = r.template.NotBefore.Add(-time.Second) }, reason.EKCertValidity},
		{"tpm-57 a CA that is not yet valid", func(r *request) {
			r.template.IsCA, r.now = true, r.template.NotBefore.Add(-time.Second)
		}, reason.EKCertValidity},
		{"notBefore is the zero time, which would mean the machine's clock", func(r *request) {
			r.template.NotBefore, r.opts.AllowExpired, r.now = time.Time{}, true, noon.AddDate(30, 0, 0)
		}, reason.EKCertValidity},
		{"tpm-57 not yet valid where expired is allowed", func(r *request) {
			r.opts.AllowExpired, r.now = true, r.template.NotBefore.Add(-time.Second)
		}, reason.EKCertValidity},
		{"no time given", func(r *request) { r.now = time.Time{} }, reason.EKCertValidity},
		{"tpm-61 T20 CA certificate", func(r *request) {
			r.template.IsCA, r.template.KeyUsage = true, r.template.KeyUsage|x509.KeyUsageCertSign
		}, reason.EKCertIsCA},
		{"tpm-58 unknown critical extension", func(r *request) {
			r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: encoding_asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
		}, reason.EKCertCriticalExtension},
		{"tpm-61 TLS server certificate", func(r *request) {
			r.template.UnknownExtKeyUsage, r.template.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			r.template.ExtraExtensions, r.template.DNSNames = nil, []string{"example.org"}
		}, reason.EKCertUsage},
		{"tpm-61 any extended key usage", func(r *request) {
			r.template.UnknownExtKeyUsage, r.template.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}, reason.EKCertUsage},
		{"tpm-61 AK usage 2.23.133.8.3", func(r *request) {
			r.template.UnknownExtKeyUsage = []encoding_asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}
		}, reason.EKCertUsage},
		{"tpm-61 key usage for signatures", func(r *request) { r.template.KeyUsage = x509.KeyUsageDigitalSignature }, reason.EKCertUsage},
		{"tpm-61 key agreement on an RSA key", func(r *request) { r.template.KeyUsage = x509.KeyUsageKeyAgreement }, reason.EKCertUsage},
		{"tpm-61 key encipherment on an ECC key", func(r *request) {
			r.pub = newKey(t, elliptic.P256()).Public()
			r.template.KeyUsage = x509.KeyUsageKeyEncipherment
		}, reason.EKCertUsage},
		{"T22 empty extended key usage", eku(0x30, 0), reason.EKCertUsage},
		{"T22 malformed extended key usage", eku(0x30, 5, 1), reason.EKCertEncoding},
		{"tpm-59 no alternative name", func(r *request) { r.template.ExtraExtensions = nil }, reason.EKCertSAN},
		{"tpm-59 alternative name without TPM attributes", san(altName(false, tpmAttribute{9, "x"})), reason.EKCertSAN},
		{"tpm-59 model and version alone", san(altName(false, stm[1:]...)), reason.EKCertSAN},
		{"tpm-59 two manufacturers", san(altName(false, two...)), reason.EKCertSAN},
		{"tpm-59 two manufacturers in one RDN", san(altName(true, two...)), reason.EKCertSAN},
		{"tpm-59 the same manufacturer twice", san(altName(false, stm[0], stm[0])), reason.EKCertSAN},
		{"tpm-59 two directory names", func(r *request) {
			a, b := altName(false, stm...), altName(false, two[0])
			joined := append(bytes.Clone(a[2:]), b[2:]...)
			setSAN(r.template, append([]byte{0x30, byte(len(joined))}, joined...))
		}, reason.EKCertSAN},
		{"tpm-59 two models", san(altName(false, append(stm[1:2:2], stm...)...)), reason.EKCertSAN},
		{"tpm-59 manufacturer without id:", san(altName(false, tpmAttribute{1, "53544D20"})), reason.EKCertSAN},
		{"tpm-59 manufacturer as text", san(altName(false, tpmAttribute{1, "id:STM "})), reason.EKCertSAN},
		{"tpm-59 manufacturer of ten digits", san(altName(false, tpmAttribute{1, "id:53544D2000"})), reason.EKCertSAN},
		{"T22 alternative name cut short", san(altName(false, stm...)[:40]), reason.EKCertEncoding},
		{"T22 directory name cut short", san([]byte{0x30, 4, 0xa4, 2, 0x30, 9}), reason.EKCertSAN},
		{"T22 bytes behind the names", san(append(altName(false, stm...), 0)), reason.EKCertSAN},
		{"T22 bytes behind the directory name", func(r *request) {
			b := append(altName(false, stm[0]), 0x05, 0) // both lengths are below 126
			b[1], b[3] = b[1]+2, b[3]+2
			setSAN(r.template, b)
		}, reason.EKCertSAN},
		{"T22 bytes behind an attribute's value", san(withTrailingValue()), reason.EKCertSAN},
		{"T22 manufacturer of another string type", san(withStringType(asn1.T61String)), reason.EKCertSAN},
		{"tpm-60 vendor of swtpm", san(altName(false, tpmAttribute{1, "id:00001014"}, stm[1], stm[2])), reason.EKCertVendorDenied},
		{"tpm-60 unregistered look-alike", san(altName(false, tpmAttribute{1, "id:53544D00"})), reason.EKCertVendorDenied},
		{"tpm-60 not among the zone's vendors", func(r *request) { r.opts.Vendors = []string{"IFX"} }, reason.EKCertVendorDenied},
	})
	t.Run("tpm-60 vendor of swtpm where a lab allows it", func(t *testing.T) {
		r := m.request(rsaKey().Public())
		setSAN(r.template, altName(false, tpmAttribute{1, "id:00001014"}, stm[1], stm[2]))
		r.opts = ekcert.Options{Vendors: []string{"IFX"}, ExtraVendors: []string{"id:00001014"}}
		cert, err := r.verify(t)
		if err != nil || cert.Manufacturer() != "id:00001014" {
			t.Errorf("%s, %v", cert.Manufacturer(), err)
		}
	})
	t.Run("a registered name does not open for a look-alike", func(t *testing.T) {
		r := m.request(rsaKey().Public())
		setSAN(r.template, altName(false, tpmAttribute{1, "id:53544D00"}))
		r.opts = ekcert.Options{ExtraVendors: []string{"STM"}}
		_, err := r.verify(t)
		wantCode(t, err, reason.EKCertVendorDenied)
	})
}

func TestVerifyChain(t *testing.T) {
	m := newMaker(t)
	fake := newCA(t, caTemplate("Maker TPM EK CA 1"), nil, newKey(t, elliptic.P256()))
	notCA := caTemplate("Maker TPM EK CA 1")
	notCA.IsCA, notCA.KeyUsage = false, x509.KeyUsageDigitalSignature
	constrained := caTemplate("Maker TPM EK CA 1")
	constrained.ExtraExtensions = []pkix.Extension{{ // permitted: the directory name CN=x
		Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true,
		Value: []byte{0x30, 0x14, 0xa0, 0x12, 0x30, 0x10, 0xa4, 0x0e, 0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 'x'},
	}}
	expired := caTemplate("Maker TPM EK CA 1")
	expired.NotAfter = noon.AddDate(0, -1, 0)
	weak := newCA(t, caTemplate("Maker RSA Root"), nil, rsaKey())
	under := func(ca *authority) func(r *request) {
		return func(r *request) { r.issuer, r.chain = ca, [][]byte{ca.cert.Raw} }
	}
	runRefusals(t, m, []refusal{
		{"tpm-56 T20 another maker's root", func(r *request) { r.roots = newMaker(t).roots }, reason.EKCertUntrusted},
		{"tpm-56 no roots: nobody is trusted", func(r *request) { r.roots = ekcert.Roots{} }, reason.EKCertUntrusted},
		{"tpm-56 intermediate missing", func(r *request) { r.chain = nil }, reason.EKCertUntrusted},
		{"tpm-56 fake intermediate of the same name", under(fake), reason.EKCertUntrusted},
		{"tpm-56 its own root in the chain", func(r *request) {
			own := newMaker(t)
			r.issuer, r.chain = own.issuer, [][]byte{own.issuer.cert.Raw, own.root.cert.Raw}
		}, reason.EKCertUntrusted},
		{"T20 intermediate is no CA", under(newCA(t, notCA, m.root, newKey(t, elliptic.P256()))), reason.EKCertUntrusted},
		{"T20 intermediate with a name constraint", under(newCA(t, constrained, m.root, newKey(t, elliptic.P256()))), reason.EKCertUntrusted},
		{"T20 intermediate expired", under(newCA(t, expired, m.root, newKey(t, elliptic.P256()))), reason.EKCertValidity},
		{"issuer certificate is junk", func(r *request) { r.chain = [][]byte{[]byte("junk")} }, reason.EKCertEncoding},
		{"signed with SHA-1", func(r *request) {
			r.issuer, r.chain, r.roots = weak, nil, roots(t, weak.pem())
			r.template.SignatureAlgorithm = x509.SHA1WithRSA
		}, reason.EKCertWeakSignature},
		{"signed with SHA-1 by a stranger", func(r *request) {
			r.issuer, r.chain = weak, nil
			r.template.SignatureAlgorithm = x509.SHA1WithRSA
		}, reason.EKCertWeakSignature},
	})
	t.Run("tpm-56 self-signed", func(t *testing.T) {
		r := m.request(rsaKey().Public())
		r.issuer = &authority{cert: r.template, key: rsaKey()}
		_, err := r.verify(t)
		wantCode(t, err, reason.EKCertUntrusted)
	})
	t.Run("tpm-56 signature flipped", func(t *testing.T) {
		r := m.request(rsaKey().Public())
		r.rewrap = func(der []byte) []byte { der[len(der)-1] ^= 1; return der }
		_, err := r.verify(t)
		wantCode(t, err, reason.EKCertUntrusted)
	})
}

// system is a CA that the operating system trusts, as far as this process goes:
// crypto/x509 reads SSL_CERT_FILE once, at its first use.
var system *maker

func TestMain(m *testing.M) {
	os.Exit(runWithSystemRoots(m))
}

func runWithSystemRoots(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ekcert")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var setup testing.B
	system = newMaker(&setup)
	file := filepath.Join(dir, "system.pem")
	if err := os.WriteFile(file, system.root.pem(), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", file)
	os.Setenv("SSL_CERT_DIR", dir)
	return m.Run()
}

// TestVerifyIgnoresTheSystem: no roots means nobody, not whoever the operating
// system trusts as a web server.
func TestVerifyIgnoresTheSystem(t *testing.T) {
	r := system.request(rsaKey().Public())
	r.roots = ekcert.Roots{}
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertUntrusted)
}

// TestVerifyOrder piles faults up: the code is that of the first check.
func TestVerifyOrder(t *testing.T) {
	m := newMaker(t)
	steps := []refusal{
		{"untrusted", func(r *request) { r.roots = newMaker(t).roots }, reason.EKCertUntrusted},
		{"vendor", func(r *request) { setSAN(r.template, altName(false, tpmAttribute{1, "id:00001014"})) }, reason.EKCertVendorDenied},
		{"alternative name", func(r *request) { setSAN(r.template, altName(false)) }, reason.EKCertSAN},
		{"usage", func(r *request) { r.template.KeyUsage = x509.KeyUsageDigitalSignature }, reason.EKCertUsage},
		{"critical extension", func(r *request) {
			r.template.ExtraExtensions = append(r.template.ExtraExtensions, pkix.Extension{Id: encoding_asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}, reason.EKCertCriticalExtension},
		{"CA", func(r *request) { r.template.IsCA = true }, reason.EKCertIsCA},
		{"validity", func(r *request) { r.now = noon.AddDate(30, 0, 0) }, reason.EKCertValidity},
		{"key", func(r *request) { r.ek = spkiOf(t, newKey(t, elliptic.P256()).Public()) }, reason.EKCertKeyMismatch},
		{"key type", func(r *request) { r.pub = newKey(t, elliptic.P521()).Public() }, reason.EKCertKeyType},
		{"encoding", func(r *request) { r.rewrap = func(der []byte) []byte { return append(der, 1, 2, 3) } }, reason.EKCertEncoding},
		{"size", func(r *request) { r.chain = make([][]byte, 5) }, reason.RequestTooLarge},
	}
	for n := range steps {
		t.Run(steps[n].name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			for _, s := range steps[:n+1] {
				s.change(r)
			}
			_, err := r.verify(t)
			wantCode(t, err, steps[n].code)
		})
	}
}
