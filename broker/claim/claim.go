// Package claim is the zone claim: what an attestation broker says about a node
// inside its SVIDs. Policy engines and gateways import it to read and verify
// that claim; it is a leaf that knows nothing of the broker.
//
// The claim is an EAR claims-set (draft-ietf-rats-ear, underscore names) with
// one private member, trust_zone. In an X.509-SVID it travels in the
// non-critical extension id-pe-cmw (draft-ietf-rats-msg-wrap), protected by the
// signature of the certificate.
//
// Whoever has only parsed a claim knows nothing: names that return unverified
// claims end in Insecure. Verify is the way to a claim that counts.
//
// The claim says what was measured at boot. It never says runtime-opaque: a TPM
// without a file log knows nothing about memory.
package claim

import (
	"maps"
	"slices"
)

// Profile is the eat_profile of every claims-set. Another profile means other
// rules for the members, so that it is refused rather than guessed at.
const Profile = "tag:ietf.org,2026:rats/ear#03"

// Status is an AR4SI tier of trustworthiness. It is not the tier of a zone.
type Status string

// Statuses, from no statement to the worst.
const (
	StatusNone            Status = "none"
	StatusAffirming       Status = "affirming"
	StatusWarning         Status = "warning"
	StatusContraindicated Status = "contraindicated"
)

// Values of AR4SI trust claims that the broker makes about a node with a TPM.
const (
	IdentityRecognised  = 2  // instance-identity: a known, admitted attester
	ConfigurationOK     = 2  // configuration: secure boot was proved on
	ConfigurationUnsafe = 32 // configuration: secure boot was proved off
	ExecutablesApproved = 2  // executables: the boot matches an approved reference set
	HardwareGenuine     = 2  // hardware: the EK certificate chains to its maker
)

// Vector is an EAR trustworthiness vector. Zero means that nothing is said. The
// member runtime-opaque is left out on purpose.
type Vector struct {
	InstanceIdentity int
	Configuration    int
	Executables      int
	FileSystem       int
	Hardware         int
}

// Status returns the status of the worst claim that is made (AR4SI 2.3.2).
func (v Vector) Status() Status {
	out := StatusNone
	for _, c := range v.members() {
		if s := statusOf(c.value); rank(s) > rank(out) {
			out = s
		}
	}
	return out
}

func statusOf(claim int) Status {
	switch {
	case claim >= 2 && claim <= 31 || claim >= -32 && claim <= -2:
		return StatusAffirming
	case claim >= 32 && claim <= 95 || claim >= -96 && claim <= -33:
		return StatusWarning
	case claim >= 96 || claim <= -97:
		return StatusContraindicated
	}
	return StatusNone
}

func rank(s Status) int { return slices.Index(statuses[:], s) }

var statuses = [...]Status{StatusNone, StatusAffirming, StatusWarning, StatusContraindicated}

type member struct {
	name  string
	value int
}

func (v Vector) members() [5]member {
	return [...]member{
		{"configuration", v.Configuration},
		{"executables", v.Executables},
		{"file-system", v.FileSystem},
		{"hardware", v.Hardware},
		{"instance-identity", v.InstanceIdentity},
	}
}

// Submod is what is said about one attester.
type Submod struct {
	Status    Status
	Vector    Vector
	PolicyIDs []string // ear_appraisal_policy_ids, in the order applied
}

// Labels of submodules.
const (
	SubmodTPM   = "tpm"   // what a TPM proved
	SubmodCloud = "cloud" // what documents and tokens of a platform proved
	SubmodTEE   = "tee"   // what the report of a confidential VM, an enclave or a GPU proved
)

// Measured is what an accepted appraisal of a TPM proved. What was not proved
// is left out of the claim rather than guessed.
type Measured struct {
	SecureBoot string // "on", "off", anything else is unknown
	References bool   // the measurements match an approved reference set
	Genuine    bool   // the EK certificate chain verified
	PolicyID   string
}

// Submod turns the facts into the submodule SubmodTPM, with the status that its
// vector bears.
func (m Measured) Submod() Submod {
	v := Vector{InstanceIdentity: IdentityRecognised}
	switch m.SecureBoot {
	case "on":
		v.Configuration = ConfigurationOK
	case "off":
		v.Configuration = ConfigurationUnsafe
	}
	if m.References {
		v.Executables = ExecutablesApproved
	}
	if m.Genuine {
		v.Hardware = HardwareGenuine
	}
	return Submod{Status: v.Status(), Vector: v, PolicyIDs: []string{m.PolicyID}}
}

// Documented is what verified documents of one attester proved. The member
// runtime-opaque is left out here too: a relying party asks for the tier of the
// zone, which says what the memory was protected by.
type Documented struct {
	Hardware bool // signed by hardware under its maker's root, for this challenge and key
	Measured bool // a measurement is one that the zone lists
	PolicyID string
}

// Submod turns the facts into a submodule.
func (d Documented) Submod() Submod {
	v := Vector{InstanceIdentity: IdentityRecognised}
	if d.Hardware {
		v.Hardware = HardwareGenuine
	}
	if d.Measured {
		v.Executables = ExecutablesApproved
	}
	return Submod{Status: v.Status(), Vector: v, PolicyIDs: []string{d.PolicyID}}
}

// VerifierID names the software that appraised.
type VerifierID struct {
	Developer string // URL of the project
	Build     string // name and version
}

// Where the private key of the SVID lives.
const (
	KeyTPM      = "tpm"
	KeySoftware = "software"
)

// Modes of the policy version that decided.
const (
	ModeEnforce = "enforce"
	ModeAudit   = "audit"
)

// Policy names the policy version that decided.
type Policy struct {
	Version int64
	Hash    string // "sha256:" and 64 hex digits
	Mode    string // ModeEnforce or ModeAudit
}

// Zone is the private member trust_zone: everything about the decision that
// changes. Times are Unix seconds.
type Zone struct {
	Name          string
	Tier          int   // 0 to 4
	Epoch         int64 // from 1; raising it withdraws every older claim of the zone
	Node          string
	AttestationID string // UUID of the record in the history
	AttestedAt    int64  // when the challenge was issued
	FreshUntil    int64
	Evidence      string // "sha256:" over the list of the evidence parts
	Policy        Policy
	Exceptions    []string
	BreakGlass    bool
	Key           string // KeyTPM or KeySoftware
}

// Claims is the claims-set. IssuedAt and Expires are Unix seconds; Expires 0
// leaves the end to the certificate.
type Claims struct {
	VerifierID VerifierID
	Status     Status // at best the worst status of the submods
	Submods    map[string]Submod
	IssuedAt   int64
	Expires    int64
	Zone       Zone
}

// clone makes a copy that shares nothing.
func (c Claims) clone() Claims {
	c.Submods = maps.Clone(c.Submods)
	for name, s := range c.Submods {
		s.PolicyIDs = slices.Clone(s.PolicyIDs)
		c.Submods[name] = s
	}
	c.Zone.Exceptions = slices.Clone(c.Zone.Exceptions)
	return c
}

// PolicyID is the identifier of a policy version in ear_appraisal_policy_ids.
// hash is "sha256:" and hex, as in the claim.
func PolicyID(zone string, version int64, hash string) string {
	return "urn:zonebroker:policy:" + zone + ":" + itoa(version) + ":" + hash
}
