package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// makers make a document of every format, each platform with a test PKI of its
// shape.
type makers struct {
	*platforms
	t        testing.TB
	intel    *documenttest.IntelPKI
	arm      *documenttest.CCAMachine
	gpus     *documenttest.NVIDIAPKI
	shielded *documenttest.GCEAK
	attested *documenttest.AzureIMDSPKI
	own      *documenttest.X509CA
	machine  *ecdsa.PrivateKey // that own certified
	issuer   *documenttest.JWTKey
	aws      *awsSTS
	cluster  *cluster8s
}

func newMakers(t testing.TB) *makers {
	t.Helper()
	now := time.Now()
	m := &makers{
		platforms: newPlatforms(t), t: t, intel: documenttest.NewIntelPKI(now), gpus: documenttest.NewNVIDIAPKI(now),
		attested: documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com"), own: documenttest.NewX509CA(now),
		machine: documenttest.ECKey(elliptic.P256()), issuer: documenttest.NewJWTKey("issuer-1", "RS256"), aws: newAWSSTS(t), cluster: newCluster8s(t),
	}
	var err error
	m.arm, err = documenttest.NewCCAMachine(elliptic.P384())
	must(t, err)
	m.shielded, err = documenttest.NewGCEAK(now)
	must(t, err)
	return m
}

// configure writes the trust in all platforms, and where those are that are asked.
func (m *makers) configure(c *cluster) {
	t := m.t
	t.Helper()
	m.trust(t, c)
	arm, err := m.arm.PEM()
	must(t, err)
	for kind, objects := range map[string]map[string][]byte{
		verifier.TrustIntel:     {"root.pem": m.intel.RootPEM()},
		verifier.TrustIntelTCB:  {documenttest.FMSPC: m.intel.Collateral(documenttest.CollateralFields{})},
		verifier.TrustCCA:       {"machine.pem": arm},
		verifier.TrustNVIDIA:    {"root.pem": m.gpus.RootPEM()},
		verifier.TrustNVIDIARIM: {"driver.json": documenttest.GPUReference("driver"), "vbios.json": documenttest.GPUReference("vbios")},
		verifier.TrustGoogleAK:  {"root.pem": m.shielded.Roots()},
		verifier.TrustAzureIMDS: {"roots.pem": m.attested.RootPEM()},
		verifier.TrustX509PoP:   {"machines.pem": m.own.RootPEM()},
		verifier.TrustJWKS: {
			"space.json":    documenttest.JWTObject(verifier.FormatGCPConfidential, documenttest.ConfidentialIssuer, nil, m.issuer.JWK()),
			"tenant.json":   documenttest.JWTObject(verifier.FormatAzureMSI, documenttest.EntraIssuer, documenttest.Claims{"audience": tokenApplication}, m.issuer.JWK()),
			"weu.json":      documenttest.JWTObject(verifier.FormatAzureMAA, documenttest.MAAIssuer, nil, m.issuer.JWK()),
			"offline.json":  documenttest.JWTObject(verifier.FormatK8sPSAT, documenttest.ClusterIssuer, nil, m.issuer.JWK()),
			"reviewed.json": documenttest.JWTObject(verifier.FormatK8sPSAT, reviewedIssuer, nil, m.issuer.JWK()),
			"mounted.json":  documenttest.JWTObject(verifier.FormatK8sPSAT, mountedIssuer, documenttest.Claims{"audience": "zonebroker"}, m.issuer.JWK()),
			"veraison.json": documenttest.JWTObject(verifier.FormatEAR, "", nil, m.issuer.JWK()),
		},
	} {
		for name, raw := range objects {
			c.writeTrust(t, kind, name, raw)
		}
	}
	c.write(t, "sts.pem", string(m.aws.certificate()))
	c.write(t, "k8s.pem", string(m.cluster.certificate()))
	c.write(t, "k8s.token", reviewerToken)
	// All hosts have one address here.
	c.append(t, "zonebroker.yaml", "limits:\n  per_address: {per_second: 100, burst: 1000}\n  arrivals: {per_second: 100, burst: 1000}\n  node_attestations: 100\n"+
		"enrich:\n  sts: {address: \""+m.aws.address()+"\", ca: sts.pem}\n"+
		"  clusters:\n    \""+reviewedIssuer+"\": {address: \""+m.cluster.address()+"\", ca: k8s.pem, token: k8s.token}\n")
}

// otherChallenge is what one makes for another challenge.
func otherChallenge(one item) item {
	return func(t testing.TB, b collect.Bound) api.Item {
		b.Value[0] ^= 1
		b.Primary[0] ^= 1
		return one(t, b)
	}
}

// Documents of hardware.

// nitroDoc changes the fields of a document before it is signed.
func (m *makers) nitroDoc(change func(*documenttest.NitroFields)) item {
	return func(t testing.TB, b collect.Bound) api.Item {
		f := documenttest.NitroFields{At: time.Now(), Nonce: b.Value[:]}
		change(&f)
		raw, err := m.nitro.Document(f)
		must(t, err)
		return api.Item{Document: raw}
	}
}

func (m *makers) tdxDoc(debug bool) item {
	return func(_ testing.TB, b collect.Bound) api.Item {
		log, rtmrs := documenttest.CCEL()
		f := documenttest.TDXFields{ReportData: document.ReportData(b.Value, b.AK), RTMRs: rtmrs, Debug: debug}
		return api.Item{Document: m.intel.Quote(f), Parts: map[string]api.Bytes{"event_log": log}}
	}
}

func (m *makers) ccaDoc(platform func(map[any]any)) item {
	return func(t testing.TB, b collect.Bound) api.Item {
		challenge := document.ReportData(b.Value, nil)
		raw, err := m.arm.Token(documenttest.CCAFields{Challenge: challenge[:], Platform: platform})
		must(t, err)
		return api.Item{Document: raw}
	}
}

// gpuDoc is beside the report of a guest, whose binding the device is asked with.
func (m *makers) gpuDoc(driver string) item {
	return func(_ testing.TB, b collect.Bound) api.Item {
		f := documenttest.GPUFields{Nonce: sha256.Sum256(b.Primary[:]), Driver: driver}
		return api.Item{Document: documenttest.GPUEvidence(m.gpus.Device(f))}
	}
}

// hclDoc is what Azure's paravisor writes about the key that quotes, or about
// another.
func (m *makers) hclDoc(another bool, change func(*documenttest.SNPReport)) item {
	vcek, err := m.amd.VCEK(m.report.ChipID, m.report.Reported, nil)
	must(m.t, err)
	return func(t testing.TB, b collect.Bound) api.Item {
		ak := &documenttest.RSAKey(3).PublicKey
		if !another {
			key, err := x509.ParsePKIXPublicKey(b.AK)
			must(t, err)
			var ok bool
			if ak, ok = key.(*rsa.PublicKey); !ok {
				t.Fatal("the key that quotes is no RSA key")
			}
		}
		hcl := documenttest.HCL{Version: 2, Type: 2, Runtime: documenttest.AzureRuntime(ak, confidentialVM), Size: 2600}
		r := m.report
		r.ReportData = hcl.Bind()
		paravisor, err := hex.DecodeString(documenttest.AzureIDKey)
		must(t, err)
		copy(r.IDKey[:], paravisor)
		if change != nil {
			change(&r)
		}
		report, err := vcek.Sign(r.Bytes())
		must(t, err)
		return api.Item{Document: hcl.Bytes(report), Parts: map[string]api.Bytes{"vcek": vcek.Certificate}}
	}
}

// akDoc is Google's certificate for the key that quotes, or for another.
func (m *makers) akDoc(another bool) item {
	return func(t testing.TB, b collect.Bound) api.Item {
		key, err := x509.ParsePKIXPublicKey(b.AK)
		must(t, err)
		if another {
			key = m.machine.Public()
		}
		der, err := m.shielded.Certificate(key, m.shielded.Instance(), nil)
		must(t, err)
		return api.Item{Document: der, Parts: map[string]api.Bytes{"chain": m.shielded.Chain()}}
	}
}

// Documents of services.

// token is one that the issuer signs.
func (m *makers) token(claims func(b collect.Bound) documenttest.Claims) item {
	return func(_ testing.TB, b collect.Bound) api.Item {
		return api.Item{Document: m.issuer.Token(claims(b))}
	}
}

// nonceOf is how the bound value stands in tokens that have a nonce.
func nonceOf(b collect.Bound) string { return base64.RawURLEncoding.EncodeToString(b.Value[:]) }

func (m *makers) imdsDoc(_ testing.TB, b collect.Bound) api.Item {
	vm := documenttest.NewAzureVM(document.Base62(b.Value), time.Now())
	vm.Subscription = attestedSubscription
	return api.Item{Document: m.attested.Document(vm)}
}

func (m *makers) popDoc(t testing.TB, b collect.Bound) api.Item {
	t.Helper()
	certificate := m.own.Issue(m.own.Template("db-1.example"), m.machine.Public())
	return api.Item{Document: certificate, Parts: map[string]api.Bytes{"chain": m.own.ChainPEM(), "signature": documenttest.Possess(m.machine, b.Value)}}
}

// iidDoc has another document beside the signed one where it says so.
func (m *makers) iidDoc(beside bool, products ...string) item {
	return func(testing.TB, collect.Bound) api.Item {
		i := documenttest.NewEC2Instance(testRegion, m.began)
		i.Products = products
		out := api.Item{Document: m.ec2.Document(i)}
		if beside {
			i.Account = "999999999999"
			out.Parts = map[string]api.Bytes{"document": i.JSON()}
		}
		return out
	}
}
