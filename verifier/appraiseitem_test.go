package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// composite is a host with an agent key and documents of test PKIs.
type composite struct {
	t      *testing.T
	ev     verifier.Evidence
	want   verifier.Expectation
	trust  verifier.Trust
	agent  *ecdsa.PrivateKey
	google *documenttest.JWTKey
	amd    *documenttest.AMD
	region *documenttest.EC2PKI
}

// milan is made once: its three keys take longer than all else that is tested here.
var milan = sync.OnceValues(func() (*documenttest.AMD, error) { return documenttest.NewAMD("Milan", itemNow) })

func newComposite(t *testing.T, format string) *composite {
	t.Helper()
	c := &composite{t: t, google: documenttest.NewJWTKey("google-1", "RS256"), region: documenttest.NewEC2("eu-west-1", itemNow)}
	key := evidencetest.NewSVIDKey(t)
	var err error
	c.agent, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	public, err := x509.MarshalPKIXPublicKey(c.agent.Public())
	c.must(err)
	c.amd, err = milan()
	c.must(err)
	c.ev = verifier.Evidence{Format: format, SPKI: key.SPKI(t), CSR: key.CSR(t), Agent: &verifier.AgentProof{Public: public}}
	c.want = verifier.Expectation{
		TrustDomain: "example.org", Purpose: verifier.PurposeEnrol, Nonce: bytes.Repeat([]byte{9}, 32),
		AKName: verifier.AgentKeyName(public), IssuedAt: itemNow.Add(-time.Second),
	}
	d := &c.trust.Documents
	d.SNP, err = snp.NewTrust(snp.Objects{Roots: [][]byte{c.amd.Roots()}})
	c.must(err)
	d.EC2, err = ec2.NewTrust(map[string][]byte{"eu-west-1": c.region.CertificatePEM()})
	c.must(err)
	*d = c.tokens(*d)
	return c
}

func (c *composite) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *composite) tokens(d verifier.Documents) verifier.Documents {
	c.t.Helper()
	tokens, err := verifier.NewDocuments([]verifier.TrustObject{
		{Kind: verifier.TrustJWKS, Name: "google", Raw: documenttest.JWTObject(verifier.FormatGCEIdentity, documenttest.GoogleIssuer, nil, c.google.JWK())},
		{Kind: verifier.TrustJWKS, Name: "space", Raw: documenttest.JWTObject(verifier.FormatGCPConfidential, documenttest.ConfidentialIssuer, nil, c.google.JWK())},
	})
	c.must(err)
	d.Tokens = tokens.Tokens
	return d
}

func (c *composite) bound(format string) [32]byte {
	return verifier.Binding(c.want.Nonce, c.ev.SPKI, c.want.TrustDomain, c.want.Purpose, format, nil)
}

func (c *composite) snp() {
	c.t.Helper()
	r := c.amd.Report()
	r.ReportData = document.ReportData(c.bound(verifier.FormatSNP), nil)
	vcek, err := c.amd.VCEK(r.ChipID, r.Reported, nil)
	c.must(err)
	raw, err := vcek.Sign(r.Bytes())
	c.must(err)
	c.add(verifier.Item{Format: verifier.FormatSNP, Document: raw, Parts: parts{"vcek": vcek.Certificate}})
}

func (c *composite) gce(change documenttest.Claims) {
	engine := documenttest.GCEInstance().With(change)
	claims := documenttest.GCEClaims(document.Audience(c.bound(verifier.FormatGCEIdentity)), itemNow).
		With(documenttest.Claims{"google": documenttest.Claims{"compute_engine": engine}})
	c.add(verifier.Item{Format: verifier.FormatGCEIdentity, Document: c.google.Token(claims)})
}

func (c *composite) space() {
	bound := c.bound(verifier.FormatGCPConfidential)
	claims := documenttest.ConfidentialClaims(document.Audience(bound), verifier.Base64Nonce(bound), itemNow)
	c.add(verifier.Item{Format: verifier.FormatGCPConfidential, Document: c.google.Token(claims)})
}

func (c *composite) iid() {
	c.add(verifier.Item{Format: verifier.FormatEC2IID, Document: c.region.Document(documenttest.NewEC2Instance("eu-west-1", itemNow))})
}

func (c *composite) add(i verifier.Item) { c.ev.Items = append(c.ev.Items, i) }

func (c *composite) appraise() (verifier.Appraisal, error) {
	c.t.Helper()
	digest := verifier.AgentDigest(c.bound(c.ev.Format))
	var err error
	c.ev.Agent.Signature, err = ecdsa.SignASN1(rand.Reader, c.agent, digest[:])
	c.must(err)
	return verifier.Appraise(c.ev, c.want, c.trust, itemNow)
}

// TestClassOfComposites: documents of one machine are as strong as the strongest of
// them, others as weak as the weakest.
func TestClassOfComposites(t *testing.T) {
	for name, k := range map[string]struct {
		primary  string
		collect  []func(*composite)
		class    string
		anchored []bool
	}{
		"a report alone":                {verifier.FormatSNP, []func(*composite){(*composite).snp}, "A", []bool{true}},
		"a report and a stray token":    {verifier.FormatSNP, []func(*composite){(*composite).snp, token}, "B", []bool{true, false}},
		"a stray bearer document":       {verifier.FormatSNP, []func(*composite){(*composite).snp, token, (*composite).iid}, "C", []bool{true, false, false}},
		"two tokens of one instance":    {verifier.FormatGCEIdentity, []func(*composite){token, (*composite).space}, "B", []bool{true, true}},
		"a token and a stray report":    {verifier.FormatGCEIdentity, []func(*composite){token, (*composite).snp}, "B", []bool{true, false}},
		"the primary stands last":       {verifier.FormatSNP, []func(*composite){token, (*composite).snp}, "B", []bool{true, false}},
		"a bearer document and a token": {verifier.FormatEC2IID, []func(*composite){(*composite).iid, token}, "C", []bool{true, false}},
	} {
		c := newComposite(t, k.primary)
		for _, collect := range k.collect {
			collect(c)
		}
		a, err := c.appraise()
		if err != nil {
			t.Errorf("%s (test PKI): %v", name, err)
			continue
		}
		var anchored []bool
		for _, d := range a.Documents() {
			anchored = append(anchored, d.Anchored)
		}
		if a.BindingClass() != k.class || !slices.Equal(anchored, k.anchored) || a.Documents()[0].Format != k.primary {
			t.Errorf("%s (test PKI): class %s, anchored %v", name, a.BindingClass(), anchored)
		}
		if !a.Authentic() || !a.Genuine() || a.KeyResidency() != verifier.KeySoftware || a.Machine().Kind == "" {
			t.Errorf("%s (test PKI): %+v", name, a)
		}
	}
}

func token(c *composite) { c.gce(nil) }

// TestCompositesThatAreRefused names what each forgery would gain.
func TestCompositesThatAreRefused(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*composite)
		want   reason.Code
	}{
		"two machines of one kind": {func(c *composite) { c.space() }, reason.GCEAKCertInstance},
		"a stranger's agent key":   {func(c *composite) { c.agent, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }, reason.AgentSignature},
		"no agent key":             {func(c *composite) { c.want.AKName = verifier.AgentKeyName([]byte("another")) }, reason.ChallengeWrongNode},
		"a key on another curve": {func(c *composite) {
			other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			c.must(err)
			c.ev.Agent.Public, err = x509.MarshalPKIXPublicKey(other.Public())
			c.must(err)
		}, reason.RequestMalformed},
		"a quote that nobody asked for": {func(c *composite) { c.ev.TPM2 = &verifier.TPM2Evidence{} }, reason.RequestMalformed},
		"no CSR":                        {func(c *composite) { c.ev.CSR = nil }, reason.RequestMalformed},
		"the same format twice":         {func(c *composite) { c.gce(nil) }, reason.RequestMalformed},
		"an unknown format":             {func(c *composite) { c.add(verifier.Item{Format: "horoscope"}) }, reason.RequestUnknownFormat},
		"a quote as a document":         {func(c *composite) { c.add(verifier.Item{Format: verifier.FormatTPM2}) }, reason.RequestUnknownFormat},
		"a token beside":                {func(c *composite) { c.add(verifier.Item{Format: verifier.FormatJoinToken}) }, reason.RequestUnknownFormat},
		"too many":                      {func(c *composite) { c.ev.Items = make([]verifier.Item, 7) }, reason.RequestTooLarge},
		"not its document":              {func(c *composite) { c.ev.Items = nil; c.snp() }, reason.RequestMalformed},
		"made for another key":          {func(c *composite) { k := evidencetest.NewSVIDKey(c.t); c.ev.SPKI, c.ev.CSR = k.SPKI(c.t), k.CSR(c.t) }, reason.JWTAudience},
		"a companion that is forged":    {func(c *composite) { c.snp(); c.ev.Items[1].Document[0x90] ^= 1 }, reason.SNPSignature},
	} {
		c := newComposite(t, verifier.FormatGCEIdentity)
		c.gce(nil)
		if name == "two machines of one kind" {
			c.ev.Items = nil
			c.gce(documenttest.Claims{"instance_id": "1111111111111111111"})
		}
		k.change(c)
		if _, err := c.appraise(); reason.Of(err) != k.want {
			t.Errorf("%s (test PKI): %v, want %s", name, err, k.want)
		}
	}
}

// TestWhoseRefusalsAreRecorded: at first contact nobody is known before a document
// is; a known agent key is an author.
func TestWhoseRefusalsAreRecorded(t *testing.T) {
	for purpose, authentic := range map[string]bool{verifier.PurposeEnrol: false, verifier.PurposeRenew: true} {
		c := newComposite(t, verifier.FormatSNP)
		c.want.Purpose = purpose
		c.snp()
		c.ev.Items[0].Document[0x90] ^= 1
		a, err := c.appraise()
		if reason.Of(err) != reason.SNPSignature || a.Authentic() != authentic {
			t.Errorf("%s (test PKI): %v, authentic %v", purpose, err, a.Authentic())
		}
	}
}

// TestDocumentTimeIsTheOldest: no document makes another one younger.
func TestDocumentTimeIsTheOldest(t *testing.T) {
	c := newComposite(t, verifier.FormatGCEIdentity)
	c.gce(nil)
	c.snp()
	a, err := c.appraise()
	if err != nil || !a.DocumentTime().Equal(itemNow) {
		t.Errorf("%v, %s", err, a.DocumentTime())
	}
}

// TestCanonicalOfDocuments: whatever a document proves differently gives other
// bytes, and the same gives the same.
func TestCanonicalOfDocuments(t *testing.T) {
	c := newComposite(t, verifier.FormatGCEIdentity)
	c.gce(nil)
	a, err := c.appraise()
	c.must(err)
	first, err := a.Canonical()
	c.must(err)
	b, err := c.appraise()
	c.must(err)
	if again, err := b.Canonical(); err != nil || !bytes.Equal(first, again) {
		t.Errorf("judged again: %v\n%s\n%s", err, first, again)
	}
	c.ev.Items = nil
	c.gce(documenttest.Claims{"zone": "europe-west1-b"})
	b, err = c.appraise()
	c.must(err)
	if other, err := b.Canonical(); err != nil || bytes.Equal(first, other) {
		t.Errorf("another zone says the same: %v", err)
	}
}
