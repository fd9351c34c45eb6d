// Package document holds what every format of evidence beside a TPM quote says
// of itself once it is verified: one shape, so that policy, history and claims
// need to know no format. Formats have packages and verified types of their own;
// each type returns Facts, and package verifier takes nothing else from them.
//
// It is a leaf: reason and the standard library only.
package document

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Binding classes: how firmly a document binds the nonce and the key.
const (
	ClassA = "A" // nonce and key inside a hardware-signed report
	ClassB = "B" // nonce only
	ClassC = "C" // bearer document
)

// Facts is what one document proved. Every value comes from signed bytes; what
// was sent beside them stands in no Facts.
type Facts struct {
	// Format is set by package verifier.
	Format string
	// Class is what the document proved this time: a format that can carry a nonce
	// and was made without one is a bearer document.
	Class      string
	NonceBound bool // the document was made for this challenge
	KeyBound   bool // and for the key that asks for the SVID
	// Confirmed says that the platform was asked in this attestation and spoke for the
	// document; only Confirm sets it.
	Confirmed bool

	// IssuedAt and ExpiresAt are the document's own window of freshness; zero where
	// it has none and only the nonce says that it is fresh.
	IssuedAt, ExpiresAt time.Time

	// Machine is what the document is about; the zero Machine where it names none,
	// and the node is then its agent's key.
	Machine Machine
	// Launched is when the machine was started, where the document says so: a later
	// one releases a bearer document from the key that it was first used with.
	Launched time.Time
	// Owners are what an operator may admit, from wide to narrow.
	Owners []Owner
	// Anchors tie documents of one attestation to one machine: two that share an
	// anchor are about the same one.
	Anchors []Anchor
	// AK is the attestation key of a TPM that the document vouches for,
	// SubjectPublicKeyInfo DER as package x509chain writes it; nil for none.
	AK []byte

	// Selectors are named values that zones compare, in the order of their names.
	Selectors []Selector
	// Hazards are what default policy refuses and a zone may allow by code: a debug
	// enclave, a privilege level, a TCB below the floor.
	Hazards []Hazard
	// Findings are the checks that were made, in their order.
	Findings []reason.Finding
}

// Machine names a machine in the words of its platform. Kind is one of the
// Machine constants; Name is unique within it, and no two spellings name one.
type Machine struct{ Kind, Name string }

// Kinds of machines. They are root kinds of nodes, and never change.
const (
	MachineEC2   = "ec2.instance"  // account/region/instance id
	MachineNitro = "nitro.enclave" // module id
	// MachineNitroTPM is an EC2 instance by its NitroTPM document, which names no
	// account: region/instance id.
	MachineNitroTPM      = "nitrotpm.instance"
	MachineGCE           = "gce.instance"   // project number/instance id
	MachineAzure         = "azure.vm"       // vmId, lower case
	MachineAzureResource = "azure.resource" // resource id of a virtual machine, lower case: for documents that do not tell the vmId
	MachineSNP           = "snp.guest"      // REPORT_ID, hex
	MachinePod           = "k8s.pod"        // cluster/pod uid
	MachineX509          = "x509pop.key"    // SHA-256 of the SPKI, hex
	MachineKey           = "agent.key"      // SHA-256 of the agent key's SPKI, hex: for documents that name no machine
	MachineSTSRole       = "sts.principal"  // unique id of an AWS principal
)

// Anchor is a value by which two documents are known to be about one machine.
type Anchor struct{ Kind, Value string }

// Kinds of anchors beside the Machine constants, which are anchors too.
const (
	AnchorAK = "tpm.ak" // SHA-256 of an AK's SPKI, hex
	// AnchorEC2 is an EC2 instance for documents with and without its account:
	// region/instance id.
	AnchorEC2 = "ec2.instance_id"
	// AnchorReport is the bound value of a CPU's report, hex: a GPU whose nonce was
	// made from it was asked by the same guest.
	AnchorReport = "report"
)

// Selector is a named value; a name may stand more than once.
type Selector struct{ Name, Value string }

// Hazard is a fact that default policy refuses.
type Hazard struct {
	Code   reason.Code
	Detail string
}

// Add adds a selector; an empty value is none.
func (f *Facts) Add(name, value string) {
	if value != "" {
		f.Selectors = append(f.Selectors, Selector{name, value})
	}
}

// Own adds an owner; an empty value is none.
func (f *Facts) Own(kind, value string) {
	if value != "" {
		f.Owners = append(f.Owners, Owner{kind, value})
	}
}

// Pass notes a check that held.
func (f *Facts) Pass(check, detail string) {
	f.Findings = append(f.Findings, reason.Finding{Check: check, Detail: detail})
}

// Confirm notes that the platform, asked in this attestation, spoke for the
// document. The finding is what stands of that in the canonical form.
func (f *Facts) Confirm(check, detail string) {
	f.Confirmed = true
	f.Pass(check, detail)
}

// Fear adds a hazard.
func (f *Facts) Fear(code reason.Code, detail string) {
	f.Hazards = append(f.Hazards, Hazard{code, detail})
}

// Sort brings selectors into the order of their names; values of one name keep
// their order.
func (f *Facts) Sort() {
	slices.SortStableFunc(f.Selectors, func(a, b Selector) int { return strings.Compare(a.Name, b.Name) })
}

// Values returns the values of a selector.
func (f *Facts) Values(name string) []string {
	var out []string
	for _, s := range f.Selectors {
		if s.Name == name {
			out = append(out, s.Value)
		}
	}
	return out
}

// Hash returns what stands for a machine in a node's id: SHA-256 over the
// length-prefixed kind and name.
func (m Machine) Hash() [32]byte { return hash("zonebroker-machine-v1", m.Kind, m.Name) }

// Anchor returns the machine as an anchor.
func (m Machine) Anchor() Anchor { return Anchor{m.Kind, m.Name} }

func hash(label string, parts ...string) [32]byte {
	h := sha256.New()
	h.Write([]byte(label))
	for _, p := range parts {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return [32]byte(h.Sum(nil))
}

// Audience returns the audience of a token that carries the bound value:
// "zonebroker:" and its unpadded base64url.
func Audience(bound [32]byte) string {
	return "zonebroker:" + base64.RawURLEncoding.EncodeToString(bound[:])
}

// Base62 returns the bound value for fields that take few letters and digits: the
// first 20 bytes (160 bits) as a big-endian number in base 62 (0-9, A-Z, a-z), 27
// characters, with leading zeros.
func Base62(bound [32]byte) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	n, base, digit := new(big.Int).SetBytes(bound[:20]), big.NewInt(62), new(big.Int)
	out := make([]byte, 27)
	for i := len(out) - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = digits[digit.Int64()]
	}
	return string(out)
}

// ReportData returns the 64 bytes of a CPU's report that carry the bound value:
// it and, where a TPM's attestation key goes with it, the SHA-256 of that key's
// SubjectPublicKeyInfo; else zeros.
func ReportData(bound [32]byte, akSPKI []byte) [64]byte {
	var out [64]byte
	copy(out[:], bound[:])
	if len(akSPKI) > 0 {
		sum := sha256.Sum256(akSPKI)
		copy(out[32:], sum[:])
	}
	return out
}
