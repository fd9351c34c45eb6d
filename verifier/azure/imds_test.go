package azure_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

const (
	imdsName  = "eastus.metadata.azure.com"
	imdsNonce = "abcdefghij0123456789abcdefghij01"
)

var imdsNow = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

func imdsRoots(t testing.TB, pki *documenttest.AzureIMDSPKI) x509chain.Roots {
	t.Helper()
	roots, err := x509chain.NewRoots(pki.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// attested is an attested document in which a test changes one thing.
type attested struct {
	pki     *documenttest.AzureIMDSPKI
	vm      documenttest.AzureVM
	json    func([]byte) []byte
	message func(*documenttest.Message)
	raw     func([]byte) []byte
	roots   x509chain.Roots
	nonce   string
	now     time.Time
	code    reason.Code
}

func goodIMDS(t testing.TB) attested {
	pki := documenttest.NewAzureIMDS(imdsNow, imdsName)
	return attested{pki: pki, vm: documenttest.NewAzureVM(imdsNonce, imdsNow), roots: imdsRoots(t, pki), nonce: imdsNonce, now: imdsNow}
}

func (a *attested) verify() (azure.Attested, error) {
	content := a.vm.JSON()
	if a.json != nil {
		content = a.json(content)
	}
	m := a.pki.Message(content)
	if a.message != nil {
		a.message(&m)
	}
	raw := documenttest.AzureEnvelope(documenttest.PKCS7(m))
	if a.raw != nil {
		raw = a.raw(raw)
	}
	return azure.VerifyIMDS(raw, a.nonce, a.roots, a.now)
}

// signedBy has the document signed by a leaf of another form.
func (a *attested) signedBy(template *x509.Certificate, issuer *documenttest.RSASigner) {
	leaf := documenttest.Certify(template, documenttest.RSAKey(3), issuer, imdsNow)
	a.message = func(m *documenttest.Message) {
		m.Signers, m.Bag = []documenttest.RSASigner{leaf}, []*x509.Certificate{leaf.Certificate}
	}
}

func imdsReplace(old, by string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(by), 1) }
}

// TestCatalogueAzureIMDS are the rows of the catalogue that concern attested
// documents.
func TestCatalogueAzureIMDS(t *testing.T) {
	for name, change := range map[string]func(a *attested){
		"row 35 attacker signs under a certificate of its own site, the genuine one first in the bag": func(a *attested) {
			genuine := a.pki.Signer.Certificate
			leaf := a.pki.Leaf("attacker.example")
			leaf.SerialNumber = big.NewInt(4)
			a.signedBy(leaf, &a.pki.Intermediate)
			sign := a.message
			a.code, a.message = reason.AzureSAN, func(m *documenttest.Message) {
				sign(m)
				m.Bag = append([]*x509.Certificate{genuine}, m.Bag...)
			}
		},
		"row 35 attacker signs under the genuine certificate's name": func(a *attested) {
			evil := documenttest.RSASigner{Certificate: a.pki.Signer.Certificate, Key: documenttest.RSAKey(3)}
			a.code, a.message = reason.PKCS7Signature, func(m *documenttest.Message) { m.Signers = []documenttest.RSASigner{evil} }
		},
		"row 37 SHA-1": func(a *attested) {
			a.code, a.message = reason.PKCS7Algorithm, func(m *documenttest.Message) { m.Digest = documenttest.OIDSHA1 }
		},
		"row 38 two signers": func(a *attested) {
			a.code, a.message = reason.PKCS7SignerCount, func(m *documenttest.Message) { m.Signers = append(m.Signers, m.Signers[0]) }
		},
		"row 39 no signer": func(a *attested) {
			a.code, a.message = reason.PKCS7SignerCount, func(m *documenttest.Message) { m.Signers = nil }
		},
		"row 40 detached": func(a *attested) {
			a.code, a.message = reason.PKCS7Content, func(m *documenttest.Message) { m.Detached = true }
		},
		"row 42 a message in the message": func(a *attested) {
			a.code, a.json = reason.AzureDocument, func(b []byte) []byte { return documenttest.PKCS7(a.pki.Message(b)) }
		},
		"row 49 a member twice": func(a *attested) {
			a.code, a.json = reason.AzureDocument, imdsReplace(`"vmId"`, `"vmid":"66666666-6666-6666-6666-666666666666","vmId"`)
		},
		"row 50 content flip": func(a *attested) {
			a.code, a.raw = reason.PKCS7Signature, func([]byte) []byte {
				return imdsReplace("5555", "5556")(documenttest.PKCS7(a.pki.Message(a.vm.JSON())))
			}
		},
		"row 51 trailing DER": func(a *attested) {
			a.code, a.raw = reason.PKCS7Encoding, func([]byte) []byte {
				return documenttest.AzureEnvelope(append(documenttest.PKCS7(a.pki.Message(a.vm.JSON())), 5, 0))
			}
		},
		"row 56 another name": func(a *attested) {
			a.code = reason.AzureSAN
			a.signedBy(a.pki.Leaf("www.example.com"), &a.pki.Intermediate)
		},
		"row 57 look-alike names": func(a *attested) {
			a.code = reason.AzureSAN
			a.signedBy(a.pki.Leaf("evilmetadata.azure.com", "metadata.azure.com.attacker.example", "a.b.metadata.azure.com",
				".metadata.azure.com", "-.metadata.azure.com", "*.azure.com", "metadata.azure.com."), &a.pki.Intermediate)
		},
		"row 57 the common name alone": func(a *attested) {
			leaf := a.pki.Leaf()
			leaf.Subject.CommonName = imdsName
			a.code = reason.AzureSAN
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"row 58 expired signer": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.NotBefore, leaf.NotAfter = imdsNow.AddDate(-1, 0, 0), imdsNow.Add(-time.Second)
			a.code = reason.AzureValidity
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"row 58 signer of tomorrow": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.NotBefore, leaf.NotAfter = imdsNow.Add(time.Second), imdsNow.AddDate(1, 0, 0)
			a.code = reason.AzureValidity
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"row 58 made before its signer": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.NotBefore, leaf.NotAfter = imdsNow.Add(-10*time.Second), imdsNow.AddDate(1, 0, 0)
			a.code = reason.AzureValidity
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"row 58 no time": func(a *attested) { a.code, a.now = reason.AzureValidity, time.Time{} },
		"row 59 an issuer's address that points at the metadata service": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.IssuingCertificateURL = []string{"http://169.254.169.254/latest/meta-data/"}
			a.code = reason.AzureUntrusted
			a.signedBy(leaf, nil)
		},
		"row 60 wrong nonce":                    func(a *attested) { a.code, a.nonce = reason.AzureNonceMismatch, strings.ToUpper(imdsNonce) },
		"row 60 a nonce with more":              func(a *attested) { a.code, a.nonce = reason.AzureNonceMismatch, imdsNonce+"x" },
		"row 60 an empty nonce":                 func(a *attested) { a.code, a.vm.Nonce = reason.AzureNonceMismatch, "" },
		"row 60 empty where none was asked for": func(a *attested) { a.code, a.vm.Nonce, a.nonce = reason.AzureNonceMismatch, "", "" },
		"row 60 a nonce that is null":           func(a *attested) { a.code, a.json = reason.AzureNonceMismatch, imdsReplace(`"`+imdsNonce+`"`, "null") },
		"row 61 expired document":               func(a *attested) { a.code, a.vm.Expires = reason.AzureTimestamp, imdsNow },
		"row 61 document of tomorrow":           func(a *attested) { a.code, a.vm.Created = reason.AzureTimestamp, imdsNow.Add(61*time.Second) },
		"row 61 document of two days": func(a *attested) {
			a.code, a.vm.Expires = reason.AzureTimestamp, a.vm.Created.Add(24*time.Hour+time.Second)
		},
		"row 61 expiry before creation": func(a *attested) {
			a.code, a.vm.Created, a.vm.Expires = reason.AzureTimestamp, imdsNow.Add(50*time.Second), imdsNow.Add(40*time.Second)
		},
		"row 61 a time of another form": func(a *attested) { a.code, a.json = reason.AzureDocument, imdsReplace("11/20/26", "2026-11-20") },
		"row 61 no times":               func(a *attested) { a.code, a.json = reason.AzureDocument, imdsReplace("timeStamp", "times") },
		"row 62 empty vmId":             func(a *attested) { a.code, a.vm.VM = reason.AzureDocument, "" },
		"row 62 empty subscription":     func(a *attested) { a.code, a.vm.Subscription = reason.AzureDocument, "" },
		"row 62 vmId is null": func(a *attested) {
			a.code, a.json = reason.AzureDocument, imdsReplace(`"vmId":"55555555-5555-5555-5555-555555555555"`, `"vmId":null`)
		},
		"row 63 self-signed, common name alone": func(a *attested) {
			leaf := a.pki.Leaf()
			leaf.Subject.CommonName = "testsubdomain.metadata.azure.com"
			a.code = reason.AzureUntrusted
			a.signedBy(leaf, nil)
		},
		"a root of others": func(a *attested) {
			a.code, a.roots = reason.AzureUntrusted, x509chain.Roots{}
		},
		"a root sent along": func(a *attested) {
			root := documenttest.Certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Evil"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, documenttest.RSAKey(3), nil, imdsNow)
			a.signedBy(a.pki.Leaf(imdsName), &root)
			sign := a.message
			a.code, a.message = reason.AzureUntrusted, func(m *documenttest.Message) {
				sign(m)
				m.Bag = append(m.Bag, root.Certificate)
			}
		},
		"a CA as signer": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.IsCA = true
			a.code = reason.AzureUntrusted
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"an unknown critical extension": func(a *attested) {
			leaf := a.pki.Leaf(imdsName)
			leaf.ExtraExtensions = []pkix.Extension{{Id: encoding_asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			a.code = reason.AzureUntrusted
			a.signedBy(leaf, &a.pki.Intermediate)
		},
		"no certificate": func(a *attested) {
			a.code, a.message = reason.PKCS7SignerUnknown, func(m *documenttest.Message) { m.Bag = nil }
		},
		"a certificate that does not parse": func(a *attested) {
			a.code, a.message = reason.PKCS7Encoding, func(m *documenttest.Message) {
				m.Bag = append(m.Bag, &x509.Certificate{Raw: []byte{0x30, 0}})
			}
		},
		"open lengths": func(a *attested) {
			a.code, a.message = reason.PKCS7Encoding, func(m *documenttest.Message) { m.Indefinite = true }
		},
		"a plan that is text": func(a *attested) {
			a.code, a.json = reason.AzureDocument, imdsReplace(`"plan":{`, `"plan":"x","plane":{`)
		},
		"a SKU that is a number": func(a *attested) {
			a.code, a.json = reason.AzureDocument, imdsReplace(`"22_04-lts-gen2"`, `22`)
		},
		"another encoding": func(a *attested) { a.code, a.raw = reason.PKCS7Encoding, imdsReplace("pkcs7", "cms") },
		"a member twice around": func(a *attested) {
			a.code, a.raw = reason.PKCS7Encoding, imdsReplace(`"encoding"`, `"Signature":"MAA=","encoding"`)
		},
		"a member around": func(a *attested) {
			a.code, a.raw = reason.PKCS7Encoding, imdsReplace(`"encoding"`, `"vmId":"x","encoding"`)
		},
		"no signature": func(a *attested) {
			a.code, a.raw = reason.PKCS7Encoding, func([]byte) []byte { return []byte(`{"encoding":"pkcs7","signature":1}`) }
		},
		"too large": func(a *attested) {
			a.code, a.raw = reason.RequestTooLarge, func([]byte) []byte { return bytes.Repeat([]byte(" "), 33<<10) }
		},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			a := goodIMDS(t)
			change(&a)
			got, err := a.verify()
			if reason.Of(err) != a.code || got.VM() != "" {
				t.Errorf("want %s, got %v", a.code, err)
			}
		})
	}
}

func TestIMDSAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *attested)
		cloud  string
	}{
		"as the metadata service answers": {func(*attested) {}, "public"},
		"the signature alone": {func(a *attested) {
			a.raw = func([]byte) []byte {
				return []byte(base64.StdEncoding.EncodeToString(documenttest.PKCS7(a.pki.Message(a.vm.JSON()))))
			}
		}, "public"},
		"with attributes and a plain digest": {func(a *attested) {
			a.message = func(m *documenttest.Message) { m.NoAttributes, m.Digest = false, nil }
		}, "public"},
		"the intermediate in the message": {func(a *attested) {
			root, err := x509chain.NewRoots(a.pki.Root.Certificate.Raw)
			if err != nil {
				panic(err)
			}
			a.roots, a.message = root, func(m *documenttest.Message) { m.Bag = append(m.Bag, a.pki.Intermediate.Certificate) }
		}, "public"},
		"a wildcard": {func(a *attested) { a.signedBy(a.pki.Leaf("*.metadata.azure.com"), &a.pki.Intermediate) }, "public"},
		"the domain itself": {func(a *attested) {
			a.signedBy(a.pki.Leaf("www.example.com", "Metadata.Azure.com"), &a.pki.Intermediate)
		}, "public"},
		"the US government":       {func(a *attested) { a.signedBy(a.pki.Leaf("usgovvirginia.metadata.azure.us"), &a.pki.Intermediate) }, "usgov"},
		"China":                   {func(a *attested) { a.signedBy(a.pki.Leaf("chinaeast2.metadata.azure.cn"), &a.pki.Intermediate) }, "china"},
		"made a minute ahead":     {func(a *attested) { a.vm.Created = imdsNow.Add(time.Minute) }, "public"},
		"good for another second": {func(a *attested) { a.vm.Expires = imdsNow.Add(time.Second) }, "public"},
		"a day long":              {func(a *attested) { a.vm.Expires = a.vm.Created.Add(24 * time.Hour) }, "public"},
		"no plan": {func(a *attested) {
			a.json = imdsReplace(`"plan":{"name":"","product":"","publisher":""}`, `"plan":null`)
		}, "public"},
		"a member that is new": {func(a *attested) { a.json = imdsReplace(`"vmId"`, `"new":[],"vmId"`) }, "public"},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			a := goodIMDS(t)
			tc.change(&a)
			got, err := a.verify()
			if err != nil {
				t.Fatal(err)
			}
			f := got.Facts()
			vm := document.Machine{Kind: document.MachineAzure, Name: a.vm.VM}
			if f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || f.Machine != vm || !f.IssuedAt.Equal(a.vm.Created) || !f.ExpiresAt.Equal(a.vm.Expires) ||
				!slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerAzureSubscription, Value: a.vm.Subscription}}) || !slices.Equal(f.Anchors, []document.Anchor{vm.Anchor()}) {
				t.Errorf("%+v", f)
			}
			if got := f.Values("azure.imds.cloud"); len(got) != 1 || got[0] != tc.cloud {
				t.Errorf("cloud %v", got)
			}
		})
	}
}

// TestIMDSWithoutNonce: who asked for no nonce got a bearer document.
func TestIMDSWithoutNonce(t *testing.T) {
	a := goodIMDS(t)
	a.nonce, a.vm.Nonce = "", "20261120090000"
	a.vm.VM = strings.ToUpper("abcdef01-5555-5555-5555-555555555555")
	got, err := a.verify()
	if err != nil {
		t.Fatal(err)
	}
	if f := got.Facts(); f.Class != document.ClassC || f.NonceBound || f.KeyBound || f.Machine.Name != "abcdef01-5555-5555-5555-555555555555" {
		t.Errorf("%+v", f)
	}
	if f := (azure.Attested{}).Facts(); f.Machine != (document.Machine{}) || len(f.Anchors)+len(f.Owners) != 0 {
		t.Errorf("the zero value says %+v", f)
	}
}

func TestIMDSLive(t *testing.T) {
	a := goodIMDS(t)
	got, err := a.verify()
	if err != nil {
		t.Fatal(err)
	}
	const said = `{"location":"eastus","power_state":"running","resource_id":"/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/Prod/providers/Microsoft.Compute/virtualMachines/web-1","tags":{"b":"2","a":"1"},"tenant_id":"77777777-7777-7777-7777-777777777777","vm_id":"55555555-5555-5555-5555-555555555555"}`
	live, err := got.Live([]byte(said))
	if err != nil {
		t.Fatal(err)
	}
	f := live.Facts()
	if !slices.Contains(f.Owners, document.Owner{Kind: document.OwnerAzureTenant, Value: "77777777-7777-7777-7777-777777777777"}) ||
		!slices.Equal(f.Values("azure.imds.resource_group"), []string{"prod"}) || !slices.Equal(f.Values("azure.imds.tag"), []string{"a=1", "b=2"}) {
		t.Errorf("%+v", f)
	}
	for name, change := range map[string][2]string{
		"stopped":              {`"running"`, `"deallocated"`},
		"another machine":      {`"vm_id":"5`, `"vm_id":"6`},
		"another subscription": {"subscriptions/4", "subscriptions/5"},
		"no machine":           {"virtualMachines/web-1", "disks/web-1"},
		"a part of a machine":  {"web-1", "web-1/extensions/x"},
		"no tenant":            {`"77777777-7777-7777-7777-777777777777"`, `""`},
		"no location":          {`"eastus"`, `null`},
		"no tags":              {`{"b":"2","a":"1"}`, `[]`},
		"a member that is new": {`"location"`, `"new":1,"location"`},
		"no JSON":              {said, "x"},
	} {
		if _, err := got.Live([]byte(strings.Replace(said, change[0], change[1], 1))); reason.Of(err) != reason.AzureResource {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := got.Live(make([]byte, azure.MaxLiveVM+1)); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("too large: %v", err)
	}
}

// FuzzIMDS: whatever comes in, nothing passes but what was signed.
func FuzzIMDS(f *testing.F) {
	a := goodIMDS(f)
	f.Add(a.pki.Document(a.vm), true)
	f.Add(documenttest.PKCS7(a.pki.Message(a.vm.JSON())), false)
	f.Fuzz(func(t *testing.T, raw []byte, asked bool) {
		nonce := imdsNonce
		if !asked {
			nonce = ""
		}
		evidencetest.Bounded(t, len(raw), 128, func() {
			if got, err := azure.VerifyIMDS(raw, nonce, a.roots, imdsNow); err == nil && got.VM() != a.vm.VM {
				t.Errorf("%+v passed", got.Facts())
			}
		})
	})
}

func BenchmarkVerifyIMDS(b *testing.B) {
	a := goodIMDS(b)
	raw := a.pki.Document(a.vm)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := azure.VerifyIMDS(raw, imdsNonce, a.roots, imdsNow); err != nil {
			b.Fatal(err)
		}
	}
}
