package azure

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// MAAProfile is what the format says of its issuers: Microsoft Azure Attestation
// signs RS256, for eight hours. Each instance of the service has its own URL and
// may have a policy of its owner, so issuers are exact URLs and never a domain.
var MAAProfile = jwt.Profile{
	Format: "azure.maa", Algorithms: []string{"RS256"}, MaxLifetime: 8*time.Hour + 5*time.Minute,
}

// Attestation is a verified token of Microsoft Azure Attestation about a virtual
// machine. The zero value says nothing.
type Attestation struct {
	token  jwt.Token
	claims maaClaims
	nonce  bool
	ak     []byte // SPKI of the vTPM's attestation key
}

// maaClaims are those of a token for a guest (azurevm), with what is said of its
// isolation in a part of its own, or for a bare SNP or TDX report, where that part
// is at the top (Microsoft: Azure Attestation, claim sets).
type maaClaims struct {
	Type        string `json:"x-ms-attestation-type"`
	SecureBoot  *bool  `json:"secureboot"`
	VMID        string `json:"x-ms-azurevm-vmid"`
	Debuggers   *bool  `json:"x-ms-azurevm-debuggersdisabled"`
	KernelDebug bool   `json:"x-ms-azurevm-kerneldebug-enabled"`
	BootDebug   bool   `json:"x-ms-azurevm-bootdebug-enabled"`
	HyperDebug  bool   `json:"x-ms-azurevm-hypervisordebug-enabled"`
	TestSigning bool   `json:"x-ms-azurevm-testsigning-enabled"`
	OS          string `json:"x-ms-azurevm-ostype"`
	PolicyHash  string `json:"x-ms-policy-hash"`
	Runtime     struct {
		Payload struct {
			Nonce string `json:"nonce"`
		} `json:"client-payload"`
	} `json:"x-ms-runtime"`
	Isolation *maaIsolation `json:"x-ms-isolation-tee"`
}

// maaIsolation is what the hardware said.
type maaIsolation struct {
	Type       string `json:"x-ms-attestation-type"`
	Compliance string `json:"x-ms-compliance-status"`
	Runtime    struct {
		Keys []struct {
			Kid string `json:"kid"`
			Kty string `json:"kty"`
			N   string `json:"n"`
			E   string `json:"e"`
		} `json:"keys"`
	} `json:"x-ms-runtime"`
	SNPDebug    *bool  `json:"x-ms-sevsnpvm-is-debuggable"`
	TDXDebug    *bool  `json:"x-ms-tdx-td-attributes-debug"` // the same as EATDebug under an older name
	EATDebug    *bool  `json:"tdx_td_attributes_debug"`
	DebugState  string `json:"dbgstat"` // of EAT: "enabled", "disabled", "disabled-since-boot" …
	VMPL        *int64 `json:"x-ms-sevsnpvm-vmpl"`
	Measurement string `json:"x-ms-sevsnpvm-launchmeasurement"`
	HostData    string `json:"x-ms-sevsnpvm-hostdata"`
	Microcode   *int64 `json:"x-ms-sevsnpvm-microcode-svn"`
	Firmware    *int64 `json:"x-ms-sevsnpvm-snpfw-svn"`
	MRTD        string `json:"x-ms-tdx-mrtd"`
	EATMRTD     string `json:"tdx_mrtd"`
}

// VerifyMAA judges a token about a virtual machine. nonce is what has to stand in
// x-ms-runtime.client-payload.nonce; "" accepts any token of the issuer, which is
// then a bearer document. Tokens have no audience.
//
// Errors: those of package jwt; azure.nonce_mismatch; azure.attestation_claims
// where the token is about something else than an Azure virtual machine or lacks
// its id. That the machine is not confidential, not compliant, without Secure Boot
// or open to debuggers are hazards of that code too.
func VerifyMAA(raw []byte, nonce string, issued time.Time, issuers jwt.Issuers, now time.Time) (Attestation, error) {
	token, err := issuers.Verify(raw, jwt.Expect{NoAudience: true, IssuedAt: issued}, now)
	if err != nil {
		return Attestation{}, err
	}
	out := Attestation{token: token, nonce: nonce != ""}
	c := &out.claims
	if err := token.Decode(c); err != nil {
		return Attestation{}, err
	}
	if nonce != "" && c.Runtime.Payload.Nonce != nonce {
		return Attestation{}, reason.New(reason.AzureNonceMismatch, "the nonce in the runtime data is missing or another one")
	}
	if c.Type != "azurevm" || !tokenGUID.MatchString(c.VMID) {
		return Attestation{}, reason.New(reason.AzureAttestationClaims, "the token is not about an Azure virtual machine")
	}
	if out.ak, err = c.attestationKey(); err != nil {
		return Attestation{}, err
	}
	return out, nil
}

// attestationKey returns the key of the vTPM, which the hardware report of a
// confidential machine binds; nil where there is none. A second key of that name
// would leave it open which one is meant.
func (c *maaClaims) attestationKey() ([]byte, error) {
	if c.Isolation == nil {
		return nil, nil
	}
	var found []byte
	for _, k := range c.Isolation.Runtime.Keys {
		if k.Kid != "HCLAkPub" {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		if found != nil || err1 != nil || err2 != nil || k.Kty != "RSA" || len(n) < 256 || len(n) > 512 || len(e) > 4 {
			return nil, reason.New(reason.AzureAttestationClaims, "HCLAkPub is not one RSA key")
		}
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())})
		if err != nil {
			return nil, reason.Wrap(reason.AzureAttestationClaims, "HCLAkPub is not one RSA key", err)
		}
		if _, found, err = x509chain.SubjectKey(der); err != nil {
			return nil, reason.Wrap(reason.AzureAttestationClaims, "HCLAkPub is not a key that quotes", err)
		}
	}
	return found, nil
}

// Facts returns what the token proved: class B with the nonce, else C.
func (a Attestation) Facts() document.Facts {
	c := &a.claims
	if c.VMID == "" {
		return document.Facts{}
	}
	vm := strings.ToLower(c.VMID)
	f := document.Facts{
		Class: document.ClassC, NonceBound: a.nonce, KeyBound: a.nonce, IssuedAt: a.token.IssuedAt(), ExpiresAt: a.token.ExpiresAt(),
		Machine: document.Machine{Kind: document.MachineAzure, Name: vm}, AK: a.ak,
	}
	if a.nonce {
		f.Class = document.ClassB
	}
	f.Own(document.OwnerAzureVM, vm)
	f.Add("azure.maa.vm_id", vm)
	f.Add("azure.maa.issuer", a.token.Issuer().Issuer)
	f.Add("azure.maa.policy_hash", c.PolicyHash)
	f.Add("azure.maa.secure_boot", maaFlag(c.SecureBoot))
	f.Add("azure.maa.os", c.OS)
	if t := c.Isolation; t != nil {
		f.Add("azure.maa.tee", t.Type)
		f.Add("azure.maa.compliance", t.Compliance)
		f.Add("azure.maa.launch_measurement", t.Measurement)
		f.Add("azure.maa.launch_measurement", t.MRTD)
		if t.EATMRTD != t.MRTD {
			f.Add("azure.maa.launch_measurement", t.EATMRTD)
		}
		f.Add("azure.maa.host_data", t.HostData)
		f.Add("azure.maa.tcb.microcode", maaNumber(t.Microcode))
		f.Add("azure.maa.tcb.firmware", maaNumber(t.Firmware))
	}
	f.Sort()
	f.Pass("azure.maa.signature", "signed by "+a.token.Issuer().Issuer)
	if a.nonce {
		f.Pass("azure.maa.nonce", "the runtime data carry the challenge")
	}
	c.fear(&f)
	return f
}

func maaFlag(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

func maaNumber(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// fear lists what default policy refuses, all under the one code that the catalogue
// has for the claims of this service. A claim that is missing is feared as one
// that says the worst.
func (c *maaClaims) fear(f *document.Facts) {
	afraid := func(is bool, detail string) {
		if is {
			f.Fear(reason.AzureAttestationClaims, detail)
		}
	}
	off := func(b *bool) bool { return b == nil || !*b }
	t := c.Isolation
	confidential := t != nil && (t.Type == "sevsnpvm" || t.Type == "tdxvm")
	afraid(!confidential, "the machine is not confidential: no isolation by SEV-SNP or TDX")
	afraid(confidential && t.Compliance != "azure-compliant-cvm", "Azure does not call the machine compliant")
	afraid(confidential && t.debuggable(), "the hardware lets the host debug the machine")
	afraid(confidential && t.VMPL != nil && *t.VMPL != 0, "the report was made at another privilege level than 0")
	afraid(off(c.SecureBoot), "Secure Boot is off or not told of")
	afraid(off(c.Debuggers), "debuggers are not disabled")
	afraid(c.KernelDebug || c.BootDebug || c.HyperDebug, "debugging of kernel, boot or hypervisor is enabled")
	afraid(c.TestSigning, "the machine runs drivers that are signed for tests")
}

// debuggable: what the hardware said has to say that it is not. A TDX machine's
// is told by up to three claims (Microsoft: Azure Attestation, TDX EAT profile,
// which has the last two), of which one has to be there and none may say the worse.
func (t *maaIsolation) debuggable() bool {
	if t.Type == "sevsnpvm" {
		return t.SNPDebug == nil || *t.SNPDebug
	}
	told := t.DebugState != ""
	for _, debug := range []*bool{t.TDXDebug, t.EATDebug} {
		if debug != nil && *debug {
			return true
		}
		told = told || debug != nil
	}
	return !told || t.DebugState != "" && !strings.HasPrefix(t.DebugState, "disabled")
}

// NewMAAIssuers is jwt.NewIssuers for MAAProfile.
func NewMAAIssuers(s []jwt.Settings) (jwt.Issuers, error) { return jwt.NewIssuers(MAAProfile, s) }
