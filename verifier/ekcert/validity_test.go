package ekcert_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// revoking is a revocation list of a that names serial, good until next.
func (a *authority) revoking(t testing.TB, serial int64, next time.Time) x509chain.CRLs {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: noon.AddDate(0, -1, 0), NextUpdate: next,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: noon.AddDate(0, -1, 0)}},
	}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := x509chain.NewCRLs(der)
	if err != nil {
		t.Fatal(err)
	}
	return lists
}

func TestVerifyRevoked(t *testing.T) {
	m := newMaker(t)
	later := noon.AddDate(0, 1, 0)
	runRefusals(t, m, []refusal{
		{"revoked", func(r *request) { r.opts.CRLs = m.issuer.revoking(t, 77, later) }, reason.EKCertRevoked},
		{"issuer revoked", func(r *request) { r.opts.CRLs = m.root.revoking(t, 1, later) }, reason.EKCertRevoked},
		{"stale list", func(r *request) { r.opts.CRLs = m.issuer.revoking(t, 5, noon.Add(-time.Second)) }, reason.EKCertRevoked},
		{"another is revoked", func(r *request) { r.opts.CRLs = m.issuer.revoking(t, 78, later) }, ""},
		{"revoked counts as of now, not of notBefore", func(r *request) {
			r.now, r.opts.AllowExpired = noon.AddDate(9, 1, 0), true
			r.opts.CRLs = m.issuer.revoking(t, 78, later)
		}, reason.EKCertRevoked},
		{"an unknown root before a revoked certificate", func(r *request) {
			r.roots, r.opts.CRLs = newMaker(t).roots, m.issuer.revoking(t, 77, later)
		}, reason.EKCertUntrusted},
	})
}

// TestVerifyRevokedCrossSigned: of two chains, one that nobody revoked is enough.
func TestVerifyRevokedCrossSigned(t *testing.T) {
	m := newMaker(t)
	cross := newCA(t, caTemplate("Maker TPM Root CA 2"), nil, newKey(t, elliptic.P256()))
	second := newCA(t, caTemplate("Maker TPM EK CA 1"), cross, m.issuer.key)
	r := m.request(rsaKey().Public())
	r.roots = roots(t, append(m.root.pem(), cross.pem()...))
	r.chain = append(r.chain, second.cert.Raw)
	r.opts.CRLs = m.root.revoking(t, 1, noon.AddDate(0, 1, 0))
	if _, err := r.verify(t); err != nil {
		t.Error(err)
	}
	r.chain = r.chain[:1]
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertRevoked)
}

func TestVerifyExpired(t *testing.T) {
	m := newMaker(t)
	old := caTemplate("Maker TPM EK CA 0")
	old.NotAfter = noon.Add(-time.Hour)
	expired := newCA(t, old, m.root, newKey(t, elliptic.P256()))
	for name, c := range map[string]struct {
		change func(r *request)
		want   bool
	}{
		"valid":              {func(*request) {}, false},
		"expired":            {func(r *request) { r.now = noon.AddDate(30, 0, 0) }, true},
		"its issuer expired": {func(r *request) { r.issuer, r.chain = expired, [][]byte{expired.cert.Raw} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			r.opts.AllowExpired = true
			c.change(r)
			cert, err := r.verify(t)
			if err != nil || cert.Expired() != c.want {
				t.Errorf("expired %t, %v", cert.Expired(), err)
			}
			r.opts.AllowExpired = false
			if _, err := r.verify(t); c.want {
				wantCode(t, err, reason.EKCertValidity)
			}
		})
	}
	r := m.request(rsaKey().Public())
	r.issuer, r.chain, r.template.NotBefore = expired, [][]byte{expired.cert.Raw}, noon.AddDate(-20, 0, 0)
	r.opts.AllowExpired = true
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertValidity)
}

func TestSubjectKey(t *testing.T) {
	m := newMaker(t)
	der := m.issuer.issue(t, ekTemplate(x509.KeyUsageKeyEncipherment), rsaKey().Public())
	if got, err := ekcert.SubjectKey(append(der, 0, 0)); err != nil || !bytes.Equal(got, spkiOf(t, rsaKey().Public())) {
		t.Errorf("%x, %v", got, err)
	}
	_, err := ekcert.SubjectKey([]byte{0x30, 0})
	wantCode(t, err, reason.EKCertEncoding)
	_, err = ekcert.SubjectKey(make([]byte, 5000))
	wantCode(t, err, reason.RequestTooLarge)
	_, err = ekcert.SubjectKey(m.issuer.issue(t, ekTemplate(0), newKey(t, elliptic.P521()).Public()))
	wantCode(t, err, reason.EKCertKeyType)
}

func TestNoRootsNamesTheCommand(t *testing.T) {
	r := newMaker(t).request(rsaKey().Public())
	r.roots = ekcert.Roots{}
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertUntrusted)
	if !strings.Contains(reason.Detail(err), "zonebroker trust refresh") {
		t.Errorf("%q", reason.Detail(err))
	}
}

func TestKind(t *testing.T) {
	for _, c := range []struct{ maker, model, want string }{
		{"STM", "ST33HTPHAHB4", ekcert.KindDiscrete},
		{"IFX", "", ekcert.KindDiscrete},
		{"NTC", "NPCT75x", ekcert.KindDiscrete},
		{"INTC", "", ekcert.KindFirmware},
		{"AMD", "AMD", ekcert.KindFirmware},
		{"GOOG", "vTPM", ekcert.KindVirtual},
		{"MSFT", "", ekcert.KindVirtual},
		{"MSFT", "Microsoft Pluton TPM", ekcert.KindFirmware},
		{"id:00001014", "swtpm", ekcert.KindSoftware},
		{"ANT", "", ekcert.KindUnknown},
		{"id:53544D00", "ST33", ekcert.KindUnknown},
		{"", "vTPM", ekcert.KindUnknown},
	} {
		if got := ekcert.Kind(c.maker, c.model); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.maker, c.model, got, c.want)
		}
	}
	m := newMaker(t)
	r := m.request(rsaKey().Public())
	setSAN(r.template, altName(false, tpmAttribute{1, "id:53544D20"}, tpmAttribute{2, "ST\x0033\n"}, tpmAttribute{3, "id:\x7f"}))
	cert, err := r.verify(t)
	if err != nil || cert.Kind() != ekcert.KindDiscrete || cert.Model() != "ST.33." || cert.FirmwareVersion() != "id:." {
		t.Errorf("%s %q %q, %v", cert.Kind(), cert.Model(), cert.FirmwareVersion(), err)
	}
	if k := (ekcert.Certificate{}).Kind(); k != ekcert.KindUnknown {
		t.Errorf("the zero certificate proves %s", k)
	}
}
