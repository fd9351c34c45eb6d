package api_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const renewal = `{"format":"tpm2","purpose":"renew","ak_name":"AAs"}`

func TestDecode(t *testing.T) {
	deep := strings.Repeat(`{"keys":`, 40) + "1" + strings.Repeat("}", 40)
	tests := []struct {
		name string
		body string
		into any
		code reason.Code
		at   string // JSON pointer that the detail begins with
	}{
		{"accepts_a_renewal", renewal, &api.ChallengeRequest{}, "", ""},
		{"accepts_white_space", " \t\r\n" + strings.ReplaceAll(renewal, ",", " ,\n ") + "\n", &api.ChallengeRequest{}, "", ""},
		{"accepts_escapes", `{"form\u0061t":"t\u0070m2","purpose":"renew","ak_name":"AAs"}`, &api.ChallengeRequest{}, "", ""},
		{"accepts_a_whole_surrogate_pair", `{"note":"\ud83d\ude00"}`, &api.DisableRequest{}, "", ""},
		{"tpm-97_duplicate_member", `{"format":"tpm2","format":"tpm2"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_duplicate_member_through_escape", `{"format":"a","form\u0061t":"b"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_duplicate_nested", `{"enrol":{"ek_public":"","ek_public":""}}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/enrol/ek_public: "},
		{"tpm-97_duplicate_map_key", `{"tpm2":{"pcrs":{"7":"AA","7":"AA"}}}`, &api.AttestRequest{}, reason.RequestMalformed, "/tpm2/pcrs/7: "},
		{"tpm-97_unknown_member", `{"format":"tpm2","admin":true}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/admin: "},
		{"tpm-97_unknown_member_of_a_known_type", `{"format":"tpm2","admin":"x"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/admin: "},
		{"tpm-97_half_surrogate_in_a_name_of_a_foreign_document", `{"bundle":{"\ud800":1}}`, &api.AttestResponse{}, reason.RequestMalformed, "/bundle: "},
		{"tpm-97_number_for_bytes", `{"ak_name":123}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_null_pointer_to_a_number", `{"workloads":[{"uid":null}]}`, &api.AttestResponse{}, reason.RequestMalformed, "/workloads/0/uid: "},
		{"tpm-97_unknown_nested", `{"tpm2":{"node":"x"}}`, &api.AttestRequest{}, reason.RequestMalformed, "/tpm2/node: "},
		{"tpm-97_wrong_case", `{"Format":"tpm2"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/Format: "},
		{"tpm-97_go_name_instead_of_json_name", `{"AKName":"AA"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/AKName: "},
		{"tpm-97_null_member", `{"format":null}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_null_object", `{"enrol":null}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/enrol: "},
		{"tpm-97_null_bytes", `{"ak_name":null}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_null_list", `{"groups":null}`, &api.TokenRequest{}, reason.RequestMalformed, "/groups: "},
		{"tpm-97_null_document", `null`, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_deep_nesting", strings.Repeat("[", 100) + strings.Repeat("]", 100), &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_deep_nesting_past_the_stack", strings.Repeat("[", 200_000), &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_deep_foreign_document", `{"attestation_id":"x","bundle":` + deep + `}`, &api.AttestResponse{}, reason.RequestMalformed, "nested deeper"},
		{"tpm-97_trailing_data", renewal + `{}`, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_trailing_bracket", renewal + `}`, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_empty_body", ``, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_invalid_utf8", "{\"format\":\"\xff\"}", &api.ChallengeRequest{}, reason.RequestMalformed, "not UTF-8"},
		{"tpm-97_half_surrogate_in_value", `{"format":"\ud800"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_low_surrogate_first", `{"format":"\udc00\ud800"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_high_surrogate_twice", `{"format":"\ud800\ud800"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_half_surrogate_in_name", `{"\ud800":1}`, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_half_surrogate_in_foreign_document", `{"bundle":{"a":"\udfff"}}`, &api.AttestResponse{}, reason.RequestMalformed, "/bundle/a: "},
		{"tpm-97_duplicate_in_foreign_document", `{"bundle":{"keys":[{"x":1,"x":2}]}}`, &api.AttestResponse{}, reason.RequestMalformed, "/bundle/keys/0/x: "},
		{"tpm-97_number_for_text", `{"format":1}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_object_for_text", `{"format":{}}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/format: "},
		{"tpm-97_text_for_object", `{"enrol":"x"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/enrol: "},
		{"tpm-97_text_for_list", `{"groups":"a"}`, &api.TokenRequest{}, reason.RequestMalformed, "/groups: "},
		{"tpm-97_list_for_document", `[]`, &api.ChallengeRequest{}, reason.RequestMalformed, ""},
		{"tpm-97_fraction_for_integer", `{"ttl_seconds":1.5}`, &api.TokenRequest{}, reason.RequestMalformed, "/ttl_seconds: "},
		{"tpm-97_number_past_int64", `{"ttl_seconds":1e300}`, &api.TokenRequest{}, reason.RequestMalformed, "/ttl_seconds: "},
		{"tpm-97_base64_padding", `{"ak_name":"AA=="}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_base64_other_alphabet", `{"ak_name":"+/+/"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_base64_trailing_bits", `{"ak_name":"AB"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_base64_newline", `{"ak_name":"A\nA"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_base64_escape", `{"ak_name":"\u0041A"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-97_base64_one_character", `{"ak_name":"A"}`, &api.ChallengeRequest{}, reason.RequestMalformed, "/ak_name: "},
		{"tpm-66_chain_of_ten_thousand", `{"enrol":{"ek_chain":[` + strings.Repeat(`"",`, 9_999) + `""]}}`, &api.ChallengeRequest{}, reason.RequestTooLarge, "/enrol/ek_chain: "},
		{"tpm-66_map_of_two_thousand", `{"tpm2":{"pcrs":{` + manyMembers(2_000) + `}}}`, &api.AttestRequest{}, reason.RequestTooLarge, "/tpm2/pcrs/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := decode(strings.NewReader(tt.body), api.MaxBody, tt.into)
			if got := reason.Of(err); got != tt.code {
				t.Fatalf("code %q (%v), want %q", got, err, tt.code)
			}
			if !strings.HasPrefix(reason.Detail(err), tt.at) {
				t.Errorf("detail %q does not name %q", reason.Detail(err), tt.at)
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"m%d":"",`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

func TestDecodeReadsEveryMember(t *testing.T) {
	uid := 1001
	want := api.AttestResponse{
		AttestationID: "a", SPIFFEID: "spiffe://x/zone/y/node/z", Tier: 2,
		AttestedAt: time.Date(2026, 11, 20, 1, 2, 3, 4000, time.UTC),
		Chain:      []api.Bytes{{1, 2}, {3}},
		Bundle:     json.RawMessage(`{"keys":[{"kty":"EC","n":1.5e3,"t":[true,null]}]}`),
		Workloads:  []api.Workload{{Name: "w", UID: &uid, Groups: []string{"g"}}},
		Log:        api.LogPosition{Origin: "o\"\\\n", Index: 7, Size: 8},
		Events:     []string{},
	}
	text, err := api.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var got api.AttestResponse
	if err := api.DecodeBytes(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeCapsBeforeParsing(t *testing.T) {
	// tpm-6: the body is not even JSON, so a parser would have said malformed.
	t.Run("tpm-6_body_above_cap", func(t *testing.T) {
		body := &countingReader{r: strings.NewReader(strings.Repeat("x", 1<<20))}
		err := decode(body, 1000, &api.ChallengeRequest{})
		if reason.Of(err) != reason.RequestTooLarge {
			t.Fatalf("%v", err)
		}
		if body.n > 64<<10 {
			t.Errorf("read %d bytes of a body that is over at 1000", body.n)
		}
	})
	t.Run("exactly_the_cap_passes", func(t *testing.T) {
		if err := decode(strings.NewReader(renewal), int64(len(renewal)), &api.ChallengeRequest{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("reader_error_with_code_stays", func(t *testing.T) {
		slow := iotest.ErrReader(reason.New(reason.RequestOverloaded, "slow"))
		if err := decode(slow, 10, &api.ChallengeRequest{}); reason.Of(err) != reason.RequestOverloaded {
			t.Error(err)
		}
	})
	t.Run("reader_error_without_code_is_malformed", func(t *testing.T) {
		cause := errors.New("connection reset")
		err := decode(iotest.ErrReader(cause), 10, &api.ChallengeRequest{})
		if reason.Of(err) != reason.RequestMalformed || !errors.Is(err, cause) {
			t.Error(err)
		}
	})
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestT61_details_are_printable: member names of strangers end up in details,
// and those on terminals and in logs.
func TestT61_DetailsArePrintable(t *testing.T) {
	name := `a\r\nlevel=ERROR \u001b[31m` + strings.Repeat("x", 500) + `/~`
	err := api.DecodeBytes([]byte(`{"`+name+`":1}`), &api.ChallengeRequest{})
	detail := reason.Detail(err)
	if strings.ContainsAny(detail, "\r\n\x1b") || len(detail) > 100 {
		t.Errorf("detail %q", detail)
	}
}

func TestBytes(t *testing.T) {
	for n := range 70 {
		in := api.Bytes(strings.Repeat("\xf7", n))
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"` + base64.RawURLEncoding.EncodeToString(in) + `"`; string(text) != want {
			t.Errorf("%d bytes: %s, want %s", n, text, want)
		}
		var out api.Bytes
		if err := json.Unmarshal(text, &out); err != nil || string(out) != string(in) {
			t.Errorf("%d bytes come back as %x (%v)", n, out, err)
		}
	}
}

func TestEncodeWritesUTC(t *testing.T) {
	at := time.Date(2026, 11, 20, 1, 0, 0, 0, time.FixedZone("", 3600))
	text, err := api.Encode(api.PendingList{Pending: []api.PendingNode{{FirstSeen: at}}})
	if err != nil || !strings.Contains(string(text), `"first_seen":"2026-11-20T00:00:00Z"`) {
		t.Errorf("%s (%v)", text, err)
	}
}

func TestEncodeWritesEmptyListsNotNull(t *testing.T) {
	for _, v := range []any{
		api.NodePage{Nodes: []api.Node{{}}},
		api.NodePage{},
		api.HistoryPage{},
		api.PendingList{},
		api.AttestResponse{Bundle: json.RawMessage(`{}`)},
		api.Verification{},
		api.ReferenceMaterial{},
		api.Health{},
		api.Approval{Node: &api.Node{}},
		api.Problem{},
		api.ReferenceMaterial{Events: map[string][]string{"9": nil}},
	} {
		text, err := api.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "null") {
			t.Errorf("%T: %s", v, text)
		}
	}
}

// decode goes through both halves, as the broker does.
func decode(r io.Reader, limit int64, into any) error {
	body, err := api.ReadBody(r, limit)
	if err != nil {
		return err
	}
	return api.DecodeBytes(body, into)
}
