package broker_test

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// driftOf lists what changed with the newest record of a node, as "kind: before
// -> after"; digests by what digests knows of them.
func (h *host) driftOf(digests map[string]string) []string {
	h.r.t.Helper()
	page, err := h.r.b.History(h.r.t.Context(), operator, api.HistoryQuery{Node: h.node, Limit: 1})
	h.r.must(err)
	out := []string{}
	short := func(v string) string {
		if name, ok := digests[v]; ok {
			return name
		}
		return v
	}
	for _, d := range page.Entries[0].Drift {
		out = append(out, fmt.Sprintf("%s: %s -> %s", d.Kind, short(d.Before), short(d.After)))
	}
	return out
}

// named gives every value of the machine's boot a name.
func (h *host) named(names map[string]string, boot string) map[string]string {
	for pcr, v := range h.values() {
		names[v] = boot + "." + pcr
	}
	names[hexOf(sha256.Sum256(h.tpm.EventLog))] = boot + ".log"
	return names
}

// TestDriftOfEveryKind goes through the pipeline: each row has what stood before
// and after.
func TestDriftOfEveryKind(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	names := h.named(map[string]string{}, "good")
	expect := func(want ...string) {
		t.Helper()
		want = append([]string{}, want...)
		if diff := cmp.Diff(want, h.driftOf(names)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	// The first acceptance by the zone of tier 2, under the next policy.
	expect("zone: lab -> measured", "tier: 1 -> 2", "policy: 1 -> 2")
	h.renew()
	if got := h.driftOf(names); len(got) != 0 {
		t.Errorf("a renewal of the same boot drifted: %v", got)
	}

	// Another kernel, without Secure Boot, on another TPM firmware: refused.
	h.tpm.Boot(build.Machine{KernelVersion: "6.12.1", SecureBootOff: true}.Log())
	h.tpm.Firmware = 5
	h.named(names, "bad")
	h.denied(reason.PolicyPCRMismatch)
	expect("pcr.4: good.4 -> bad.4", "pcr.7: good.7 -> bad.7", "pcr.8: good.8 -> bad.8", "pcr.9: good.9 -> bad.9",
		"event_log: good.log -> bad.log", "secure_boot: on -> off", "firmware: 2312897626142815798 -> 5",
		"verdict: allow -> deny", "reason:  -> policy.pcr_mismatch")
	h.denied(reason.PolicyPCRMismatch)
	expect()

	// Refused for another reason: a PCR that no log explains. What the log had
	// said stays said.
	h.tpm.Extend(4, sha256.Sum256([]byte("x")))
	h.named(names, "worse")
	h.denied(reason.EventLogReplayMismatch)
	expect("pcr.4: bad.4 -> worse.4", "reason: policy.pcr_mismatch -> eventlog.replay_mismatch")
	// The record commits to it, and to the zone that the node had: the verifier
	// refused before any was chosen.
	body := r.lastAttestation(h.node)
	if body.Zone != "" || body.NodeZone != "measured" || len(body.Drift) != 2 || body.Drift[0].After != hexOf(h.tpm.PCRs[4]) {
		t.Errorf("record of zone %q, drift %v in zone %q", body.Zone, body.Drift, body.NodeZone)
	}

	// The same again changes nothing, and is kept with the zone all the same.
	h.denied(reason.EventLogReplayMismatch)
	expect()
	if body := r.lastAttestation(h.node); body.Zone != "" || body.NodeZone != "measured" || body.Drift != nil {
		t.Errorf("record of zone %q, drift %v in zone %q", body.Zone, body.Drift, body.NodeZone)
	}

	// And back into the good boot.
	h.tpm.Boot(build.Machine{}.Log())
	h.renew()
	expect("pcr.4: worse.4 -> good.4", "pcr.7: worse.7 -> good.7", "pcr.8: worse.8 -> good.8", "pcr.9: worse.9 -> good.9",
		"event_log: worse.log -> good.log", "secure_boot: off -> on",
		"verdict: deny -> allow", "reason: eventlog.replay_mismatch -> ")
	h.renew()
	expect()
}

// TestDriftOfWhatNoQuoteCovers: PCR values that a quote does not sign are the
// sender's to choose, and neither drift nor hide one.
func TestDriftOfWhatNoQuoteCovers(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	names := h.named(map[string]string{}, "good")
	h.tpm.Boot(otherKernel.Log())
	h.named(names, "bad")
	h.denied(reason.PolicyPCRMismatch)
	ch, err := h.askRenew()
	r.must(err)
	req := h.answer(ch)
	req.TPM2.PCRs["4"] = make([]byte, 32)
	out, err := h.attest(req)
	wantCode(t, out, err, reason.TPM2PCRDigest)
	if diff := cmp.Diff([]string{"reason: policy.pcr_mismatch -> tpm2.pcr.digest"}, h.driftOf(names)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h.tpm.Boot(build.Machine{}.Log())
	h.renew()
	if got := h.driftOf(names); got[0] != "pcr.4: bad.4 -> good.4" {
		t.Errorf("drift %v", got)
	}
}

// TestDriftOfAVerdictNamesThePolicies between which it fell.
func TestDriftOfAVerdictNamesThePolicies(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	r.activate(strings.Replace(zoneLab, "admit: [inventory, join_token, operator]", "admit: [operator]", 1))
	h.denied(reason.NodeNotAdmitted)
	want := []string{"verdict: allow -> deny", "reason:  -> node.not_admitted", "policy: 1 -> 2"}
	if diff := cmp.Diff(want, h.driftOf(nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDriftPages: the cursor leads through all rows, newest record first, and
// each row names its record, node and zone.
func TestDriftPages(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Boot(otherKernel.Log())
	denied := h.denied(reason.PolicyPCRMismatch)
	other := r.enrolled()
	other.tpm.Firmware = 5
	other.renew()

	var got []string
	for q := (api.DriftQuery{Limit: 2, Node: h.node}); ; {
		page, err := r.b.Drift(t.Context(), operator, q)
		r.must(err)
		for _, d := range page.Changes {
			got = append(got, d.Kind)
			if d.Node != h.node || d.Zone != "measured" || d.Index == 0 || d.RecordedAt.IsZero() || (d.ID == denied) != (d.After != "measured" && d.After != "2") {
				t.Errorf("row %+v", d)
			}
		}
		if page.NextCursor == "" {
			break
		}
		q.Cursor = page.NextCursor
	}
	want := []string{"pcr.4", "pcr.8", "pcr.9", "event_log", "verdict", "reason", "zone", "tier", "policy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	one, err := r.b.Drift(t.Context(), operator, api.DriftQuery{Kind: "pcr.4", Zone: "measured", Since: r.now().Add(-time.Hour)})
	if err != nil || len(one.Changes) != 1 || one.Changes[0].After != hexOf(h.tpm.PCRs[4]) {
		t.Errorf("%+v, %v", one, err)
	}
	for name, q := range map[string]api.DriftQuery{"since": {Since: r.now().Add(time.Second)}, "until": {Until: r.now().Add(-time.Hour)}} {
		if page, err := r.b.Drift(t.Context(), operator, q); err != nil || len(page.Changes) != 0 {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
	none, err := r.b.Drift(t.Context(), operator, api.DriftQuery{Kind: "pcr.23"})
	if err != nil || none.Changes == nil || len(none.Changes) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
	if _, err := r.b.Drift(t.Context(), operator, api.DriftQuery{Cursor: "7"}); reason.Of(err) != reason.RequestMalformed {
		t.Errorf("a cursor of nobody: %v", err)
	}
	r.store.failing("Drift", reason.New(reason.StoreUnavailable, "away"))
	if _, err := r.b.Drift(t.Context(), operator, api.DriftQuery{}); reason.Of(err) != reason.StoreUnavailable {
		t.Errorf("%v", err)
	}
}

// TestTimeline tells the life of a node: enrolment, refusal after a reboot, an
// operator's approval, and what was issued.
func TestTimeline(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Boot(otherKernel.Log())
	h.denied(reason.PolicyPCRMismatch)
	_, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Note: "looked at it"})
	r.must(err)

	var all []api.TimelineEntry
	for q := (api.TimelineQuery{Node: h.node, Limit: 3}); ; {
		page, err := r.b.Timeline(t.Context(), operator, q)
		r.must(err)
		if page.Node != h.node {
			t.Errorf("page of %q", page.Node)
		}
		all = append(page.Entries, all...)
		if page.NextCursor == "" {
			break
		}
		q.Cursor = page.NextCursor
	}
	var got []string
	for i, e := range all {
		if i > 0 && e.Index <= all[i-1].Index {
			t.Errorf("entry %d is not newer than the one before", e.Index)
		}
		line := e.Type + " " + e.Verdict + " " + e.Zone + " " + strconv.Itoa(e.Tier)
		for _, x := range e.Reasons {
			line += " " + x.Code
		}
		for _, x := range e.Events {
			line += " " + x
		}
		for _, x := range e.SVIDs {
			line += " " + x.Profile + " " + x.SPIFFEID
		}
		got = append(got, line+" by "+e.By+" "+e.Note+" "+strconv.Itoa(len(e.Drift)))
	}
	deny := strings.Repeat(" policy.pcr_mismatch", 5)
	want := []string{
		"attestation allow lab 1 x509 spiffe://example.org/zone/lab/node/" + h.node + " by   0",
		"attestation allow measured 2 x509 spiffe://example.org/zone/measured/node/" + h.node + " by   3",
		"attestation deny measured 2" + deny + " tpm2.rebooted by   6",
		"node.approved   0 by uid:0 looked at it 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := all[0].SVIDs[0]; s.Serial == "" || s.Key != "tpm" || s.ExpiresAt.IsZero() {
		t.Errorf("SVID %+v", s)
	}
	if _, err := r.b.Timeline(t.Context(), operator, api.TimelineQuery{Node: strings.Repeat("a", 26)}); reason.Of(err) != reason.RequestNotFound {
		t.Errorf("a node that does not exist: %v", err)
	}
	empty, err := r.b.Timeline(t.Context(), operator, api.TimelineQuery{Node: h.node, Until: r.now().Add(-time.Hour)})
	if err != nil || empty.Entries == nil || len(empty.Entries) != 0 {
		t.Errorf("before the node was known: %+v, %v", empty, err)
	}
	newest, err := r.b.Timeline(t.Context(), operator, api.TimelineQuery{Node: h.node, Since: r.now()})
	if err != nil || len(newest.Entries) != 2 {
		t.Errorf("of this minute: %+v, %v", newest, err)
	}
}

// TestTimelineShowsIssuedSVIDs that came after an attestation.
func TestTimelineShowsIssuedSVIDs(t *testing.T) {
	r := newRig(t)
	h := r.enrolled()
	id, err := ledger.NewRecordID(r.now(), r.random)
	r.must(err)
	issued := ledger.Issuance{
		Type: ledger.TypeIssuance, ID: id, Node: ledger.NodeID(h.node), Workload: "web", Zone: "lab", Tier: 1,
		SVIDs: []ledger.IssuedSVID{{Profile: ledger.ProfileJWT, SPIFFEID: "spiffe://example.org/zone/lab/workload/web", Audience: "db", NotAfter: r.now().Unix(), Key: "software"}},
	}
	rec, err := issued.Record([32]byte{1})
	r.must(err)
	_, err = r.store.Append(t.Context(), ledger.Commit{Record: rec})
	r.must(err)
	page, err := r.b.Timeline(t.Context(), operator, api.TimelineQuery{Node: h.node})
	r.must(err)
	got := page.Entries[len(page.Entries)-1]
	want := []api.TimelineSVID{{
		Profile: "jwt", SPIFFEID: "spiffe://example.org/zone/lab/workload/web", Audience: "db", Key: "software", ExpiresAt: time.Unix(r.now().Unix(), 0).UTC(),
	}}
	if got.Type != ledger.TypeIssuance || got.Tier != 1 {
		t.Errorf("entry %+v", got)
	}
	if diff := cmp.Diff(want, got.SVIDs); diff != "" {
		t.Error(diff)
	}
}
