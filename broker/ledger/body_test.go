package ledger_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

var testTime = time.Date(2026, 11, 20, 10, 0, 0, 123_456_789, time.UTC)

func testID(t testing.TB) uuid.UUID {
	t.Helper()
	id, err := ledger.NewRecordID(testTime, zeroReader{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func testAttestation(t testing.TB) ledger.Attestation {
	t.Helper()
	return ledger.Attestation{
		Type: ledger.TypeAttestation, ID: testID(t), Node: "abc", Verdict: ledger.VerdictDeny, Zone: "payments",
		Reasons: []ledger.Reason{{Code: "policy.pcr_mismatch", Detail: "PCR 4 <other>"}, {Code: "policy.secure_boot"}},
		Events:  []string{}, AttestedAt: testTime.UnixMilli(), Firmware: "18446744073709551615",
		Policy: ledger.PolicyRef{Version: 7, Hash: "sha256:00"}, Clock: ledger.Clock{Clock: "18446744073709551615"},
		Evidence: []ledger.EvidenceID{{Kind: ledger.PartQuote, SHA256: "aa"}}, SVIDs: []ledger.IssuedSVID{},
	}
}

func TestAttestationRecordColumns(t *testing.T) {
	a := testAttestation(t)
	salt := [32]byte{5}
	rec, err := a.Record(salt)
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Record{
		ID: a.ID, Type: a.Type, Node: "abc", Zone: "payments", Verdict: "deny", Reason: "policy.pcr_mismatch",
		AttestedAt: testTime.Truncate(time.Millisecond), PolicyVersion: 7, Salt: salt, Body: rec.Body,
	}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(rec.Body, []byte(`"firmware":"18446744073709551615"`)) || !bytes.Contains(rec.Body, []byte("<other>")) {
		t.Errorf("body is not RFC 8785 with strings for 64-bit numbers: %s", rec.Body)
	}
	back, err := ledger.RecordOf(rec.ID, rec.Body, salt)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rec, back); diff != "" {
		t.Error(diff)
	}
}

func TestGrantRecordColumns(t *testing.T) {
	for typ, node := range map[string]ledger.NodeID{
		ledger.TypeNodeApproved: "n1", ledger.TypeNodeDisabled: "n1", ledger.TypeAdmission: "", ledger.TypeKeyPublished: "",
	} {
		rec, err := ledger.Grant{Type: typ, ID: testID(t), Subject: "n1", By: "uid:0"}.Record([32]byte{})
		if err != nil {
			t.Fatal(err)
		}
		if rec.Node != node || rec.Type != typ || rec.Verdict != "" || !rec.AttestedAt.IsZero() {
			t.Errorf("%s: %+v", typ, rec)
		}
		back, err := ledger.RecordOf(rec.ID, rec.Body, rec.Salt)
		if diff := cmp.Diff(rec, back); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
}

func TestRecordOfRefuses(t *testing.T) {
	a := testAttestation(t)
	rec, err := a.Record([32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	body := string(rec.Body)
	for name, tc := range map[string]struct {
		id   uuid.UUID
		body string
	}{
		"other_id":           {uuid.UUID{1}, body},
		"spaces":             {rec.ID, strings.Replace(body, `{"`, `{ "`, 1)},
		"unknown_member":     {rec.ID, strings.TrimSuffix(body, "}") + `,"zz":1}`},
		"member_in_capitals": {rec.ID, strings.Replace(body, `"zone"`, `"ZONE"`, 1)},
		"duplicate_member":   {rec.ID, strings.TrimSuffix(body, "}") + `,"zone":"a"}`},
		"trailing":           {rec.ID, body + "{}"},
		"not_json":           {rec.ID, "x"},
		"null":               {rec.ID, "null"},
		"array":              {rec.ID, "[]"},
		"missing_member":     {rec.ID, strings.Replace(body, `"zone":"payments"`, `"void":""`, 1)},
		"huge":               {rec.ID, `{"type":"` + strings.Repeat("a", 1<<20) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := ledger.RecordOf(tc.id, []byte(tc.body), [32]byte{}); err == nil {
				t.Errorf("accepted: %+v", r)
			}
		})
	}
}

func TestRecordRefuses(t *testing.T) {
	other := testAttestation(t)
	other.Type = ledger.TypeAdmission
	silent := testAttestation(t)
	silent.Reasons = nil
	nameless := testAttestation(t)
	nameless.ID = uuid.Nil
	for name, a := range map[string]ledger.Attestation{"other_type": other, "denial_without_reason": silent, "nil_id": nameless} {
		if _, err := a.Record([32]byte{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := (ledger.Grant{ID: testID(t)}).Record([32]byte{}); err == nil {
		t.Error("a grant without a type was accepted")
	}
}

func TestCanonicalNumbers(t *testing.T) {
	for _, v := range []any{int64(1) << 53, -(int64(1) << 53), 1.5, map[string]any{"b": 1, "a": `"9007199254740993"`, `\9007199254740993`: 2}} {
		if _, err := ledger.Canonical(v); err != nil {
			t.Errorf("%v: %v", v, err)
		}
	}
	for _, v := range []any{int64(1)<<53 + 1, -(int64(1)<<53 + 1), uint64(1) << 63, 1e300, map[string]int64{"a": 1 << 60}} {
		if b, err := ledger.Canonical(v); err == nil {
			t.Errorf("%v passed as %s", v, b)
		}
	}
	got, err := ledger.Canonical(map[string]any{"b": "<&>\u2028", "a": []int{1}})
	if err != nil || string(got) != "{\"a\":[1],\"b\":\"<&>\u2028\"}" {
		t.Errorf("canonical = %s, %v", got, err)
	}
}

func TestDeriveNodeID(t *testing.T) {
	// Computed with coreutils: printf of the formula | sha256sum | xxd -r -p | base32 | cut -c-26.
	root := [32]byte{0xaa}
	id := ledger.DeriveNodeID("example.org", "ek", root)
	if id != "pzmxmlsuq4li22yirsihcxgpbj" {
		t.Errorf("id = %s", id)
	}
	seen := map[ledger.NodeID]string{id: "base"}
	for name, other := range map[string]ledger.NodeID{
		"trust_domain": ledger.DeriveNodeID("example.com", "ek", root),
		"kind":         ledger.DeriveNodeID("example.org", "ak", root),
		"root":         ledger.DeriveNodeID("example.org", "ek", [32]byte{0xab}),
		"shifted":      ledger.DeriveNodeID("example.orge", "k", root),
	} {
		if was, dup := seen[other]; dup {
			t.Errorf("%s gives the id of %s", name, was)
		}
		seen[other] = name
	}
}

func TestNewRecordID(t *testing.T) {
	id := testID(t)
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s is no UUIDv7", id)
	}
	if !ledger.RecordTime(id).Equal(testTime.Truncate(time.Millisecond)) {
		t.Errorf("time in id = %s", ledger.RecordTime(id))
	}
	if _, err := ledger.NewRecordID(testTime, strings.NewReader("short")); err == nil {
		t.Error("an exhausted random source was accepted")
	}
}

func TestEvidenceDigest(t *testing.T) {
	// printf '[]' | sha256sum
	if got := ledger.EvidenceDigest(nil); got != "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945" {
		t.Errorf("digest of no parts = %s", got)
	}
	a := ledger.EvidenceID{Kind: "a", SHA256: "1"}
	b := ledger.EvidenceID{Kind: "b", SHA256: "2"}
	if ledger.EvidenceDigest([]ledger.EvidenceID{a, b}) == ledger.EvidenceDigest([]ledger.EvidenceID{b, a}) {
		t.Error("order of the parts does not matter, but must")
	}
}

func FuzzRecordOf(f *testing.F) {
	rec, err := testAttestation(f).Record([32]byte{})
	if err != nil {
		f.Fatal(err)
	}
	grant, err := ledger.Grant{Type: ledger.TypeAdmission, ID: rec.ID}.Record([32]byte{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec.Body)
	f.Add(grant.Body)
	f.Add([]byte(`{"type":"attestation"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := ledger.RecordOf(rec.ID, body, [32]byte{})
		if err != nil {
			return
		}
		if got.ID != rec.ID || !bytes.Equal(got.Body, body) {
			t.Error("accepted body is not the record's")
		}
		again, err := ledger.RecordOf(rec.ID, got.Body, [32]byte{})
		if err != nil || cmp.Diff(got, again) != "" {
			t.Error("reading twice gives two records")
		}
	})
}
