package reason

// The codes, one constant each. A released code is never renamed, given
// another meaning or taken out: alerts, policies and history refer to it.
// testdata/codes.txt holds the released spelling.
const (
	AgentSignature              Code = "agent.signature"
	AuthForbidden               Code = "auth.forbidden"
	AuthInvalid                 Code = "auth.invalid"
	AuthRequired                Code = "auth.required"
	AzureAttestationClaims      Code = "azure.attestation_claims"
	AzureDocument               Code = "azure.document"
	AzureHardwareMissing        Code = "azure.hardware_missing"
	AzureHclMalformed           Code = "azure.hcl_malformed"
	AzureNonceMismatch          Code = "azure.nonce_mismatch"
	AzurePrincipal              Code = "azure.principal"
	AzureResource               Code = "azure.resource"
	AzureRuntimeData            Code = "azure.runtime_data"
	AzureSAN                    Code = "azure.san"
	AzureTenant                 Code = "azure.tenant"
	AzureTimestamp              Code = "azure.timestamp"
	AzureUntrusted              Code = "azure.untrusted"
	AzureValidity               Code = "azure.validity"
	CBORDuplicateKey            Code = "cbor.duplicate_key"
	CBORLimit                   Code = "cbor.limit"
	CBORMalformed               Code = "cbor.malformed"
	CBORTrailing                Code = "cbor.trailing"
	CBORTruncated               Code = "cbor.truncated"
	CCABinding                  Code = "cca.binding"
	CCAKeyUnknown               Code = "cca.key_unknown"
	CCALifecycle                Code = "cca.lifecycle"
	CCANonceMismatch            Code = "cca.nonce_mismatch"
	ChallengeExpired            Code = "challenge.expired"
	ChallengeInvalid            Code = "challenge.invalid"
	ChallengeSpent              Code = "challenge.spent"
	ChallengeWrongNode          Code = "challenge.wrong_node"
	COSEAlg                     Code = "cose.alg"
	COSECrit                    Code = "cose.crit"
	COSESignature               Code = "cose.signature"
	COSETag                     Code = "cose.tag"
	EARNonceMismatch            Code = "ear.nonce_mismatch"
	EARStatus                   Code = "ear.status"
	EC2Document                 Code = "ec2.document"
	EC2DocumentMismatch         Code = "ec2.document_mismatch"
	EC2InstanceState            Code = "ec2.instance_state"
	EC2Marketplace              Code = "ec2.marketplace"
	EC2PendingTime              Code = "ec2.pending_time"
	EC2Region                   Code = "ec2.region"
	EC2Variant                  Code = "ec2.variant"
	EC2Zone                     Code = "ec2.zone"
	EKCertCriticalExtension     Code = "ekcert.critical_extension"
	EKCertEncoding              Code = "ekcert.encoding"
	EKCertIsCA                  Code = "ekcert.is_ca"
	EKCertKeyMismatch           Code = "ekcert.key_mismatch"
	EKCertKeyType               Code = "ekcert.key_type"
	EKCertRevoked               Code = "ekcert.revoked"
	EKCertSAN                   Code = "ekcert.san"
	EKCertUntrusted             Code = "ekcert.untrusted"
	EKCertUsage                 Code = "ekcert.usage"
	EKCertValidity              Code = "ekcert.validity"
	EKCertVendorDenied          Code = "ekcert.vendor_denied"
	EKCertWeakKey               Code = "ekcert.weak_key"
	EKCertWeakSignature         Code = "ekcert.weak_signature"
	EventLogDataDigest          Code = "eventlog.data_digest"
	EventLogDigests             Code = "eventlog.digests"
	EventLogMissing             Code = "eventlog.missing"
	EventLogNoAction            Code = "eventlog.no_action"
	EventLogPCR4Grammar         Code = "eventlog.pcr4_grammar"
	EventLogPCR7Grammar         Code = "eventlog.pcr7_grammar"
	EventLogPCRIndex            Code = "eventlog.pcr_index"
	EventLogReplayMismatch      Code = "eventlog.replay_mismatch"
	EventLogSeparator           Code = "eventlog.separator"
	EventLogSHA1Only            Code = "eventlog.sha1_only"
	EventLogSignatureList       Code = "eventlog.signature_list"
	EventLogSpecID              Code = "eventlog.spec_id"
	EventLogTruncated           Code = "eventlog.truncated"
	EventLogVariable            Code = "eventlog.variable"
	GCEAKCertInstance           Code = "gce.akcert_instance"
	GCENoInstance               Code = "gce.no_instance"
	IMABootAggregate            Code = "ima.boot_aggregate"
	IMADenied                   Code = "ima.denied"
	IMADigest                   Code = "ima.digest"
	IMAEncoding                 Code = "ima.encoding"
	IMAMissing                  Code = "ima.missing"
	IMAOffset                   Code = "ima.offset"
	IMAPCR                      Code = "ima.pcr"
	IMATemplateUnknown          Code = "ima.template_unknown"
	IMATruncated                Code = "ima.truncated"
	IMAViolation                Code = "ima.violation"
	Internal                    Code = "internal"
	IssuerUnavailable           Code = "issuer.unavailable"
	JWTAlg                      Code = "jwt.alg"
	JWTAudience                 Code = "jwt.audience"
	JWTCrit                     Code = "jwt.crit"
	JWTExpired                  Code = "jwt.expired"
	JWTIssuedAt                 Code = "jwt.issued_at"
	JWTIssuer                   Code = "jwt.issuer"
	JWTKeyUse                   Code = "jwt.key_use"
	JWTKID                      Code = "jwt.kid"
	JWTLifetime                 Code = "jwt.lifetime"
	JWTMalformed                Code = "jwt.malformed"
	JWTSignature                Code = "jwt.signature"
	K8sNoPod                    Code = "k8s.no_pod"
	K8sRevoked                  Code = "k8s.revoked"
	K8sSubject                  Code = "k8s.subject"
	LedgerFork                  Code = "ledger.fork"
	NitroCabundle               Code = "nitro.cabundle"
	NitroDebug                  Code = "nitro.debug"
	NitroDigest                 Code = "nitro.digest"
	NitroFields                 Code = "nitro.fields"
	NitroLeaf                   Code = "nitro.leaf"
	NitroNonceMismatch          Code = "nitro.nonce_mismatch"
	NitroPCR                    Code = "nitro.pcr"
	NitroTimestamp              Code = "nitro.timestamp"
	NitroType                   Code = "nitro.type"
	NitroUntrusted              Code = "nitro.untrusted"
	NitroValidity               Code = "nitro.validity"
	NodeAdmissionPending        Code = "node.admission_pending"
	NodeAKChanged               Code = "node.ak_changed"
	NodeAKUnapproved            Code = "node.ak_unapproved"
	NodeAnswerLost              Code = "node.answer_lost"
	NodeDisabled                Code = "node.disabled"
	NodeForkSuspected           Code = "node.fork_suspected"
	NodeIdentityConflict        Code = "node.identity_conflict"
	NodeNotAdmitted             Code = "node.not_admitted"
	NodeQuarantined             Code = "node.quarantined"
	NodeRebootUnannounced       Code = "node.reboot_unannounced"
	NodeStateLost               Code = "node.state_lost"
	NvidiaMalformed             Code = "nvidia.malformed"
	NvidiaNonceMismatch         Code = "nvidia.nonce_mismatch"
	NvidiaResult                Code = "nvidia.result"
	NvidiaRIMMissing            Code = "nvidia.rim_missing"
	NvidiaSignature             Code = "nvidia.signature"
	NvidiaSubmoduleDigest       Code = "nvidia.submodule_digest"
	NvidiaUntrusted             Code = "nvidia.untrusted"
	PKCS7Algorithm              Code = "pkcs7.algorithm"
	PKCS7Attributes             Code = "pkcs7.attributes"
	PKCS7Content                Code = "pkcs7.content"
	PKCS7Encoding               Code = "pkcs7.encoding"
	PKCS7Signature              Code = "pkcs7.signature"
	PKCS7SignerCount            Code = "pkcs7.signer_count"
	PKCS7SignerUnknown          Code = "pkcs7.signer_unknown"
	PolicyAudience              Code = "policy.audience"
	PolicyBindingClass          Code = "policy.binding_class"
	PolicyBreakglassDenied      Code = "policy.breakglass_denied"
	PolicyError                 Code = "policy.error"
	PolicyEvidenceAge           Code = "policy.evidence_age"
	PolicyEvidenceMissing       Code = "policy.evidence_missing"
	PolicyExceptionInvalid      Code = "policy.exception_invalid"
	PolicyGuardDenied           Code = "policy.guard_denied"
	PolicyHibernation           Code = "policy.hibernation"
	PolicyIdentityInvalid       Code = "policy.identity_invalid"
	PolicyInvalid               Code = "policy.invalid"
	PolicyKexec                 Code = "policy.kexec"
	PolicyMeasurementMismatch   Code = "policy.measurement_mismatch"
	PolicyMissing               Code = "policy.missing"
	PolicyNoZone                Code = "policy.no_zone"
	PolicyPCRMismatch           Code = "policy.pcr_mismatch"
	PolicyReferenceMissing      Code = "policy.reference_missing"
	PolicySecureBoot            Code = "policy.secure_boot"
	PolicySignature             Code = "policy.signature"
	PolicyTPMKind               Code = "policy.tpm_kind"
	PolicyZoneAmbiguous         Code = "policy.zone_ambiguous"
	RequestIdempotency          Code = "request.idempotency"
	RequestMalformed            Code = "request.malformed"
	RequestMethod               Code = "request.method"
	RequestNotFound             Code = "request.not_found"
	RequestOverloaded           Code = "request.overloaded"
	RequestPrecondition         Code = "request.precondition"
	RequestPreconditionMissing  Code = "request.precondition_missing"
	RequestRateLimited          Code = "request.rate_limited"
	RequestTooLarge             Code = "request.too_large"
	RequestUnknownFormat        Code = "request.unknown_format"
	RetentionHeld               Code = "retention.held"
	SNPAlgorithm                Code = "snp.algorithm"
	SNPDebug                    Code = "snp.debug"
	SNPMalformed                Code = "snp.malformed"
	SNPReportData               Code = "snp.report_data"
	SNPSignature                Code = "snp.signature"
	SNPTCBLow                   Code = "snp.tcb_low"
	SNPTCBMismatch              Code = "snp.tcb_mismatch"
	SNPUntrusted                Code = "snp.untrusted"
	SNPValidity                 Code = "snp.validity"
	SNPVMPL                     Code = "snp.vmpl"
	StoreRowForged              Code = "store.row_forged"
	StoreUnavailable            Code = "store.unavailable"
	STSAnswer                   Code = "sts.answer"
	STSChallengeUnsigned        Code = "sts.challenge_unsigned"
	STSRequest                  Code = "sts.request"
	TDXCollateralExpired        Code = "tdx.collateral_expired"
	TDXCollateralMismatch       Code = "tdx.collateral_mismatch"
	TDXCollateralMissing        Code = "tdx.collateral_missing"
	TDXCollateralSignature      Code = "tdx.collateral_signature"
	TDXDebug                    Code = "tdx.debug"
	TDXHeader                   Code = "tdx.header"
	TDXMalformed                Code = "tdx.malformed"
	TDXReportData               Code = "tdx.report_data"
	TDXSignature                Code = "tdx.signature"
	TDXTCBStatus                Code = "tdx.tcb_status"
	TDXUntrusted                Code = "tdx.untrusted"
	TDXValidity                 Code = "tdx.validity"
	TPM2Advisory                Code = "tpm2.advisory"
	TPM2AKActivationFailed      Code = "tpm2.ak.activation_failed"
	TPM2AKAttributes            Code = "tpm2.ak.attributes"
	TPM2AKCertEncoding          Code = "tpm2.ak.cert_encoding"
	TPM2AKCertKeyMismatch       Code = "tpm2.ak.cert_key_mismatch"
	TPM2AKCertUntrusted         Code = "tpm2.ak.cert_untrusted"
	TPM2AKCertUsage             Code = "tpm2.ak.cert_usage"
	TPM2AKCertValidity          Code = "tpm2.ak.cert_validity"
	TPM2AKEncoding              Code = "tpm2.ak.encoding"
	TPM2AKNotRestricted         Code = "tpm2.ak.not_restricted"
	TPM2AKParameters            Code = "tpm2.ak.parameters"
	TPM2AttestMagic             Code = "tpm2.attest.magic"
	TPM2AttestSafe              Code = "tpm2.attest.safe"
	TPM2AttestTrailing          Code = "tpm2.attest.trailing"
	TPM2AttestTruncated         Code = "tpm2.attest.truncated"
	TPM2AttestType              Code = "tpm2.attest.type"
	TPM2CertifyKeyAttributes    Code = "tpm2.certify.key_attributes"
	TPM2CertifyMismatch         Code = "tpm2.certify.mismatch"
	TPM2CertifyNonceMismatch    Code = "tpm2.certify.nonce_mismatch"
	TPM2ClockSet                Code = "tpm2.clock_set"
	TPM2ClockUnsafe             Code = "tpm2.clock_unsafe"
	TPM2EKEncoding              Code = "tpm2.ek.encoding"
	TPM2EKRevoked               Code = "tpm2.ek.revoked"
	TPM2EKTemplate              Code = "tpm2.ek.template"
	TPM2FirmwareChanged         Code = "tpm2.firmware_changed"
	TPM2FirmwareDenied          Code = "tpm2.firmware_denied"
	TPM2PCRBank                 Code = "tpm2.pcr.bank"
	TPM2PCRDigest               Code = "tpm2.pcr.digest"
	TPM2PCRLength               Code = "tpm2.pcr.length"
	TPM2PCRUnexplained          Code = "tpm2.pcr.unexplained"
	TPM2PCRUnquoted             Code = "tpm2.pcr.unquoted"
	TPM2QuoteNonceMismatch      Code = "tpm2.quote.nonce_mismatch"
	TPM2QuoteSelectSize         Code = "tpm2.quote.select_size"
	TPM2QuoteSelection          Code = "tpm2.quote.selection"
	TPM2QuoteSelectionCount     Code = "tpm2.quote.selection_count"
	TPM2QuoteSelectionDuplicate Code = "tpm2.quote.selection_duplicate"
	TPM2QuoteSignerMismatch     Code = "tpm2.quote.signer_mismatch"
	TPM2Rebooted                Code = "tpm2.rebooted"
	TPM2Resumed                 Code = "tpm2.resumed"
	TPM2RolledBack              Code = "tpm2.rolled_back"
	TPM2SignatureEncoding       Code = "tpm2.signature.encoding"
	TPM2SignatureHash           Code = "tpm2.signature.hash"
	TPM2SignatureInvalid        Code = "tpm2.signature.invalid"
	TPM2SignatureScheme         Code = "tpm2.signature.scheme"
	TPM2Version                 Code = "tpm2.version"
	X509PoPEncoding             Code = "x509pop.encoding"
	X509PoPSignature            Code = "x509pop.signature"
	X509PoPUntrusted            Code = "x509pop.untrusted"
	X509PoPUsage                Code = "x509pop.usage"
	X509PoPValidity             Code = "x509pop.validity"
)

// table is the one place that says what a code means to a client: its class
// and the HTTP status of the problem document that carries it.
var table = []Info{
	{AgentSignature, Deny, 403, "the agent key did not sign this challenge"},
	{AuthForbidden, Deny, 403, "the caller's role does not allow this"},
	{AuthInvalid, Deny, 401, "client certificate or token does not verify"},
	{AuthRequired, Deny, 401, "the route needs a client certificate or token"},
	{AzureAttestationClaims, Deny, 403, "attestation type, compliance, secure boot or debugger claims are not those that the zone wants"},
	{AzureDocument, Deny, 403, "attested document is not strict JSON or lacks vmId, subscription or times"},
	{AzureHardwareMissing, Deny, 403, "HCL report without the hardware evidence that signs it (VCEK, TD quote)"},
	{AzureHclMalformed, Deny, 403, "HCL report: magic, version or length"},
	{AzureNonceMismatch, Deny, 403, "nonce missing or not the binding"},
	{AzurePrincipal, Deny, 403, "token of a person or an application, not of a managed identity"},
	{AzureResource, Deny, 403, "resource id names no single virtual machine"},
	{AzureRuntimeData, Deny, 403, "runtime data is not bound by the hardware report, or holds no AK"},
	{AzureSAN, Deny, 403, "signer is not named under metadata.azure.com"},
	{AzureTenant, Deny, 403, "tid and iss name different tenants"},
	{AzureTimestamp, Deny, 403, "outside createdOn and expiresOn"},
	{AzureUntrusted, Deny, 403, "signer does not chain to a configured root; nothing is fetched"},
	{AzureValidity, Deny, 403, "a certificate of the chain is not valid at the time of verification"},
	{CBORDuplicateKey, Deny, 403, "a map key stands twice"},
	{CBORLimit, Deny, 403, "nesting, count or claimed length above the profile's limit"},
	{CBORMalformed, Deny, 403, "not well-formed CBOR of the expected shape"},
	{CBORTrailing, Deny, 403, "bytes behind the CBOR item"},
	{CBORTruncated, Deny, 403, "CBOR ends early"},
	{CCABinding, Deny, 403, "platform challenge is not the hash of the realm key"},
	{CCAKeyUnknown, Deny, 403, "no platform key is configured for this instance"},
	{CCALifecycle, Deny, 403, "platform is not in the secured state"},
	{CCANonceMismatch, Deny, 403, "realm challenge is not the binding"},
	{ChallengeExpired, Retry, 409, "the token is past its expiry (60 s, 120 s at enrolment)"},
	{ChallengeInvalid, Retry, 409, "the token does not open: altered, or of a key epoch no longer accepted"},
	{ChallengeSpent, Retry, 409, "the token was used already, or the node changed since it was issued; the answer carries a fresh challenge"},
	{ChallengeWrongNode, Deny, 403, "the token was issued to another node or for another AK"},
	{COSEAlg, Deny, 403, "algorithm missing, unprotected or not the profile's"},
	{COSECrit, Deny, 403, "unknown critical header"},
	{COSESignature, Deny, 403, "COSE signature does not verify"},
	{COSETag, Deny, 403, "not COSE_Sign1: another tag or shape"},
	{EARNonceMismatch, Deny, 403, "eat_nonce missing or not the binding"},
	{EARStatus, Deny, 403, "a required submodule is missing or not affirming"},
	{EC2Document, Deny, 403, "signed content is not an identity document in strict JSON"},
	{EC2DocumentMismatch, Deny, 403, "a document sent beside the signed one differs from it"},
	{EC2InstanceState, Deny, 403, "the cloud says that the instance is not running or was launched anew"},
	{EC2Marketplace, Deny, 403, "image of the marketplace, not allowed by the zone"},
	{EC2PendingTime, Deny, 403, "launch time in the future or too old for a first registration"},
	{EC2Region, Deny, 403, "region of the document is not that of the certificate"},
	{EC2Variant, Deny, 403, "only the rsa2048 form of the identity document is accepted"},
	{EC2Zone, Deny, 403, "availability zone is not of the region"},
	{EKCertCriticalExtension, Deny, 403, "unknown critical extension besides the alternative name and the directory attributes"},
	{EKCertEncoding, Deny, 403, "not one X.509 certificate after NV header and fill bytes are taken off"},
	{EKCertIsCA, Deny, 403, "a CA certificate offered as an EK certificate"},
	{EKCertKeyMismatch, Deny, 403, "certificate is for another key than the EK"},
	{EKCertKeyType, Deny, 403, "subject key is of a kind that no EK has"},
	{EKCertRevoked, Deny, 403, "revoked by its issuer, or the configured revocation list is stale"},
	{EKCertSAN, Deny, 403, "no TPM attributes in the alternative name, or two manufacturers"},
	{EKCertUntrusted, Deny, 403, "does not chain to a configured manufacturer root"},
	{EKCertUsage, Deny, 403, "key usage or extended key usage is not that of an EK"},
	{EKCertValidity, Deny, 403, "outside its validity at the time of verification, and the zone does not allow that"},
	{EKCertVendorDenied, Deny, 403, "manufacturer not in the registry or not allowed by the zone"},
	{EKCertWeakKey, Deny, 403, "EK modulus too short or with the ROCA fingerprint"},
	{EKCertWeakSignature, Deny, 403, "certificate signed with SHA-1"},
	{EventLogDataDigest, Deny, 403, "event data that policy would use does not hash to its digest"},
	{EventLogDigests, Deny, 403, "an event repeats a digest algorithm, has an unknown one, or lacks the digest of the policy bank"},
	{EventLogMissing, Deny, 403, "a log is needed (first contact, counters or a PCR changed) and none was sent"},
	{EventLogNoAction, Deny, 403, "startup locality late, twice or impossible, or a no-action record treated as an extend"},
	{EventLogPCR4Grammar, Deny, 403, "PCR 4 has an event that is no boot attempt, application or separator"},
	{EventLogPCR7Grammar, Deny, 403, "PCR 7 is not variables, one separator, authorities; or SecureBoot is not exactly one event before the separator"},
	{EventLogPCRIndex, Deny, 403, "PCR index outside the bank"},
	{EventLogReplayMismatch, Deny, 403, "log does not replay to the quoted value of a PCR or RTMR"},
	{EventLogSeparator, Deny, 403, "separator missing, twice or with other data"},
	{EventLogSHA1Only, Deny, 403, "legacy log with SHA-1 digests only"},
	{EventLogSignatureList, Deny, 403, "EFI signature list with impossible sizes"},
	{EventLogSpecID, Deny, 403, "Spec ID record missing, inconsistent or with impossible algorithms"},
	{EventLogTruncated, Deny, 403, "a record ends past the end of the log"},
	{EventLogVariable, Deny, 403, "EFI variable record with impossible lengths"},
	{GCEAKCertInstance, Deny, 403, "AK certificate has no instance extension, or names another instance than the token"},
	{GCENoInstance, Deny, 403, "token names no instance: no compute_engine claims or an empty instance id"},
	{IMABootAggregate, Deny, 403, "boot aggregate is not the hash of the quoted PCRs"},
	{IMADenied, Deny, 403, "a measured file is not in the allow list"},
	{IMADigest, Deny, 403, "template digest is not the hash of the template data"},
	{IMAEncoding, Deny, 403, "not the binary form, or impossible name, length or character"},
	{IMAMissing, Deny, 403, "the zone asks for IMA and no log was sent"},
	{IMAOffset, Deny, 403, "log does not go on where the last attestation ended"},
	{IMAPCR, Deny, 403, "record for another PCR than 10"},
	{IMATemplateUnknown, Deny, 403, "template that cannot be evaluated"},
	{IMATruncated, Deny, 403, "log ends inside a record or before the quoted PCR 10 is reached"},
	{IMAViolation, Deny, 403, "a violation record; policy does not allow it"},
	{Internal, Fault, 500, "an unexpected failure; never a pass"},
	{IssuerUnavailable, Fault, 503, "no signing key is ready"},
	{JWTAlg, Deny, 403, "algorithm not in the issuer's list"},
	{JWTAudience, Deny, 403, "audience missing, another, or more than one"},
	{JWTCrit, Deny, 403, "unknown critical header"},
	{JWTExpired, Deny, 403, "past its expiry, or older than the format's age limit where there is none"},
	{JWTIssuedAt, Deny, 403, "issued in the future, or before the challenge"},
	{JWTIssuer, Deny, 403, "issuer missing or not exactly a configured one"},
	{JWTKeyUse, Deny, 403, "the named key is not for signatures"},
	{JWTKID, Deny, 403, "key id missing or not among the configured keys; keys and key URLs in the token are never used"},
	{JWTLifetime, Deny, 403, "expiry or issue time missing, or the lifetime is above the limit"},
	{JWTMalformed, Deny, 403, "not a compact JWS with strict JSON: parts, encoding, duplicate member"},
	{JWTSignature, Deny, 403, "signature does not verify under the configured key"},
	{K8sNoPod, Deny, 403, "token is not bound to a pod"},
	{K8sRevoked, Deny, 403, "the cluster says that token, pod or account is gone"},
	{K8sSubject, Deny, 403, "sub and the kubernetes.io claims disagree"},
	{LedgerFork, Fault, 503, "head and anchor disagree; signing has stopped"},
	{NitroCabundle, Deny, 403, "bundle empty, too long or unparsable"},
	{NitroDebug, Deny, 403, "PCR 0-2 are zero: debug enclave, not allowed by the zone"},
	{NitroDigest, Deny, 403, "digest is not SHA384"},
	{NitroFields, Deny, 403, "a field is missing or longer than the format allows"},
	{NitroLeaf, Deny, 403, "certificate of the document is a CA or its key is not P-384"},
	{NitroNonceMismatch, Deny, 403, "nonce missing or not the binding"},
	{NitroPCR, Deny, 403, "PCR index or length impossible"},
	{NitroTimestamp, Deny, 403, "document time outside the window or outside the leaf's validity"},
	{NitroType, Deny, 403, "enclave document offered as instance document, the reverse, or both in one"},
	{NitroUntrusted, Deny, 403, "chain does not end in the pinned root"},
	{NitroValidity, Deny, 403, "a certificate of the chain is not valid at the time of verification"},
	{NodeAdmissionPending, Retry, 403, "the machine waits for an operator's approval"},
	{NodeAKChanged, Event, 200, "known EK with another AK, proved by activation"},
	{NodeAKUnapproved, Deny, 403, "another AK of a known EK, and a zone that wants an operator to approve it"},
	{NodeAnswerLost, Event, 200, "accepted; the last answer did not reach the node"},
	{NodeDisabled, Deny, 403, "the node is disabled, revoked or moved to another zone"},
	{NodeForkSuspected, Deny, 403, "the request names a last attestation that is neither the last nor the one before an unconfirmed one: two machines share an identity"},
	{NodeIdentityConflict, Deny, 403, "this root of trust belongs to another node, or this node to another root of trust or first-use key"},
	{NodeNotAdmitted, Deny, 403, "the evidence is genuine, but nothing admits this machine, account, project or tenant"},
	{NodeQuarantined, Deny, 403, "the node is in quarantine and the request asks for more than a quarantine identity"},
	{NodeRebootUnannounced, Deny, 403, "the machine rebooted without the announcement that the zone asks for"},
	{NodeStateLost, Event, 200, "accepted; the agent names no last attestation"},
	{NvidiaMalformed, Deny, 403, "evidence or detached bundle does not parse"},
	{NvidiaNonceMismatch, Deny, 403, "nonce of the SPDM request or of the token is not the binding"},
	{NvidiaResult, Deny, 403, "the overall result or a device result is false, or debug is on"},
	{NvidiaRIMMissing, Fault, 503, "no reference measurements for this driver and firmware"},
	{NvidiaSignature, Deny, 403, "SPDM signature does not verify"},
	{NvidiaSubmoduleDigest, Deny, 403, "a device token does not hash to the digest in the overall token"},
	{NvidiaUntrusted, Deny, 403, "device chain does not end in the pinned root"},
	{PKCS7Algorithm, Deny, 403, "digest or signature algorithm not allowed"},
	{PKCS7Attributes, Deny, 403, "signed attributes missing where the format has them"},
	{PKCS7Content, Deny, 403, "content detached or of another type"},
	{PKCS7Encoding, Deny, 403, "not DER of one SignedData, or bytes behind it"},
	{PKCS7Signature, Deny, 403, "signature or message digest does not verify"},
	{PKCS7SignerCount, Deny, 403, "not exactly one signer"},
	{PKCS7SignerUnknown, Deny, 403, "signer is not the pinned certificate, whatever lies in the bag"},
	{PolicyAudience, Deny, 403, "the zone does not allow this audience"},
	{PolicyBindingClass, Deny, 403, "evidence binds nonce and key more weakly than the zone accepts"},
	{PolicyBreakglassDenied, Deny, 403, "break-glass without enough approvers, or a review is overdue"},
	{PolicyError, Fault, 503, "evaluation failed or ran out of time"},
	{PolicyEvidenceAge, Deny, 403, "evidence is older than the zone's max_age"},
	{PolicyEvidenceMissing, Deny, 403, "the zone asks for a kind of evidence that was not sent"},
	{PolicyExceptionInvalid, Deny, 422, "an exception names an unwaivable code, lives too long or is approved by its author"},
	{PolicyGuardDenied, Deny, 403, "a guard of the zone says no"},
	{PolicyHibernation, Deny, 403, "the kernel may resume an image from disk that nothing measured, and the zone refuses that"},
	{PolicyIdentityInvalid, Deny, 403, "a zone, workload or node name would not make a valid SPIFFE ID"},
	{PolicyInvalid, Deny, 422, "a policy or reference document is refused at lint: unknown key, contradiction, resettable PCR"},
	{PolicyKexec, Deny, 403, "nothing measured rules out that another kernel was started by kexec, and the zone asks for that"},
	{PolicyMeasurementMismatch, Deny, 403, "an enclave, TEE or image measurement is in no reference set of the zone"},
	{PolicyMissing, Fault, 503, "no policy is active"},
	{PolicyNoZone, Deny, 403, "no zone selects this node"},
	{PolicyPCRMismatch, Deny, 403, "a PCR or RTMR is in no reference set of the zone"},
	{PolicyReferenceMissing, Fault, 503, "the zone names a reference set that does not exist or has ended"},
	{PolicySecureBoot, Deny, 403, "secure boot is off or unknown and the zone asks for it"},
	{PolicySignature, Deny, 422, "a policy bundle is unsigned, signed by others, or older than the active one"},
	{PolicyTPMKind, Deny, 403, "the kind of TPM (discrete, firmware, virtual, software) is not one that the zone accepts, or is not proved"},
	{PolicyZoneAmbiguous, Deny, 403, "two zones select this node and none has priority"},
	{RequestIdempotency, Deny, 422, "the idempotency key was used with another body"},
	{RequestMalformed, Deny, 400, "not the JSON of the contract: unknown or duplicate member, wrong type, bad base64url"},
	{RequestMethod, Deny, 405, "the path does not take this method"},
	{RequestNotFound, Deny, 404, "no such thing, or not for this caller"},
	{RequestOverloaded, Retry, 503, "a queue or semaphore is full; Retry-After says when"},
	{RequestPrecondition, Deny, 412, "If-Match does not name the current version"},
	{RequestPreconditionMissing, Deny, 428, "the write needs If-Match"},
	{RequestRateLimited, Retry, 429, "too many requests; Retry-After says when"},
	{RequestTooLarge, Deny, 413, "a body, document, chain or key is above its limit before it is parsed"},
	{RequestUnknownFormat, Deny, 400, "evidence format that this broker does not verify"},
	{RetentionHeld, Deny, 403, "a legal hold touches what would be erased"},
	{SNPAlgorithm, Deny, 403, "signature algorithm is not ECDSA P-384 with SHA-384"},
	{SNPDebug, Deny, 403, "guest policy allows debugging"},
	{SNPMalformed, Deny, 403, "report has a wrong length, version or reserved bits"},
	{SNPReportData, Deny, 403, "REPORT_DATA is not the binding"},
	{SNPSignature, Deny, 403, "report signature does not verify under the VCEK or VLEK"},
	{SNPTCBLow, Deny, 403, "reported TCB below the zone's minimum"},
	{SNPTCBMismatch, Deny, 403, "chip id or reported TCB are not those of the certificate"},
	{SNPUntrusted, Deny, 403, "VCEK or VLEK does not chain to the AMD root of its product"},
	{SNPValidity, Deny, 403, "a certificate of the chain is not valid at the time of verification"},
	{SNPVMPL, Deny, 403, "report made at another privilege level than the zone allows"},
	{StoreRowForged, Fault, 503, "a granting row fails its HMAC and counts as absent"},
	{StoreUnavailable, Fault, 503, "the database does not answer; nothing is issued"},
	{STSAnswer, Deny, 403, "the service refused, redirected or sent something else"},
	{STSChallengeUnsigned, Deny, 403, "challenge header is not among the signed headers"},
	{STSRequest, Deny, 403, "not exactly the GetCallerIdentity request that the broker builds: host, method, body or extra header"},
	{TDXCollateralExpired, Fault, 503, "collateral is past its next update"},
	{TDXCollateralMismatch, Deny, 403, "collateral is for SGX, another enclave, platform family or PCE"},
	{TDXCollateralMissing, Fault, 503, "no TCB info, QE identity or revocation list for this platform"},
	{TDXCollateralSignature, Deny, 403, "collateral is not signed by Intel"},
	{TDXDebug, Deny, 403, "TD attributes allow debugging"},
	{TDXHeader, Deny, 403, "version, TEE type, key type or QE vendor is not that of a TDX quote"},
	{TDXMalformed, Deny, 403, "quote ends early or has impossible lengths"},
	{TDXReportData, Deny, 403, "REPORTDATA is not the binding"},
	{TDXSignature, Deny, 403, "signature of quote or QE report, or the hash of the attestation key, does not verify"},
	{TDXTCBStatus, Deny, 403, "TCB level is not one that the zone accepts"},
	{TDXUntrusted, Deny, 403, "PCK chain does not end in the pinned Intel root"},
	{TDXValidity, Deny, 403, "a certificate of the PCK chain is not valid at the time of verification"},
	{TPM2Advisory, Deny, 403, "an advisory against this TPM denies it, or caps its tier below the zone's"},
	{TPM2AKActivationFailed, Deny, 403, "no proof that the AK lives beside the EK: credential not opened, or of another enrolment"},
	{TPM2AKAttributes, Deny, 403, "AK attributes other than those of the table: fixedTPM, fixedParent, sensitiveDataOrigin, sign, not decrypt, no reserved bit"},
	{TPM2AKCertEncoding, Deny, 403, "AK certificate does not parse"},
	{TPM2AKCertKeyMismatch, Deny, 403, "AK certificate is for another key than the one that signed the quote"},
	{TPM2AKCertUntrusted, Deny, 403, "AK certificate does not chain to a configured root"},
	{TPM2AKCertUsage, Deny, 403, "certificate offered for the AK is a CA or not for signing (an EK certificate)"},
	{TPM2AKCertValidity, Deny, 403, "AK certificate or its chain is outside its validity at the time of verification"},
	{TPM2AKEncoding, Deny, 403, "AK public area is not canonical or has trailing bytes"},
	{TPM2AKNotRestricted, Deny, 403, "the AK is not a restricted key and could sign forged structures"},
	{TPM2AKParameters, Deny, 403, "AK algorithm, size, curve, exponent or scheme not allowed"},
	{TPM2AttestMagic, Deny, 403, "magic is not TPM_GENERATED"},
	{TPM2AttestSafe, Deny, 403, "safe is neither 0 nor 1"},
	{TPM2AttestTrailing, Deny, 403, "bytes behind the structure"},
	{TPM2AttestTruncated, Deny, 403, "structure ends early, or a size field points past its end"},
	{TPM2AttestType, Deny, 403, "structure is not of the expected type"},
	{TPM2CertifyKeyAttributes, Deny, 403, "SVID key is not fixed to the TPM, or is restricted, or may decrypt"},
	{TPM2CertifyMismatch, Deny, 403, "TPM2_Certify names another key, or another AK signed it"},
	{TPM2CertifyNonceMismatch, Deny, 403, "extraData of TPM2_Certify is not that of the quote"},
	{TPM2ClockSet, Event, 200, "accepted; Clock is more than 25 % ahead of wall time"},
	{TPM2ClockUnsafe, Event, 200, "accepted; the TPM reports safe = no"},
	{TPM2EKEncoding, Deny, 403, "EK public area is not canonical or has trailing bytes"},
	{TPM2EKRevoked, Deny, 403, "the EK was admitted once and is revoked"},
	{TPM2EKTemplate, Deny, 403, "EK public area is not one of the endorsement templates"},
	{TPM2FirmwareChanged, Event, 200, "accepted; firmware version differs from the last attestation"},
	{TPM2FirmwareDenied, Deny, 403, "firmware version below the zone's floor"},
	{TPM2PCRBank, Deny, 403, "the quoted bank is SHA-1, unknown, or not the zone's"},
	{TPM2PCRDigest, Deny, 403, "PCR values do not hash to the signed digest"},
	{TPM2PCRLength, Deny, 403, "a PCR value is missing or has the wrong length for its bank"},
	{TPM2PCRUnexplained, Deny, 403, "a quoted PCR is not at its reset value and no log has an event for it"},
	{TPM2PCRUnquoted, Deny, 403, "a PCR value outside the signed selection was sent"},
	{TPM2QuoteNonceMismatch, Deny, 403, "extraData is empty or not the binding of this challenge, key, trust domain and purpose"},
	{TPM2QuoteSelectSize, Deny, 403, "sizeofSelect is not 3"},
	{TPM2QuoteSelection, Deny, 403, "signed selection is not exactly the one asked for"},
	{TPM2QuoteSelectionCount, Deny, 403, "more PCR selections than any TPM has banks"},
	{TPM2QuoteSelectionDuplicate, Deny, 403, "one bank selected twice"},
	{TPM2QuoteSignerMismatch, Deny, 403, "qualifiedSigner is not the one pinned at enrolment"},
	{TPM2Rebooted, Event, 200, "accepted; resetCount rose, the log was judged again"},
	{TPM2Resumed, Event, 200, "accepted; restartCount rose"},
	{TPM2RolledBack, Deny, 403, "resetCount, restartCount or Clock went back under a fresh nonce: snapshot, clone or TPM2_Clear"},
	{TPM2SignatureEncoding, Deny, 403, "signature has a wrong length, a value out of range, padding or trailing bytes"},
	{TPM2SignatureHash, Deny, 403, "signature hash is not the one fixed at enrolment, or is SHA-1"},
	{TPM2SignatureInvalid, Deny, 403, "signature does not verify under the node's AK"},
	{TPM2SignatureScheme, Deny, 403, "signature scheme is not the one fixed at enrolment"},
	{TPM2Version, Deny, 403, "evidence of a TPM 1.2"},
	{X509PoPEncoding, Deny, 403, "not one X.509 certificate, or its chain does not parse"},
	{X509PoPSignature, Deny, 403, "the certificate's key did not sign the binding of this challenge"},
	{X509PoPUntrusted, Deny, 403, "certificate does not chain to a configured CA"},
	{X509PoPUsage, Deny, 403, "a CA certificate, or one whose usages do not allow a client's signature"},
	{X509PoPValidity, Deny, 403, "a certificate of the chain is not valid at the time of verification"},
}
