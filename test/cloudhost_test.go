package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// platforms stand in for the clouds and makers of processors: a test PKI of the
// shape of each.
type platforms struct {
	nitro  *documenttest.NitroPKI
	amd    *documenttest.AMD
	report documenttest.SNPReport
	ec2    *documenttest.EC2PKI
	google *documenttest.JWTKey
	began  time.Time // the instance was launched two minutes before
}

const testRegion = "us-test-1"

func newPlatforms(t testing.TB) *platforms {
	t.Helper()
	p := &platforms{google: documenttest.NewJWTKey("google-1", "RS256"), ec2: documenttest.NewEC2(testRegion, time.Now()), began: time.Now()}
	var err error
	p.nitro, err = documenttest.NewNitroPKI(time.Now())
	must(t, err)
	p.amd, err = documenttest.NewAMD("Milan", time.Now())
	must(t, err)
	p.report = p.amd.Report()
	return p
}

// trust writes the trust in the platforms into the folder of a cluster, as
// "zonebroker trust import" would.
func (p *platforms) trust(t testing.TB, c *cluster) {
	t.Helper()
	for name, raw := range map[string][]byte{
		verifier.TrustNitro + "/root.pem":    p.nitro.RootPEM(),
		verifier.TrustSNP + "/milan.pem":     p.amd.Roots(),
		verifier.TrustEC2 + "/" + testRegion: p.ec2.CertificatePEM(),
		verifier.TrustJWKS + "/google.json":  documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, p.google.JWK()),
	} {
		kind, name, _ := strings.Cut(name, "/")
		c.writeTrust(t, kind, name, raw)
	}
}

func (c *cluster) writeTrust(t testing.TB, kind, name string, raw []byte) {
	t.Helper()
	path := filepath.Join(c.dir, "trust", kind, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, raw, 0o644))
}

// editZone changes the document of a zone and has it loaded.
func (p *replica) editZone(t *testing.T, zone string, edit func(string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "zones", "*.yaml"))
	must(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(t, err)
		if strings.Contains(string(text), "\nname: "+zone+"\n") {
			must(t, os.WriteFile(f, []byte(edit(string(text))), 0o600))
			p.hangup(t)
			return
		}
	}
	t.Fatalf("no zone %s", zone)
}

// item is what a host collects for a challenge.
type item func(t testing.TB, b collect.Bound) api.Item

func (p *platforms) nitroItem(t testing.TB, b collect.Bound) api.Item {
	t.Helper()
	raw, err := p.nitro.Document(documenttest.NitroFields{At: time.Now(), Nonce: b.Value[:]})
	must(t, err)
	return api.Item{Document: raw}
}

// snpDoc is a report of the guest on the chip whose id ends in chip.
func (p *platforms) snpDoc(t testing.TB, chip byte, change func(*documenttest.SNPReport)) item {
	t.Helper()
	id := p.report.ChipID
	id[63] = chip
	vcek, err := p.amd.VCEK(id, p.report.Reported, nil)
	must(t, err)
	return func(t testing.TB, b collect.Bound) api.Item {
		r := p.report
		r.ChipID, r.ReportData = id, document.ReportData(b.Value, b.AK)
		r.ReportID[0] ^= chip
		if change != nil {
			change(&r)
		}
		raw, err := vcek.Sign(r.Bytes())
		must(t, err)
		return api.Item{Document: raw, Parts: map[string]api.Bytes{"vcek": vcek.Certificate}}
	}
}

func (p *platforms) gceItem(_ testing.TB, b collect.Bound) api.Item {
	return api.Item{Document: p.google.Token(documenttest.GCEClaims(document.Audience(b.Value), time.Now()))}
}

func (p *platforms) ec2Item(testing.TB, collect.Bound) api.Item {
	return api.Item{Document: p.ec2.Document(documenttest.NewEC2Instance(testRegion, p.began))}
}

// cloudHost is a host without a TPM, as a program of somebody else would write it
// after the contract.
type cloudHost struct {
	t      testing.TB
	format string
	items  map[string]item
	agent  *ecdsa.PrivateKey
	tpm    *raw // that quotes in place of the agent key; nil for none
	token  string
	known  bool
	prev   string
}

func newCloudHost(t testing.TB, format string, items map[string]item) *cloudHost {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &cloudHost{t: t, format: format, items: items, agent: key}
}

func (h *cloudHost) public() []byte {
	h.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(h.agent.Public())
	must(h.t, err)
	return der
}

// attest asks for a challenge, collects what the host has, and hands it over.
func (h *cloudHost) attest(p *replica) (api.AttestResponse, error) {
	h.t.Helper()
	c, err := agentClient(h.t, p)
	must(h.t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	ch, err := c.Challenge(ctx, h.ask())
	if err != nil {
		return api.AttestResponse{}, err
	}
	out, err := c.Attest(ctx, h.answer(ch))
	if err == nil {
		h.known, h.prev = true, out.AttestationID
	}
	return out, err
}

// ask asks by the key that answers: at first contact by the key itself, then by its
// name.
func (h *cloudHost) ask() api.ChallengeRequest {
	h.t.Helper()
	enrol, name := &api.AgentEnrol{JoinToken: h.token}, []byte(nil)
	if h.tpm != nil {
		enrol.AKPublic, name = h.tpm.ak.Public, h.tpm.ak.Name
	} else {
		enrol.Public, name = h.public(), verifier.AgentKeyName(h.public())
	}
	if h.known {
		return api.ChallengeRequest{Format: h.format, Purpose: api.PurposeRenew, AKName: name}
	}
	return api.ChallengeRequest{Format: h.format, Purpose: api.PurposeEnrol, Agent: enrol}
}

func (h *cloudHost) answer(ch api.Challenge) api.AttestRequest {
	h.t.Helper()
	var req api.AttestRequest
	var ak []byte
	if h.tpm != nil {
		req, ak = h.quote(ch)
	} else {
		req = h.sign(ch)
	}
	req.Prev = h.prev
	bound := func(format string) [32]byte {
		return verifier.Binding(ch.Nonce, req.SPKI, trustDomain, ch.Purpose, format, nil)
	}
	for _, format := range slices.Sorted(maps.Keys(h.items)) {
		i := h.items[format](h.t, collect.Bound{Value: bound(format), Primary: bound(h.format), AK: ak})
		i.Format = format
		req.Items = append(req.Items, i)
	}
	return req
}

// sign proves the agent key and the possession of a new SVID key.
func (h *cloudHost) sign(ch api.Challenge) api.AttestRequest {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(h.t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	must(h.t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(h.t, err)
	digest := verifier.AgentDigest(verifier.Binding(ch.Nonce, spki, trustDomain, ch.Purpose, h.format, nil))
	signature, err := ecdsa.SignASN1(rand.Reader, h.agent, digest[:])
	must(h.t, err)
	return api.AttestRequest{Token: ch.Token, SPKI: spki, CSR: csr, Agent: &api.AgentProof{Public: h.public(), Signature: signature}}
}

// quote has the TPM sign instead, and returns the key that quoted too.
func (h *cloudHost) quote(ch api.Challenge) (req api.AttestRequest, ak []byte) {
	h.t.Helper()
	bound := verifier.Binding(ch.Nonce, h.tpm.key.SPKI(), trustDomain, ch.Purpose, h.format, nil)
	req = h.tpm.quoteOver(ch, bound[:])
	req.TPM2.EKPublic, req.TPM2.EKCertificate = nil, nil // a cloud vouches for the AK
	public, err := tpm2.ParseAK(h.tpm.ak.Public)
	must(h.t, err)
	return req, public.SPKI()
}

// attestBeside answers a challenge by a quote with documents beside it.
func (r *raw) attestBeside(ask api.ChallengeRequest, prev string, items map[string]item) (api.AttestResponse, error) {
	t := r.h.t
	t.Helper()
	ch := r.challenge(ask)
	nonce := []byte(ch.Nonce)
	if ch.Credential != nil {
		var err error
		nonce, err = r.tpm.Activate(t.Context(), ch.Credential.Blob, ch.Credential.Secret)
		must(t, err)
	}
	ak, err := tpm2.ParseAK(r.ak.Public)
	must(t, err)
	bound := func(format string) [32]byte {
		return verifier.Binding(nonce, r.key.SPKI(), trustDomain, ch.Purpose, format, nil)
	}
	quoted := bound(verifier.FormatTPM2)
	req := r.quoteOver(ch, quoted[:])
	req.Prev = prev
	for _, format := range slices.Sorted(maps.Keys(items)) {
		i := items[format](t, collect.Bound{Value: bound(format), Primary: quoted, AK: ak.SPKI()})
		i.Format = format
		req.Items = append(req.Items, i)
	}
	return r.client.Attest(t.Context(), req)
}

// documentZone is a zone of one format.
func documentZone(name, format, class string, tier int, more string) string {
	return fmt.Sprintf(`apiVersion: zonebroker/v1
kind: Zone
name: %s
tier: %d
selectors: {any: [{format: %s}]}
admit: [owner]
requires: {class: %s, format: [%s]%s}
evidence: {max_age: 5m}
`, name, tier, format, class, format, more)
}
