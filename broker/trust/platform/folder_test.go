package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// ca is an authority of the tests.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string, by *ca) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
	}
	issuer := &ca{template, key}
	if by != nil {
		issuer = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{cert, key}
}

func (a *ca) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *ca) crl(t testing.TB, next time.Time) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.AddDate(0, -1, 0), NextUpdate: next}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (a *ca) row(id ID, address string) Row {
	c := ofCertificates([]*x509.Certificate{a.cert})
	return Row{ID: id, Subject: c.subject, NotBefore: c.begins, NotAfter: c.ends, SHA256: c.prints, Address: address}
}

const someKeys = `{"keys":[{"kty":"EC","kid":"1","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

func issuerKeys(issuer string) string {
	return `{"format":"ear","issuer":"` + issuer + `","jwks":` + someKeys + `}`
}

// lay writes files of a folder of trust objects.
func lay(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "trust")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func opened(t testing.TB, dir string, rows ...Row) *Folder {
	t.Helper()
	f, err := open(dir, rows)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOpenReadsObjects(t *testing.T) {
	a := newCA(t, "root", nil)
	dir := lay(t, map[string]string{
		"aws.nitro/root-g1.pem": string(a.pem()), "amd.crl/milan.crl": string(a.crl(t, noon.AddDate(0, 1, 0))),
		"jwks/mine.json": issuerKeys("https://i.example"), "x509pop.ca/lab.der": string(a.cert.Raw), "nvidia.rim/a": "{}", ".objects/x": "",
	})
	objects := opened(t, dir).Objects(noon)
	var names []string
	for _, o := range objects {
		names = append(names, o.Kind+"/"+o.Name)
	}
	if got, want := strings.Join(names, " "), "amd.crl/milan aws.nitro/root-g1 jwks/mine nvidia.rim/a x509pop.ca/lab"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if raw := objects[len(objects)-1].Raw; string(raw) != string(a.pem()) {
		t.Errorf("DER is not handed on as PEM: %q", raw)
	}
	if none := opened(t, filepath.Join(dir, "none")); none.Held() != 0 {
		t.Error("a folder that is not there holds something")
	}
}

// TestOpenRefuses: a folder that is not what it looks like is never half used.
func TestOpenRefuses(t *testing.T) {
	a := newCA(t, "root", nil)
	for name, files := range map[string]map[string]string{
		"a kind that is unknown":  {"aws.nitor/root.pem": string(a.pem())},
		"a file without a kind":   {"root.pem": string(a.pem())},
		"a name with a space":     {"aws.nitro/my root.pem": string(a.pem())},
		"a name twice":            {"aws.nitro/root.pem": string(a.pem()), "aws.nitro/root.der": string(a.cert.Raw)},
		"no certificate":          {"aws.nitro/root.pem": "hello"},
		"a key among them":        {"aws.nitro/root.pem": string(a.pem()) + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"},
		"truncated":               {"aws.nitro/root.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		"too many certificates":   {"aws.nitro/root.pem": strings.Repeat(string(a.pem()), 17)},
		"too large":               {"aws.nitro/root.pem": strings.Repeat("x", 65<<10)},
		"a list that is none":     {"amd.crl/milan.crl": string(a.cert.Raw)},
		"a list without end":      {"amd.crl/milan.pem": string(a.pem())},
		"keys without format":     {"jwks/a.json": `{"issuer":"https://i","jwks":` + someKeys + `}`},
		"no keys":                 {"jwks/a.json": `{"format":"ear","jwks":{"keys":[]}}`},
		"a symmetric key":         {"jwks/a.json": `{"format":"ear","jwks":{"keys":[{"kty":"oct","k":"AA"}]}}`},
		"collateral of something": {"intel.collateral/b0c06f000000.json": `{"tcb_info":"{}","qe_identity":"{}"}`},
		"empty":                   {"nvidia.rim/a.json": " \n"},
		"a state that is broken":  {"nvidia.rim/a.json": "{}", ".state/nvidia.rim/a.json": "{"},
	} {
		if f, err := open(lay(t, files), nil); err == nil {
			t.Errorf("%s: opened with %d objects", name, f.Held())
		}
	}
}

// TestFetchedKeysEnd: keys that nobody could refresh stop to count at their time;
// keys that an operator put there do not.
func TestFetchedKeysEnd(t *testing.T) {
	f := opened(t, lay(t, map[string]string{
		"jwks/fetched.json": issuerKeys("https://a.example"), "jwks/mine.json": issuerKeys("https://b.example"),
		".state/jwks/fetched.json": `{"expires":"2026-11-20T12:00:00Z"}`,
	}))
	if n := len(f.Objects(noon.Add(-time.Second))); n != 2 {
		t.Errorf("%d objects before the end", n)
	}
	if after := f.Objects(noon); len(after) != 1 || after[0].Name != "mine" {
		t.Errorf("%+v", after)
	}
}

// TestPutReplaces: one object, one file, readable again, whatever its form was
// before; what the verifier could not use does not get in.
func TestPutReplaces(t *testing.T) {
	a, b := newCA(t, "a", nil), newCA(t, "b", nil)
	dir := lay(t, map[string]string{"x509pop.ca/lab.der": string(a.cert.Raw)})
	f := opened(t, dir)
	id := ID{verifier.TrustX509PoP, "lab"}
	if err := f.put(id, ofCertificates([]*x509.Certificate{b.cert}), state{Fetched: noon}); err != nil {
		t.Fatal(err)
	}
	again := opened(t, dir)
	if o := again.held[id]; again.Held() != 1 || string(o.raw) != string(b.pem()) || !o.state.Fetched.Equal(noon) {
		t.Errorf("%d objects", again.Held())
	}
	for name, bad := range map[string]ID{"name": {verifier.TrustX509PoP, "../lab"}, "kind": {"x509pop", "lab"}} {
		if err := f.put(bad, ofCertificates([]*x509.Certificate{b.cert}), state{}); err == nil {
			t.Errorf("%s: kept", name)
		}
	}
}

func TestTable(t *testing.T) {
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[ID]bool{}
	count := map[string]int{}
	for _, r := range rows {
		if seen[r.ID] || !verifier.ValidTrustName(r.Name) || r.Subject == "" {
			t.Errorf("%+v", r)
		}
		seen[r.ID] = true
		count[r.Kind]++
		if len(r.SHA256) > 0 != r.NotAfter.After(r.NotBefore) {
			t.Errorf("%s: fingerprint and validity go together", r.ID)
		}
		// Nothing but a fingerprint makes a server's word good over plain HTTP.
		if r.Address != "" && !strings.HasPrefix(r.Address, "https://") && (len(r.SHA256) == 0 || !strings.HasPrefix(r.Address, "http://")) {
			t.Errorf("%s: address %q", r.ID, r.Address)
		}
		if r.Kind == verifier.TrustJWKS && (r.Format == "" || r.Address == "") {
			t.Errorf("%s: keys need a format and an address", r.ID)
		}
	}
	for kind, want := range map[string]int{"aws.ec2": 39, "aws.nitro": 1, "amd.snp": 6, "amd.crl": 3, "intel.root": 1, "nvidia.device": 1, "google.akca": 5, "azure.imds": 4, "jwks": 3} {
		if count[kind] != want {
			t.Errorf("%d rows of %s, want %d", count[kind], kind, want)
		}
	}
	for _, k := range verifier.TrustKinds() {
		if _, ok := kindOf(k); !ok {
			t.Errorf("kind %s is not known here", k)
		}
	}
	if len(Kinds()) != len(verifier.TrustKinds()) {
		t.Error("a kind that the verifier does not know")
	}
}

func TestParseTableRefuses(t *testing.T) {
	good := "aws.nitro\tr\t-\tCN=A\t2019-11-22T00:00:00Z\t2054-11-22T23:59:59Z\t" + strings.Repeat("ab", 32) + "\t-"
	if rows, err := parseTable(tableHead + "\n" + good + "\n"); err != nil || len(rows) != 1 || rows[0].Address != "" {
		t.Fatalf("%+v, %v", rows, err)
	}
	for name, line := range map[string]string{
		"a field less":       strings.TrimSuffix(good, "\t-"),
		"kind":               strings.Replace(good, "aws.nitro", "aws", 1),
		"not_before":         strings.Replace(good, "2019-11-22T00:00:00Z", "2019", 1),
		"not_after":          strings.Replace(good, "2054-11-22T23:59:59Z", "2054", 1),
		"fingerprint":        strings.Replace(good, "abab", "xx", 1),
		"without a":          strings.Replace(good, strings.Repeat("ab", 32), "-", 1),
		"second fingerprint": strings.Replace(good, strings.Repeat("ab", 32), strings.Repeat("ab", 32)+"+ab", 1),
	} {
		if _, err := parseTable(tableHead + "\n" + line + "\n"); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := parseTable("other\n" + good + "\n"); err == nil {
		t.Error("another head: taken")
	}
}
