package gce

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ConfidentialProfile is what the format says of its issuers: the verifier of
// Confidential Space signs RS256, for an hour. Its tokens of type PKI carry their
// certificates in x5c, which is never used; a broker that wants those configures
// the key.
var ConfidentialProfile = jwt.Profile{
	Format: "gcp.confidential", Algorithms: []string{"RS256"}, MaxLifetime: 3700 * time.Second,
}

// Confidential is a verified Confidential Space token. The zero value says nothing.
type Confidential struct {
	token  jwt.Token
	claims confidentialClaims
	bound  bool // carries the nonce that was asked for
}

// confidentialClaims are those of the token (Google: Confidential Space, token
// claims).
type confidentialClaims struct {
	Nonce        nonces      `json:"eat_nonce"`
	Hardware     string      `json:"hwmodel"`
	Software     string      `json:"swname"`
	Version      textOrTexts `json:"swversion"`
	Debug        string      `json:"dbgstat"`
	SecureBoot   bool        `json:"secboot"`
	ServiceAccts []string    `json:"google_service_accounts"`
	Submods      struct {
		Space struct {
			Support []string `json:"support_attributes"`
		} `json:"confidential_space"`
		Container struct {
			Reference string `json:"image_reference"`
			Digest    string `json:"image_digest"`
			ID        string `json:"image_id"`
			Restart   string `json:"restart_policy"`
		} `json:"container"`
		GCE struct {
			Project       string `json:"project_id"`
			ProjectNumber string `json:"project_number"`
			Zone          string `json:"zone"`
			InstanceID    string `json:"instance_id"`
			InstanceName  string `json:"instance_name"`
		} `json:"gce"`
	} `json:"submods"`
}

// textOrTexts is a string, or a list of strings.
type textOrTexts []string

// nonces are those of eat_nonce.
type nonces = textOrTexts

// UnmarshalJSON implements json.Unmarshaler.
func (t *textOrTexts) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		*t = make(textOrTexts, 1)
		return json.Unmarshal(b, &(*t)[0])
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// VerifyConfidential judges a token that was asked for with an audience that
// carries the bound value; nonce is the eat_nonce that has to stand beside it, ""
// where only the audience was asked for.
//
// Errors: those of package jwt; jwt.audience for another eat_nonce, as both carry
// the challenge; gce.no_instance where the token names no instance of a project;
// policy.measurement_mismatch for software that is not a Confidential Space image
// or a container without a digest. That debugging is on and that the image is not
// one of those that Google supports as stable are hazards.
func VerifyConfidential(raw []byte, want jwt.Expect, nonce string, issuers jwt.Issuers, now time.Time) (Confidential, error) {
	token, err := issuers.Verify(raw, want, now)
	if err != nil {
		return Confidential{}, err
	}
	out := Confidential{token: token}
	c := &out.claims
	if err := token.Decode(c); err != nil {
		return Confidential{}, err
	}
	if nonce != "" && (len(c.Nonce) != 1 || c.Nonce[0] != nonce) {
		return Confidential{}, reason.New(reason.JWTAudience, "eat_nonce is missing, another one, or not the only one")
	}
	out.bound = nonce != ""
	g := &c.Submods.GCE
	switch {
	case !isNumber(g.InstanceID) || !isNumber(g.ProjectNumber) || g.Project == "" || g.Zone == "":
		return Confidential{}, reason.New(reason.GCENoInstance, "the token names no instance of a project")
	case c.Software != "CONFIDENTIAL_SPACE":
		return Confidential{}, reason.New(reason.PolicyMeasurementMismatch, "the software is not a Confidential Space image")
	case c.Hardware == "" || !strings.HasPrefix(c.Submods.Container.Digest, "sha256:"):
		return Confidential{}, reason.New(reason.PolicyMeasurementMismatch, "the token does not say which hardware or container it is about")
	}
	return out, nil
}

// Project returns the project id.
func (c Confidential) Project() string { return c.claims.Submods.GCE.Project }

// Facts returns what the token proved: class B. The verifier saw a hardware report
// or a vTPM quote; what it hands on is its own word.
func (c Confidential) Facts() document.Facts {
	g, container := &c.claims.Submods.GCE, &c.claims.Submods.Container
	if g.InstanceID == "" {
		return document.Facts{}
	}
	f := document.Facts{
		Class: document.ClassB, NonceBound: true, KeyBound: true, IssuedAt: c.token.IssuedAt(), ExpiresAt: c.token.ExpiresAt(),
		Machine: document.Machine{Kind: document.MachineGCE, Name: g.ProjectNumber + "/" + g.InstanceID},
	}
	f.Own(document.OwnerGCPProject, g.Project)
	f.Add("gcp.project", g.Project)
	f.Add("gcp.zone", g.Zone)
	f.Add("gcp.instance_id", g.InstanceID)
	f.Add("gcp.hwmodel", c.claims.Hardware)
	f.Add("gcp.image_digest", container.Digest)
	f.Add("gcp.image_reference", container.Reference)
	f.Add("gcp.dbgstat", c.claims.Debug)
	for _, v := range c.claims.Version {
		f.Add("gcp.swversion", v)
	}
	for _, a := range c.claims.ServiceAccts {
		f.Add("gcp.service_account", a)
	}
	for _, a := range c.claims.Submods.Space.Support {
		f.Add("gcp.support", a)
	}
	f.Sort()
	f.Pass("gcp.confidential.signature", "signed by "+c.token.Issuer().Issuer)
	if c.bound {
		f.Pass("gcp.confidential.nonce", "eat_nonce carries the challenge beside the audience")
	}
	c.fear(&f)
	return f
}

// fear lists what default policy refuses. The codes are those of a measurement
// that is not the wanted one: a debug image is another image than the production
// one, and measures so.
func (c Confidential) fear(f *document.Facts) {
	if !strings.HasPrefix(c.claims.Hardware, "GCP_AMD_SEV") && !strings.HasPrefix(c.claims.Hardware, "GCP_INTEL_TDX") {
		f.Fear(reason.PolicyMeasurementMismatch, "the machine is not confidential: hwmodel is neither SEV nor TDX")
	}
	if c.claims.Debug != "disabled-since-boot" {
		f.Fear(reason.PolicyMeasurementMismatch, "the operator of the machine can look into the workload: dbgstat is not disabled-since-boot")
	}
	if !slices.Contains(c.claims.Submods.Space.Support, "STABLE") {
		f.Fear(reason.PolicyMeasurementMismatch, "the image is not one that Google supports as STABLE")
	}
	if !c.claims.SecureBoot {
		f.Fear(reason.PolicyMeasurementMismatch, "the machine did not boot by Secure Boot")
	}
}

// NewConfidentialIssuers is jwt.NewIssuers for ConfidentialProfile.
func NewConfidentialIssuers(s []jwt.Settings) (jwt.Issuers, error) {
	return jwt.NewIssuers(ConfidentialProfile, s)
}
