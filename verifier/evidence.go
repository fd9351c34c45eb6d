package verifier

import (
	"time"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Purposes of an attestation, as they stand in the binding.
const (
	PurposeEnrol    = "enrol"    // a credential was made for EK and AK
	PurposeRenew    = "renew"    // a known AK
	PurposeWorkload = "workload" // a proof with a relying party's nonce
)

// Evidence is what an attester handed over: attacker bytes. Format is the one that
// names the node: a TPM quote, or the item of that format. Every other item is
// evidence beside it.
type Evidence struct {
	Format string
	SPKI   []byte // SubjectPublicKeyInfo DER of the key that asks for the SVID
	CSR    []byte // PKCS#10 DER, proof of possession where the key is no TPM's
	TPM2   *TPM2Evidence
	Agent  *AgentProof // where no TPM quotes
	Items  []Item
}

// TPM2Evidence is a quote with its logs. Structures come without the outer
// TPM2B size.
type TPM2Evidence struct {
	AKPublic      []byte
	EKPublic      []byte   // enrolment only
	EKCertificate []byte   // enrolment only; may be absent
	EKChain       [][]byte // issuer certificates, nearest first
	Quote         []byte   // TPMS_ATTEST
	Signature     []byte   // TPMT_SIGNATURE
	PCRs          map[int][]byte
	EventLog      []byte
	IMA           *ima.Segment // of the measurement list; only with PCR 10 in the selection
	UserspaceLog  []byte       // of systemd, see package celog; may be absent
	Certify       *tpm2.CertifyEvidence
}

// Expectation is what the evidence has to match: the broker's own words, taken
// from its sealed token and one snapshot of the node.
type Expectation struct {
	TrustDomain string
	Purpose     string
	Nonce       []byte
	Context     []byte // SHA-256 of a relying party's nonce, or empty
	AKName      []byte // pinned at enrolment, or the one that the credential names; of an agent key AgentKeyName
	Selection   tpm2.Selection
	IssuedAt    time.Time // of the challenge

	// RequireGenuine makes a bad or missing EK certificate a denial: for
	// machines that nobody vouched for by EK hash.
	RequireGenuine bool
	// AllowExpired has an EK certificate verify as of its notBefore where it, or an
	// issuer of it, is past its validity; EKExpired then says so, and the zone has
	// to allow it. It is set where some zone does.
	AllowExpired bool
	// Manufacturer as verified at an enrolment of this EK, "" for none: for
	// renewals, which send no EK, and for enrolments that send no certificate.
	Manufacturer string
	TPM          TPMFacts // verified at the same time

	Baseline *Baseline // nil at first contact and after an operator's approval
}

// Baseline is what the last accepted attestation of the node left behind.
type Baseline struct {
	Clock    tpm2.Clock
	ClockAt  time.Time // attested_at of that attestation
	Firmware uint64
	// Log is the log that explained it, nil for none. It grants nothing: the fresh
	// quote is compared with what it leads to like with one that was sent, so a
	// renewal on the same boot need not send it again.
	Log *eventlog.Kept
	// IMA is how far the measurement list of that boot was attested; the zero State
	// for not at all. It decides what a renewal need not send again, so it has to
	// come from a row that nobody else can write.
	IMA ima.State
}

// Trust is the configured trust in manufacturers.
type Trust struct {
	EKRoots      ekcert.Roots
	CRLs         x509chain.CRLs // an issuer without a list revokes nothing
	ExtraVendors []string       // manufacturer ids beside the registry: a lab's own CA
	Documents    Documents      // in platforms
}
