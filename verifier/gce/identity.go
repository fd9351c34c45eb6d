package gce

import (
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// IdentityProfile is what the format says of its issuers. Google signs RS256, for
// an hour; a hundred seconds more are for rounding.
var IdentityProfile = jwt.Profile{
	Format: "gce.identity", Algorithms: []string{"RS256"}, MaxLifetime: 3700 * time.Second,
}

// Identity is a verified identity token of an instance. The zero value says
// nothing.
type Identity struct {
	token  jwt.Token
	claims identityClaims
	number uint64 // of the project
}

// identityClaims are those of the full format (Google: Verifying the identity of
// instances, token contents).
type identityClaims struct {
	Subject         string `json:"sub"`
	AuthorizedParty string `json:"azp"`
	Email           string `json:"email"`
	EmailVerified   bool   `json:"email_verified"`
	Google          struct {
		ComputeEngine *struct {
			ProjectID       string   `json:"project_id"`
			ProjectNumber   uint64   `json:"project_number"`
			Zone            string   `json:"zone"`
			InstanceID      string   `json:"instance_id"`
			InstanceName    string   `json:"instance_name"`
			Created         int64    `json:"instance_creation_timestamp"`
			Confidentiality int      `json:"instance_confidentiality"`
			Licences        []string `json:"license_id"`
		} `json:"compute_engine"`
	} `json:"google"`
}

// VerifyIdentity judges a token that was asked for with format=full and an
// audience that carries the bound value. Errors: those of package jwt, then
// gce.no_instance: anybody with rights on a service account gets such a token
// without an instance in it, from Cloud Run, GKE or IAM, and one that lacks any
// part of an instance is not of the full format.
func VerifyIdentity(raw []byte, want jwt.Expect, issuers jwt.Issuers, now time.Time) (Identity, error) {
	token, err := issuers.Verify(raw, want, now)
	if err != nil {
		return Identity{}, err
	}
	out := Identity{token: token}
	if err := token.Decode(&out.claims); err != nil {
		return Identity{}, err
	}
	ce := out.claims.Google.ComputeEngine
	switch {
	case ce == nil:
		return Identity{}, reason.New(reason.GCENoInstance, "the token names no instance: ask the metadata server for format=full")
	case !isNumber(ce.InstanceID) || ce.ProjectNumber == 0 || ce.ProjectID == "" || ce.Zone == "" || ce.InstanceName == "" || ce.Created <= 0:
		return Identity{}, reason.New(reason.GCENoInstance, "the instance in the token is incomplete")
	case out.claims.Subject == "" || out.claims.Email == "" || !out.claims.EmailVerified:
		return Identity{}, reason.New(reason.GCENoInstance, "the token is not that of a service account whose address Google verified")
	}
	out.number = ce.ProjectNumber
	return out, nil
}

// isNumber: an instance id is 64 bits in decimal, in the one spelling that names
// the machine.
func isNumber(s string) bool {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n > 0 && strconv.FormatUint(n, 10) == s
}

// Project returns the project id.
func (i Identity) Project() string {
	if i.claims.Google.ComputeEngine == nil {
		return ""
	}
	return i.claims.Google.ComputeEngine.ProjectID
}

// Facts returns what the token proved: class B, as Google's word binds nonce and
// key by the audience and no hardware does.
func (i Identity) Facts() document.Facts {
	ce := i.claims.Google.ComputeEngine
	if ce == nil {
		return document.Facts{}
	}
	f := document.Facts{
		Class: document.ClassB, NonceBound: true, KeyBound: true, IssuedAt: i.token.IssuedAt(), ExpiresAt: i.token.ExpiresAt(),
		Machine: document.Machine{Kind: document.MachineGCE, Name: strconv.FormatUint(i.number, 10) + "/" + ce.InstanceID},
	}
	f.Own(document.OwnerGCPProject, ce.ProjectID)
	f.Add("gce.project", ce.ProjectID)
	f.Add("gce.project_number", strconv.FormatUint(i.number, 10))
	f.Add("gce.zone", ce.Zone)
	f.Add("gce.instance_id", ce.InstanceID)
	f.Add("gce.instance_name", ce.InstanceName)
	f.Add("gce.service_account", i.claims.Email)
	f.Add("gce.confidentiality", strconv.Itoa(ce.Confidentiality))
	for _, l := range ce.Licences {
		f.Add("gce.license", l)
	}
	f.Sort()
	f.Pass("gce.identity.signature", "signed by "+i.token.Issuer().Issuer)
	f.Pass("gce.identity.instance", "the token is of the full format")
	if i.claims.AuthorizedParty != i.claims.Subject {
		f.Findings = append(f.Findings, reason.Finding{
			Check: "gce.identity.azp", Outcome: reason.Noted, Detail: "azp is not the service account that sub names",
		})
	}
	return f
}

// NewIdentityIssuers is jwt.NewIssuers for IdentityProfile.
func NewIdentityIssuers(s []jwt.Settings) (jwt.Issuers, error) {
	return jwt.NewIssuers(IdentityProfile, s)
}
