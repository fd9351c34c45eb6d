package api_test

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
)

// mustAgree: what is written straight is what the library writes.
func mustAgree(t *testing.T, v any) (direct bool) {
	t.Helper()
	want, err := api.EncodeByLibrary(v)
	got, ok := api.Direct(v)
	if ok && (err != nil || !bytes.Equal(got, want)) {
		t.Errorf("got  %s\nwant %s %v", got, want, err)
	}
	return ok && err == nil
}

// answers returns one answer of each kind as the broker gives it.
func answers() (api.Challenge, api.AttestResponse) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123_000_000, time.UTC)
	uid := 1001
	return api.Challenge{
		Token: strings.Repeat("Zm9v", 130), Purpose: api.PurposeRenew, ExpiresAt: at, Select: "ff4300", Nonce: bytes.Repeat([]byte{7}, 32),
	}, api.AttestResponse{
		AttestationID: "0197b3c2-0000-7000-8000-000000000001", Node: strings.Repeat("a", 26),
		SPIFFEID: "spiffe://zb.example/zone/payments/node/" + strings.Repeat("a", 26), Zone: "payments", Tier: 2,
		AttestedAt: at, FreshUntil: at.Add(5 * time.Minute), RenewAt: at.Add(150 * time.Second),
		Chain:  []api.Bytes{bytes.Repeat([]byte{0xfb}, 1500)},
		Bundle: json.RawMessage(`{"keys":[{"kty":"EC","x5c":["` + strings.Repeat("MIIB", 300) + `"]}],"spiffe_sequence":7}`),
		Workloads: []api.Workload{
			{Name: "checkout", UID: &uid, Path: "/usr/bin/checkout", Groups: []string{"shop", "pay"}}, {Name: "plain"},
		},
		Log:    api.LogPosition{Origin: "zb.example/log", Index: 41, Size: 42, Checkpoint: "zb.example/log\n42\nAAAA\n\n\u2014 zb.example/log BBBB\n"},
		Events: []string{"tpm2.rebooted", "tpm2.firmware_changed"},
	}
}

func TestAnswersAreWhatTheLibraryWrites(t *testing.T) {
	challenge, response := answers()
	for _, v := range []any{challenge, response, api.Challenge{}, api.AttestResponse{}} {
		if !mustAgree(t, v) {
			t.Errorf("%T is not written straight", v)
		}
	}
	ask := func(edit func(*api.Challenge)) bool { c := challenge; edit(&c); return mustAgree(t, c) }
	give := func(edit func(*api.AttestResponse)) bool { r := response; edit(&r); return mustAgree(t, r) }
	ask(func(c *api.Challenge) { c.Nonce = api.Bytes{} })
	ask(func(c *api.Challenge) { c.Credential = &api.Credential{} })
	for _, formats := range [][]string{{}, {"snp"}, {"gce.identity", "nvidia", "<&>"}} {
		ask(func(c *api.Challenge) { c.Evidence = formats })
	}
	for _, entries := range []int64{0, 1, 1 << 40, -1} {
		if !ask(func(c *api.Challenge) { c.IMA = &api.IMAKnown{Entries: entries} }) {
			t.Errorf("%d known entries are not written straight", entries)
		}
	}
	ask(func(c *api.Challenge) {
		c.Credential = &api.Credential{Blob: api.Bytes{1}, Secret: api.Bytes{0xfb, 0xff}}
	})
	for _, s := range []string{"", "a", `"`, `\`, "<", ">", "&", "\x00", "\n", "\x7f", "zürich", "\u2028", "\u2029", "\xff", "\U0001f512"} {
		ask(func(c *api.Challenge) { c.Token, c.Purpose, c.Select = s, s+"x", "x"+s })
		give(func(r *api.AttestResponse) { r.AttestationID, r.Node, r.SPIFFEID, r.Zone = s, s+"a", s+"b", s+"c" })
		give(func(r *api.AttestResponse) { r.Log = api.LogPosition{Origin: s, Checkpoint: s} })
		give(func(r *api.AttestResponse) { r.Events = []string{s, s} })
		give(func(r *api.AttestResponse) {
			r.Workloads = []api.Workload{{Name: s, Path: s, Groups: []string{s}}, {Groups: []string{}}}
		})
	}
	for _, at := range []time.Time{
		{},
		time.Unix(0, 1), time.Unix(1e9, 999_999_999).In(time.FixedZone("", 5400)), time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200)),
		time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 25*3600)), time.Now(),
	} {
		ask(func(c *api.Challenge) { c.ExpiresAt = at })
		give(func(r *api.AttestResponse) { r.AttestedAt = at })
		give(func(r *api.AttestResponse) { r.FreshUntil = at })
		give(func(r *api.AttestResponse) { r.RenewAt = at })
	}
	for _, n := range []int{0, -1, math.MinInt64, math.MaxInt64} {
		give(func(r *api.AttestResponse) {
			r.Tier, r.Log.Index, r.Log.Size, r.Workloads = n, int64(n), int64(n), []api.Workload{{UID: &n}}
		})
	}
	for _, chain := range [][]api.Bytes{{}, {nil}, {{}, {1}, {1, 2}, {1, 2, 3}}} {
		give(func(r *api.AttestResponse) { r.Chain = chain })
	}
	give(func(r *api.AttestResponse) { r.Workloads, r.Events = []api.Workload{}, []string{} })
}

// TestAnswersKeepNoBundle: the one that is remembered is given out for the same
// bytes alone.
func TestAnswersKeepNoBundle(t *testing.T) {
	_, response := answers()
	for _, s := range []string{
		`{}`, `{ "a" : [ 1 , 2 ] }`, "{}", `{"a":"<&>\u2028"}`, "\n[]\t", "\"\u2028\"", `"\u00e9"`, `1e5`, `null`, ` `, ``, `{`, `{}{}`, "\xff", "\"\xff\"", `{}`,
	} {
		for range 2 {
			raw := json.RawMessage(slices.Clone([]byte(s)))
			response.Bundle = raw
			if mustAgree(t, response); len(raw) > 0 {
				raw[0] ^= 1 // the caller's own
			}
		}
	}
	response.Bundle = nil
	if !mustAgree(t, response) {
		t.Error("without a bundle")
	}
}

// FuzzAnswers: as above, for values that nobody thought of.
func FuzzAnswers(f *testing.F) {
	f.Add("token", "renew", "checkpoint\n", "tpm2.rebooted", []byte{1, 2, 3}, []byte(`{"keys":[ ]}`), int64(1795262400), int64(123_000_000), 2, 1001)
	f.Fuzz(func(t *testing.T, a, b, c, d string, blob, bundle []byte, seconds, nanos int64, tier, uid int) {
		at := time.Unix(seconds, nanos)
		mustAgree(t, api.Challenge{
			Token: a, Purpose: b, ExpiresAt: at, Select: c, Nonce: blob, Credential: &api.Credential{Blob: blob, Secret: bundle}, IMA: &api.IMAKnown{Entries: seconds}, Evidence: []string{a, b},
		})
		mustAgree(t, api.AttestResponse{
			AttestationID: a, Node: b, SPIFFEID: c, Zone: d, Tier: tier, AttestedAt: at, FreshUntil: at.Add(1), RenewAt: at.UTC(),
			Chain: []api.Bytes{blob, bundle}, Bundle: bundle, Workloads: []api.Workload{{Name: a, UID: &uid, Path: b, Groups: []string{c, d}}},
			Log: api.LogPosition{Origin: d, Index: seconds, Size: nanos, Checkpoint: a}, Events: []string{b, c},
		})
	})
}

// BenchmarkEncode writes the two answers of an attestation.
func BenchmarkEncode(b *testing.B) {
	challenge, response := answers()
	for name, v := range map[string]any{"challenge": challenge, "attestation": response} {
		for way, encode := range map[string]func(any) ([]byte, error){"direct": api.Encode, "library": api.EncodeByLibrary} {
			b.Run(name+"/"+way, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := encode(v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
