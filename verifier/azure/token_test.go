package azure_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type tokenClaims = documenttest.Claims

var (
	tokenTime = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	entra     = documenttest.NewJWTKey("entra-1", "RS256")
)

const application = "api://zonebroker"

func tenants(t testing.TB, key *documenttest.JWTKey, issuers ...string) jwt.Issuers {
	t.Helper()
	var objects []jwt.Object
	for _, i := range issuers {
		objects = append(objects, jwt.Object{Name: i, Raw: documenttest.JWTObject("azure.msi", i, tokenClaims{"audience": application, "algorithms": []string{key.Alg}}, key.JWK())})
	}
	settings, err := jwt.Parse(azure.MSIProfile, objects)
	if err != nil {
		t.Fatal(err)
	}
	out, err := azure.NewMSIIssuers(settings)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMSI(t *testing.T) {
	const other = "https://sts.windows.net/99999999-9999-9999-9999-999999999999/"
	trusted := tenants(t, entra, documenttest.EntraIssuer, other, "https://login.microsoftonline.com/"+documenttest.EntraTenant+"/v2.0")
	good := documenttest.MSIClaims(application, tokenTime)
	vm, _ := good["xms_mirid"].(string)
	const uami = "/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"
	mirid := func(id string) tokenClaims { return good.With(tokenClaims{"xms_mirid": id}) }
	for name, c := range map[string]struct {
		claims tokenClaims
		code   reason.Code
	}{
		"good":                           {good, ""},
		"version 2":                      {good.With(tokenClaims{"iss": "https://login.microsoftonline.com/" + documenttest.EntraTenant + "/v2.0", "appid": nil, "azp": "x"}), ""},
		"no idtyp":                       {good.With(tokenClaims{"idtyp": nil}), ""},
		"issued hours before":            {good.With(tokenClaims{"iat": tokenTime.Add(-20 * time.Hour).Unix(), "exp": tokenTime.Add(time.Hour).Unix()}), ""},
		"of 25 hours":                    {good.With(tokenClaims{"exp": tokenTime.Add(25 * time.Hour).Unix()}), reason.JWTLifetime},
		"user-assigned, with its VM":     {good.With(tokenClaims{"xms_mirid": uami, "xms_az_rid": vm}), ""},
		"Resource Manager's audience":    {good.With(tokenClaims{"aud": "https://management.azure.com/"}), reason.JWTAudience},
		"a tenant nobody configured":     {good.With(tokenClaims{"iss": "https://sts.windows.net/55555555-5555-5555-5555-555555555555/"}), reason.JWTIssuer},
		"tid of another tenant":          {good.With(tokenClaims{"iss": other}), reason.AzureTenant},
		"no tid":                         {good.With(tokenClaims{"tid": nil}), reason.AzureTenant},
		"a person":                       {good.With(tokenClaims{"idtyp": "user", "upn": "a@b", "xms_mirid": nil}), reason.AzurePrincipal},
		"a person without idtyp":         {good.With(tokenClaims{"idtyp": nil, "upn": "a@b"}), reason.AzurePrincipal},
		"a guest without idtyp":          {good.With(tokenClaims{"idtyp": nil, "unique_name": "live.com#a@b"}), reason.AzurePrincipal},
		"a person of version 2":          {good.With(tokenClaims{"idtyp": nil, "preferred_username": "a@b"}), reason.AzurePrincipal},
		"rights of a person":             {good.With(tokenClaims{"scp": "user_impersonation"}), reason.AzurePrincipal},
		"a device":                       {good.With(tokenClaims{"idtyp": "device"}), reason.AzurePrincipal},
		"sub of somebody else":           {good.With(tokenClaims{"sub": "x"}), reason.AzurePrincipal},
		"no oid":                         {good.With(tokenClaims{"oid": nil, "sub": nil}), reason.AzurePrincipal},
		"an application with a secret":   {good.With(tokenClaims{"xms_mirid": nil}), reason.AzurePrincipal},
		"user-assigned alone":            {mirid(uami), reason.AzureResource},
		"a scale set":                    {mirid(strings.Replace(vm, "virtualMachines", "virtualMachineScaleSets", 1)), reason.AzureResource},
		"an extension of a machine":      {mirid(vm + "/extensions/x"), reason.AzureResource},
		"a machine nested in a resource": {mirid("/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/Evil.Provider/things/x/providers/Microsoft.Compute/virtualMachines/vm1"), reason.AzureResource},
		"a machine of another provider":  {mirid(strings.Replace(vm, "Microsoft.Compute", "Microsoft.ClassicCompute", 1)), reason.AzureResource},
		"no subscription":                {mirid(strings.Replace(vm, "44444444-4444-4444-4444-444444444444", "x", 1)), reason.AzureResource},
		"an empty name":                  {mirid(strings.TrimSuffix(vm, "vm1")), reason.AzureResource},
		"a slash behind":                 {mirid(vm + "/"), reason.AzureResource},
		"a group that is a path":         {mirid(strings.Replace(vm, "/rg/", "/../", 1)), reason.AzureResource},
		"a machine that is a path":       {mirid(strings.TrimSuffix(vm, "vm1") + "."), reason.AzureResource},
		"a full stop behind":             {mirid(vm + "."), reason.AzureResource},
		"a full stop within":             {mirid(vm + ".a"), ""},
		"a name of 90 letters":           {mirid(strings.TrimSuffix(vm, "vm1") + strings.Repeat("a", 90)), ""},
		"a name of 91 letters":           {mirid(strings.TrimSuffix(vm, "vm1") + strings.Repeat("a", 91)), reason.AzureResource},
		"nothing before":                 {mirid(vm[1:]), reason.AzureResource},
		"user-assigned on a scale set":   {good.With(tokenClaims{"xms_mirid": vm, "xms_az_rid": uami}), reason.AzureResource},
		"oid as a number":                {good.With(tokenClaims{"oid": 1}), reason.JWTMalformed},
	} {
		got, err := azure.VerifyMSI(entra.Token(c.claims), jwt.Expect{Audience: "of the challenge", IssuedAt: tokenTime}, trusted, tokenTime)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if (err != nil) != (got.Facts().Class == "") {
			t.Errorf("%s: %+v", name, got.Facts())
		}
	}
}

func TestMSIFacts(t *testing.T) {
	got, err := azure.VerifyMSI(entra.Token(documenttest.MSIClaims(application, tokenTime)), jwt.Expect{}, tenants(t, entra, documenttest.EntraIssuer), tokenTime)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	const id = "/subscriptions/44444444-4444-4444-4444-444444444444/resourcegroups/rg/providers/microsoft.compute/virtualmachines/vm1"
	if f.Class != document.ClassC || f.NonceBound || f.KeyBound || f.Machine != (document.Machine{Kind: "azure.resource", Name: id}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Owner{
		{Kind: "azure.tenant", Value: documenttest.EntraTenant}, {Kind: "azure.subscription", Value: "44444444-4444-4444-4444-444444444444"},
	}, f.Owners); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "azure.msi.application", Value: "33333333-3333-3333-3333-333333333333"},
		{Name: "azure.msi.identity", Value: id},
		{Name: "azure.msi.principal", Value: "22222222-2222-2222-2222-222222222222"},
		{Name: "azure.msi.resource_group", Value: "rg"},
		{Name: "azure.msi.subscription", Value: "44444444-4444-4444-4444-444444444444"},
		{Name: "azure.msi.tenant", Value: documenttest.EntraTenant},
		{Name: "azure.msi.vm_name", Value: "vm1"},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
}

func TestMSIIssuers(t *testing.T) {
	keys, err := jwt.ParseKeys(documenttest.JWKS(entra.JWK()))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]jwt.Settings{
		"no tenant":          {Issuer: "https://sts.windows.net/", Audience: application, Keys: keys},
		"all tenants":        {Issuer: "https://sts.windows.net", Audience: application, Keys: keys},
		"somebody else":      {Issuer: "https://accounts.google.com", Audience: application, Keys: keys},
		"no audience":        {Issuer: documenttest.EntraIssuer, Keys: keys},
		"version 2, cut off": {Issuer: "https://login.microsoftonline.com/" + documenttest.EntraTenant, Audience: application, Keys: keys},
	} {
		if _, err := azure.NewMSIIssuers([]jwt.Settings{s}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func attesters(t testing.TB, key *documenttest.JWTKey) jwt.Issuers {
	t.Helper()
	settings, err := jwt.Parse(azure.MAAProfile, []jwt.Object{{Name: "weu", Raw: documenttest.JWTObject("azure.maa", documenttest.MAAIssuer, tokenClaims{"algorithms": []string{key.Alg}}, key.JWK())}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := azure.NewMAAIssuers(settings)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMAA(t *testing.T) {
	trusted := attesters(t, entra)
	ak := documenttest.NewJWTKey("ak", "RS256")
	good := documenttest.MAAClaims("n", ak.JWK(), tokenTime)
	tee, _ := good["x-ms-isolation-tee"].(tokenClaims)
	isolation := func(more tokenClaims) tokenClaims {
		return good.With(tokenClaims{"x-ms-isolation-tee": tee.With(more)})
	}
	td := func(more tokenClaims) tokenClaims {
		return isolation(tokenClaims{"x-ms-attestation-type": "tdxvm", "x-ms-sevsnpvm-is-debuggable": nil}.With(more))
	}
	keys := func(keys ...tokenClaims) tokenClaims {
		return isolation(tokenClaims{"x-ms-runtime": tokenClaims{"keys": keys}})
	}
	hcl := ak.JWK().With(tokenClaims{"kid": "HCLAkPub"})
	for name, c := range map[string]struct {
		claims tokenClaims
		nonce  string
		code   reason.Code
		fears  int
	}{
		"good":                            {good, "n", "", 0},
		"no nonce was asked for":          {good, "", "", 0},
		"another nonce":                   {good, "m", reason.AzureNonceMismatch, 0},
		"no nonce":                        {good.With(tokenClaims{"x-ms-runtime": nil}), "n", reason.AzureNonceMismatch, 0},
		"an attacker's own instance":      {good.With(tokenClaims{"iss": "https://evil.weu.attest.azure.net"}), "n", reason.JWTIssuer, 0},
		"an enclave":                      {good.With(tokenClaims{"x-ms-attestation-type": "sgx"}), "n", reason.AzureAttestationClaims, 0},
		"no vmid":                         {good.With(tokenClaims{"x-ms-azurevm-vmid": nil}), "n", reason.AzureAttestationClaims, 0},
		"a vmid that is none":             {good.With(tokenClaims{"x-ms-azurevm-vmid": "vm1"}), "n", reason.AzureAttestationClaims, 0},
		"two HCLAkPub":                    {keys(hcl, hcl), "n", reason.AzureAttestationClaims, 0},
		"HCLAkPub of another kind":        {keys(hcl.With(tokenClaims{"kty": "EC"})), "n", reason.AzureAttestationClaims, 0},
		"HCLAkPub of 8 bits":              {keys(hcl.With(tokenClaims{"n": "AQ"})), "n", reason.AzureAttestationClaims, 0},
		"HCLAkPub with a long exponent":   {keys(hcl.With(tokenClaims{"e": "AQAAAAAB"})), "n", reason.AzureAttestationClaims, 0},
		"HCLAkPub that is not base64":     {keys(hcl.With(tokenClaims{"n": "!"})), "n", reason.AzureAttestationClaims, 0},
		"no HCLAkPub":                     {keys(), "n", "", 0},
		"trusted launch only":             {good.With(tokenClaims{"x-ms-isolation-tee": nil}), "n", "", 1},
		"another isolation":               {isolation(tokenClaims{"x-ms-attestation-type": "sgx"}), "n", "", 1},
		"not compliant":                   {isolation(tokenClaims{"x-ms-compliance-status": "azure-not-compliant"}), "n", "", 1},
		"debuggable":                      {isolation(tokenClaims{"x-ms-sevsnpvm-is-debuggable": true}), "n", "", 1},
		"nothing about debuggable":        {isolation(tokenClaims{"x-ms-sevsnpvm-is-debuggable": nil}), "n", "", 1},
		"privilege level 2":               {isolation(tokenClaims{"x-ms-sevsnpvm-vmpl": 2}), "n", "", 1},
		"TDX":                             {td(tokenClaims{"x-ms-tdx-td-attributes-debug": false}), "n", "", 0},
		"TDX in the names of EAT":         {td(tokenClaims{"tdx_td_attributes_debug": false, "dbgstat": "disabled-since-boot"}), "n", "", 0},
		"TDX by dbgstat alone":            {td(tokenClaims{"dbgstat": "disabled"}), "n", "", 0},
		"TDX, nothing about debugging":    {td(nil), "n", "", 1},
		"TDX, what SNP says":              {isolation(tokenClaims{"x-ms-attestation-type": "tdxvm"}), "n", "", 1},
		"TDX with debugging":              {td(tokenClaims{"x-ms-tdx-td-attributes-debug": true}), "n", "", 1},
		"TDX with debugging, EAT":         {td(tokenClaims{"tdx_td_attributes_debug": true}), "n", "", 1},
		"TDX, two claims at odds":         {td(tokenClaims{"x-ms-tdx-td-attributes-debug": false, "tdx_td_attributes_debug": true}), "n", "", 1},
		"TDX, dbgstat enabled":            {td(tokenClaims{"tdx_td_attributes_debug": false, "dbgstat": "enabled"}), "n", "", 1},
		"TDX, debugging behind dbgstat":   {td(tokenClaims{"tdx_td_attributes_debug": true, "dbgstat": "disabled"}), "n", "", 1},
		"Secure Boot off":                 {good.With(tokenClaims{"secureboot": false}), "n", "", 1},
		"nothing about Secure Boot":       {good.With(tokenClaims{"secureboot": nil}), "n", "", 1},
		"debuggers":                       {good.With(tokenClaims{"x-ms-azurevm-debuggersdisabled": false}), "n", "", 1},
		"kernel debugging":                {good.With(tokenClaims{"x-ms-azurevm-kerneldebug-enabled": true}), "n", "", 1},
		"boot debugging":                  {good.With(tokenClaims{"x-ms-azurevm-bootdebug-enabled": true}), "n", "", 1},
		"hypervisor debugging":            {good.With(tokenClaims{"x-ms-azurevm-hypervisordebug-enabled": true}), "n", "", 1},
		"test signing":                    {good.With(tokenClaims{"x-ms-azurevm-testsigning-enabled": true}), "n", "", 1},
		"secureboot as text":              {good.With(tokenClaims{"secureboot": "true"}), "n", reason.JWTMalformed, 0},
		"older than the challenge":        {good.With(tokenClaims{"iat": tokenTime.Add(-time.Hour).Unix(), "exp": tokenTime.Add(time.Hour).Unix()}), "n", reason.JWTIssuedAt, 0},
		"a compliant claim of other case": {isolation(tokenClaims{"x-ms-compliance-status": nil, "X-MS-Compliance-Status": "azure-compliant-cvm"}), "n", "", 1},
	} {
		got, err := azure.VerifyMAA(entra.Token(c.claims), c.nonce, tokenTime, trusted, tokenTime)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		f := got.Facts()
		if err == nil && len(f.Hazards) != c.fears || (err != nil) != (f.Class == "") {
			t.Errorf("%s: %+v", name, f.Hazards)
		}
		for _, h := range f.Hazards {
			if h.Code != reason.AzureAttestationClaims {
				t.Errorf("%s: %+v", name, h)
			}
		}
		if bound := c.nonce != ""; err == nil && (f.NonceBound != bound || f.KeyBound != bound || (f.Class == document.ClassB) != bound) {
			t.Errorf("%s: class %s, bound %t", name, f.Class, f.NonceBound)
		}
	}
}

// TestMAAMRTD: the measurement of a TDX machine has two names; told twice it is
// one, and two that differ are both told, so that no baseline takes them for one.
func TestMAAMRTD(t *testing.T) {
	good := documenttest.MAAClaims("n", documenttest.NewJWTKey("ak", "RS256").JWK(), tokenTime)
	for want, tee := range map[string]tokenClaims{
		"aa":    {"x-ms-tdx-mrtd": "aa"},
		"bb":    {"tdx_mrtd": "bb"},
		"cc":    {"x-ms-tdx-mrtd": "cc", "tdx_mrtd": "cc"},
		"dd ee": {"x-ms-tdx-mrtd": "dd", "tdx_mrtd": "ee"},
	} {
		claims := good.With(tokenClaims{"x-ms-isolation-tee": tee.With(tokenClaims{"x-ms-attestation-type": "tdxvm"})})
		got, err := azure.VerifyMAA(entra.Token(claims), "n", tokenTime, attesters(t, entra), tokenTime)
		if err != nil {
			t.Fatal(err)
		}
		if f := got.Facts(); strings.Join(f.Values("azure.maa.launch_measurement"), " ") != want {
			t.Errorf("%s, want %s", f.Values("azure.maa.launch_measurement"), want)
		}
	}
}

func TestMAAFacts(t *testing.T) {
	ak := documenttest.NewJWTKey("ak", "RS256")
	got, err := azure.VerifyMAA(entra.Token(documenttest.MAAClaims("n", ak.JWK(), tokenTime)), "n", tokenTime, attesters(t, entra), tokenTime)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	if diff := cmp.Diff(spkiOf(t, ak), f.AK); diff != "" {
		t.Error(diff)
	}
	const vm = "70f5ce9a-2bdc-4b6b-8401-e9b964d3aeb7"
	if f.Machine != (document.Machine{Kind: "azure.vm", Name: vm}) || len(f.Owners) != 1 || f.Owners[0] != (document.Owner{Kind: "azure.vm", Value: vm}) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "azure.maa.compliance", Value: "azure-compliant-cvm"},
		{Name: "azure.maa.issuer", Value: documenttest.MAAIssuer},
		{Name: "azure.maa.launch_measurement", Value: "8962535933f5c4b429ec41d6550c187c163aa76f3be1f8d750a272a9d8995023e8286a2e431a96c36087ac46d4188676"},
		{Name: "azure.maa.os", Value: "Linux"},
		{Name: "azure.maa.policy_hash", Value: "wm9mHlvTU82e8UqoOy1Yj1FBRSNkfe99-69IYDq9eWs"},
		{Name: "azure.maa.secure_boot", Value: "true"},
		{Name: "azure.maa.tcb.firmware", Value: "8"},
		{Name: "azure.maa.tcb.microcode", Value: "115"},
		{Name: "azure.maa.tee", Value: "sevsnpvm"},
		{Name: "azure.maa.vm_id", Value: vm},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
}
