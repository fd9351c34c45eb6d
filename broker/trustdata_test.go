package broker_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// someIssuer is a cluster with one key.
const someIssuer = `{"format":"k8s.psat","issuer":"https://k8s.example.org","jwks":{"keys":[{"kty":"EC","kid":"1","use":"sig","alg":"ES256","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}}`

// TestTrustDataVersion: the digest is that of the content, whatever the order in
// which files come, and every part of a file counts.
func TestTrustDataVersion(t *testing.T) {
	pem := evidencetest.NewMaker(t).PEM()
	files := []verifier.TrustObject{
		{Kind: broker.TrustEKRoot, Name: "a.pem", Raw: pem},
		{Kind: broker.TrustEKVendor, Name: "list", Raw: []byte("LAB0\nLAB1\n")},
		{Kind: verifier.TrustJWKS, Name: "google", Raw: []byte(someIssuer)},
	}
	first, err := broker.NewTrustData(files)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.ExtraVendors, []string{"LAB0", "LAB1"}) || len(first.Roots) != 1 || !strings.HasPrefix(string(first.Bytes), "zonebroker-trust-v1\njwks ") {
		t.Errorf("%+v\n%s", first.ExtraVendors, first.Bytes)
	}
	slices.Reverse(files)
	if again, err := broker.NewTrustData(files); err != nil || again.Digest != first.Digest {
		t.Errorf("in another order: %v", err)
	}
	for name, change := range map[string]func(*verifier.TrustObject){
		"name":    func(o *verifier.TrustObject) { o.Name = "other" },
		"content": func(o *verifier.TrustObject) { o.Raw = []byte(" " + someIssuer) },
	} {
		changed := slices.Clone(files)
		change(&changed[slices.IndexFunc(changed, func(o verifier.TrustObject) bool { return o.Kind == verifier.TrustJWKS })])
		if other, err := broker.NewTrustData(changed); err != nil || other.Digest == first.Digest {
			t.Errorf("%s: the digest stays (%v)", name, err)
		}
	}
	roots := func(kind string) [32]byte {
		t.Helper()
		d, err := broker.NewTrustData(append(slices.Clone(files), verifier.TrustObject{Kind: kind, Name: "ca", Raw: pem}))
		if err != nil {
			t.Fatal(err)
		}
		return d.Digest
	}
	if roots(verifier.TrustX509PoP) == roots(verifier.TrustAzureIMDS) {
		t.Error("the same certificate trusted for something else has the same digest")
	}
	for name, bad := range map[string]verifier.TrustObject{
		"roots":  {Kind: broker.TrustEKRoot, Name: "b.pem", Raw: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")},
		"lists":  {Kind: broker.TrustEKCRL, Name: "b.crl", Raw: []byte("x")},
		"kind":   {Kind: "aws", Name: "x", Raw: []byte("x")},
		"name":   {Kind: verifier.TrustJWKS, Name: "../x", Raw: []byte("x")},
		"twice":  {Kind: verifier.TrustJWKS, Name: "google", Raw: []byte("x")},
		"length": {Kind: verifier.TrustJWKS, Name: "long", Raw: make([]byte, 5<<20)},
	} {
		if _, err := broker.NewTrustData(append(slices.Clone(files), bad)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestTrustInForce: a version that comes into force is recorded first and named by
// each decision from then on; records of before are judged again, and exported,
// with the version that they name, by a replica that never had it.
func TestTrustInForce(t *testing.T) {
	r := newRig(t)
	rootless, err := broker.NewTrustData(nil)
	r.must(err)
	files := []verifier.TrustObject{{Kind: broker.TrustEKRoot, Name: "maker.pem", Raw: r.maker.PEM()}}
	first, err := broker.NewTrustData(files)
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), first))
	h := r.admitted()
	h.enrol()
	second, err := broker.NewTrustData(append(files, verifier.TrustObject{Kind: broker.TrustEKVendor, Name: "list", Raw: []byte("LAB0")}))
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), second))
	h.renew()
	r.must(r.b.UseTrust(t.Context(), second))

	bodies := r.attestations(h.node)
	for i, want := range []broker.TrustData{first, second} {
		if bodies[i].TrustRoots != "sha256:"+hexOf(want.Digest) {
			t.Errorf("record %d names %s", i, bodies[i].TrustRoots)
		}
	}
	r.cfg.Trust = rootless
	auditor, _ := r.newReplica("auditor")
	for i, body := range bodies {
		if got, err := auditor.JudgeAgain(t.Context(), body); err != nil || !got.Same || got.Refusal != nil {
			t.Errorf("record %d: %+v, %v", i, got, err)
		}
	}
	f, err := auditor.ExportEvidence(t.Context(), operator, bodies[0].ID.String())
	if err != nil || len(f.Context.Roots) != 1 {
		t.Errorf("export: %v", err)
	}
	r.onePartOnce(t)
}

// onePartOnce: a version keeps only what no earlier one did, and its parts stand
// before it.
func (r *rig) onePartOnce(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range r.store.objects {
		switch o.Kind {
		case "trust.part":
			if seen[hexOf(o.Digest)] {
				t.Error("a part is kept twice")
			}
			seen[hexOf(o.Digest)] = true
		case "trust":
			lines, ok := bytes.CutPrefix(o.Bytes, []byte("zonebroker-trust-v1\n"))
			if !ok {
				continue // the rig's own
			}
			for line := range strings.Lines(string(lines)) {
				if _, digest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !seen[digest] {
					t.Errorf("part %s does not stand before its version", digest)
				}
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d parts, want roots and vendors", len(seen))
	}
}

// TestTrustThatIsGone: what is not kept whole is never replaced by what is at hand.
func TestTrustThatIsGone(t *testing.T) {
	r := newRig(t)
	first, err := broker.NewTrustData([]verifier.TrustObject{{Kind: broker.TrustEKRoot, Name: "maker.pem", Raw: r.maker.PEM()}})
	r.must(err)
	r.must(r.b.UseTrust(t.Context(), first))
	h := r.admitted()
	h.enrol()
	body := r.attestations(h.node)[0]
	whole := slices.Clone(r.store.objects)
	without := func(kind string) []ledger.Object {
		return slices.DeleteFunc(slices.Clone(whole), func(o ledger.Object) bool { return o.Kind == kind && o.Digest != r.cfg.Trust.Digest })
	}
	for name, objects := range map[string][]ledger.Object{"version": without("trust"), "part": without("trust.part")} {
		r.store.objects = objects
		auditor, _ := r.newReplica("auditor " + name)
		if _, err := auditor.JudgeAgain(t.Context(), body); reason.Of(err) != reason.PolicyReferenceMissing {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := auditor.ExportEvidence(t.Context(), operator, body.ID.String()); reason.Of(err) != reason.PolicyReferenceMissing {
			t.Errorf("%s, export: %v", name, err)
		}
	}
	r.store.objects = whole
	for _, named := range []string{"", "sha256:zz", "sha256:" + strings.Repeat("00", 32), "sha256:" + hexOf(r.cfg.Trust.Digest)} {
		auditor, _ := r.newReplica("other")
		r.must(auditor.UseTrust(t.Context(), first))
		other := body
		other.TrustRoots = named
		if _, err := auditor.JudgeAgain(t.Context(), other); reason.Of(err) != reason.PolicyReferenceMissing {
			t.Errorf("%q: %v", named, err)
		}
	}
}

// TestTrustNotKeptIsNotUsed: while the history cannot keep a version, the one
// before stays in force.
func TestTrustNotKeptIsNotUsed(t *testing.T) {
	r := newRig(t)
	next, err := broker.NewTrustData([]verifier.TrustObject{{Kind: broker.TrustEKRoot, Name: "other.pem", Raw: evidencetest.NewMaker(t).PEM()}})
	r.must(err)
	r.store.failing("Append", reason.New(reason.StoreUnavailable, ""))
	if err := r.b.UseTrust(t.Context(), next); reason.Of(err) != reason.StoreUnavailable {
		t.Fatal(err)
	}
	r.store.failing("Append", nil)
	h := r.admitted()
	h.enrol()
	if got := r.attestations(h.node)[0].TrustRoots; got != "sha256:"+hexOf(r.cfg.Trust.Digest) {
		t.Errorf("judged with %s", got)
	}
	var grants []ledger.Grant
	for _, s := range r.store.records {
		if s.Type == ledger.TypeTrustActivated {
			var g ledger.Grant
			r.must(json.Unmarshal(s.Body, &g))
			grants = append(grants, g)
		}
	}
	if len(grants) != 1 {
		t.Errorf("%d versions recorded", len(grants))
	}
}
