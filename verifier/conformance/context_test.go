package conformance_test

import (
	"crypto/rsa"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

var rowTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const atNoon = "time=2026-11-20T12:00:00Z"

// verdict is what a row got: "accept", a code, or "broken".
func verdict(t *testing.T, kind, path, context, wanted string, files map[string]string) string {
	t.Helper()
	row := path + "\t" + kind + "\taccept\t\t" + context
	if wanted != "accept" && wanted != "broken" {
		row = path + "\t" + kind + "\treject\t" + wanted + "\t" + context
	}
	r := one(t, row, files)
	if r.Status == conformance.Broken {
		return "broken"
	}
	return r.Got
}

// TestTokenRows: keys that are not there, issuers that nobody names, claims that
// nobody asked for (test keys).
func TestTokenRows(t *testing.T) {
	k := documenttest.NewJWTKey("k", "RS256")
	result := documenttest.NewJWTKey("v", "ES256")
	nameless := documenttest.GCEClaims("aud", rowTime).With(documenttest.Claims{"iss": ""})
	files := map[string]string{
		"gce": string(k.Token(documenttest.GCEClaims("aud", rowTime))), "nameless": string(k.Token(nameless)),
		"ear": string(result.Token(documenttest.EARClaims("nonce", rowTime))), "jwks": string(documenttest.JWKS(k.JWK())),
		"own": string(result.Token(documenttest.EARClaims("nonce", rowTime).With(documenttest.Claims{"aud": "aud"}))), "ear.jwks": string(documenttest.JWKS(result.JWK())),
	}
	const issuer, jwks, aud = ";issuer=" + documenttest.GoogleIssuer, ";jwks=jwks", ";audience=aud"
	for _, c := range []struct{ kind, path, context, want string }{
		{"gce.identity", "gce", issuer + aud + jwks, "accept"},
		{"gce.identity", "gce", issuer + aud + ";jwks=none", "jwt.kid"},
		{"gce.identity", "gce", issuer + aud + ";keys=none", "jwt.kid"},
		{"gce.identity", "gce", issuer + aud, "broken"},
		{"gce.identity", "gce", aud + jwks, "jwt.issuer"},
		{"gce.identity", "nameless", aud + jwks, "jwt.issuer"},
		{"gce.identity", "nameless", ";issuer=" + aud + jwks, "jwt.issuer"},
		{"gce.identity", "gce", issuer + "," + aud + jwks, "accept"},
		{"gce.identity", "gce", issuer + aud + jwks + ";nonce=00", "accept"},
		{"k8s.psat", "gce", aud + jwks, "jwt.issuer"},
		{"ear", "ear", ";jwks=ear.jwks;nonce=nonce", "accept"},
		{"ear", "ear", ";jwks=ear.jwks;nonce=other", "ear.nonce_mismatch"},
		{"ear", "ear", ";jwks=ear.jwks", "accept"},
		{"ear", "ear", ";jwks=none;nonce=nonce", "jwt.kid"},
		{"ear", "ear", ";jwks=ear.jwks;nonce=nonce;audience=aud", "jwt.audience"},
		{"ear", "own", ";jwks=ear.jwks;nonce=nonce;audience=aud", "accept"},
	} {
		if got := verdict(t, c.kind, c.path, atNoon+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.kind, c.path, c.context, got, c.want)
		}
	}
}

// TestNothingConfigured: none is no file, and its case is like any other: nothing
// chains to it, nobody vouches for it.
func TestNothingConfigured(t *testing.T) {
	pki, err := documenttest.NewNitroPKI(rowTime)
	if err != nil {
		t.Fatal(err)
	}
	document, err := pki.Document(documenttest.NitroFields{})
	if err != nil {
		t.Fatal(err)
	}
	aws := documenttest.NewEC2("eu-west-1", rowTime)
	machine := newAzureRow(t)
	files := map[string]string{"enclave": string(document), "iid": string(aws.Document(documenttest.NewEC2Instance("eu-west-1", rowTime))), "root.pem": string(pki.RootPEM())}
	for name, content := range machine {
		files[name] = content
	}
	for _, c := range []struct{ kind, path, context, want string }{
		{"nitro", "enclave", ";roots=root.pem", "accept"},
		{"nitro", "enclave", ";roots=none", "nitro.untrusted"},
		{"ec2.iid", "iid", ";region=eu-west-1;roots=none", "pkcs7.signer_unknown"},
		{"azure.cvm", "hcl", ";roots=amd.pem;vcek=vcek;vlek=none;td_quote=none;collateral=none", "accept"},
		{"azure.cvm", "hcl", ";roots=amd.pem;vcek=none", "azure.hardware_missing"},
	} {
		if got := verdict(t, c.kind, c.path, atNoon+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.kind, c.context, got, c.want)
		}
	}
}

// newAzureRow is the files of a confidential machine with a quote of its vTPM, under
// a test PKI of AMD's shape.
func newAzureRow(t *testing.T) map[string]string {
	t.Helper()
	p := evidencetest.New(t)
	p.AK = evidencetest.RSAAK(t)
	public, ok := p.AK.Signer().Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("the AK is no RSA key")
	}
	amd, err := documenttest.NewAMD("Milan", rowTime)
	if err != nil {
		t.Fatal(err)
	}
	hcl := documenttest.HCL{Version: 2, Type: 2, Runtime: documenttest.AzureRuntime(public, "911B0EF8-9DBA-48B0-B275-4E4DF2D39252"), Size: 2600}
	r := amd.Report()
	r.ReportData = hcl.Bind()
	id, err := hex.DecodeString(documenttest.AzureIDKey)
	if err != nil {
		t.Fatal(err)
	}
	copy(r.IDKey[:], id)
	e, err := amd.VCEK(r.ChipID, r.Reported, nil)
	if err != nil {
		t.Fatal(err)
	}
	report, err := e.Sign(r.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	bound, _ := hex.DecodeString(nonce)
	attest, sig := p.Quote(t, evidencetest.Selection, bound)
	return map[string]string{
		"hcl": string(hcl.Bytes(report)), "vcek": string(e.Certificate), "amd.pem": string(amd.Roots()), "quote": string(attest), "sig": string(sig),
		"raw": string(sig[6:]), "pcrs": string(pcrJSON(t, p.Values(evidencetest.Selection))), "log": string(p.EventLog), "junk": "junk",
	}
}

// TestQuoteOfAzureRow: bank and mask of a row, values and log are asked of the
// quote of a vTPM as of any other.
func TestQuoteOfAzureRow(t *testing.T) {
	files := newAzureRow(t)
	const base = atNoon + ";roots=amd.pem;vcek=vcek"
	const quoted = base + ";quote=quote;sig=sig;qualifying=" + nonce
	for context, want := range map[string]string{
		base:                             "accept",
		base + ";qualifying=" + nonce:    "accept",
		base + ";select=" + selectMask:   "accept",
		quoted:                           "accept",
		quoted + ";select=" + selectMask: "accept",
		quoted + ";select=000001":        "tpm2.quote.selection",
		quoted + ";select=1":             "broken",
		quoted + ";bank=sha256":          "accept",
		quoted + ";bank=sha384":          "tpm2.pcr.bank",
		quoted + ";bank=sha1":            "tpm2.pcr.bank",
		quoted + ";bank=sha3":            "broken",
		quoted + ";pcrs=pcrs":            "accept",
		quoted + ";pcrs=pcrs;log=log":    "accept",
		quoted + ";pcrs=pcrs;log=junk":   "eventlog.truncated",
		quoted + ";config=pcrs_all_zero": "tpm2.pcr.digest",
		base + ";quote=quote;sig=raw;sigformat=raw;qualifying=" + nonce:      "accept",
		base + ";quote=quote;sig=raw;sigformat=odd;qualifying=" + nonce:      "broken",
		base + ";quote=quote;sig=sig;qualifying=" + strings.Repeat("00", 32): "tpm2.quote.nonce_mismatch",
	} {
		if got := verdict(t, "azure.cvm", "hcl", context, want, files); got != want {
			t.Errorf("%s: %s, want %s", context, got, want)
		}
	}
}

// TestNitroTPMRows: the kind is nitro of type instance, and nothing else is.
func TestNitroTPMRows(t *testing.T) {
	pki, err := documenttest.NewNitroPKI(rowTime)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"root.pem": string(pki.RootPEM())}
	for name, instance := range map[string]bool{"enclave": false, "instance": true} {
		document, err := pki.Document(documenttest.NitroFields{Instance: instance})
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(document)
	}
	for _, c := range []struct{ kind, path, context, want string }{
		{"nitrotpm", "instance", "", "accept"},
		{"nitrotpm", "instance", ";type=instance", "accept"},
		{"nitrotpm", "instance", ";type=enclave", "broken"},
		{"nitrotpm", "enclave", "", "nitro.type"},
		{"nitro", "instance", ";as=nitrotpm", "accept"},
		{"nitro", "enclave", ";as=nitrotpm", "nitro.type"},
		{"nitro", "instance", ";type=instance", "accept"},
		{"nitro", "instance", "", "nitro.type"},
		{"nitro", "enclave", ";type=enclave", "accept"},
		{"nitro", "enclave", ";region=x", "accept"},
	} {
		if got := verdict(t, c.kind, c.path, atNoon+";roots=root.pem"+c.context, c.want, files); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.kind, c.path, c.context, got, c.want)
		}
	}
}

// TestInstancesOfAKCertificates: an accepted row states facts of the certificate; a
// refused one states what was admitted.
func TestInstancesOfAKCertificates(t *testing.T) {
	ca, err := documenttest.NewGCEAK(rowTime)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Certificate(evidencetest.NewAK(t).Signer().Public(), ca.Instance(), nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"ak": pemOf("CERTIFICATE", der) + pemOf("CERTIFICATE", ca.Chain()), "roots": string(ca.Roots())}
	const base = atNoon + ";roots=roots;project=acme-prod;zone=europe-west3-b;instance_id=9223372036854775807;instance_name=db-1"
	but := func(from, to string) string { return strings.Replace(base, from, to, 1) }
	for _, c := range []struct{ context, want string }{
		{base, "accept"},
		{but("acme-prod", "acme-test"), "node.not_admitted"},
		{but("instance_id=9", "instance_id=8"), "gce.akcert_instance"},
		{but("instance_name=db-1", "instance_name=db-2"), "gce.akcert_instance"},
		{but("zone=europe", "zone=us"), "gce.akcert_instance"},
		{but("roots=roots", "roots=none"), "tpm2.ak.cert_untrusted"},
	} {
		for _, kind := range []string{"akcert", "gce.akcert"} {
			if got := verdict(t, kind, "ak", c.context, c.want, files); got != c.want {
				t.Errorf("%s %s: %s, want %s", kind, c.context, got, c.want)
			}
		}
	}
	r := one(t, "ak\tgce.akcert\taccept\t\t"+but("acme-prod", "acme-test"), files)
	if r.Status != conformance.Differs || len(r.Facts) != 1 || r.Facts[0].Name != "project" {
		t.Errorf("another project, accepted: %+v", r)
	}
}

// TestKinds: every format of evidence that is captured as a file has its kind.
func TestKinds(t *testing.T) {
	got := conformance.Kinds()
	for _, want := range []string{
		"ec2.iid", "ec2.sts", "nitro", "nitrotpm", "gce.identity", "gce.akcert", "gcp.confidential", "azure.imds", "azure.msi", "azure.maa",
		"azure.cvm", "snp", "tdx", "nvidia", "k8s.psat", "cca", "ear", "x509pop", "quote",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no kind %s", want)
		}
	}
	if !slices.IsSorted(got) {
		t.Errorf("out of order: %v", got)
	}
}
