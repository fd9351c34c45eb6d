package api_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestNewProblem(t *testing.T) {
	fresh := &api.Challenge{Token: "t"}
	two := []*reason.Error{
		reason.New(reason.TPM2QuoteNonceMismatch, "a"),
		reason.Wrap(reason.PolicyPCRMismatch, "PCR 4", errors.New("expected 1234")),
	}
	tests := []struct {
		name string
		err  error
		want api.Problem
	}{
		{"one_reason", fmt.Errorf("attest: %w", reason.New(reason.RequestTooLarge, "/spki: larger than 1024")), api.Problem{
			Code: "request.too_large", Status: 413, Detail: "/spki: larger than 1024",
			Reasons: []api.Reason{{Code: "request.too_large", Detail: "/spki: larger than 1024"}},
		}},
		{"all_reasons_of_a_refusal", &api.Refusal{Reasons: two}, api.Problem{
			Code: "tpm2.quote.nonce_mismatch", Status: 403, Detail: "a",
			Reasons: []api.Reason{{Code: "tpm2.quote.nonce_mismatch", Detail: "a"}, {Code: "policy.pcr_mismatch", Detail: "PCR 4"}},
		}},
		{"strangers_get_codes_only", fmt.Errorf("x: %w", &api.Refusal{Reasons: two, Stranger: true}), api.Problem{
			Code: "tpm2.quote.nonce_mismatch", Status: 403,
			Reasons: []api.Reason{{Code: "tpm2.quote.nonce_mismatch"}, {Code: "policy.pcr_mismatch"}},
		}},
		{"spent_carries_a_fresh_challenge", &api.Refusal{Reasons: []*reason.Error{{Code: reason.ChallengeSpent}}, Challenge: fresh}, api.Problem{
			Code: "challenge.spent", Status: 409, Reasons: []api.Reason{{Code: "challenge.spent"}}, Challenge: fresh,
		}},
		{"no_challenge_with_another_code", &api.Refusal{Reasons: two[:1], Challenge: fresh}, api.Problem{
			Code: "tpm2.quote.nonce_mismatch", Status: 403, Detail: "a", Reasons: []api.Reason{{Code: "tpm2.quote.nonce_mismatch", Detail: "a"}},
		}},
		{"unknown_error_says_nothing", errors.New("open /etc/zonebroker/cluster.key: permission denied"), api.Problem{
			Code: "internal", Status: 500, Reasons: []api.Reason{{Code: "internal"}},
		}},
		{"internal_with_a_detail_says_nothing", reason.New(reason.Internal, "select * from node"), api.Problem{
			Code: "internal", Status: 500, Reasons: []api.Reason{{Code: "internal"}},
		}},
		{"unregistered_code_is_internal", reason.New("no.such", "x"), api.Problem{
			Code: "internal", Status: 500, Reasons: []api.Reason{{Code: "internal"}},
		}},
		{"an_event_is_no_refusal", reason.New(reason.TPM2Rebooted, "x"), api.Problem{
			Code: "internal", Status: 500, Reasons: []api.Reason{{Code: "internal"}},
		}},
		{"empty_refusal", &api.Refusal{}, api.Problem{
			Code: "internal", Status: 500, Reasons: []api.Reason{{Code: "internal"}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := api.NewProblem(tt.err, goodUUID)
			tt.want.RequestID = goodUUID
			tt.want.Type = "/problems/" + tt.want.Code
			tt.want.Title = reason.Lookup(reason.Code(tt.want.Code)).Meaning
			tt.want.Remedy = api.Remedy(reason.Code(tt.want.Code))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEveryRefusalHasARemedy: a code that says only what is wrong leaves whoever
// is on call alone.
func TestEveryRefusalHasARemedy(t *testing.T) {
	for _, info := range reason.All() {
		text := api.Remedy(info.Code)
		if (info.Class == reason.Event) != (text == "") {
			t.Errorf("%s (%s): remedy %q", info.Code, info.Class, text)
		}
		if text != "" && !strings.HasSuffix(text, ".") {
			t.Errorf("%s: remedy is no sentence: %q", info.Code, text)
		}
	}
}

// TestDocumentsHaveRemedies: what is wrong with a document is known by its code, and
// at first contact there is no record to look up.
func TestDocumentsHaveRemedies(t *testing.T) {
	areas := map[string]bool{}
	for _, area := range []string{
		"azure", "cbor", "cca", "cose", "ear", "ec2", "gce", "jwt", "k8s", "nitro", "nvidia", "pkcs7", "snp", "sts", "tdx", "x509pop",
	} {
		areas[area] = true
	}
	for _, info := range reason.All() {
		area, _, _ := strings.Cut(string(info.Code), ".")
		if text := api.Remedy(info.Code); areas[area] && strings.Contains(text, "history list") {
			t.Errorf("%s: %q", info.Code, text)
		}
	}
}
