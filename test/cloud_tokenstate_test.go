package test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestCloudTokenRow67: a token of another project is genuine, and nobody admitted
// that project.
func TestCloudTokenRow67(t *testing.T) {
	s := newTokenIssuers(t)
	dir := fstest.MapFS{
		"token.jwt": {Data: s.sign.Token(documenttest.GCEClaims("a", tokenNoon))},
		"jwks.json": {Data: documenttest.JWKS(s.sign.JWK())},
	}
	context := "time=2026-11-20T12:00:10Z;jwks=jwks.json;audience=a;issuer=" + documenttest.GoogleIssuer
	dir[conformance.Manifest] = &fstest.MapFile{Data: []byte("path\tkind\tverdict\tcode\tcontext\n" +
		"token.jwt\tgce.identity\taccept\t\t" + context + ";project=proj-a\n" +
		"token.jwt\tgce.identity\treject\tnode.not_admitted\t" + context + ";project=proj-b\n")}
	report, err := conformance.Run(dir, nil)
	must(t, err)
	for _, r := range report.Results {
		if r.Status != conformance.Same {
			t.Errorf("%+v", r)
		}
	}
	h := newDocumentHost(t, "gce.identity")
	got, err := h.add("gce.identity", s.sign.Token(h.good("gce.identity")), nil).judge(t, s.trust)
	must(t, err)
	if d := got.Documents(); len(d) != 1 || len(d[0].Owners) != 1 || d[0].Owners[0] != (document.Owner{Kind: "gcp.project", Value: "proj-a"}) {
		t.Errorf("%+v", d)
	}
}

// TestCloudTokenRow86Warning: a warning is genuine, and refused unless a zone names
// its code.
func TestCloudTokenRow86Warning(t *testing.T) {
	s := newTokenIssuers(t)
	h := newDocumentHost(t, "ear")
	raw := s.ear.Token(h.good("ear").With(tokenClaims{"submods": tokenClaims{"cpu0": documenttest.EARSubmodule("warning")}}))
	got, err := h.add("ear", raw, nil).judge(t, s.trust)
	must(t, err)
	if d := got.Documents(); len(d) != 1 || len(d[0].Hazards) != 1 || d[0].Hazards[0].Code != reason.EARStatus {
		t.Errorf("%+v", d)
	}
}

// TestCloudTokenRow89: what an issuer signed with a key that has left its set
// counts no more.
func TestCloudTokenRow89(t *testing.T) {
	s := newTokenIssuers(t)
	h := newDocumentHost(t, "gce.identity")
	h.add("gce.identity", s.sign.Token(h.good("gce.identity")), nil)
	_, err := h.judge(t, s.trust)
	must(t, err)
	rotated := verifier.Trust{Documents: verifier.Documents{Tokens: tokensOf(t, map[string][]byte{
		"google": documenttest.JWTObject("gce.identity", documenttest.GoogleIssuer, nil, s.enc.JWK()),
	})}}
	if _, err := h.judge(t, rotated); reason.Of(err) != reason.JWTKID {
		t.Errorf("%v", err)
	}
}

// TestCloudTokenRow90: a token that answered one challenge answers no other, nor
// the same one for another key.
func TestCloudTokenRow90(t *testing.T) {
	s := newTokenIssuers(t)
	for _, format := range []string{"gce.identity", "gcp.confidential", "k8s.psat", "azure.maa", "ear"} {
		first, second := newDocumentHost(t, format), newDocumentHost(t, format)
		raw := s.key(format).Token(first.good(format))
		second.want.Nonce = []byte(strings.Repeat("m", 32))
		if _, err := first.add(format, raw, nil).judge(t, s.trust); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if _, err := second.add(format, raw, nil).judge(t, s.trust); err == nil {
			t.Errorf("%s: the token of another host and challenge was taken", format)
		}
	}
}

// TestCloudTokenComposite: tokens of one instance stand together, those of two are
// refused, and so is a host whose key did not sign.
func TestCloudTokenComposite(t *testing.T) {
	s := newTokenIssuers(t)
	host := func(instance string) *documentHost {
		h := newDocumentHost(t, "gce.identity")
		h.add("gce.identity", s.sign.Token(h.good("gce.identity")), nil)
		good := h.good("gcp.confidential")
		sub, _ := good["submods"].(tokenClaims)
		gce, _ := sub["gce"].(tokenClaims)
		return h.add("gcp.confidential", s.sign.Token(good.With(tokenClaims{"submods": sub.With(tokenClaims{"gce": gce.With(tokenClaims{"instance_id": instance})})})), nil)
	}
	got, err := host("3015378661047007286").judge(t, s.trust)
	must(t, err)
	for _, d := range got.Documents() {
		if !d.Anchored {
			t.Errorf("%s is about another machine", d.Format)
		}
	}
	if _, err := host("3015378661047007287").judge(t, s.trust); reason.Of(err) != reason.GCEAKCertInstance {
		t.Errorf("two instances: %v", err)
	}
	forged := host("3015378661047007286")
	forged.ev.Agent.Signature = []byte("x")
	if _, err := forged.judge(t, s.trust); reason.Of(err) != reason.AgentSignature {
		t.Errorf("an agent that did not sign: %v", err)
	}
}

// TestCloudTokenReview: what the cluster said of a pod's token is judged with it.
func TestCloudTokenReview(t *testing.T) {
	s := newTokenIssuers(t)
	for _, alive := range []bool{true, false} {
		h := newDocumentHost(t, "k8s.psat")
		answer := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":%t,"audiences":[%q],"user":{
			"username":"system:serviceaccount:payments:agent","uid":"6808b4c7-0b53-45f4-83f7-e8937756eeae","extra":{
			"authentication.kubernetes.io/pod-name":["agent-x7"],"authentication.kubernetes.io/pod-uid":["f9023702-f4ed-4ed9-ab40-bc69142aa9a6"]}}}}`,
			alive, h.audience("k8s.psat"))
		h.add("k8s.psat", s.sign.Token(h.good("k8s.psat")), map[string][]byte{"token_review": []byte(answer)})
		want := reason.K8sRevoked
		if alive {
			want = ""
		}
		if _, err := h.judge(t, s.trust); reason.Of(err) != want {
			t.Errorf("alive %t: %v", alive, err)
		}
	}
}

// TestCloudTokenClasses: formats that carry the challenge are of class B; a managed
// identity's token is a bearer document.
func TestCloudTokenClasses(t *testing.T) {
	s := newTokenIssuers(t)
	for format, class := range map[string]string{
		"gce.identity": "B", "gcp.confidential": "B", "azure.maa": "B", "k8s.psat": "B", "ear": "B", "azure.msi": "C",
	} {
		h := newDocumentHost(t, format)
		got, err := h.add(format, s.key(format).Token(h.good(format)), nil).judge(t, s.trust)
		must(t, err)
		if d := got.Documents(); len(d) != 1 || d[0].Class != class || d[0].NonceBound != (class == "B") {
			t.Errorf("%s: %+v", format, d)
		}
	}
}

func TestCloudTokenTrustObjects(t *testing.T) {
	k := documenttest.NewJWTKey("test-1", "RS256")
	for name, c := range map[string]struct {
		raw  []byte
		want string
	}{
		"a format without issuers": {documenttest.JWTObject("gce.identiti", "https://x.test", nil, k.JWK()), "gce.identiti"},
		"no tenant":                {documenttest.JWTObject("azure.msi", "https://x.test", tokenClaims{"audience": "a"}, k.JWK()), "tenant"},
		"no JSON":                  {[]byte("x"), "jwks/o"},
		"a private key":            {documenttest.JWTObject("azure.maa", "https://x.test", nil, k.JWK().With(tokenClaims{"d": "AA"})), "private"},
	} {
		if _, err := verifier.NewTokens([]jwt.Object{{Name: "o", Raw: c.raw}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
