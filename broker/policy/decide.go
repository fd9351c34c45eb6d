package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Evidence is what a decision needs of an appraisal; verifier.Appraisal
// implements it. Every value must come from verified bytes, and a value that
// was not proved must read as "", false or nil, which earns nothing.
type Evidence interface {
	Authentic() bool               // signed by the expected key over this challenge
	Refusals() []*reason.Error     // checks that failed; one is enough to deny
	Format() string                // "tpm2"
	BindingClass() string          // "A", "B" or "C"
	KeyResidency() string          // "tpm" or "software"
	PCR(i int) ([]byte, bool)      // quoted SHA-256 value
	EventDigests(pcr int) [][]byte // of the replayed log, nil without one
	SecureBoot() string            // "on", "off" or "unknown"
	IMA() ima.Attested             // the kernel's measurement list, zero where PCR 10 was not selected
	SecureBootUnproved() error     // why a log that was sent does not prove it, nil where it does or there is none
	// KernelParameters are those of the measured kernel command line; false where
	// the log does not prove it.
	KernelParameters() ([]string, bool)
	Manufacturer() string // of the EK certificate verified now or at enrolment, "" without
	Genuine() bool        // EK certificate chain verified now or at enrolment
	// EKExpired reports that this chain was past its validity when it was verified.
	EKExpired() bool
	TPMKind() string         // that the certificate proves: "discrete", "firmware", "virtual", "software", "unknown"
	FirmwareVersion() uint64 // of the quote
	// Advisories are those about this maker and firmware.
	Advisories() []advisory.Advisory
	// Documents are the verified ones, that of Format first.
	Documents() []verifier.Document
}

// Node is what is known of the host from its granting rows.
type Node struct {
	ID         string
	Groups     []string
	AdmittedBy string // "inventory", "join_token", "operator", "any_genuine"; "" is not admitted
	AKApproved bool   // false after node.ak_changed until an operator approves
	Machine    string
}

// Input is all that a decision depends on besides the set.
type Input struct {
	Appraisal  Evidence
	Node       Node
	Now        time.Time
	AttestedAt time.Time // issue time of the challenge
	Rebooted   bool      // the TPM was reset since the last accepted attestation
	Announced  bool      // an operator said that it would be
	// FirstContact says that the node is new, or comes with a new agent key.
	FirstContact bool
}

// Mismatch is one difference from the reference set that came closest.
type Mismatch struct {
	Set      string
	PCR      int
	Event    bool     // an event is missing in the log of the PCR, not the value wrong
	Expected []string // allowed values, or the digest of the missing event; hex
	Seen     string   // quoted value, hex; of an event the one that is not listed, "" for one that is missing
}

// Decision is the outcome. The zero Decision is a denial. Zone and Tier are set
// as soon as a zone was chosen, also where it denies; lifetimes and workloads
// are set only with Allow.
type Decision struct {
	Allow      bool
	Zone       string
	Tier       int
	Reasons    []*reason.Error // of a denial, in the order of the checks; nil with Allow
	Mismatches []Mismatch      // what policy.pcr_mismatch says, for programs
	// Unconfirmed are the formats of documents that nobody confirmed though the zone
	// wants that, for programs; each has a policy.evidence_missing among Reasons.
	Unconfirmed []string
	Referenced  bool          // the zone demands reference sets, and one of them matched; set only with Allow
	Measured    bool          // the zone compares what a document measured of its machine; set only with Allow
	MaxAge      time.Duration // fresh_until = attested_at + MaxAge
	X509TTL     time.Duration
	JWTTTL      time.Duration
	Grace       time.Duration // X.509-SVIDs may outlive fresh_until by this
	Audiences   []string
	Workloads   []Workload // those placed on this node's groups, in document order
	Files       ima.Judged // verdict about the measured files, to go on from; zero where the zone judges none
}

// maxSkew is how far ahead of ours the clock of the replica that issued the
// challenge may be. More would lengthen fresh_until by as much.
const maxSkew = 10 * time.Second

// Decide chooses the zone of a node and judges its evidence by it. It collects
// all unmet requirements, so that one answer tells all that is to be repaired.
// Refused evidence is denied with its own codes before any zone is looked at.
// Codes: policy.missing, policy.no_zone, policy.zone_ambiguous, and of the
// chosen zone node.not_admitted, node.reboot_unannounced, node.ak_unapproved, policy.evidence_age,
// policy.evidence_missing, policy.binding_class, policy.measurement_mismatch,
// ec2.pending_time and the hazards of documents, policy.secure_boot, ekcert.validity,
// policy.tpm_kind, tpm2.firmware_denied, tpm2.advisory, policy.kexec, policy.hibernation,
// policy.reference_missing, policy.pcr_mismatch. Evidence that panics is
// policy.error: a fault in judging must never become a pass.
func (s *Set) Decide(in Input) (d Decision) {
	defer func() {
		if r := recover(); r != nil {
			d = deny(Decision{}, reason.Wrap(reason.PolicyError, "the policy could not be evaluated", fmt.Errorf("panic: %v", r)))
		}
	}()
	if s == nil || len(s.zones) == 0 {
		return deny(d, reason.New(reason.PolicyMissing, "no policy is active"))
	}
	if in.Appraisal == nil {
		return deny(d, reason.New(reason.PolicyEvidenceMissing, "there is no evidence to judge"))
	}
	if refusals := in.Appraisal.Refusals(); len(refusals) > 0 {
		d.Reasons = append(d.Reasons, refusals...)
		return d
	}
	if !in.Appraisal.Authentic() {
		return deny(d, reason.New(reason.PolicyEvidenceMissing, "the evidence is not signed by the node over this challenge"))
	}
	z, refusal := s.choose(in)
	if refusal != nil {
		return deny(d, refusal)
	}
	d.Zone, d.Tier = z.Name, z.Tier
	d.Reasons = append(d.Reasons, z.checkNode(in)...)
	d.Reasons = append(d.Reasons, z.checkEvidence(in)...)
	d.Unconfirmed = z.unconfirmed(in.Appraisal.Documents())
	d.Reasons = append(d.Reasons, z.checkDocuments(in, d.Unconfirmed)...)
	d.Reasons = append(d.Reasons, z.checkTPM(in)...)
	d.Reasons = append(d.Reasons, z.checkBoot(in)...)
	measured, mismatches := s.checkReferences(z, in)
	d.Reasons = append(d.Reasons, measured...)
	d.Mismatches = mismatches
	judged, denied := z.checkFiles(in)
	d.Files, d.Reasons = judged, append(d.Reasons, denied...)
	if len(d.Reasons) > 0 {
		return d
	}
	d.Allow, d.Referenced, d.Measured = true, len(z.Requires.References) > 0, z.measured(in.Appraisal.Documents())
	d.MaxAge, d.X509TTL = time.Duration(z.Evidence.MaxAge), time.Duration(z.Issue.X509TTL)
	d.JWTTTL, d.Grace = time.Duration(z.Issue.JWTTTL), time.Duration(z.Issue.Grace)
	d.Audiences = slices.Clone(z.Issue.Audiences)
	d.Workloads = z.placedOn(in.Node)
	return d
}

func deny(d Decision, why *reason.Error) Decision {
	d.Allow = false
	d.Reasons = append(d.Reasons, why)
	return d
}

// clone keeps a caller from changing the set through the pointer and slice.
func (w Workload) clone() Workload {
	if w.UID != nil {
		uid := *w.UID
		w.UID = &uid
	}
	w.Groups = slices.Clone(w.Groups)
	return w
}

// choose returns the matching zone of the highest priority. It looks only at
// what selects, never at what the zone requires: otherwise a machine that
// fails one zone would slip into a weaker one.
func (s *Set) choose(in Input) (*zone, *reason.Error) {
	var best, rival *zone
	for _, z := range s.zones {
		switch {
		case !z.selects(in):
		case best == nil || z.Priority > best.Priority:
			best, rival = z, nil
		case z.Priority == best.Priority:
			rival = z
		}
	}
	switch {
	case best == nil:
		return nil, reason.New(reason.PolicyNoZone, "no zone selects this node")
	case rival != nil:
		return nil, reason.Newf(reason.PolicyZoneAmbiguous, "zones %s and %s select this node with the same priority", best.Name, rival.Name)
	}
	return best, nil
}

func (z *zone) selects(in Input) bool {
	return slices.ContainsFunc(z.Selectors.Any, func(s selector) bool {
		return s.names(in.Node) &&
			(s.EKManufacturer == "" || s.EKManufacturer == in.Appraisal.Manufacturer()) &&
			(s.Format == "" || s.Format == in.Appraisal.Format()) &&
			(s.Owner == "" || owned(in.Appraisal, s.Owner))
	})
}

// owned reports whether the document that names the node proved the owner.
func owned(ev Evidence, owner string) bool {
	for _, d := range ev.Documents() {
		if d.Format == ev.Format() {
			return slices.ContainsFunc(d.Owners, func(o document.Owner) bool { return o.Kind+"="+o.Value == owner })
		}
	}
	return false
}

// checkNode asks whether the machine is ours.
func (z *zone) checkNode(in Input) []*reason.Error {
	var out []*reason.Error
	by := in.Node.AdmittedBy
	switch {
	case !slices.Contains(z.Admit, by):
		out = append(out, reason.Newf(reason.NodeNotAdmitted, "zone %s does not take machines admitted by %q", z.Name, by))
	case by == admitAnyGenuine && !in.Appraisal.Genuine():
		out = append(out, reason.Newf(reason.NodeNotAdmitted, "zone %s takes any genuine machine, and no EK certificate was verified", z.Name))
	}
	if z.Requires.AnnouncedReboots && in.Rebooted && !in.Announced {
		out = append(out, reason.Newf(reason.NodeRebootUnannounced, "the machine rebooted since its last attestation, and zone %s wants that announced", z.Name))
	}
	if z.Tier >= 3 && !in.Node.AKApproved {
		out = append(out, reason.Newf(reason.NodeAKUnapproved, "the node has a new attestation key; tier %d wants an operator to approve it", z.Tier))
	}
	return out
}

// boundByReport reports whether the document that names the node is a hardware
// report made for the key.
func boundByReport(ev Evidence) bool {
	for _, d := range ev.Documents() {
		if d.Format == ev.Format() {
			return d.Class == document.ClassA && d.KeyBound
		}
	}
	return false
}

// checkEvidence asks whether evidence of the wanted kind and strength is there.
func (z *zone) checkEvidence(in Input) []*reason.Error {
	var out []*reason.Error
	ev := in.Appraisal
	maxAge := time.Duration(z.Evidence.MaxAge)
	switch {
	case in.Now.IsZero() || !in.AttestedAt.Add(maxAge).After(in.Now):
		out = append(out, reason.Newf(reason.PolicyEvidenceAge, "evidence is older than %s", maxAge))
	case in.AttestedAt.After(in.Now.Add(maxSkew)):
		out = append(out, reason.New(reason.PolicyEvidenceAge, "evidence is dated in the future"))
	}
	if !slices.Contains(z.Requires.Format, ev.Format()) {
		out = append(out, reason.Newf(reason.PolicyEvidenceMissing, "zone %s wants evidence of format %v", z.Name, z.Requires.Format))
	}
	// A key outside the TPM can be copied, so that from tier 2 on the proof that it
	// lives inside (TPM2_Certify) is a kind of evidence that is missing; in a
	// confidential VM the memory that holds it is what the report is about.
	if z.Tier >= 2 && ev.KeyResidency() != "tpm" && !boundByReport(ev) {
		out = append(out, reason.Newf(reason.PolicyEvidenceMissing, "tier %d wants an SVID key that TPM2_Certify proves to live in the TPM, or that a hardware report is bound to", z.Tier))
	}
	have, weakest := slices.Index(classes, ev.BindingClass()), slices.Index(classes, z.Requires.Class)
	if have < 0 || have > weakest {
		out = append(out, reason.Newf(reason.PolicyBindingClass, "evidence is of binding class %q, zone %s accepts %s or stronger", ev.BindingClass(), z.Name, z.Requires.Class))
	}
	if z.Requires.SecureBoot && ev.SecureBoot() != "on" {
		// A log that breaks the grammar of PCR 7 only claims the state: the code of
		// that tells what is wrong, where "off" would be a guess.
		if why, ok := errors.AsType[*reason.Error](ev.SecureBootUnproved()); ok {
			out = append(out, why)
		}
		out = append(out, reason.Newf(reason.PolicySecureBoot, "zone %s wants secure boot proved by the event log", z.Name))
	}
	return out
}
