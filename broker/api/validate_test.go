package api_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	goodUUID = "0192f0c1-2345-7abc-8def-0123456789ab"
	goodHash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

func of(n int) api.Bytes { return make(api.Bytes, n) }

func enrolment() api.ChallengeRequest {
	return api.ChallengeRequest{
		Format: api.FormatTPM2, Purpose: api.PurposeEnrol,
		Enrol: &api.Enrol{EKPublic: of(300), EKCertificate: of(1000), EKChain: []api.Bytes{of(900)}, AKPublic: of(280), JoinToken: "abc_DEF-1.2"},
	}
}

func attestation() api.AttestRequest {
	return api.AttestRequest{
		Token: "AbC-_9", Prev: goodUUID, Checkpoint: "o\n1\nroot\n", SPKI: of(91),
		TPM2: &api.TPM2Evidence{
			AKPublic: of(280), Quote: of(150), Signature: of(262),
			PCRs:    map[string]api.Bytes{"0": of(32), "23": of(32)},
			Certify: &api.Certify{Public: of(88), Attest: of(150), Signature: of(262)},
		},
	}
}

func TestChallengeRequestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*api.ChallengeRequest)
		code   reason.Code
	}{
		{"accepts_enrolment", func(*api.ChallengeRequest) {}, ""},
		{"accepts_renewal", func(r *api.ChallengeRequest) { r.Enrol, r.Purpose, r.AKName = nil, api.PurposeRenew, of(34) }, ""},
		{"accepts_workload", func(r *api.ChallengeRequest) { r.Enrol, r.Purpose, r.AKName = nil, api.PurposeWorkload, of(34) }, ""},
		{"accepts_every_cap", func(r *api.ChallengeRequest) {
			e := r.Enrol
			e.EKPublic, e.AKPublic, e.EKCertificate = of(1024), of(1024), of(4096)
			e.EKChain = []api.Bytes{of(4096), of(4096), of(4096), of(4096)}
			e.JoinToken = strings.Repeat("a", 128)
		}, ""},
		{"format_missing", func(r *api.ChallengeRequest) { r.Format = "" }, reason.RequestMalformed},
		{"format_with_newline", func(r *api.ChallengeRequest) { r.Format = "tpm2\n" }, reason.RequestMalformed},
		{"purpose_unknown", func(r *api.ChallengeRequest) { r.Purpose = "admin" }, reason.RequestMalformed},
		{"both_enrol_and_ak_name", func(r *api.ChallengeRequest) { r.AKName = of(34) }, reason.RequestMalformed},
		{"neither_enrol_nor_ak_name", func(r *api.ChallengeRequest) { r.Enrol = nil }, reason.RequestMalformed},
		{"enrol_with_purpose_renew", func(r *api.ChallengeRequest) { r.Purpose = api.PurposeRenew }, reason.RequestMalformed},
		{"ak_name_with_purpose_enrol", func(r *api.ChallengeRequest) { r.Enrol, r.AKName = nil, of(34) }, reason.RequestMalformed},
		{"ek_public_missing", func(r *api.ChallengeRequest) { r.Enrol.EKPublic = nil }, reason.RequestMalformed},
		{"ak_public_missing", func(r *api.ChallengeRequest) { r.Enrol.AKPublic = nil }, reason.RequestMalformed},
		{"chain_with_empty_certificate", func(r *api.ChallengeRequest) { r.Enrol.EKChain[0] = nil }, reason.RequestMalformed},
		{"join_token_with_space", func(r *api.ChallengeRequest) { r.Enrol.JoinToken = "a b" }, reason.RequestMalformed},
		{"join_token_too_long", func(r *api.ChallengeRequest) { r.Enrol.JoinToken = strings.Repeat("a", 129) }, reason.RequestTooLarge},
		{"ak_name_too_long", func(r *api.ChallengeRequest) { r.Enrol, r.Purpose, r.AKName = nil, api.PurposeRenew, of(67) }, reason.RequestTooLarge},
		{"tpm-66_RSA_16384", func(r *api.ChallengeRequest) { r.Enrol.EKPublic = of(2048 + 26) }, reason.RequestTooLarge},
		{"tpm-66_AK_RSA_16384", func(r *api.ChallengeRequest) { r.Enrol.AKPublic = of(2048 + 26) }, reason.RequestTooLarge},
		{"tpm-66_five_certificates", func(r *api.ChallengeRequest) { r.Enrol.EKChain = []api.Bytes{of(1), of(1), of(1), of(1), of(1)} }, reason.RequestTooLarge},
		{"tpm-66_chain_certificate_with_huge_key", func(r *api.ChallengeRequest) { r.Enrol.EKChain[0] = of(4097) }, reason.RequestTooLarge},
		{"tpm-66_ek_certificate_above_cap", func(r *api.ChallengeRequest) { r.Enrol.EKCertificate = of(4097) }, reason.RequestTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := enrolment()
			tt.change(&r)
			if err := r.Validate(); reason.Of(err) != tt.code {
				t.Errorf("%v, want %q", err, tt.code)
			}
		})
	}
}

func TestAttestRequestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*api.AttestRequest)
		code   reason.Code
	}{
		{"accepts_certify", func(*api.AttestRequest) {}, ""},
		{"accepts_csr", func(r *api.AttestRequest) { r.TPM2.Certify, r.CSR = nil, of(4096) }, ""},
		{"accepts_every_cap", func(r *api.AttestRequest) {
			r.TPM2.Quote, r.TPM2.Signature, r.TPM2.EventLog, r.SPKI = of(1024), of(600), of(1<<20), of(1024)
			r.Token = strings.Repeat("a", 2048)
		}, ""},
		{"accepts_first_attestation_without_prev", func(r *api.AttestRequest) { r.Prev = "" }, ""},
		{"token_missing", func(r *api.AttestRequest) { r.Token = "" }, reason.RequestMalformed},
		{"token_with_newline", func(r *api.AttestRequest) { r.Token = "a\nb" }, reason.RequestMalformed},
		{"token_too_long", func(r *api.AttestRequest) { r.Token = strings.Repeat("a", 2049) }, reason.RequestTooLarge},
		{"prev_upper_case", func(r *api.AttestRequest) { r.Prev = strings.ToUpper(goodUUID) }, reason.RequestMalformed},
		{"prev_in_braces", func(r *api.AttestRequest) { r.Prev = "{" + goodUUID + "}" }, reason.RequestMalformed},
		{"prev_without_dashes", func(r *api.AttestRequest) { r.Prev = strings.ReplaceAll(goodUUID, "-", "") }, reason.RequestMalformed},
		{"prev_urn", func(r *api.AttestRequest) { r.Prev = "urn:uuid:" + goodUUID }, reason.RequestMalformed},
		{"checkpoint_too_long", func(r *api.AttestRequest) { r.Checkpoint = strings.Repeat("a", 4097) }, reason.RequestTooLarge},
		{"spki_missing", func(r *api.AttestRequest) { r.SPKI = nil }, reason.RequestMalformed},
		{"spki_too_large", func(r *api.AttestRequest) { r.SPKI = of(1025) }, reason.RequestTooLarge},
		{"csr_too_large", func(r *api.AttestRequest) { r.TPM2.Certify, r.CSR = nil, of(4097) }, reason.RequestTooLarge},
		{"csr_beside_certify", func(r *api.AttestRequest) { r.CSR = of(100) }, reason.RequestMalformed},
		{"neither_csr_nor_certify", func(r *api.AttestRequest) { r.TPM2.Certify = nil }, reason.RequestMalformed},
		{"evidence_missing", func(r *api.AttestRequest) { r.TPM2 = nil }, reason.RequestMalformed},
		{"ak_public_missing", func(r *api.AttestRequest) { r.TPM2.AKPublic = nil }, reason.RequestMalformed},
		{"quote_missing", func(r *api.AttestRequest) { r.TPM2.Quote = nil }, reason.RequestMalformed},
		{"signature_missing", func(r *api.AttestRequest) { r.TPM2.Signature = nil }, reason.RequestMalformed},
		{"pcrs_missing", func(r *api.AttestRequest) { r.TPM2.PCRs = nil }, reason.RequestMalformed},
		{"pcr_index_24", func(r *api.AttestRequest) { r.TPM2.PCRs["24"] = of(32) }, reason.RequestMalformed},
		{"pcr_index_negative", func(r *api.AttestRequest) { r.TPM2.PCRs["-1"] = of(32) }, reason.RequestMalformed},
		{"pcr_index_leading_zero", func(r *api.AttestRequest) { r.TPM2.PCRs["07"] = of(32) }, reason.RequestMalformed},
		{"pcr_index_plus", func(r *api.AttestRequest) { r.TPM2.PCRs["+7"] = of(32) }, reason.RequestMalformed},
		{"pcr_index_empty", func(r *api.AttestRequest) { r.TPM2.PCRs[""] = of(32) }, reason.RequestMalformed},
		{"pcr_index_other_digits", func(r *api.AttestRequest) { r.TPM2.PCRs["٧"] = of(32) }, reason.RequestMalformed},
		{"pcr_value_too_large", func(r *api.AttestRequest) { r.TPM2.PCRs["0"] = of(65) }, reason.RequestTooLarge},
		{"certify_public_missing", func(r *api.AttestRequest) { r.TPM2.Certify.Public = nil }, reason.RequestMalformed},
		{"certify_attest_missing", func(r *api.AttestRequest) { r.TPM2.Certify.Attest = nil }, reason.RequestMalformed},
		{"certify_signature_missing", func(r *api.AttestRequest) { r.TPM2.Certify.Signature = nil }, reason.RequestMalformed},
		{"tpm-6_attest_1025", func(r *api.AttestRequest) { r.TPM2.Quote = of(1025) }, reason.RequestTooLarge},
		{"tpm-6_signature_601", func(r *api.AttestRequest) { r.TPM2.Signature = of(601) }, reason.RequestTooLarge},
		{"tpm-6_certify_attest_1025", func(r *api.AttestRequest) { r.TPM2.Certify.Attest = of(1025) }, reason.RequestTooLarge},
		{"tpm-6_certify_signature_601", func(r *api.AttestRequest) { r.TPM2.Certify.Signature = of(601) }, reason.RequestTooLarge},
		{"tpm-6_certify_public_1025", func(r *api.AttestRequest) { r.TPM2.Certify.Public = of(1025) }, reason.RequestTooLarge},
		{"tpm-6_event_log_above_cap", func(r *api.AttestRequest) { r.TPM2.EventLog = of(1<<20 + 1) }, reason.RequestTooLarge},
		{"tpm-66_ek_public_RSA_16384", func(r *api.AttestRequest) { r.TPM2.EKPublic = of(2074) }, reason.RequestTooLarge},
		{"tpm-66_ak_public_RSA_16384", func(r *api.AttestRequest) { r.TPM2.AKPublic = of(2074) }, reason.RequestTooLarge},
		{"tpm-66_ek_certificate", func(r *api.AttestRequest) { r.TPM2.EKCertificate = of(4097) }, reason.RequestTooLarge},
		{"tpm-66_five_certificates", func(r *api.AttestRequest) { r.TPM2.EKChain = []api.Bytes{of(1), of(1), of(1), of(1), of(1)} }, reason.RequestTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := attestation()
			tt.change(&r)
			if err := r.Validate(); reason.Of(err) != tt.code {
				t.Errorf("%v, want %q", err, tt.code)
			}
		})
	}
}

func TestChallengeValidate(t *testing.T) {
	renew := api.Challenge{Token: "abc", Purpose: api.PurposeRenew, Select: "ff4300", Nonce: of(32)}
	enrol := api.Challenge{Token: "abc", Purpose: api.PurposeEnrol, Select: "ff4300", Credential: &api.Credential{Blob: of(50), Secret: of(256)}}
	tests := []struct {
		name   string
		base   api.Challenge
		change func(*api.Challenge)
		code   reason.Code
	}{
		{"accepts_nonce", renew, func(*api.Challenge) {}, ""},
		{"accepts_credential", enrol, func(*api.Challenge) {}, ""},
		{"select_upper_case", renew, func(c *api.Challenge) { c.Select = "FF4300" }, reason.RequestMalformed},
		{"select_five_digits", renew, func(c *api.Challenge) { c.Select = "ff430" }, reason.RequestMalformed},
		{"select_eight_digits", renew, func(c *api.Challenge) { c.Select = "ff430000" }, reason.RequestMalformed},
		{"both", enrol, func(c *api.Challenge) { c.Nonce = of(32) }, reason.RequestMalformed},
		{"neither", renew, func(c *api.Challenge) { c.Nonce = nil }, reason.RequestMalformed},
		{"accepts_nonce_at_enrolment_of_a_document", renew, func(c *api.Challenge) { c.Purpose = api.PurposeEnrol }, ""},
		{"evidence", renew, func(c *api.Challenge) { c.Evidence = []string{"Not A Format"} }, reason.RequestMalformed},
		{"too_much_evidence", renew, func(c *api.Challenge) { c.Evidence = make([]string, 33) }, reason.RequestTooLarge},
		{"credential_at_renewal", enrol, func(c *api.Challenge) { c.Purpose = api.PurposeRenew }, reason.RequestMalformed},
		{"token_missing", renew, func(c *api.Challenge) { c.Token = "" }, reason.RequestMalformed},
		{"token_with_newline", renew, func(c *api.Challenge) { c.Token = "a\nb" }, reason.RequestMalformed},
		{"token_too_long", renew, func(c *api.Challenge) { c.Token = strings.Repeat("a", 2049) }, reason.RequestTooLarge},
		{"credential_without_blob", enrol, func(c *api.Challenge) { c.Credential = &api.Credential{Secret: of(256)} }, reason.RequestMalformed},
		{"credential_without_secret", enrol, func(c *api.Challenge) { c.Credential = &api.Credential{Blob: of(50)} }, reason.RequestMalformed},
		{"nonce_too_large", renew, func(c *api.Challenge) { c.Nonce = of(65) }, reason.RequestTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.base
			tt.change(&c)
			if err := c.Validate(); reason.Of(err) != tt.code {
				t.Errorf("%v, want %q", err, tt.code)
			}
		})
	}
}

func TestOperatorRequestsValidate(t *testing.T) {
	labels := strings.Split(strings.Repeat("g,", 33)+"g", ",")
	tests := []struct {
		name string
		req  interface{ Validate() error }
		code reason.Code
	}{
		{"admit", api.AdmitRequest{EKHashes: []string{goodHash}, Machine: "rack7-n1", Groups: []string{"rack-7"}}, ""},
		{"admit_nothing", api.AdmitRequest{}, reason.RequestMalformed},
		{"admit_twice_the_same", api.AdmitRequest{EKHashes: []string{goodHash, goodHash}}, reason.RequestMalformed},
		{"admit_upper_case", api.AdmitRequest{EKHashes: []string{strings.ToUpper(goodHash)}}, reason.RequestMalformed},
		{"admit_short_hash", api.AdmitRequest{EKHashes: []string{goodHash[1:]}}, reason.RequestMalformed},
		{"admit_seventeen", api.AdmitRequest{EKHashes: make([]string, 17)}, reason.RequestTooLarge},
		{"T61_admit_machine_with_newline", api.AdmitRequest{EKHashes: []string{goodHash}, Machine: "a\nb"}, reason.RequestMalformed},
		{"T61_admit_group_with_escape", api.AdmitRequest{EKHashes: []string{goodHash}, Groups: []string{"a\x1b"}}, reason.RequestMalformed},
		{"approve", api.ApproveRequest{Note: "seen in rack 7, ok"}, ""},
		{"T61_approve_note_with_newline", api.ApproveRequest{Note: "a\nb"}, reason.RequestMalformed},
		{"T61_approve_note_with_line_separator", api.ApproveRequest{Note: "a\u2028b"}, reason.RequestMalformed},
		{"approve_note_too_long", api.ApproveRequest{Note: strings.Repeat("a", 501)}, reason.RequestTooLarge},
		{"approve_too_many_groups", api.ApproveRequest{Groups: labels}, reason.RequestTooLarge},
		{"disable", api.DisableRequest{Note: "stolen"}, ""},
		{"T61_disable_note_with_escape", api.DisableRequest{Note: "\x1b[2J"}, reason.RequestMalformed},
		{"token", api.TokenRequest{Machine: "n1", TTL: 604800}, ""},
		{"token_default", api.TokenRequest{}, ""},
		{"token_negative", api.TokenRequest{TTL: -1}, reason.RequestMalformed},
		{"token_longer_than_a_week", api.TokenRequest{TTL: 604801}, reason.RequestMalformed},
		{"token_empty_group", api.TokenRequest{Groups: []string{""}}, reason.RequestMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.req.Validate(); reason.Of(err) != tt.code {
				t.Errorf("%v, want %q", err, tt.code)
			}
		})
	}
}
