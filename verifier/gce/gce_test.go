package gce_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type claims = documenttest.Claims

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var (
	bound    = [32]byte{1, 2, 3}
	audience = document.Audience(bound)
	want     = jwt.Expect{Audience: audience, IssuedAt: noon}
	signer   = documenttest.NewJWTKey("google-1", "RS256")
)

func issuers(t testing.TB, profile jwt.Profile, issuer string, build func([]jwt.Settings) (jwt.Issuers, error), key *documenttest.JWTKey) jwt.Issuers {
	t.Helper()
	algorithm := claims{"algorithms": []string{key.Alg}}
	settings, err := jwt.Parse(profile, []jwt.Object{{Name: "google", Raw: documenttest.JWTObject(profile.Format, issuer, algorithm, key.JWK())}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := build(settings)
	if err != nil || out.Len() != 1 {
		t.Fatalf("%d issuers, %v", out.Len(), err)
	}
	return out
}

func google(t testing.TB, key *documenttest.JWTKey) jwt.Issuers {
	return issuers(t, gce.IdentityProfile, documenttest.GoogleIssuer, gce.NewIdentityIssuers, key)
}

func space(t testing.TB, key *documenttest.JWTKey) jwt.Issuers {
	return issuers(t, gce.ConfidentialProfile, documenttest.ConfidentialIssuer, gce.NewConfidentialIssuers, key)
}

func TestIdentity(t *testing.T) {
	trusted := google(t, signer)
	good := documenttest.GCEClaims(audience, noon)
	with := func(more claims) claims {
		return good.With(claims{"google": claims{"compute_engine": documenttest.GCEInstance().With(more)}})
	}
	for name, c := range map[string]struct {
		claims claims
		code   reason.Code
	}{
		"good":                          {good, ""},
		"no compute_engine":             {good.With(claims{"google": nil}), reason.GCENoInstance},
		"compute_engine null":           {good.With(claims{"google": claims{"compute_engine": nil}}), reason.GCENoInstance},
		"no instance id":                {with(claims{"instance_id": ""}), reason.GCENoInstance},
		"an id with zeros before":       {with(claims{"instance_id": "007"}), reason.GCENoInstance},
		"an id that is a path":          {with(claims{"instance_id": "1/2"}), reason.GCENoInstance},
		"an id of more than 64 bits":    {with(claims{"instance_id": "18446744073709551616"}), reason.GCENoInstance},
		"id zero":                       {with(claims{"instance_id": "0"}), reason.GCENoInstance},
		"no project":                    {with(claims{"project_id": nil}), reason.GCENoInstance},
		"no project number":             {with(claims{"project_number": nil}), reason.GCENoInstance},
		"no zone":                       {with(claims{"zone": nil}), reason.GCENoInstance},
		"no name":                       {with(claims{"instance_name": nil}), reason.GCENoInstance},
		"no creation time":              {with(claims{"instance_creation_timestamp": nil}), reason.GCENoInstance},
		"no address":                    {good.With(claims{"email": nil}), reason.GCENoInstance},
		"an address nobody verified":    {good.With(claims{"email_verified": false}), reason.GCENoInstance},
		"no sub":                        {good.With(claims{"sub": nil}), reason.GCENoInstance},
		"a project number as text":      {with(claims{"project_number": "1"}), reason.JWTMalformed},
		"claims of an instance, folded": {good.With(claims{"google": claims{"Compute_Engine": documenttest.GCEInstance()}}), reason.GCENoInstance},
		"another audience":              {good.With(claims{"aud": "vault/prod"}), reason.JWTAudience},
		"signed by a service account":   {good.With(claims{"iss": "847250625900-compute@developer.gserviceaccount.com"}), reason.JWTIssuer},
	} {
		got, err := gce.VerifyIdentity(signer.Token(c.claims), want, trusted, noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if err != nil && (got.Project() != "" || got.Facts().Class != "") {
			t.Errorf("%s: a refused token says something: %+v", name, got.Facts())
		}
	}
}

func TestIdentityFacts(t *testing.T) {
	got, err := gce.VerifyIdentity(signer.Token(documenttest.GCEClaims(audience, noon).With(claims{"azp": "other"})), want, google(t, signer), noon)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	if got.Project() != "proj-a" || f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || len(f.Hazards) != 0 ||
		f.Machine != (document.Machine{Kind: "gce.instance", Name: "847250625900/3015378661047007286"}) ||
		!f.IssuedAt.Equal(noon) || !f.ExpiresAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Owner{{Kind: "gcp.project", Value: "proj-a"}}, f.Owners); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "gce.confidentiality", Value: "1"},
		{Name: "gce.instance_id", Value: "3015378661047007286"},
		{Name: "gce.instance_name", Value: "vm-1"},
		{Name: "gce.license", Value: "5926592092274602096"},
		{Name: "gce.project", Value: "proj-a"},
		{Name: "gce.project_number", Value: "847250625900"},
		{Name: "gce.service_account", Value: "847250625900-compute@developer.gserviceaccount.com"},
		{Name: "gce.zone", Value: "us-central1-c"},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"gce.identity.signature", "gce.identity.instance", "gce.identity.azp"}, checks(&f)); diff != "" {
		t.Error(diff)
	}
	if last := f.Findings[len(f.Findings)-1]; last.Check != "gce.identity.azp" || last.Outcome != reason.Noted {
		t.Errorf("azp of somebody else: %+v", f.Findings)
	}
}

func checks(f *document.Facts) []string {
	var out []string
	for _, x := range f.Findings {
		out = append(out, x.Check)
	}
	return out
}

func TestIssuersNeedKeys(t *testing.T) {
	if _, err := gce.NewIdentityIssuers([]jwt.Settings{{Issuer: "x"}}); err == nil {
		t.Error("an issuer of identity tokens without a key was taken")
	}
	if _, err := gce.NewConfidentialIssuers([]jwt.Settings{{Issuer: "x"}}); err == nil {
		t.Error("an issuer of Confidential Space tokens without a key was taken")
	}
}

func TestConfidential(t *testing.T) {
	const nonce = "AQIDAAAA"
	trusted := space(t, signer)
	good := documenttest.ConfidentialClaims(audience, nonce, noon)
	submods, _ := good["submods"].(claims)
	sub := func(name string, more claims) claims {
		part, _ := submods[name].(claims)
		return good.With(claims{"submods": submods.With(claims{name: part.With(more)})})
	}
	for name, c := range map[string]struct {
		claims claims
		code   reason.Code
		fears  int
	}{
		"good":                     {good, "", 0},
		"the nonce in a list":      {good.With(claims{"eat_nonce": []string{nonce}}), "", 0},
		"another nonce":            {good.With(claims{"eat_nonce": "x"}), reason.JWTAudience, 0},
		"no nonce":                 {good.With(claims{"eat_nonce": nil}), reason.JWTAudience, 0},
		"two nonces":               {good.With(claims{"eat_nonce": []string{nonce, "x"}}), reason.JWTAudience, 0},
		"another audience":         {good.With(claims{"aud": "x"}), reason.JWTAudience, 0},
		"another issuer":           {good.With(claims{"iss": documenttest.GoogleIssuer}), reason.JWTIssuer, 0},
		"debugging is on":          {good.With(claims{"dbgstat": "enabled"}), "", 1},
		"nothing about debugging":  {good.With(claims{"dbgstat": nil}), "", 1},
		"no Secure Boot":           {good.With(claims{"secboot": false}), "", 1},
		"a debug image":            {sub("confidential_space", claims{"support_attributes": nil}).With(claims{"dbgstat": "enabled"}), "", 2},
		"only usable":              {sub("confidential_space", claims{"support_attributes": []string{"USABLE"}}), "", 1},
		"other software":           {good.With(claims{"swname": "GCE"}), reason.PolicyMeasurementMismatch, 0},
		"no hardware":              {good.With(claims{"hwmodel": nil}), reason.PolicyMeasurementMismatch, 0},
		"a Shielded VM":            {good.With(claims{"hwmodel": "GCP_SHIELDED_VM"}), "", 1},
		"hardware nobody knows":    {good.With(claims{"hwmodel": "X_GCP_AMD_SEV"}), "", 1},
		"SEV-SNP":                  {good.With(claims{"hwmodel": "GCP_AMD_SEV_SNP"}), "", 0},
		"TDX":                      {good.With(claims{"hwmodel": "GCP_INTEL_TDX"}), "", 0},
		"no digest":                {sub("container", claims{"image_digest": nil}), reason.PolicyMeasurementMismatch, 0},
		"no instance":              {sub("gce", claims{"instance_id": nil}), reason.GCENoInstance, 0},
		"no project":               {sub("gce", claims{"project_id": nil}), reason.GCENoInstance, 0},
		"no project number":        {sub("gce", claims{"project_number": "x"}), reason.GCENoInstance, 0},
		"no zone":                  {sub("gce", claims{"zone": nil}), reason.GCENoInstance, 0},
		"a version as text":        {good.With(claims{"swversion": "250800"}), "", 0},
		"a nonce that is a number": {good.With(claims{"eat_nonce": 5}), reason.JWTMalformed, 0},
	} {
		got, err := gce.VerifyConfidential(signer.Token(c.claims), want, nonce, trusted, noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if f := got.Facts(); len(f.Hazards) != c.fears || (err != nil) != (f.Class == "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	only, err := gce.VerifyConfidential(signer.Token(good), want, "", trusted, noon)
	if f := only.Facts(); err != nil || len(f.Findings) != 1 {
		t.Errorf("where only the audience was asked for: %+v, %v", f.Findings, err)
	}
	// The PKI flavour names its key by certificates alone.
	pki := signer.Raw(claims{"alg": "RS256", "x5c": []string{"MIIB"}}, []byte(`{}`))
	if _, err := gce.VerifyConfidential(pki, want, nonce, trusted, noon); reason.Of(err) != reason.JWTKID {
		t.Errorf("x5c and no kid: %v", err)
	}
}

func TestConfidentialFacts(t *testing.T) {
	token := signer.Token(documenttest.ConfidentialClaims(audience, "n", noon).With(claims{"dbgstat": "enabled"}))
	got, err := gce.VerifyConfidential(token, want, "n", space(t, signer), noon)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	if diff := cmp.Diff([]string{"gcp.confidential.signature", "gcp.confidential.nonce"}, checks(&f)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]document.Owner{{Kind: "gcp.project", Value: "proj-a"}}, f.Owners); diff != "" {
		t.Error(diff)
	}
	if got.Project() != "proj-a" || f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || f.Hazards[0].Code != reason.PolicyMeasurementMismatch ||
		f.Machine != (document.Machine{Kind: "gce.instance", Name: "847250625900/3015378661047007286"}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "gcp.dbgstat", Value: "enabled"},
		{Name: "gcp.hwmodel", Value: "GCP_AMD_SEV"},
		{Name: "gcp.image_digest", Value: "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		{Name: "gcp.image_reference", Value: "us-docker.pkg.dev/proj-a/repo/app:1"},
		{Name: "gcp.instance_id", Value: "3015378661047007286"},
		{Name: "gcp.project", Value: "proj-a"},
		{Name: "gcp.service_account", Value: "runner@proj-a.iam.gserviceaccount.com"},
		{Name: "gcp.support", Value: "LATEST"},
		{Name: "gcp.support", Value: "STABLE"},
		{Name: "gcp.support", Value: "USABLE"},
		{Name: "gcp.swversion", Value: "250800"},
		{Name: "gcp.zone", Value: "us-central1-c"},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
}

// FuzzClaims: claims that are signed come from Google, but a service account can
// sign what it likes under keys of its own that an operator may have configured.
func FuzzClaims(f *testing.F) {
	key := documenttest.NewJWTKey("google-1", "ES256") // signs faster
	trusted, other := google(f, key), space(f, key)
	f.Add(`"google":{"compute_engine":{"instance_id":"1"}}`)
	f.Add(`"eat_nonce":null,"submods":{"gce":{}}`)
	f.Add(`"email":{},"swversion":[null]`)
	f.Fuzz(func(t *testing.T, members string) {
		head := `{"aud":"` + audience + `","iat":1795176000,"exp":1795179600,"iss":"`
		for issuer, verify := range map[string]func([]byte) document.Facts{
			documenttest.GoogleIssuer: func(raw []byte) document.Facts {
				got, _ := gce.VerifyIdentity(raw, want, trusted, noon)
				return got.Facts()
			},
			documenttest.ConfidentialIssuer: func(raw []byte) document.Facts {
				got, _ := gce.VerifyConfidential(raw, want, "n", other, noon)
				return got.Facts()
			},
		} {
			facts := verify(key.Raw(key.Header(), []byte(head+issuer+`",`+members+`}`)))
			if facts.Class != "" && facts.Machine.Name == "" {
				t.Errorf("facts without a machine: %+v", facts)
			}
		}
	})
}

func BenchmarkVerifyGCE(b *testing.B) {
	trusted, other := google(b, signer), space(b, signer)
	identity := signer.Token(documenttest.GCEClaims(audience, noon))
	confidential := signer.Token(documenttest.ConfidentialClaims(audience, "n", noon))
	b.Run("gce.identity", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := gce.VerifyIdentity(identity, want, trusted, noon)
			if err != nil || got.Facts().Class == "" {
				b.Fatal(err)
			}
		}
	})
	b.Run("gcp.confidential", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			got, err := gce.VerifyConfidential(confidential, want, "n", other, noon)
			if err != nil || got.Facts().Class == "" {
				b.Fatal(err)
			}
		}
	})
}
