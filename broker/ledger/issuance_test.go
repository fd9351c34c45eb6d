package ledger_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func testIssuance(t testing.TB) ledger.Issuance {
	t.Helper()
	return ledger.Issuance{
		Type: ledger.TypeIssuance, ID: testID(t), Node: "abc", Workload: "web", Zone: "payments", Tier: 2,
		Attestation: "0197b3c2-0000-7000-8000-000000000001", AttestedAt: testTime.UnixMilli(), FreshUntil: testTime.Add(time.Minute).UnixMilli(),
		Policy: ledger.PolicyRef{Version: 7, Hash: "sha256:00"},
		SVIDs:  []ledger.IssuedSVID{{Profile: ledger.ProfileJWT, Serial: testID(t).String(), Audience: "payments-api"}},
	}
}

func TestIssuanceRecordColumns(t *testing.T) {
	i := testIssuance(t)
	salt := [32]byte{5}
	rec, err := i.Record(salt)
	if err != nil {
		t.Fatal(err)
	}
	want := ledger.Record{
		ID: i.ID, Type: "svid.issued", Node: "abc", Zone: "payments", AttestedAt: testTime.Truncate(time.Millisecond),
		FreshUntil: testTime.Add(time.Minute).Truncate(time.Millisecond), PolicyVersion: 7, Salt: salt, Body: rec.Body,
	}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
	back, err := ledger.RecordOf(rec.ID, rec.Body, salt)
	if diff := cmp.Diff(rec, back); diff != "" || err != nil {
		t.Error(diff, err)
	}
	// Records from before there were audiences stay exact.
	i.SVIDs[0].Audience = ""
	if rec, err := i.Record(salt); err != nil || bytes.Contains(rec.Body, []byte("audience")) {
		t.Errorf("an audience that there is not: %s, %v", rec.Body, err)
	}
}

func TestIssuancesThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*ledger.Issuance){
		"another type": func(i *ledger.Issuance) { i.Type = ledger.TypeAttestation },
		"no SVID":      func(i *ledger.Issuance) { i.SVIDs = []ledger.IssuedSVID{} },
		"two SVIDs":    func(i *ledger.Issuance) { i.SVIDs = append(i.SVIDs, i.SVIDs[0]) },
		"no id":        func(i *ledger.Issuance) { i.ID = [16]byte{} },
	} {
		i := testIssuance(t)
		change(&i)
		if _, err := i.Record([32]byte{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	rec, err := testIssuance(t).Record([32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"two SVIDs":      strings.Replace(string(rec.Body), `"svids":[`, `"svids":[{"ca_key_id":"","key":"","not_after":0,"not_before":0,"profile":"","serial":"","spiffe_id":"","tbs_sha256":""},`, 1),
		"unknown member": strings.TrimSuffix(string(rec.Body), "}") + `,"zz":1}`,
	} {
		if _, err := ledger.RecordOf(rec.ID, []byte(body), [32]byte{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ledger.RecordOf([16]byte{1}, rec.Body, [32]byte{}); err == nil {
		t.Error("the body of another record is accepted")
	}
}
