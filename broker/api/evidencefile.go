package api

import (
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// EvidenceFileVersion names the form of an evidence file.
const EvidenceFileVersion = "zonebroker-evidence-1"

// MaxEvidenceFile bounds an evidence file in bytes: a request, the log that
// stood before it, and the certificates of all makers.
const MaxEvidenceFile = 16 << 20

const (
	maxRoots = 1024   // bundles of roots; each may hold many
	maxTrust = 10_000 // objects
)

// EvidenceFile is evidence with all that it has to match, so that anybody judges
// it again without a broker: an attestation from the history, or a capture of
// some machine.
type EvidenceFile struct {
	Version  string           `json:"version"` // EvidenceFileVersion
	Format   string           `json:"format"`
	Evidence EvidenceMembers  `json:"evidence"`
	Context  EvidenceContext  `json:"context"`
	Recorded *RecordedVerdict `json:"recorded,omitempty"`
}

// EvidenceMembers are the members of an AttestRequest that are evidence.
type EvidenceMembers struct {
	SPKI  Bytes         `json:"spki,omitempty"`
	CSR   Bytes         `json:"csr,omitempty"`
	TPM2  *TPM2Evidence `json:"tpm2,omitempty"` // ak_public is empty where Context.AKKey stands
	Agent *AgentProof   `json:"agent,omitempty"`
	Items []Item        `json:"items,omitempty"`
}

// EvidenceContext is what the evidence has to match. With Nonce it is an
// attestation: the quote has to carry the binding of nonce, key, trust domain
// and purpose. With Qualifying it is a capture: the quote has to carry that.
type EvidenceContext struct {
	Time time.Time `json:"time"` // of the verification

	Nonce          Bytes             `json:"nonce,omitempty"`
	Purpose        string            `json:"purpose,omitempty"`
	TrustDomain    string            `json:"trust_domain,omitempty"`
	RelyingNonce   Bytes             `json:"relying_nonce_sha256,omitempty"` // purpose workload
	AKName         Bytes             `json:"ak_name,omitempty"`              // the Name that the challenge was for
	IssuedAt       *time.Time        `json:"issued_at,omitempty"`            // of the challenge
	RequireGenuine bool              `json:"require_genuine,omitempty"`
	Manufacturer   string            `json:"manufacturer,omitempty"`  // as verified at enrolment
	TPM            *EvidenceTPM      `json:"tpm,omitempty"`           // verified at the same time
	AllowExpired   bool              `json:"allow_expired,omitempty"` // an EK certificate verifies as of its notBefore
	Baseline       *EvidenceBaseline `json:"baseline,omitempty"`

	Qualifying  Bytes  `json:"qualifying,omitempty"`
	AKKey       Bytes  `json:"ak_key,omitempty"`       // SubjectPublicKeyInfo of an AK whose attributes are unknown
	Signer      Bytes  `json:"signer,omitempty"`       // pinned qualified name of the AK
	AnySigner   bool   `json:"any_signer,omitempty"`   // nobody pinned one
	RawRSASSA   bool   `json:"raw_rsassa,omitempty"`   // the signature has no TPMT header
	WithoutPCRs bool   `json:"without_pcrs,omitempty"` // no values are known
	Bank        string `json:"bank,omitempty"`         // sha256 (default) or sha384

	Select       string             `json:"select"` // PCR mask as signed, six hex digits
	ExpectedPCRs []map[string]Bytes `json:"expected_pcrs,omitempty"`
	Roots        []string           `json:"roots,omitempty"` // PEM: anchors and intermediates of EK certificates
	CRLs         []Bytes            `json:"crls,omitempty"`
	ExtraVendors []string           `json:"extra_vendors,omitempty"`
	Trust        []EvidenceTrust    `json:"trust,omitempty"` // in the platforms whose documents are judged
}

// EvidenceTrust is an object of the trust data (docs/trust.md).
type EvidenceTrust struct {
	Kind  string `json:"kind"`
	Name  string `json:"name"`
	Bytes Bytes  `json:"bytes"`
}

// EvidenceTPM is what the EK certificate said of the TPM at enrolment.
type EvidenceTPM struct {
	Model   string `json:"model"`
	Version string `json:"version"`
	Expired bool   `json:"expired"`
}

// EvidenceBaseline is what the last accepted attestation left behind.
type EvidenceBaseline struct {
	Clock        string    `json:"clock"` // decimal milliseconds
	ResetCount   int64     `json:"reset_count"`
	RestartCount int64     `json:"restart_count"`
	Safe         bool      `json:"safe"`
	Firmware     string    `json:"firmware"` // decimal
	At           time.Time `json:"at"`
	EventLog     Bytes     `json:"event_log,omitempty"`
	IMA          string    `json:"ima,omitempty"` // how far the measurement list was attested
}

// RecordedVerdict is what a broker recorded of this evidence, to compare with.
type RecordedVerdict struct {
	ID        string   `json:"id"`
	Verdict   string   `json:"verdict"` // allow or deny: of policy too, which is not judged again
	Reasons   []Reason `json:"reasons"`
	Appraisal string   `json:"appraisal"` // "sha256:" and the hash of the canonical appraisal
}

// Validate checks caps, required members and syntax; it parses no TPM structure.
// Errors are reason.RequestTooLarge and reason.RequestMalformed.
func (f EvidenceFile) Validate() error {
	var c checks
	if f.Version != EvidenceFileVersion {
		c.fail(reason.RequestMalformed, "/version: not "+EvidenceFileVersion)
	}
	c.form("/format", f.Format, formatForm)
	f.Evidence.validate(&c, len(f.Context.AKKey) > 0)
	f.Context.validate(&c)
	if len(f.Context.Nonce) > 0 {
		c.required("/evidence/spki", len(f.Evidence.SPKI), MaxSPKI)
	}
	return c.err
}

func (m EvidenceMembers) validate(c *checks, keyElsewhere bool) {
	c.size("/evidence/spki", len(m.SPKI), MaxSPKI)
	c.size("/evidence/csr", len(m.CSR), MaxCSR)
	validateItems(c, m.Items)
	if m.Agent != nil {
		c.required("/evidence/agent/public", len(m.Agent.Public), MaxSPKI)
		c.required("/evidence/agent/signature", len(m.Agent.Signature), MaxSignature)
	}
	if m.TPM2 == nil {
		if m.Agent == nil {
			c.fail(reason.RequestMalformed, "/evidence/tpm2: missing")
		}
		return
	}
	e := *m.TPM2
	if keyElsewhere && len(e.AKPublic) == 0 {
		e.AKPublic = Bytes{0} // stands in Context.AKKey
	}
	e.validate(c)
}

func (x EvidenceContext) validate(c *checks) {
	if (len(x.Nonce) > 0) == (len(x.Qualifying) > 0) {
		c.fail(reason.RequestMalformed, "/context: exactly one of nonce and qualifying is needed")
	}
	c.size("/context/nonce", len(x.Nonce), maxPCRValue)
	c.size("/context/qualifying", len(x.Qualifying), maxPCRValue)
	c.size("/context/relying_nonce_sha256", len(x.RelyingNonce), maxPCRValue)
	c.size("/context/ak_name", len(x.AKName), maxName)
	c.size("/context/signer", len(x.Signer), maxName)
	c.size("/context/ak_key", len(x.AKKey), MaxPublic)
	c.form("/context/select", x.Select, selectForm)
	if x.Time.IsZero() {
		c.fail(reason.RequestMalformed, "/context/time: missing")
	}
	switch x.Purpose {
	case "", PurposeEnrol, PurposeRenew, PurposeWorkload:
	default:
		c.fail(reason.RequestMalformed, "/context/purpose: not enrol, renew or workload")
	}
	if len(x.Nonce) > 0 && (x.Purpose == "" || x.TrustDomain == "" || x.IssuedAt == nil || len(x.AKName) == 0) {
		c.fail(reason.RequestMalformed, "/context: nonce needs purpose, trust_domain, ak_name and issued_at")
	}
	if x.Bank != "" && x.Bank != "sha256" && x.Bank != "sha384" {
		c.fail(reason.RequestMalformed, "/context/bank: not sha256 or sha384")
	}
	c.size("/context/roots", len(x.Roots), maxRoots)
	c.size("/context/trust", len(x.Trust), maxTrust)
	for i, set := range x.ExpectedPCRs {
		for key := range set {
			c.index(fmt.Sprintf("/context/expected_pcrs/%d", i), key)
		}
	}
	if x.Baseline != nil {
		c.size("/context/baseline/event_log", len(x.Baseline.EventLog), MaxEventLog)
	}
}
