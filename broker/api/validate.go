package api

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits that only the syntax of a request needs. The sizes that wire.md
// decides stand in types.go.
const (
	maxPCRs       = 24      // of a SHA-256 bank
	maxPCRValue   = 64      // bytes; which length a bank has is the verifier's business
	maxName       = 66      // bytes of a TPM name: nameAlg and the longest digest
	maxJoinToken  = 128     // characters
	maxCheckpoint = 4 << 10 // bytes of a signed note with cosignatures
	maxEKs        = 16      // EK hashes of one machine
	maxGroups     = 32
	maxFormats    = 32  // that a challenge lists
	maxNote       = 500 // characters of an operator's note
	maxTTL        = 7 * 24 * 3600
	maxAnnounced  = 24 * 3600
)

var (
	formatForm = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,31}$`)
	ownerForm  = regexp.MustCompile(`^[a-z0-9_]+\.[a-z0-9_]+=[\x21-\x7e]{1,255}$`)
	partForm   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	tokenForm  = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	selectForm = regexp.MustCompile(`^[0-9a-f]{6}$`)
	hashForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	labelForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,62}$`)
	noteForm   = regexp.MustCompile(`^[^\p{Cc}\p{Zl}\p{Zp}]*$`)
)

// checks collects the first problem of a request; later checks are skipped.
type checks struct{ err error }

func (c *checks) fail(code reason.Code, format string, args ...any) {
	if c.err == nil {
		c.err = reason.Newf(code, format, args...)
	}
}

// size checks a present member against its cap, before anybody parses it.
func (c *checks) size(at string, n, limit int) {
	if n > limit {
		c.fail(reason.RequestTooLarge, "%s: larger than %d", at, limit)
	}
}

func (c *checks) required(at string, n, limit int) {
	if n == 0 {
		c.fail(reason.RequestMalformed, "%s: missing", at)
	}
	c.size(at, n, limit)
}

func (c *checks) form(at, value string, form *regexp.Regexp) {
	if !form.MatchString(value) {
		c.fail(reason.RequestMalformed, "%s: not of its form", at)
	}
}

// index wants the only spelling of a PCR's number: "7" and "07" would be two
// values of one PCR.
func (c *checks) index(at, key string) bool {
	n, err := strconv.Atoi(key)
	if err != nil || n < 0 || n >= maxPCRs || strconv.Itoa(n) != key {
		c.fail(reason.RequestMalformed, "%s: a member is not a decimal PCR index from 0 to 23", at)
		return false
	}
	return true
}

func (c *checks) chain(at string, chain []Bytes) {
	c.size(at, len(chain), MaxEKChain)
	for i, der := range chain {
		c.required(fmt.Sprintf("%s/%d", at, i), len(der), MaxEKCertificate)
	}
}

// Validate checks caps, required members and syntax; it parses no TPM
// structure. Errors are reason.RequestTooLarge for a cap of types.go and
// reason.RequestMalformed for everything else.
func (r ChallengeRequest) Validate() error {
	var c checks
	c.form("/format", r.Format, formatForm)
	c.size("/ak_name", len(r.AKName), maxName)
	members := 0
	for _, set := range []bool{r.Enrol != nil, r.Agent != nil, len(r.AKName) > 0} {
		if set {
			members++
		}
	}
	if members != 1 {
		c.fail(reason.RequestMalformed, "exactly one of enrol, agent and ak_name is needed")
	}
	switch r.Purpose {
	case PurposeEnrol:
		if r.Enrol == nil && r.Agent == nil {
			c.fail(reason.RequestMalformed, "/enrol: missing")
		}
	case PurposeRenew, PurposeWorkload:
		if r.Enrol != nil || r.Agent != nil {
			c.fail(reason.RequestMalformed, "/enrol: only with purpose enrol")
		}
	default:
		c.fail(reason.RequestMalformed, "/purpose: not enrol, renew or workload")
	}
	if e := r.Enrol; e != nil {
		c.required("/enrol/ek_public", len(e.EKPublic), MaxPublic)
		c.required("/enrol/ak_public", len(e.AKPublic), MaxPublic)
		c.size("/enrol/ek_certificate", len(e.EKCertificate), MaxEKCertificate)
		c.chain("/enrol/ek_chain", e.EKChain)
		c.joinToken("/enrol/join_token", e.JoinToken)
	}
	if a := r.Agent; a != nil {
		if (len(a.Public) > 0) == (len(a.AKPublic) > 0) {
			c.fail(reason.RequestMalformed, "/agent: exactly one of public and ak_public is needed")
		}
		c.size("/agent/public", len(a.Public), MaxSPKI)
		c.size("/agent/ak_public", len(a.AKPublic), MaxPublic)
		c.joinToken("/agent/join_token", a.JoinToken)
	}
	return c.err
}

func (c *checks) joinToken(at, token string) {
	c.size(at, len(token), maxJoinToken)
	if token != "" {
		c.form(at, token, tokenForm)
	}
}

// Validate is as for ChallengeRequest. prev is a UUID in its canonical lower
// case form; exactly one of csr and tpm2/certify proves possession of the key.
func (r AttestRequest) Validate() error {
	var c checks
	c.required("/token", len(r.Token), MaxToken)
	c.form("/token", r.Token, tokenForm)
	if r.Prev != "" {
		if id, err := uuid.Parse(r.Prev); err != nil || id.String() != r.Prev {
			c.fail(reason.RequestMalformed, "/prev: not a UUID in canonical form")
		}
	}
	c.size("/checkpoint", len(r.Checkpoint), maxCheckpoint)
	c.required("/spki", len(r.SPKI), MaxSPKI)
	c.size("/csr", len(r.CSR), MaxCSR)
	validateItems(&c, r.Items)
	if r.Agent != nil {
		c.required("/agent/public", len(r.Agent.Public), MaxSPKI)
		c.required("/agent/signature", len(r.Agent.Signature), MaxSignature)
	}
	if (r.TPM2 == nil) == (r.Agent == nil) {
		c.fail(reason.RequestMalformed, "exactly one of tpm2 and agent is needed")
		return c.err
	}
	if r.TPM2 != nil {
		r.TPM2.validate(&c)
	}
	if certified := r.TPM2 != nil && r.TPM2.Certify != nil; (len(r.CSR) > 0) == certified {
		c.fail(reason.RequestMalformed, "exactly one of csr and tpm2/certify is needed")
	}
	return c.err
}

// validateItems bounds documents before anything looks into them.
func validateItems(c *checks, items []Item) {
	c.size("/items", len(items), MaxItems)
	for i, item := range items {
		at := fmt.Sprintf("/items/%d", i)
		c.form(at+"/format", item.Format, formatForm)
		c.size(at+"/document", len(item.Document), MaxDocument)
		c.size(at+"/parts", len(item.Parts), MaxItemParts)
		for _, name := range slices.Sorted(maps.Keys(item.Parts)) {
			c.form(at+"/parts", name, partForm)
			c.required(at+"/parts/"+name, len(item.Parts[name]), MaxItemPart)
		}
		if c.err != nil {
			return
		}
	}
}

func (e *TPM2Evidence) validate(c *checks) {
	c.required("/tpm2/ak_public", len(e.AKPublic), MaxPublic)
	c.size("/tpm2/ek_public", len(e.EKPublic), MaxPublic)
	c.size("/tpm2/ek_certificate", len(e.EKCertificate), MaxEKCertificate)
	c.chain("/tpm2/ek_chain", e.EKChain)
	c.required("/tpm2/quote", len(e.Quote), MaxAttest)
	c.required("/tpm2/signature", len(e.Signature), MaxSignature)
	c.size("/tpm2/event_log", len(e.EventLog), MaxEventLog)
	if len(e.IMALog) > MaxIMALog {
		c.fail(reason.RequestTooLarge, "/tpm2/ima_log: larger than %d; have the kernel measure less (ima_policy), or reboot", MaxIMALog)
	}
	if e.IMAOffset < 0 {
		c.fail(reason.RequestMalformed, "/tpm2/ima_offset: less than 0")
	}
	c.size("/tpm2/userspace_log", len(e.UserspaceLog), MaxUserspaceLog)
	if e.PCRs == nil {
		c.fail(reason.RequestMalformed, "/tpm2/pcrs: missing")
	}
	for _, key := range slices.Sorted(maps.Keys(e.PCRs)) {
		if !c.index("/tpm2/pcrs", key) {
			return
		}
		c.size("/tpm2/pcrs/"+key, len(e.PCRs[key]), maxPCRValue)
	}
	if e.Certify != nil {
		c.required("/tpm2/certify/public", len(e.Certify.Public), MaxPublic)
		c.required("/tpm2/certify/attest", len(e.Certify.Attest), MaxAttest)
		c.required("/tpm2/certify/signature", len(e.Certify.Signature), MaxSignature)
	}
}

// Validate checks an answer of the broker before an agent acts on it: a mask of
// six hex digits, and either a nonce or a credential. Errors are
// reason.RequestMalformed and reason.RequestTooLarge.
func (ch Challenge) Validate() error {
	var c checks
	c.required("/token", len(ch.Token), MaxToken)
	c.form("/token", ch.Token, tokenForm)
	c.form("/select", ch.Select, selectForm)
	if (len(ch.Nonce) > 0) == (ch.Credential != nil) {
		c.fail(reason.RequestMalformed, "exactly one of nonce and credential is needed")
	}
	c.size("/nonce", len(ch.Nonce), maxPCRValue)
	if ch.Credential != nil && ch.Purpose != PurposeEnrol {
		c.fail(reason.RequestMalformed, "/credential: with purpose enrol and only there")
	}
	c.size("/evidence", len(ch.Evidence), maxFormats)
	for i, f := range ch.Evidence {
		c.form(fmt.Sprintf("/evidence/%d", i), f, formatForm)
	}
	if k := ch.Credential; k != nil {
		c.required("/credential/blob", len(k.Blob), MaxPublic)
		c.required("/credential/secret", len(k.Secret), MaxPublic)
	}
	return c.err
}

func (c *checks) label(machine string, groups []string) {
	if machine != "" {
		c.form("/machine", machine, labelForm)
	}
	c.size("/groups", len(groups), maxGroups)
	for i, g := range groups {
		c.form(fmt.Sprintf("/groups/%d", i), g, labelForm)
	}
}

func (c *checks) note(note string) {
	c.size("/note", len(note), maxNote)
	c.form("/note", note, noteForm)
}

// Validate wants 1 to 16 EK hashes of 64 lower-case hex digits, or an owner.
func (r AdmitRequest) Validate() error {
	var c checks
	if r.Owner != "" {
		c.form("/owner", r.Owner, ownerForm)
		if len(r.EKHashes) > 0 || r.Lab || r.Machine != "" {
			c.fail(reason.RequestMalformed, "/owner: goes with groups alone; it is of many machines")
		}
		c.label("", r.Groups)
		return c.err
	}
	c.required("/ek_hashes", len(r.EKHashes), maxEKs)
	seen := map[string]bool{}
	for i, h := range r.EKHashes {
		c.form(fmt.Sprintf("/ek_hashes/%d", i), h, hashForm)
		if seen[h] {
			c.fail(reason.RequestMalformed, "/ek_hashes/%d: stands twice", i)
		}
		seen[h] = true
	}
	c.label(r.Machine, r.Groups)
	return c.err
}

// Validate checks labels and the note, which has no control characters: it is
// shown on terminals and in logs.
func (r ApproveRequest) Validate() error {
	var c checks
	c.label(r.Machine, r.Groups)
	c.note(r.Note)
	return c.err
}

// Validate checks the note.
func (r DisableRequest) Validate() error {
	var c checks
	c.note(r.Note)
	return c.err
}

// Validate checks note and time: 0 (the default) to a day.
func (r AnnounceRequest) Validate() error {
	var c checks
	c.note(r.Note)
	if r.Within < 0 || r.Within > maxAnnounced {
		c.fail(reason.RequestMalformed, "/within_seconds: not between 0 and %d", maxAnnounced)
	}
	return c.err
}

// Validate checks labels and lifetime: 0 (the default) to 7 days.
func (r TokenRequest) Validate() error {
	var c checks
	c.label(r.Machine, r.Groups)
	if r.TTL < 0 || r.TTL > maxTTL {
		c.fail(reason.RequestMalformed, "/ttl_seconds: not between 0 and %d", maxTTL)
	}
	return c.err
}
