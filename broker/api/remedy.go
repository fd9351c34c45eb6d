package api

import (
	"cmp"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Remedy says in one or two sentences what whoever meets code c can do about
// it; "" for events. It gives no expected value away. Codes without a sentence
// of their own take that of their area.
func Remedy(c reason.Code) string {
	info := reason.Lookup(c)
	if info.Class == reason.Event {
		return ""
	}
	area, _, _ := strings.Cut(string(info.Code), ".")
	if text := cmp.Or(remedies[info.Code], documentRemedies[info.Code], areaRemedies[area], documentAreas[area]); text != "" {
		return text
	}
	return "Look the record up with `zonebroker history list`; the request id stands in the broker's log."
}

const (
	againNow    = "Ask for a new challenge and quote again."
	updateAgent = "Update zoneagent; it and the broker disagree on the form of the evidence."
	otherTPM    = "This TPM cannot be used as it is; take another machine, or ask its maker."
)

// areaRemedies hold where every code of an area asks for the same.
var areaRemedies = map[string]string{
	"ekcert":   "Look at the EK certificate (`tpm2_getekcertificate`): it has to come from a maker whose root the broker is configured with.",
	"eventlog": "Compare /sys/kernel/security/tpm0/binary_bios_measurements with the PCRs; reboot, and if it stays, report firmware version and log.",
	"ima":      "Compare /sys/kernel/security/ima/binary_runtime_measurements with PCR 10; reboot, and if it stays, report the kernel's version and the list.",
	"tpm2":     updateAgent,
	"request":  "Compare the request with /openapi.json.",
}

// remedies are for people who read an error at night: one step, concrete.
var remedies = map[reason.Code]string{
	reason.AgentSignature: "The state folder of the agent holds another key than the one that asked for the challenge, or two agents share it: one state folder a host.",
	reason.AuthForbidden:  "Ask through the admin socket as root or the broker's own user, or with a certificate of a role that may (zonebroker operator list).",
	reason.AuthInvalid:    "A host connects again without the client certificate: its AK earns a new SVID. A person asks for a new role certificate (zonebroker operator add).",
	reason.AuthRequired:   "Present the node's SVID as client certificate, or a role certificate where operators are asked for.",

	reason.ChallengeExpired:   againNow,
	reason.ChallengeInvalid:   againNow,
	reason.ChallengeSpent:     "Quote over the fresh challenge in this answer.",
	reason.ChallengeWrongNode: "Use a challenge only with the AK that it was issued for. Two machines that share a state folder need one each.",

	reason.Internal:          "Try again; if it stays, look for the request id in the broker's log.",
	reason.IssuerUnavailable: "Try again in a few seconds. On the broker: `zonebroker health`.",
	reason.LedgerFork:        "Run `zonebroker history verify` and restore the database that the signed checkpoint belongs to. Nothing is issued until then.",
	reason.StoreRowForged:    "Find out who wrote to the database beside the broker; admit the node anew.",
	reason.StoreUnavailable:  "Try again; SVIDs that are out stay valid. On the broker: `zonebroker health`.",

	reason.NodeAKUnapproved:      "An operator looks at the machine and runs `zonebroker node approve NODE`.",
	reason.NodeAdmissionPending:  "An operator looks at `zonebroker node pending` and runs `zonebroker node approve EK-HASH`.",
	reason.NodeDisabled:          "An operator runs `zonebroker node approve NODE` if the node may come back.",
	reason.NodeForkSuspected:     "Two machines used one identity. Find the copy, then run `zonebroker node approve NODE`.",
	reason.NodeIdentityConflict:  "An operator looks at both machines (`zonebroker node list`): the key belongs to another node, or the document to another key, which `zonebroker node approve NODE --release-key` ends.",
	reason.NodeNotAdmitted:       "An operator admits the machine (`zonebroker node admit EK-HASH`), or the account, project or key that its document names (`zonebroker node admit --owner KIND=VALUE`), or hands out a token of `zonebroker token create`. The zone says which it takes (admit).",
	reason.NodeQuarantined:       "Attest again for a quarantine identity, and ask an operator.",
	reason.NodeRebootUnannounced: "Find out why the machine rebooted; then `zonebroker node approve NODE`. Announce the next one: `zonebroker node announce NODE`.",

	reason.PolicyBindingClass:        "Show evidence that is bound to challenge and key as firmly as the zone asks: a quote or report (A), a document made for the challenge (B). `zoneagent doctor` lists what the host has.",
	reason.PolicyError:               "Run `zonebroker policy lint DIR` on the broker and look at its log.",
	reason.PolicyEvidenceAge:         "Ask for a new challenge. Where a cloud hands the same document out for hours, let the zone take that age (`evidence: {max_age: …}`, `max_document_age`), or ask for a format that carries the challenge.",
	reason.PolicyEvidenceMissing:     "Send the kinds of evidence that the zone asks for, all of one machine; `zoneagent doctor` lists what the host has. Where a platform did not confirm a document, look at the broker's `enrich` and its log.",
	reason.PolicyHibernation:         "Boot with `nohibernate` or with kernel lockdown, or take `resume=` off the command line.",
	reason.PolicyIdentityInvalid:     "Give the zone or workload a name of lower-case letters, digits and dashes.",
	reason.PolicyInvalid:             "Run `zonebroker policy lint DIR`; it names file, line and column.",
	reason.PolicyKexec:               "Boot with `lockdown=integrity`, or with an IMA policy that appraises KEXEC_KERNEL_CHECK.",
	reason.PolicyMeasurementMismatch: "See which value differs with `zonebroker history explain RECORD`. If the change was wanted, put the new value into the zone's where; if not, look at the machine.",
	reason.PolicyMissing:             "Put zone documents into the policy folder, run `zonebroker policy lint DIR`, and reload with SIGHUP.",
	reason.PolicyNoZone:              "Add a zone whose selectors take this node, or admit the node with the right groups.",
	reason.PolicyPCRMismatch:         "If the change was wanted, learn it: `zonebroker reference learn --node NODE -o FILE`, review, reload. If not, look at the machine.",
	reason.PolicyReferenceMissing:    "Add the reference set to the policy folder or extend its validity, then reload.",
	reason.PolicySecureBoot:          "Turn secure boot on in the firmware and reboot.",
	reason.PolicyTPMKind:             "Use a machine whose TPM is of a kind that the zone accepts; a kind is proved by the EK certificate.",
	reason.PolicyZoneAmbiguous:       "Give one of the zones a higher priority, or narrow its selectors.",

	reason.RequestOverloaded:  "Wait as long as Retry-After says.",
	reason.RequestRateLimited: "Wait as long as Retry-After says.",
	reason.RetentionHeld:      "See zonebroker hold list; whoever placed the hold releases it, if it has served.",
	reason.RequestTooLarge:    "Send less: the limits stand in /openapi.json.",

	reason.IMABootAggregate:       "The list is of another boot, or over a PCR bank that is not quoted: turn the SHA-256 bank on, boot with ima_hash=sha256, and attest again.",
	reason.IMADenied:              "Add the file to a FileSet of the zone if it may run there; otherwise find out who put it there. The host has to reboot: what ran, ran.",
	reason.IMAMissing:             "Boot with an IMA policy (ima_policy=tcb), and let zoneagent read /sys/kernel/security/ima/binary_runtime_measurements (--ima-log).",
	reason.IMAOffset:              "Send the measurement list from entry 0.",
	reason.IMATemplateUnknown:     "Boot with a template of the kernel: ima_template=ima-sig or ima-ng.",
	reason.IMAViolation:           "Do not write to programs in place: replace the file. Reboot, or let the zone allow violations.",
	reason.EventLogMissing:        "Send the firmware's event log: zoneagent must be able to read /sys/kernel/security/tpm0/binary_bios_measurements.",
	reason.EventLogReplayMismatch: "The log is not the one of this boot, or something extended a PCR without logging it. Reboot and attest again.",
	reason.EventLogSHA1Only:       "Turn the SHA-256 bank of the TPM on in the firmware and reboot.",
	reason.EKCertKeyMismatch:      "The certificate belongs to another EK: send the one from this TPM's NV memory.",
	reason.EKCertUntrusted:        "Get the makers' roots with `zonebroker trust refresh`, or `zonebroker trust import FILE`, and see `zonebroker trust list`.",
	reason.EKCertVendorDenied:     "Allow the maker in the broker's configuration if you trust it.",

	reason.TPM2AKActivationFailed:  "Enrol again: the AK has to live beside the EK in the same TPM.",
	reason.TPM2Advisory:            "Update the firmware of the TPM as its maker's advisory says, or choose a zone that accepts it.",
	reason.TPM2AKAttributes:        "Make the AK with zoneagent; keys made by other tools often lack restricted or fixedTPM.",
	reason.TPM2AKNotRestricted:     "Make the AK with zoneagent; keys made by other tools often lack restricted or fixedTPM.",
	reason.TPM2AKParameters:        "Make the AK with zoneagent: RSA-2048 or P-256 with SHA-256.",
	reason.TPM2EKRevoked:           "An operator revoked this TPM; admit another machine.",
	reason.TPM2EKTemplate:          otherTPM,
	reason.TPM2FirmwareDenied:      "Update the TPM's firmware.",
	reason.TPM2PCRBank:             "Turn the SHA-256 bank of the TPM on in the firmware and reboot.",
	reason.TPM2PCRUnexplained:      "Something extended a PCR that no log explains. Reboot without it, or narrow the zone's PCRs.",
	reason.TPM2QuoteNonceMismatch:  againNow,
	reason.TPM2QuoteSelection:      "Quote exactly the PCRs of the challenge's select member.",
	reason.TPM2QuoteSignerMismatch: "The AK moved to another hierarchy; enrol again.",
	reason.TPM2RolledBack:          "The TPM was cleared, or the machine is a copy or an old snapshot. If that was wanted: `zonebroker node approve NODE`.",
	reason.TPM2SignatureInvalid:    "The quote is not signed by the pinned AK; enrol again if the AK was made anew.",
	reason.TPM2Version:             otherTPM,
}
