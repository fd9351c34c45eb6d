package api_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// request is what FuzzDecode needs of a request type.
type request interface{ Validate() error }

// decodeTwice decodes data and, where it passes, encodes and decodes it again:
// what the broker understood must be what a second reader understands.
func decodeTwice[T request](t *testing.T, data []byte) {
	var first, second T
	if err := api.DecodeBytes(data, &first); err != nil {
		if c := reason.Of(err); c != reason.RequestMalformed && c != reason.RequestTooLarge {
			t.Fatalf("code %q: %v", c, err)
		}
		return
	}
	if first.Validate() != nil {
		return
	}
	text, err := api.Encode(first)
	if err != nil {
		t.Fatalf("what was decoded does not encode: %v", err)
	}
	if err := api.DecodeBytes(text, &second); err != nil {
		t.Fatalf("own encoding refused: %v\n%s", err, text)
	}
	if diff := cmp.Diff(first, second, cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
	if err := second.Validate(); err != nil {
		t.Fatalf("validates once, then not: %v", err)
	}
}

func FuzzDecodeChallengeRequest(f *testing.F) {
	seed(f, enrolment())
	f.Add([]byte(renewal))
	f.Add([]byte(`{"format":"\ud83d\ude00","purpose":"\\\"","enrol":{"ek_chain":["AA",""],"join_token":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) { decodeTwice[api.ChallengeRequest](t, data) })
}

func FuzzDecodeAttestRequest(f *testing.F) {
	seed(f, attestation())
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"tpm2":{"pcrs":{"0":"AA","":"","07":""},"certify":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) { decodeTwice[api.AttestRequest](t, data) })
}

func seed(f *testing.F, v any) {
	text, err := api.Encode(v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
}
