package ledger_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func TestRowHashIgnoresHowAValueIsHeld(t *testing.T) {
	zone := time.FixedZone("x", 3600)
	a := ledger.Node{ID: "n", CreatedAt: testTime}
	b := ledger.Node{ID: "n", CreatedAt: testTime.Truncate(time.Microsecond).In(zone), Groups: []string{}, EKPublic: []byte{}}
	ha, err := ledger.RowHash(a)
	if err != nil {
		t.Fatal(err)
	}
	hb, err := ledger.RowHash(b)
	if err != nil || ha != hb {
		t.Errorf("the same row has two hashes: %s, %s (%v)", ha, hb, err)
	}
}

func TestGrantRowHashSeesEveryField(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range []ledger.Commit{
		{Node: &ledger.Node{ID: "n"}},
		{Node: &ledger.Node{ID: "n", Status: ledger.StatusActive}},
		{Node: &ledger.Node{ID: "n", AKApproved: true}},
		{Node: &ledger.Node{ID: "n", AKName: []byte{1}}},
		{Node: &ledger.Node{ID: "n", Groups: []string{"g"}}},
		{Admission: &ledger.Admission{Kind: "inventory"}},
		{Admission: &ledger.Admission{Kind: "inventory", Revoked: true}},
		{Admission: &ledger.Admission{Kind: "inventory", EKHashes: [][32]byte{{1}}}},
		{NewJoinToken: &ledger.JoinToken{Machine: "m"}},
		{NewJoinToken: &ledger.JoinToken{SecretHash: [32]byte{1}}},
		{Key: &ledger.Key{ID: "k"}},
		{Key: &ledger.Key{ID: "k", DER: []byte{1}}},
		{Object: &ledger.Object{Kind: "policy"}},
		{Object: &ledger.Object{Kind: "policy", Digest: [32]byte{1}}},
		{},
	} {
		h, err := ledger.GrantRowHash(c)
		if err != nil {
			t.Fatal(err)
		}
		if seen[h] {
			t.Errorf("%+v has the hash of another row", c)
		}
		seen[h] = true
	}
	used, _ := ledger.GrantRowHash(ledger.Commit{NewJoinToken: &ledger.JoinToken{Machine: "m", UsedBy: "n"}})
	if seen[used] {
		t.Error("a used token has the bytes of an unused one")
	}
}

func TestChanges(t *testing.T) {
	base := ledger.NodeState{
		Last: uuid.UUID{1}, Zone: "a", Tier: 2, Verdict: "allow", Firmware: 7, EventLog: [32]byte{1},
		PCRs: []byte(`{"10":"aa","14":"aa","4":"bb","7":"cc"}`),
	}
	for name, tc := range map[string]struct {
		before, after ledger.NodeState
		want          []ledger.Drift
	}{
		"nothing":       {base, base, nil},
		"first_contact": {ledger.NodeState{}, base, nil},
		"pcrs_in_order_that_both_quoted": {
			base,
			with(base, func(s *ledger.NodeState) { s.PCRs = []byte(`{"10":"ab","14":"ab","4":"bc","8":"dd"}`) }),
			[]ledger.Drift{{Kind: "pcr.4", Before: "bb", After: "bc"}, {Kind: "pcr.14", Before: "aa", After: "ab"}},
		},
		"zone_and_tier": {
			base, with(base, func(s *ledger.NodeState) { s.Zone, s.Tier = "b", 3 }),
			[]ledger.Drift{{Kind: "zone", Before: "a", After: "b"}, {Kind: "tier", Before: "2", After: "3"}},
		},
		"denied": {
			base, with(base, func(s *ledger.NodeState) { s.Verdict, s.Reason = "deny", "x" }),
			[]ledger.Drift{{Kind: "verdict", Before: "allow", After: "deny"}, {Kind: "reason", After: "x"}},
		},
		"denied_for_another_reason": {
			with(base, func(s *ledger.NodeState) { s.Verdict, s.Reason = "deny", "x" }),
			with(base, func(s *ledger.NodeState) { s.Verdict, s.Reason = "deny", "y" }),
			[]ledger.Drift{{Kind: "reason", Before: "x", After: "y"}},
		},
		"firmware_and_log": {
			base, with(base, func(s *ledger.NodeState) { s.Firmware, s.EventLog = 8, [32]byte{} }),
			[]ledger.Drift{{Kind: "event_log", Before: "01" + zeros(62)}, {Kind: "firmware", Before: "7", After: "8"}},
		},
		"unreadable_pcrs": {with(base, func(s *ledger.NodeState) { s.PCRs = []byte("x") }), with(base, func(s *ledger.NodeState) { s.PCRs = nil }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ledger.Changes(tc.before, tc.after)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func with(s ledger.NodeState, change func(*ledger.NodeState)) ledger.NodeState {
	change(&s)
	return s
}

func zeros(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '0'
	}
	return string(b)
}

// TestStateHasOneFormHoweverHeld: what a database keeps of a state (microseconds,
// UTC) has the bytes of what was written, 64-bit numbers included.
func TestStateHasOneFormHoweverHeld(t *testing.T) {
	a := ledger.NodeState{Node: "n", Version: 1, Clock: 1<<64 - 1, Firmware: 1<<64 - 1, AttestedAt: testTime}
	b := a
	b.AttestedAt = testTime.Truncate(time.Microsecond).In(time.FixedZone("x", 3600))
	ra, err := a.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	rb, err := b.Canonical()
	if err != nil || string(ra) != string(rb) {
		t.Errorf("one state has two forms: %s, %s (%v)", ra, rb, err)
	}
	b.Version++
	if rb, err = b.Canonical(); err != nil || string(ra) == string(rb) {
		t.Errorf("the version is not in the form: %s, %v", rb, err)
	}
}

// TestRefusedStateDriftsOnce: what a refused machine showed is compared with
// what it showed before, so that a state is told when it comes and when it goes,
// and not with every try.
func TestRefusedStateDriftsOnce(t *testing.T) {
	accepted := ledger.NodeState{
		Last: uuid.UUID{1}, Zone: "a", Tier: 2, Verdict: "allow", Firmware: 7, EventLog: [32]byte{1}, SecureBoot: "on",
		PCRs: []byte(`{"4":"bb","7":"cc"}`), PolicyVersion: 3,
	}
	denied := accepted
	denied.Verdict, denied.Reason, denied.PolicyVersion = "deny", "x", 4
	bad := accepted.Measured()
	bad.PCRs["4"], bad.SecureBoot = "ff", "off"
	if err := denied.See(bad); err != nil || denied.Seen == nil {
		t.Fatal(err)
	}
	again := denied
	if err := again.See(bad); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		before, after ledger.NodeState
		want          []ledger.Drift
	}{
		"comes": {accepted, denied, []ledger.Drift{
			{Kind: "pcr.4", Before: "bb", After: "ff"},
			{Kind: "secure_boot", Before: "on", After: "off"},
			{Kind: "verdict", Before: "allow", After: "deny"},
			{Kind: "reason", After: "x"},
			{Kind: "policy", Before: "3", After: "4"},
		}},
		"stays": {denied, again, nil},
		"goes": {again, accepted, []ledger.Drift{
			{Kind: "pcr.4", Before: "ff", After: "bb"},
			{Kind: "secure_boot", Before: "off", After: "on"},
			{Kind: "verdict", Before: "deny", After: "allow"},
			{Kind: "reason", Before: "x"},
			{Kind: "policy", Before: "4", After: "3"},
		}},
		"other_policy_same_verdict": {accepted, with(accepted, func(s *ledger.NodeState) { s.PolicyVersion++ }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ledger.Changes(tc.before, tc.after)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if err := again.See(accepted.Measured()); err != nil || again.Seen != nil {
		t.Errorf("what was accepted is kept twice: %s, %v", again.Seen, err)
	}
	// A machine that was never accepted has shown nothing, and then this.
	var first ledger.NodeState
	if err := first.See(bad); err != nil || len(ledger.Changes(ledger.NodeState{}, first)) != 0 {
		t.Errorf("drift of a first contact: %v", err)
	}
	if diff := cmp.Diff([]ledger.Drift{{Kind: "pcr.4", Before: "ff", After: "bb"}, {Kind: "secure_boot", Before: "off", After: "on"}},
		ledger.Changes(first, accepted)); diff != "" {
		t.Error(diff)
	}
	if m := with(first, func(s *ledger.NodeState) { s.Seen = []byte("x") }).Measured(); m.PCRs != nil || m.Firmware != "" {
		t.Errorf("what does not parse shows %+v", m)
	}
}
