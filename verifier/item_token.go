package verifier

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ear"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/k8s"
)

// Tokens are the configured issuers of tokens, a set a format. The zero value
// trusts none.
type Tokens struct {
	gceIdentity, confidential, msi, maa, psat, ear jwt.Issuers
}

// tokenFormats are those whose issuers are trust objects jwks/<name>; tokens of
// NVIDIA are judged with its reports.
var tokenFormats = []string{
	FormatGCEIdentity, FormatGCPConfidential, FormatAzureMSI, FormatAzureMAA, FormatK8sPSAT, FormatEAR, FormatNVIDIA,
}

// NewTokens reads the trust objects jwks/<name>: each is one issuer of the format
// that it names. One that nobody would read is an error: a misspelled format is a
// cluster that nobody can use.
func NewTokens(objects []jwt.Object) (Tokens, error) {
	for _, o := range objects {
		format, err := o.Format()
		if err != nil {
			return Tokens{}, err
		}
		if !slices.Contains(tokenFormats, format) {
			return Tokens{}, fmt.Errorf("jwks/%s is for format %q, which has no issuers", o.Name, format)
		}
	}
	var out Tokens
	for _, t := range []struct {
		profile jwt.Profile
		build   func([]jwt.Settings) (jwt.Issuers, error)
		into    *jwt.Issuers
	}{
		{gce.IdentityProfile, gce.NewIdentityIssuers, &out.gceIdentity},
		{gce.ConfidentialProfile, gce.NewConfidentialIssuers, &out.confidential},
		{azure.MSIProfile, azure.NewMSIIssuers, &out.msi},
		{azure.MAAProfile, azure.NewMAAIssuers, &out.maa},
		{k8s.Profile, k8s.NewIssuers, &out.psat},
		{ear.Profile, ear.NewIssuers, &out.ear},
	} {
		settings, err := jwt.Parse(t.profile, objects)
		if err != nil {
			return Tokens{}, err
		}
		if *t.into, err = t.build(settings); err != nil {
			return Tokens{}, err
		}
	}
	return out, nil
}

// base64Nonce is how the bound value stands in tokens that have a nonce.
func base64Nonce(bound [32]byte) string { return base64.RawURLEncoding.EncodeToString(bound[:]) }

// challenged is what a token with an audience a challenge has to carry.
func challenged(in *itemInput) jwt.Expect {
	return jwt.Expect{Audience: document.Audience(in.Bound), IssuedAt: in.IssuedAt}
}

// judgeGCEIdentity judges an instance's token. Part "gce_instance" is what Google
// said of the instance.
func judgeGCEIdentity(in *itemInput, trust *Documents) (document.Facts, error) {
	t, err := gce.VerifyIdentity(in.Document, challenged(in), trust.Tokens.gceIdentity, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	facts := t.Facts()
	if answer, asked := in.Parts[gce.PartInstance]; asked {
		if err := t.Live(answer, &facts); err != nil {
			return document.Facts{}, err
		}
	}
	return facts, nil
}

func judgeConfidential(in *itemInput, trust *Documents) (document.Facts, error) {
	t, err := gce.VerifyConfidential(in.Document, challenged(in), base64Nonce(in.Bound), trust.Tokens.confidential, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return t.Facts(), nil
}

func judgeMSI(in *itemInput, trust *Documents) (document.Facts, error) {
	t, err := azure.VerifyMSI(in.Document, challenged(in), trust.Tokens.msi, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return t.Facts(), nil
}

func judgeMAA(in *itemInput, trust *Documents) (document.Facts, error) {
	t, err := azure.VerifyMAA(in.Document, base64Nonce(in.Bound), in.IssuedAt, trust.Tokens.maa, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return t.Facts(), nil
}

// judgePSAT judges a pod's token. Part "token_review" is what the cluster said of
// it.
func judgePSAT(in *itemInput, trust *Documents) (document.Facts, error) {
	t, err := k8s.Verify(in.Document, challenged(in), trust.Tokens.psat, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	if answer, asked := in.Parts[k8s.PartTokenReview]; asked {
		if t, err = t.Reviewed(answer); err != nil {
			return document.Facts{}, err
		}
	}
	return t.Facts(), nil
}

// judgeEAR judges the result of another verifier. Part "signature" is by the key
// that the result is bound to, where that took the place of a nonce.
func judgeEAR(in *itemInput, trust *Documents) (document.Facts, error) {
	want := ear.Expect{Nonce: base64Nonce(in.Bound), Bound: in.Bound, Signature: in.Parts[ear.PartSignature], IssuedAt: in.IssuedAt}
	t, err := ear.Verify(in.Document, want, trust.Tokens.ear, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return t.Facts(), nil
}
