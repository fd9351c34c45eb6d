package verifier_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAgentKeyForms: a key has one name. One that could be written in two ways
// would be two agents, and the second could take what belongs to the first.
func TestAgentKeyForms(t *testing.T) {
	key := p256Key(t)
	good := evidencetest.SPKI(t, key.Public())
	var outer struct {
		Algorithm, Key asn1.RawValue
	}
	if _, err := asn1.Unmarshal(good, &outer); err != nil {
		t.Fatal(err)
	}
	longer := must(asn1.Marshal(struct {
		Algorithm, Key asn1.RawValue
		More           int
	}{outer.Algorithm, outer.Key, 5}))
	for name, c := range map[string]struct {
		spki []byte
		code reason.Code
	}{
		"P-256":                  {good, ""},
		"nothing":                {nil, reason.RequestMalformed},
		"no key":                 {[]byte("x"), reason.RequestMalformed},
		"RSA":                    {evidencetest.SPKI(t, documenttest.RSAKey(0).Public()), reason.RequestMalformed},
		"P-384":                  {evidencetest.SPKI(t, ecKey(t, elliptic.P384()).Public()), reason.RequestMalformed},
		"bytes behind":           {append(slices.Clone(good), 0), reason.RequestMalformed},
		"an element more inside": {longer, reason.RequestMalformed},
	} {
		got, err := verifier.ParseAgentKey(c.spki)
		if reason.Of(err) != c.code || (got != nil) != (c.code == "") || got != nil && !got.Equal(key.Public().(*ecdsa.PublicKey)) {
			t.Errorf("%s: want %q, got %v", name, c.code, err)
		}
	}
}

// TestCheckItems: what no document needs to be looked at for.
func TestCheckItems(t *testing.T) {
	items := func(formats ...string) []verifier.Item {
		var out []verifier.Item
		for _, f := range formats {
			out = append(out, verifier.Item{Format: f})
		}
		return out
	}
	six := []string{"snp", "nvidia", "gce.identity", "ec2.iid", "k8s.psat", "x509pop"}
	for name, c := range map[string]struct {
		primary string
		items   []verifier.Item
		code    reason.Code
	}{
		"six":                            {"snp", items(six...), ""},
		"seven":                          {"snp", items(append(six, "ear")...), reason.RequestTooLarge},
		"a join token that names a node": {verifier.FormatJoinToken, items("jointoken"), ""},
		"one beside it":                  {"snp", items("snp", "jointoken"), reason.RequestUnknownFormat},
		"a quote as its own document":    {verifier.FormatTPM2, items("tpm2"), reason.RequestUnknownFormat},
		"a document beside a quote":      {verifier.FormatTPM2, items("snp"), ""},
		"a document beside lab evidence": {verifier.FormatTPM2Lab, items("snp"), reason.RequestMalformed},
		"two of one format":              {"snp", items("snp", "snp"), reason.RequestMalformed},
	} {
		if err := verifier.CheckItems(c.primary, c.items); reason.Of(err) != c.code {
			t.Errorf("%s: want %q, got %v", name, c.code, err)
		}
	}
}

func (c *composite) gpu() {
	pki := documenttest.NewNVIDIAPKI(itemNow)
	c.trust.Documents.NVIDIA = must(nvidia.NewTrust([][]byte{pki.RootPEM()}, nil, jwt.Issuers{}))
	primary := c.bound(c.ev.Format)
	device := pki.Device(documenttest.GPUFields{Nonce: sha256.Sum256(primary[:])})
	c.add(verifier.Item{Format: verifier.FormatNVIDIA, Document: documenttest.GPUEvidence(device)})
}

// instance adds the identity document and the NitroTPM document of one instance.
func (c *composite) instance() {
	region := documenttest.NewEC2(documenttest.NitroRegion, itemNow)
	c.trust.Documents.EC2 = must(ec2.NewTrust(map[string][]byte{documenttest.NitroRegion: region.CertificatePEM()}))
	i := documenttest.NewEC2Instance(documenttest.NitroRegion, itemNow)
	i.Instance = documenttest.NitroInstance
	c.add(verifier.Item{Format: verifier.FormatEC2IID, Document: region.Document(i)})
	pki := must(documenttest.NewNitroPKI(itemNow))
	c.trust.Documents.Nitro = must(nitro.NewTrust(pki.RootPEM()))
	bound := c.bound(verifier.FormatNitroTPM)
	c.add(verifier.Item{Format: verifier.FormatNitroTPM, Document: must(pki.Document(documenttest.NitroFields{Instance: true, Nonce: bound[:]}))})
}

// TestWhatIsTied: a GPU is the machine's where a report measured who asked it, and
// a bearer document is as good as the report of the same instance, whichever of
// them names the node.
func TestWhatIsTied(t *testing.T) {
	for name, c := range map[string]struct {
		primary string
		collect []func(*composite)
		class   string
		tied    bool
	}{
		"a GPU by a report":           {verifier.FormatSNP, []func(*composite){(*composite).snp, (*composite).gpu}, "A", true},
		"a GPU by a token":            {verifier.FormatGCEIdentity, []func(*composite){token, (*composite).gpu}, "B", false},
		"an instance by its document": {verifier.FormatEC2IID, []func(*composite){(*composite).instance}, "A", true},
		"an instance by its NitroTPM": {verifier.FormatNitroTPM, []func(*composite){(*composite).instance}, "A", true},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			k := newComposite(t, c.primary)
			for _, collect := range c.collect {
				collect(k)
			}
			a, err := k.appraise()
			if err != nil {
				t.Fatal(err)
			}
			if docs := a.Documents(); a.BindingClass() != c.class || len(docs) != 2 || docs[1].Anchored != c.tied {
				t.Errorf("class %s, %+v", a.BindingClass(), docs)
			}
		})
	}
}

// TestSaidOfDocuments: the checks that were made, when the machine started and when
// the oldest document was made.
func TestSaidOfDocuments(t *testing.T) {
	c := newComposite(t, verifier.FormatEC2IID)
	c.iid()
	a, err := c.appraise()
	if err != nil {
		t.Fatal(err)
	}
	if got := passed(a); !slices.Equal(got, []string{"agent", "ec2.iid", "key"}) {
		t.Errorf("%v", got)
	}
	if want := itemNow.Add(-2 * time.Minute); !a.Launched().Equal(want) || !a.DocumentTime().IsZero() {
		t.Errorf("launched %s, made %s", a.Launched(), a.DocumentTime())
	}
	older := itemNow.Add(-30 * time.Second)
	for _, at := range [][2]time.Time{{itemNow, older}, {older, itemNow}} {
		c := newComposite(t, verifier.FormatGCEIdentity)
		c.add(verifier.Item{Format: verifier.FormatGCEIdentity, Document: c.google.Token(
			documenttest.GCEClaims(document.Audience(c.bound(verifier.FormatGCEIdentity)), at[0]))})
		bound := c.bound(verifier.FormatGCPConfidential)
		c.add(verifier.Item{Format: verifier.FormatGCPConfidential, Document: c.google.Token(
			documenttest.ConfidentialClaims(document.Audience(bound), verifier.Base64Nonce(bound), at[1]))})
		a, err := c.appraise()
		if err != nil || !a.DocumentTime().Equal(older) {
			t.Errorf("%v: %s, %v", at, a.DocumentTime(), err)
		}
	}
}

// TestRefusalsOfTheAuthor: what a known agent key sends and is refused is recorded
// as its own; of a stranger's there is nothing to record.
func TestRefusalsOfTheAuthor(t *testing.T) {
	for purpose, want := range map[string]int{verifier.PurposeEnrol: 0, verifier.PurposeRenew: 2} {
		c := newComposite(t, verifier.FormatSNP)
		c.want.Purpose = purpose
		c.snp()
		c.ev.Items[0].Document[0x90] ^= 1
		c.ev.CSR = nil
		a, err := c.appraise()
		if reason.Of(err) != reason.SNPSignature || len(a.Refusals()) != want {
			t.Errorf("%s (test PKI): %v, %v", purpose, err, a.Refusals())
		}
	}
}

// TestCanonicalFormOfDocuments: history keeps an appraisal by these bytes, and
// judges it again; a member that is lost is a proof that nobody can ask for.
func TestCanonicalFormOfDocuments(t *testing.T) {
	c := newComposite(t, verifier.FormatEC2IID)
	c.iid()
	c.gce(nil)
	c.snp()
	a, err := c.appraise()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Documents json.RawMessage `json:"documents"`
	}
	if err := json.Unmarshal(must(a.Canonical()), &got); err != nil {
		t.Fatal(err)
	}
	if want := must(json.Marshal(formsOf(a.Documents()))); string(got.Documents) != string(want) {
		t.Errorf("got  %s\nwant %s", got.Documents, want)
	}
}

func formsOf(docs []verifier.Document) any {
	type finding struct {
		Check  string      `json:"check"`
		Code   reason.Code `json:"code"`
		Detail string      `json:"detail"`
		Deny   bool        `json:"deny"`
	}
	type form struct {
		Format    string      `json:"format"`
		Class     string      `json:"class"`
		Anchored  bool        `json:"anchored"`
		Nonce     bool        `json:"nonce"`
		Key       bool        `json:"key"`
		Issued    string      `json:"issued"`
		Expires   string      `json:"expires"`
		Launched  string      `json:"launched"`
		Machine   [2]string   `json:"machine"`
		AK        string      `json:"ak"`
		Owners    [][2]string `json:"owners"`
		Anchors   [][2]string `json:"anchors"`
		Selectors [][2]string `json:"selectors"`
		Hazards   [][2]string `json:"hazards"`
		Findings  []finding   `json:"findings"`
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	var out []form
	for _, d := range docs {
		f := form{
			d.Format, d.Class, d.Anchored, d.NonceBound, d.KeyBound, at(d.IssuedAt), at(d.ExpiresAt), at(d.Launched),
			[2]string{d.Machine.Kind, d.Machine.Name},
			hex.EncodeToString(d.AK),
			[][2]string{},
			[][2]string{},
			[][2]string{},
			[][2]string{},
			nil,
		}
		for _, o := range d.Owners {
			f.Owners = append(f.Owners, [2]string{o.Kind, o.Value})
		}
		for _, x := range d.Anchors {
			f.Anchors = append(f.Anchors, [2]string{x.Kind, x.Value})
		}
		for _, s := range d.Selectors {
			f.Selectors = append(f.Selectors, [2]string{s.Name, s.Value})
		}
		for _, h := range d.Hazards {
			f.Hazards = append(f.Hazards, [2]string{string(h.Code), h.Detail})
		}
		for _, x := range d.Findings {
			f.Findings = append(f.Findings, finding{x.Check, x.Code, x.Detail, x.Outcome == reason.Refused})
		}
		out = append(out, f)
	}
	return out
}

// TestJoinTokenItem: the token was spent at the challenge; what stands in its place
// would be recorded as evidence, and nobody reads it.
func TestJoinTokenItem(t *testing.T) {
	for name, c := range map[string]struct {
		document []byte
		parts    parts
		code     reason.Code
	}{"empty": {nil, nil, ""}, "a document": {[]byte("x"), nil, reason.RequestMalformed}, "a part": {nil, parts{"token": nil}, reason.RequestMalformed}} {
		f, code := judgeOne(t, &verifier.Documents{}, verifier.FormatJoinToken, c.document, c.parts)
		if code != c.code || code == "" && f.Class != document.ClassC {
			t.Errorf("%s: %s, class %s", name, code, f.Class)
		}
	}
}

// TestRecordedParts: an agent may send every part but those that the broker adds.
func TestRecordedParts(t *testing.T) {
	for _, name := range []string{"", "chain", "vcek", "signature", "document"} {
		if verifier.RecordedPart(name) {
			t.Errorf("%q is the broker's", name)
		}
	}
}
