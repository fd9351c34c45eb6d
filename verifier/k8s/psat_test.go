package k8s_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type claims = documenttest.Claims

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var (
	audience = document.Audience([32]byte{1})
	want     = jwt.Expect{Audience: audience, IssuedAt: noon}
	signer   = documenttest.NewJWTKey("cluster-1", "RS256")
)

// clusters: each is the members of a trust object beside the common ones.
func clusters(t testing.TB, more ...claims) jwt.Issuers {
	t.Helper()
	out, err := newClusters(t, more...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newClusters(t testing.TB, more ...claims) (jwt.Issuers, error) {
	t.Helper()
	var objects []jwt.Object
	for i, m := range more {
		key := signer
		if i > 0 {
			key = documenttest.NewJWTKey("cluster-2", "ES256")
		}
		objects = append(objects, jwt.Object{Name: string(rune('a' + i)), Raw: documenttest.JWTObject("k8s.psat", documenttest.ClusterIssuer, m, key.JWK())})
	}
	settings, err := jwt.Parse(k8s.Profile, objects)
	if err != nil {
		t.Fatal(err)
	}
	return k8s.NewIssuers(settings)
}

func TestVerify(t *testing.T) {
	trusted := clusters(t, nil)
	good := documenttest.PSATClaims(audience, noon)
	kubernetes, _ := good["kubernetes.io"].(claims)
	inside := func(more claims) claims { return good.With(claims{"kubernetes.io": kubernetes.With(more)}) }
	for name, c := range map[string]struct {
		claims claims
		code   reason.Code
	}{
		"good":                       {good, ""},
		"before Kubernetes 1.29":     {inside(claims{"node": nil}), ""},
		"another service account":    {good.With(claims{"sub": "system:serviceaccount:payments:admin"}), reason.K8sSubject},
		"a person":                   {good.With(claims{"sub": "kubernetes-admin"}), reason.K8sSubject},
		"a name with the separator":  {inside(claims{"namespace": "payments:agent", "serviceaccount": claims{"name": "", "uid": "u"}}), reason.K8sSubject},
		"a namespace that is none":   {inside(claims{"namespace": "Payments"}).With(claims{"sub": "system:serviceaccount:Payments:agent"}), reason.K8sSubject},
		"a pod of no name":           {inside(claims{"pod": claims{"name": "a/b", "uid": "u"}}), reason.K8sNoPod},
		"no account uid":             {inside(claims{"serviceaccount": claims{"name": "agent"}}), reason.K8sSubject},
		"no claims of the cluster":   {good.With(claims{"kubernetes.io": nil}), reason.K8sSubject},
		"no pod":                     {inside(claims{"pod": nil}), reason.K8sNoPod},
		"a pod without uid":          {inside(claims{"pod": claims{"name": "agent-x7"}}), reason.K8sNoPod},
		"a uid with a slash":         {inside(claims{"pod": claims{"name": "agent-x7", "uid": "a/b"}}), reason.K8sNoPod},
		"a node without uid":         {inside(claims{"node": claims{"name": "worker-1"}}), ""},
		"a node without name":        {inside(claims{"node": claims{"uid": "u"}}), reason.K8sSubject},
		"a node with an odd uid":     {inside(claims{"node": claims{"name": "worker-1", "uid": "a/b"}}), reason.K8sSubject},
		"a node with an odd name":    {inside(claims{"node": claims{"name": "a/b"}}), reason.K8sSubject},
		"bound to a secret, not pod": {inside(claims{"pod": nil, "secret": claims{"name": "s", "uid": "u"}}), reason.K8sNoPod},
		"the API server's audience":  {good.With(claims{"aud": []string{documenttest.ClusterIssuer}}), reason.JWTAudience},
		"two audiences":              {good.With(claims{"aud": []string{"api", audience}}), reason.JWTAudience},
		"a secret token":             {claims{"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:payments:agent"}, reason.JWTIssuer},
		"a year":                     {good.With(claims{"exp": noon.AddDate(1, 0, 0).Unix()}), reason.JWTLifetime},
		"older than the challenge":   {good.With(claims{"iat": noon.Add(-5 * time.Minute).Unix()}), reason.JWTIssuedAt},
		"a namespace as number":      {inside(claims{"namespace": 1}), reason.JWTMalformed},
	} {
		got, err := k8s.Verify(signer.Token(c.claims), want, trusted, noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if (err != nil) != (got.Facts().Class == "") {
			t.Errorf("%s: %+v", name, got.Facts())
		}
	}
}

func TestFactsByAudience(t *testing.T) {
	for name, c := range map[string]struct {
		cluster  claims
		audience string
		class    string
		bound    bool
		name     string
	}{
		"of the challenge":  {nil, audience, document.ClassB, true, documenttest.ClusterIssuer},
		"of the cluster":    {claims{"audience": "zonebroker"}, "zonebroker", document.ClassC, false, documenttest.ClusterIssuer},
		"of a named one":    {claims{"audience": "zonebroker", "cluster": "prod-1"}, "zonebroker", document.ClassC, false, "prod-1"},
		"named, challenged": {claims{"cluster": "prod-1"}, audience, document.ClassB, true, "prod-1"},
	} {
		got, err := k8s.Verify(signer.Token(documenttest.PSATClaims(c.audience, noon)), want, clusters(t, c.cluster), noon)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := got.Facts()
		if f.Class != c.class || f.NonceBound != c.bound || f.KeyBound != c.bound || got.Audience() != c.audience ||
			f.Machine != (document.Machine{Kind: "k8s.pod", Name: c.name + "/f9023702-f4ed-4ed9-ab40-bc69142aa9a6"}) ||
			len(f.Owners) != 1 || f.Owners[0] != (document.Owner{Kind: "k8s.cluster", Value: c.name}) {
			t.Errorf("%s: %+v", name, f)
		}
		if diff := cmp.Diff([]document.Selector{
			{Name: "k8s.cluster", Value: c.name},
			{Name: "k8s.namespace", Value: "payments"},
			{Name: "k8s.node_name", Value: "worker-1"},
			{Name: "k8s.node_uid", Value: "c0ffee00-f4ed-4ed9-ab40-bc69142aa9a6"},
			{Name: "k8s.pod_name", Value: "agent-x7"},
			{Name: "k8s.pod_uid", Value: "f9023702-f4ed-4ed9-ab40-bc69142aa9a6"},
			{Name: "k8s.service_account", Value: "agent"},
			{Name: "k8s.service_account_uid", Value: "6808b4c7-0b53-45f4-83f7-e8937756eeae"},
		}, f.Selectors); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestClustersApart: two clusters of one issuer are told apart by their names, or
// not at all.
func TestClustersApart(t *testing.T) {
	if _, err := newClusters(t, nil, nil); err == nil || !strings.Contains(err.Error(), "member cluster") {
		t.Errorf("two clusters of one name: %v", err)
	}
	if _, err := newClusters(t, nil, claims{"cluster": documenttest.ClusterIssuer}); err == nil {
		t.Error("one named as the other's issuer was taken")
	}
	if _, err := k8s.NewIssuers([]jwt.Settings{{Issuer: "x"}}); err == nil {
		t.Error("a cluster without a key was taken")
	}
	both := clusters(t, nil, claims{"cluster": "two"})
	second := documenttest.NewJWTKey("cluster-2", "ES256")
	if _, err := k8s.Verify(second.Token(documenttest.PSATClaims(audience, noon)), want, both, noon); reason.Of(err) != reason.JWTSignature {
		t.Errorf("under another key of that id: %v", err)
	}
	got, err := k8s.Verify(signer.Token(documenttest.PSATClaims(audience, noon)), want, both, noon)
	if err != nil || got.Facts().Owners[0].Value != documenttest.ClusterIssuer {
		t.Errorf("%+v, %v", got.Facts().Owners, err)
	}
}

// answer is what a cluster says to a TokenReview (Kubernetes API reference,
// authentication.k8s.io/v1).
func answer() claims {
	return claims{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": claims{"creationTimestamp": nil},
		"spec": claims{"token": "…", "audiences": []string{audience}},
		"status": claims{"authenticated": true, "audiences": []string{audience}, "user": claims{
			"username": "system:serviceaccount:payments:agent", "uid": "6808b4c7-0b53-45f4-83f7-e8937756eeae",
			"groups": []string{"system:serviceaccounts"},
			"extra": claims{
				"authentication.kubernetes.io/pod-name":  []string{"agent-x7"},
				"authentication.kubernetes.io/pod-uid":   []string{"f9023702-f4ed-4ed9-ab40-bc69142aa9a6"},
				"authentication.kubernetes.io/node-name": []string{"worker-1"},
			},
		}},
	}
}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestReviewed(t *testing.T) {
	token, err := k8s.Verify(signer.Token(documenttest.PSATClaims(audience, noon)), want, clusters(t, nil), noon)
	if err != nil {
		t.Fatal(err)
	}
	status := func(more claims) []byte {
		s, _ := answer()["status"].(claims)
		return text(answer().With(claims{"status": s.With(more)}))
	}
	user := func(more claims) []byte {
		s, _ := answer()["status"].(claims)
		u, _ := s["user"].(claims)
		return status(claims{"user": u.With(more)})
	}
	extra := func(more claims) []byte {
		s, _ := answer()["status"].(claims)
		u, _ := s["user"].(claims)
		e, _ := u["extra"].(claims)
		return user(claims{"extra": e.With(more)})
	}
	for name, c := range map[string]struct {
		answer []byte
		code   reason.Code
	}{
		"alive":                     {text(answer()), ""},
		"before 1.32, no node":      {extra(claims{"authentication.kubernetes.io/node-name": nil}), ""},
		"the pod is gone":           {status(claims{"authenticated": false, "error": "[invalid bearer token, service account token has been invalidated]", "user": claims{}}), reason.K8sRevoked},
		"authenticated with error":  {status(claims{"error": "x"}), reason.K8sRevoked},
		"nothing of authenticated":  {status(claims{"authenticated": nil}), reason.K8sRevoked},
		"Authenticated":             {status(claims{"authenticated": nil, "Authenticated": true}), reason.K8sRevoked},
		"no status":                 {text(answer().With(claims{"status": nil})), reason.K8sRevoked},
		"a Status of failure":       {text(claims{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403}), reason.K8sRevoked},
		"another version":           {text(answer().With(claims{"apiVersion": "authentication.k8s.io/v1beta1"})), reason.K8sRevoked},
		"no audiences":              {status(claims{"audiences": nil}), reason.K8sRevoked},
		"another audience":          {status(claims{"audiences": []string{"api"}}), reason.K8sRevoked},
		"another account":           {user(claims{"username": "system:serviceaccount:payments:admin"}), reason.K8sSubject},
		"an account made again":     {user(claims{"uid": "00000000-0b53-45f4-83f7-e8937756eeae"}), reason.K8sSubject},
		"a pod made again":          {extra(claims{"authentication.kubernetes.io/pod-uid": []string{"00000000-f4ed-4ed9-ab40-bc69142aa9a6"}}), reason.K8sSubject},
		"no pod":                    {extra(claims{"authentication.kubernetes.io/pod-uid": nil}), reason.K8sSubject},
		"another pod's name":        {extra(claims{"authentication.kubernetes.io/pod-name": []string{"x"}}), reason.K8sSubject},
		"another node":              {extra(claims{"authentication.kubernetes.io/node-name": []string{"x"}}), reason.K8sSubject},
		"a member twice":            {[]byte(strings.Replace(string(text(answer())), `"authenticated":true`, `"authenticated":true,"authenticated":true`, 1)), reason.K8sRevoked},
		"no JSON":                   {[]byte("forbidden"), reason.K8sRevoked},
		"another claim of no type":  {extra(claims{"x": []int{1}}), reason.K8sRevoked},
		"as long as it may be":      {append(text(answer()), strings.Repeat(" ", k8s.MaxReview-len(text(answer())))...), ""},
		"longer than it may be":     {[]byte(strings.Repeat(" ", k8s.MaxReview+1)), reason.RequestTooLarge},
		"nothing":                   {nil, reason.K8sRevoked},
		"authenticated, other kind": {text(answer().With(claims{"kind": "SubjectAccessReview"})), reason.K8sRevoked},
	} {
		got, err := token.Reviewed(c.answer)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		f := got.Facts()
		if live := len(f.Values("k8s.review")) == 1; live != (err == nil) || live != (len(f.Findings) == 3) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if f := token.Facts(); len(f.Values("k8s.review")) != 0 || len(f.Findings) != 2 {
		t.Error("a token that nobody reviewed says that it was")
	}
}

func TestReviewBody(t *testing.T) {
	got, err := k8s.Review([]byte("a.b.c"), "zonebroker")
	const body = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"a.b.c","audiences":["zonebroker"]}}`
	if err != nil || string(got) != body {
		t.Errorf("%s, %v", got, err)
	}
}

func FuzzReviewed(f *testing.F) {
	token, err := k8s.Verify(signer.Token(documenttest.PSATClaims(audience, noon)), want, clusters(f, nil), noon)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text(answer()))
	f.Add([]byte(`{"status":{"authenticated":true,"user":{"extra":{"a":null}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var err error
		evidencetest.Bounded(t, len(raw), 256, func() { _, err = token.Reviewed(raw) })
		if err == nil && !strings.Contains(string(raw), "true") {
			t.Errorf("took %q", raw)
		}
	})
}

func FuzzClaims(f *testing.F) {
	key := documenttest.NewJWTKey("cluster-1", "ES256") // signs faster
	settings, err := jwt.Parse(k8s.Profile, []jwt.Object{{Name: "a", Raw: documenttest.JWTObject("k8s.psat", documenttest.ClusterIssuer, nil, key.JWK())}})
	if err != nil {
		f.Fatal(err)
	}
	trusted, err := k8s.NewIssuers(settings)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`"kubernetes.io":{"pod":null}`)
	f.Add(`"sub":"system:serviceaccount::","kubernetes.io":{"namespace":"","serviceaccount":{"name":""}}`)
	f.Fuzz(func(t *testing.T, members string) {
		raw := key.Raw(key.Header(), []byte(`{"aud":"`+audience+`","iat":1795176000,"exp":1795179600,"iss":"`+documenttest.ClusterIssuer+`",`+members+`}`))
		if got, err := k8s.Verify(raw, want, trusted, noon); err == nil && got.Facts().Machine.Name == "" {
			t.Errorf("facts without a pod: %s", members)
		}
	})
}

func BenchmarkVerifyPSAT(b *testing.B) {
	trusted := clusters(b, nil)
	raw := signer.Token(documenttest.PSATClaims(audience, noon))
	b.ReportAllocs()
	for b.Loop() {
		got, err := k8s.Verify(raw, want, trusted, noon)
		if err != nil || got.Facts().Class == "" {
			b.Fatal(err)
		}
	}
}
