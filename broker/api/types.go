// Package api defines what travels between agents, operators and the broker:
// wire types, strict decoding and the problem document. Both ends import it;
// openapi.yaml describes the same types for everybody else.
package api

import (
	"encoding/json"
	"time"
)

// Limits of the wire, checked before anything is parsed (wire.md, "Numbers").
const (
	MaxBody          = 8 << 20 // bytes of the body of an attestation: 2 MiB, and a measurement list in base64
	MaxEventLog      = 1 << 20 // bytes of a firmware event log
	MaxIMALog        = 4 << 20 // bytes of a measurement list, or of what is new in it
	MaxUserspaceLog  = 1 << 20 // bytes of systemd's measurement log
	MaxEKCertificate = 4 << 10 // bytes of one EK certificate, NV header included
	MaxEKChain       = 4       // certificates between EK certificate and root
	MaxAttest        = 1 << 10 // bytes of a TPMS_ATTEST
	MaxSignature     = 600     // bytes of a TPMT_SIGNATURE
	MaxPublic        = 1 << 10 // bytes of a TPMT_PUBLIC
	MaxToken         = 2 << 10 // characters of a challenge token
	MaxSPKI          = 1 << 10 // bytes of an SPKI DER
	MaxCSR           = 4 << 10 // bytes of a PKCS#10 request
	MaxItems         = 6       // documents of one attestation
	MaxDocument      = 256 << 10
	MaxItemParts     = 8       // companions of a document
	MaxItemPart      = 1 << 20 // bytes of one: an event log
)

// Purposes of a challenge.
const (
	PurposeEnrol    = "enrol"
	PurposeRenew    = "renew"
	PurposeWorkload = "workload"
)

// FormatTPM2 is the evidence format of a TPM 2.0 quote.
const FormatTPM2 = "tpm2"

// Bytes is binary data, unpadded base64url in JSON. Padding, other alphabets
// and non-zero trailing bits are refused. (MarshalJSON and UnmarshalJSON stand in bytes.go.)
type Bytes []byte

// ChallengeRequest asks for a nonce: with Enrol for a machine that brings EK and
// AK, with Agent for one that documents will name, with AKName for a known AK or
// agent key. Exactly one of the three is set.
type ChallengeRequest struct {
	Format  string      `json:"format"`
	Purpose string      `json:"purpose"`
	Enrol   *Enrol      `json:"enrol,omitempty"`
	Agent   *AgentEnrol `json:"agent,omitempty"`
	AKName  Bytes       `json:"ak_name,omitempty"`
}

// AgentEnrol is what a host says of itself at first contact where no EK names it.
// Exactly one key is set: the agent key, or the AK of a format whose document
// vouches for one.
type AgentEnrol struct {
	Public    Bytes  `json:"public,omitempty"`    // SubjectPublicKeyInfo DER, P-256
	AKPublic  Bytes  `json:"ak_public,omitempty"` // TPMT_PUBLIC
	JoinToken string `json:"join_token,omitempty"`
}

// Enrol is what a machine says of itself at first contact. TPM structures
// travel without the outer TPM2B size.
type Enrol struct {
	EKPublic      Bytes   `json:"ek_public"`
	EKCertificate Bytes   `json:"ek_certificate,omitempty"`
	EKChain       []Bytes `json:"ek_chain,omitempty"`
	AKPublic      Bytes   `json:"ak_public"`
	JoinToken     string  `json:"join_token,omitempty"`
}

// Challenge is the answer: a sealed token and what to quote. At enrolment of an EK
// the nonce is inside Credential, and only the TPM that owns EK and AK learns it.
type Challenge struct {
	Token      string      `json:"token"`
	Purpose    string      `json:"purpose"`
	ExpiresAt  time.Time   `json:"expires_at"`
	Select     string      `json:"select"` // PCR mask as signed, six hex digits, bank SHA-256
	Nonce      Bytes       `json:"nonce,omitempty"`
	Credential *Credential `json:"credential,omitempty"`
	// IMA says how much of the kernel's measurement list is known; nil where PCR 10
	// is not selected, and no list is wanted.
	IMA *IMAKnown `json:"ima,omitempty"`
	// Evidence lists the formats of documents that some zone asks for: what a host
	// cannot collect it leaves out.
	Evidence []string `json:"evidence,omitempty"`
}

// IMAKnown is how many entries of the measurement list of this boot are attested
// already: a host whose boot is still the one of its last accepted attestation
// sends from that entry on, any other one from entry 0.
type IMAKnown struct {
	Entries int64 `json:"entries"`
}

// Credential is the output of TPM2_MakeCredential: TPM2B_ID_OBJECT and
// TPM2B_ENCRYPTED_SECRET, each without its outer size.
type Credential struct {
	Blob   Bytes `json:"blob"`
	Secret Bytes `json:"secret"`
}

// AttestRequest hands over evidence for one challenge.
type AttestRequest struct {
	Token      string        `json:"token"`
	Prev       string        `json:"prev,omitempty"`       // last attestation id that the agent received
	Checkpoint string        `json:"checkpoint,omitempty"` // newest signed checkpoint that the agent holds
	SPKI       Bytes         `json:"spki"`                 // of the SVID key
	CSR        Bytes         `json:"csr,omitempty"`        // PKCS#10, where there is no certify
	TPM2       *TPM2Evidence `json:"tpm2,omitempty"`
	Agent      *AgentProof   `json:"agent,omitempty"` // where no TPM quotes
	Items      []Item        `json:"items,omitempty"`
}

// AgentProof is the signature of the agent key over the challenge
// (verifier.AgentDigest), ASN.1.
type AgentProof struct {
	Public    Bytes `json:"public"`
	Signature Bytes `json:"signature"`
}

// Item is one document as its platform gave it out, with its companions by name;
// docs/evidence has a page for each format.
type Item struct {
	Format   string           `json:"format"`
	Document Bytes            `json:"document,omitempty"`
	Parts    map[string]Bytes `json:"parts,omitempty"`
}

// TPM2Evidence is the tpm2 format. Structures travel without outer TPM2B size.
type TPM2Evidence struct {
	AKPublic      Bytes            `json:"ak_public"`
	EKPublic      Bytes            `json:"ek_public,omitempty"`
	EKCertificate Bytes            `json:"ek_certificate,omitempty"`
	EKChain       []Bytes          `json:"ek_chain,omitempty"`
	Quote         Bytes            `json:"quote"`     // TPMS_ATTEST
	Signature     Bytes            `json:"signature"` // TPMT_SIGNATURE
	PCRs          map[string]Bytes `json:"pcrs"`      // decimal index -> value
	EventLog      Bytes            `json:"event_log,omitempty"`
	IMALog        Bytes            `json:"ima_log,omitempty"`    // binary_runtime_measurements from entry ima_offset on
	IMAOffset     int64            `json:"ima_offset,omitempty"` // counted in entries from 0 at boot
	UserspaceLog  Bytes            `json:"userspace_log,omitempty"`
	Certify       *Certify         `json:"certify,omitempty"`
}

// Certify is TPM2_Certify over the SVID key by the same AK.
type Certify struct {
	Public    Bytes `json:"public"` // TPMT_PUBLIC of the SVID key
	Attest    Bytes `json:"attest"`
	Signature Bytes `json:"signature"`
}

// AttestResponse is an earned zone. Nothing in it is given twice.
type AttestResponse struct {
	AttestationID string          `json:"attestation_id"`
	Node          string          `json:"node"`
	SPIFFEID      string          `json:"spiffe_id"`
	Zone          string          `json:"zone"`
	Tier          int             `json:"tier"`
	AttestedAt    time.Time       `json:"attested_at"`
	FreshUntil    time.Time       `json:"fresh_until"`
	RenewAt       time.Time       `json:"renew_at"`
	Chain         []Bytes         `json:"chain"`  // DER, leaf first, without the root
	Bundle        json.RawMessage `json:"bundle"` // SPIFFE bundle document
	Workloads     []Workload      `json:"workloads"`
	Log           LogPosition     `json:"log"`
	Events        []string        `json:"events"` // codes of class event
}

// Workload says which local caller may get which workload SVID.
type Workload struct {
	Name   string   `json:"name"`
	UID    *int     `json:"uid,omitempty"`
	Path   string   `json:"path,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// LogPosition is where the decision stands in the log. Checkpoint is the newest
// signed one, "" before the first.
type LogPosition struct {
	Origin     string `json:"origin"`
	Index      int64  `json:"index"`
	Size       int64  `json:"size"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

// Problem is application/problem+json (RFC 9457) with the members of ours.
type Problem struct {
	Type      string     `json:"type"`
	Title     string     `json:"title"`
	Status    int        `json:"status"`
	Detail    string     `json:"detail,omitempty"`
	Code      string     `json:"code"`
	Reasons   []Reason   `json:"reasons"`
	Remedy    string     `json:"remedy,omitempty"`
	RequestID string     `json:"request_id"`
	Challenge *Challenge `json:"challenge,omitempty"` // with challenge.spent: a fresh one
}

// Reason is one reason of a refusal.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}
