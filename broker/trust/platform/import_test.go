package platform

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

func imported(got []Imported) string {
	var out []string
	for _, i := range got {
		out = append(out, i.ID.String()+"="+i.Outcome)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// importScene has a chain of AMD and a root of Nitro in its table.
func importScene(t *testing.T) (f *Folder, ark, ask, root *ca, dir string) {
	t.Helper()
	ark = newCA(t, "ARK-Milan", nil)
	ask, root = newCA(t, "SEV-Milan", ark), newCA(t, "aws.root-enclaves", nil)
	chain := ofCertificates([]*x509.Certificate{ask.cert, ark.cert})
	f = opened(t, filepath.Join(t.TempDir(), "trust"),
		Row{ID: ID{verifier.TrustSNP, "milan-vcek"}, Subject: chain.subject, NotBefore: chain.begins, NotAfter: chain.ends, SHA256: chain.prints},
		Row{ID: ID{verifier.TrustSNPCRL, "milan"}, Subject: "CN=ARK-Milan"},
		root.row(ID{verifier.TrustAzureIMDS, "root-g1"}, ""), region(t).row(ID{verifier.TrustEC2, "eu-central-1"}, ""),
	)
	return f, ark, ask, root, t.TempDir()
}

// theRegion signs as AWS's regions do, with RSA.
var theRegion = sync.OnceValues(func() (*x509.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Test"}}, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
})

func region(t *testing.T) *ca {
	t.Helper()
	cert, err := theRegion()
	if err != nil {
		t.Fatal(err)
	}
	return &ca{cert: cert}
}

func write(t *testing.T, dir, name string, raw []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *Folder) importing(t *testing.T, path string, how Importing) string {
	t.Helper()
	how.Now = noon
	got, err := f.Import(path, how)
	if err != nil {
		t.Fatal(err)
	}
	return imported(got)
}

// TestImportRecognises: what a table lists is known in any packing, and a list
// that comes before the root that signed it is believed all the same.
func TestImportRecognises(t *testing.T) {
	f, ark, ask, root, dir := importScene(t)
	write(t, dir, "a-list.crl", ark.crl(t, noon.AddDate(0, 1, 0)))
	write(t, dir, "bundle.pem", slices.Concat(ark.pem(), newCA(t, "nobody", nil).pem(), ask.pem()))
	write(t, dir, "root.pem", root.pem())
	write(t, dir, "notes.txt", []byte("hello"))
	regions, err := json.Marshal(map[string]string{"eu-central-1": string(region(t).pem())})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "regions.json", regions)
	write(t, dir, "verifier.json", []byte(issuerKeys("https://v.example")))
	want := "amd.crl/milan=added amd.snp/milan-vcek=added aws.ec2/eu-central-1=added azure.imds/root-g1=added jwks/verifier=added"
	if got := f.importing(t, dir, Importing{}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := f.importing(t, dir, Importing{}); got != strings.ReplaceAll(want, "added", "present") {
		t.Errorf("again: %s", got)
	}
	// A row's certificates stand in the order of the row.
	if o := f.held[ID{verifier.TrustSNP, "milan-vcek"}]; string(o.raw) != string(slices.Concat(ask.pem(), ark.pem())) {
		t.Error("the chain is out of order")
	}
	if again := opened(t, f.dir, f.rows...); again.Held() != 5 {
		t.Errorf("%d objects in the folder", again.Held())
	}
}

// TestImportByKind: what no table can list is kept by the operator's word; what
// one could list is not, unless he says so twice.
func TestImportByKind(t *testing.T) {
	f, _, _, _, dir := importScene(t)
	other := newCA(t, "other", nil)
	path := write(t, dir, "other.cer", other.cert.Raw)
	for _, tc := range []struct {
		how  Importing
		want string
	}{
		{Importing{}, ""},
		{Importing{Kind: verifier.TrustX509PoP}, "x509pop.ca/other=added"},
		{Importing{Kind: verifier.TrustAzureIMDS, Name: "root-g1"}, "azure.imds/root-g1=unlisted"},
		{Importing{Kind: verifier.TrustAzureIMDS}, "azure.imds/other=unlisted"},
		{Importing{Kind: verifier.TrustAzureIMDS, Name: "lab", AlsoUnlisted: true}, "azure.imds/lab=added"},
		{Importing{Kind: verifier.TrustX509PoP, Name: "my root"}, "x509pop.ca/my root=refused"},
		{Importing{Kind: verifier.TrustSNPCRL}, "amd.crl/=unreadable"},
		{Importing{Kind: verifier.TrustJWKS}, "jwks/=unreadable"},
		{Importing{Kind: verifier.TrustVCEK}, "amd.vcek/=unreadable"},
		{Importing{Kind: verifier.TrustIntelTCB}, "intel.collateral/=unreadable"},
		{Importing{Kind: verifier.TrustCCA, Name: "cpak"}, "cca.platform/cpak=refused"},
	} {
		if got := f.importing(t, path, tc.how); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.how, got, tc.want)
		}
	}
	if s := f.Status(noon); !slices.ContainsFunc(s, func(s Status) bool {
		return s.Name == "lab" && s.State == StateUnlisted
	}) {
		t.Errorf("%+v", s)
	}
	for name, how := range map[string]Importing{
		"kind":                {Kind: "aws"},
		"name without kind":   {Name: "x"},
		"address of no keys":  {Kind: verifier.TrustX509PoP, Address: "https://a.example"},
		"address without TLS": {Kind: verifier.TrustJWKS, Address: "http://a.example"},
	} {
		if _, err := f.Import(path, how); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := f.Import(filepath.Join(dir, "nowhere"), Importing{}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// TestImportRefusesForgeries: what is signed needs its signer in the folder, by
// hand as over the network.
func TestImportRefusesForgeries(t *testing.T) {
	f, ark, ask, _, dir := importScene(t)
	genuine := write(t, dir, "genuine.crl", ark.crl(t, noon.AddDate(0, 1, 0)))
	if got := f.importing(t, genuine, Importing{}); got != "amd.crl/milan=refused" {
		t.Errorf("without its root: %s", got)
	}
	f.importing(t, write(t, dir, "chain.pem", slices.Concat(ask.pem(), ark.pem())), Importing{})
	for name, list := range map[string][]byte{
		"forged":  newCA(t, "ARK-Milan", nil).crl(t, noon.AddDate(0, 1, 0)),
		"expired": ark.crl(t, noon.Add(-time.Minute)),
	} {
		if got := f.importing(t, write(t, dir, name+".crl", list), Importing{}); got != "amd.crl/milan=refused" {
			t.Errorf("%s: %s", name, got)
		}
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: ark.crl(t, noon.AddDate(0, 1, 0))})
	if got := f.importing(t, write(t, dir, "pem.crl", inPEM), Importing{Kind: verifier.TrustSNPCRL}); got != "amd.crl/milan=added" {
		t.Errorf("genuine: %s", got)
	}
}

// TestImportLists: a list of an existing PKI is kept under the name that it is given,
// once its CA is in the folder, and is not taken for AMD's by its issuer's name.
func TestImportLists(t *testing.T) {
	for _, kind := range []string{verifier.TrustX509CRL, verifier.TrustGoogleCRL} {
		f, _, _, _, dir := importScene(t)
		issuer := newCA(t, "ARK-Milan", nil)
		path := write(t, dir, "lab.crl", issuer.crl(t, noon.AddDate(0, 1, 0)))
		if got := f.importing(t, path, Importing{Kind: kind}); got != kind+"/lab=refused" {
			t.Errorf("without its CA: %s", got)
		}
		ca := Importing{Kind: signersOf[kind], AlsoUnlisted: true}
		if got := f.importing(t, write(t, dir, "ca.pem", issuer.pem()), ca); got != ca.Kind+"/ca=added" {
			t.Fatal(got)
		}
		if got := f.importing(t, path, Importing{Kind: kind}); got != kind+"/lab=added" {
			t.Errorf("with its CA: %s", got)
		}
		if got := f.importing(t, write(t, dir, "lab.crl", issuer.crl(t, noon.Add(-time.Minute))), Importing{Kind: kind}); got != kind+"/lab=refused" {
			t.Errorf("past its end: %s", got)
		}
		if ends := opened(t, f.dir).Ends()[kind]; !ends.Equal(noon.AddDate(0, 1, 0)) {
			t.Errorf("%s ends %s", kind, ends)
		}
	}
}

// TestImportKeysWithAddress: keys that are fetched again count as long as fetched
// ones; a new address is a change.
func TestImportKeysWithAddress(t *testing.T) {
	f, _, _, _, dir := importScene(t)
	path := write(t, dir, "blue.json", []byte(issuerKeys("https://k.example")))
	how := Importing{Kind: verifier.TrustJWKS, Address: "https://k.example/openid/v1/jwks"}
	if got := f.importing(t, path, how); got != "jwks/blue=added" {
		t.Fatal(got)
	}
	o := opened(t, f.dir).held[ID{verifier.TrustJWKS, "blue"}]
	if o.state.Address != how.Address || !o.ends().Equal(noon.Add(keysLife)) {
		t.Errorf("%+v", o.state)
	}
	if got := f.importing(t, path, how); got != "jwks/blue=present" {
		t.Error(got)
	}
	how.Address = "https://other.example/jwks"
	if got := f.importing(t, path, how); got != "jwks/blue=added" {
		t.Error(got)
	}
}

// TestStatus: a row is missing, present, or expired; a stranger under a row's name
// is not that row.
func TestStatus(t *testing.T) {
	a, b := newCA(t, "a", nil), newCA(t, "b", nil)
	rows := []Row{a.row(ID{verifier.TrustAzureIMDS, "a"}, "https://a.example"), b.row(ID{verifier.TrustAzureIMDS, "b"}, ""), a.row(ID{verifier.TrustAzureIMDS, "c"}, "")}
	f := opened(t, lay(t, map[string]string{
		"azure.imds/a.pem": string(a.pem()), "azure.imds/b.pem": string(a.pem()), "jwks/k.json": issuerKeys("https://k.example"),
		".state/jwks/k.json": `{"expires":"2026-11-20T13:00:00Z","failure":"503"}`,
	}), rows...)
	states := func(at time.Time) string {
		var out []string
		for _, s := range f.Status(at) {
			out = append(out, s.Name+"="+s.State)
		}
		return strings.Join(out, " ")
	}
	if got := states(noon); got != "a=present b=unlisted c=missing k=present" {
		t.Error(got)
	}
	if got := states(noon.AddDate(1, 0, 0)); got != "a=expired b=expired c=expired k=expired" {
		t.Error(got)
	}
	if ends := f.Ends(); len(ends) != 2 || !ends[verifier.TrustJWKS].Equal(noon.Add(time.Hour)) || !ends[verifier.TrustAzureIMDS].Equal(a.cert.NotAfter) {
		t.Errorf("%v", ends)
	}
}
