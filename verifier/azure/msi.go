package azure

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MSIProfile is what the format says of its issuers: Entra signs RS256. The
// metadata service hands the same token out for up to 24 hours, so each issuer
// has a fixed audience, the broker's own application.
var MSIProfile = jwt.Profile{
	Format: "azure.msi", Algorithms: []string{"RS256"}, MaxLifetime: 24*time.Hour + 5*time.Minute, Members: []string{"audience"},
}

// ManagedIdentity is a verified token of the managed identity of a virtual
// machine. The zero value says nothing.
type ManagedIdentity struct {
	token    jwt.Token
	claims   msiClaims
	resource msiMachine
}

// msiClaims are those of an access token of Entra (Microsoft: Access token claims
// reference); both versions have these.
type msiClaims struct {
	Tenant    string `json:"tid"`
	Object    string `json:"oid"`
	Subject   string `json:"sub"`
	AppID     string `json:"appid"` // version 1
	Party     string `json:"azp"`   // the same in version 2
	Kind      string `json:"idtyp"`
	UPN       string `json:"upn"`
	Unique    string `json:"unique_name"`
	Preferred string `json:"preferred_username"`
	Scope     string `json:"scp"`
	Family    string `json:"family_name"`
	// MIRID is the resource of a system-assigned identity, or the user-assigned
	// identity itself; AzRID is then the resource that used it.
	MIRID string `json:"xms_mirid"`
	AzRID string `json:"xms_az_rid"`
}

// msiMachine is the resource id of one virtual machine, in lower case: Resource
// Manager compares without case, and no two spellings may name one machine.
type msiMachine struct{ id, subscription, group, name string }

// tokenGUID is a GUID as Entra writes tenants and objects.
var tokenGUID = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// issuerForms are how Entra names itself, around the tenant, in the public cloud
// and those of the US government and China, in versions 1 and 2.
var issuerForms = [][2]string{
	{"https://sts.windows.net/", "/"},
	{"https://login.microsoftonline.com/", "/v2.0"},
	{"https://login.microsoftonline.us/", "/v2.0"},
	{"https://sts.chinacloudapi.cn/", "/"},
	{"https://login.partner.microsoftonline.cn/", "/v2.0"},
}

// VerifyMSI judges a token of a managed identity. The audience is the issuer's
// configured one; where it has none, want's.
//
// Errors: those of package jwt; azure.tenant where tid is not the tenant in iss,
// which a library that compares one of them with a list would take; azure.principal
// for a token of a person or with delegated rights; azure.resource where the token
// names no single virtual machine.
func VerifyMSI(raw []byte, want jwt.Expect, issuers jwt.Issuers, now time.Time) (ManagedIdentity, error) {
	token, err := issuers.Verify(raw, want, now)
	if err != nil {
		return ManagedIdentity{}, err
	}
	out := ManagedIdentity{token: token}
	c := &out.claims
	if err := token.Decode(c); err != nil {
		return ManagedIdentity{}, err
	}
	if !tokenGUID.MatchString(c.Tenant) || !strings.EqualFold(c.Tenant, tenantOf(token.Issuer().Issuer)) {
		return ManagedIdentity{}, reason.New(reason.AzureTenant, "the tenant of the token is not the tenant of its issuer")
	}
	if err := c.checkPrincipal(); err != nil {
		return ManagedIdentity{}, err
	}
	resource := c.MIRID
	if c.AzRID != "" {
		resource = c.AzRID
	}
	var ok bool
	if out.resource, ok = parseVM(resource); !ok {
		return ManagedIdentity{}, reason.New(reason.AzureResource, "the token does not name one virtual machine")
	}
	return out, nil
}

// tenantOf returns the tenant in an issuer's URL, "" for one of another form.
func tenantOf(issuer string) string {
	for _, form := range issuerForms {
		if rest, ok := strings.CutPrefix(issuer, form[0]); ok {
			if tenant, ok := strings.CutSuffix(rest, form[1]); ok {
				return tenant
			}
		}
	}
	return ""
}

// checkPrincipal wants an identity that is not a person's and acts for itself:
// idtyp is an optional claim, so what only people's tokens have refuses too.
func (c *msiClaims) checkPrincipal() error {
	switch {
	case c.Kind != "" && c.Kind != "app":
		return reason.New(reason.AzurePrincipal, "the token is not that of an application")
	case c.UPN != "" || c.Unique != "" || c.Preferred != "" || c.Family != "" || c.Scope != "":
		return reason.New(reason.AzurePrincipal, "the token is that of a person, or of an application that acts for one")
	case !tokenGUID.MatchString(c.Object) || c.Subject != c.Object:
		return reason.New(reason.AzurePrincipal, "sub and oid do not name one identity")
	case c.MIRID == "":
		return reason.New(reason.AzurePrincipal, "the token is that of an application, not of a managed identity")
	}
	return nil
}

// parseVM reads /subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/
// virtualMachines/N and nothing longer: an extension, a scale set or a resource of
// another provider that is nested under a machine is not the machine.
func parseVM(id string) (msiMachine, bool) {
	p := strings.Split(strings.ToLower(id), "/")
	if len(p) != 9 || p[0] != "" || p[1] != "subscriptions" || p[3] != "resourcegroups" || p[5] != "providers" ||
		p[6] != "microsoft.compute" || p[7] != "virtualmachines" {
		return msiMachine{}, false
	}
	if !tokenGUID.MatchString(p[2]) || !msiName.MatchString(p[4]) || !msiName.MatchString(p[8]) {
		return msiMachine{}, false
	}
	return msiMachine{strings.Join(p, "/"), p[2], p[4], p[8]}, true
}

// msiName: naming rules of Azure resources, machines and resource groups
// (letters of other scripts are left out). None ends with a full stop, and so none is
// ".." either.
var msiName = regexp.MustCompile(`^[a-z0-9_().-]{0,89}[a-z0-9_()-]$`)

// Facts returns what the token proved: class C, a bearer document, unless its
// audience was this challenge's, which Entra gives no machine today.
func (m ManagedIdentity) Facts() document.Facts {
	if m.resource.id == "" {
		return document.Facts{}
	}
	f := document.Facts{
		Class: document.ClassC, IssuedAt: m.token.IssuedAt(), ExpiresAt: m.token.ExpiresAt(),
		Machine: document.Machine{Kind: document.MachineAzureResource, Name: m.resource.id},
	}
	tenant := strings.ToLower(m.claims.Tenant)
	f.Own(document.OwnerAzureTenant, tenant)
	f.Own(document.OwnerAzureSubscription, m.resource.subscription)
	f.Add("azure.msi.tenant", tenant)
	f.Add("azure.msi.subscription", m.resource.subscription)
	f.Add("azure.msi.resource_group", m.resource.group)
	f.Add("azure.msi.vm_name", m.resource.name)
	f.Add("azure.msi.principal", strings.ToLower(m.claims.Object))
	f.Add("azure.msi.application", strings.ToLower(m.claims.application()))
	f.Add("azure.msi.identity", strings.ToLower(m.claims.MIRID))
	f.Sort()
	f.Pass("azure.msi.signature", "signed by "+m.token.Issuer().Issuer)
	f.Pass("azure.msi.principal", "a managed identity of one virtual machine")
	return f
}

func (c *msiClaims) application() string {
	if c.AppID != "" {
		return c.AppID
	}
	return c.Party
}

// NewMSIIssuers is jwt.NewIssuers for MSIProfile. An issuer that is no tenant of
// Entra is an error: every token of it would be refused.
func NewMSIIssuers(tenants []jwt.Settings) (jwt.Issuers, error) {
	for _, t := range tenants {
		if tenantOf(t.Issuer) == "" || t.Audience == "" {
			return jwt.Issuers{}, fmt.Errorf("issuer %q: azure.msi wants the URL of one Entra tenant, and an audience of the broker's own", t.Name)
		}
	}
	return jwt.NewIssuers(MSIProfile, tenants)
}
