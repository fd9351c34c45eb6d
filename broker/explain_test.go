package broker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// zoneMeasured wants the reference set of referenceOf.
const zoneMeasured = `apiVersion: zonebroker/v1
kind: Zone
name: measured
tier: 2
selectors: {any: [{format: tpm2}]}
admit: [inventory]
requires: {references: [golden]}
`

// otherKernel is the machine after an update that nobody approved.
var otherKernel = build.Machine{KernelVersion: "6.12.1"}

// golden is a reference set as it is learnt from an accepted boot: values, and
// for PCR 9 events.
func (r *rig) golden(m api.ReferenceMaterial, pcrs ...string) string {
	r.t.Helper()
	var doc strings.Builder
	fmt.Fprintf(&doc, "apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: golden\nbank: sha256\npcrs:\n")
	if pcrs == nil {
		pcrs = slices.Sorted(maps.Keys(m.PCRs))
	}
	for _, k := range pcrs {
		if k != "9" {
			fmt.Fprintf(&doc, "  %s: [%s]\n", k, m.PCRs[k])
		}
	}
	if events := m.Events["9"]; len(events) > 0 && slices.Contains(pcrs, "9") {
		slices.Sort(events)
		fmt.Fprintf(&doc, "events:\n  9: [%s]\n", strings.Join(slices.Compact(events), ", "))
	}
	fmt.Fprintf(&doc, "provenance: {learnt_from: %s, boot: %s}\n", m.Node, m.AttestationID)
	return doc.String()
}

// measured is a host that a zone of tier 2 accepted, with a reference set learnt
// from its first boot.
func (r *rig) measured(pcrs ...string) *host {
	r.t.Helper()
	h := r.enrolled()
	r.activate(zoneMeasured, r.golden(api.ReferenceMaterial{
		Node: h.node, AttestationID: h.prev, PCRs: h.values(), Events: map[string][]string{"9": h.events(9)},
	}, pcrs...))
	h.renew()
	return h
}

func (h *host) values() map[string]string {
	out := map[string]string{}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14} {
		out[fmt.Sprint(i)] = hexOf(h.tpm.PCRs[i])
	}
	return out
}

func (h *host) events(pcr int) []string {
	h.r.t.Helper()
	log, err := eventlog.Parse(h.tpm.EventLog)
	h.r.must(err)
	var out []string
	for _, e := range log.Events() {
		if e.PCR == pcr {
			out = append(out, hex.EncodeToString(e.Digest))
		}
	}
	return out
}

// denied renews, wants a refusal with the code, and returns the newest record.
func (h *host) denied(want reason.Code) string {
	h.r.t.Helper()
	out, err := h.tryRenew()
	wantCode(h.r.t, out, err, want)
	page, err := h.r.b.History(h.r.t.Context(), operator, api.HistoryQuery{Node: h.node, Limit: 1})
	h.r.must(err)
	if len(page.Entries) != 1 || page.Entries[0].Reason != string(want) {
		h.r.t.Fatalf("newest record %+v", page.Entries)
	}
	return page.Entries[0].ID
}

// eventOf is the number of the first event with the digest of content, in a log
// as a firmware would count it: the Spec ID record is 0.
func eventOf(t testing.TB, b *build.Builder, pcr int, content string) (int, string) {
	t.Helper()
	digest := sha256.Sum256([]byte(content))
	for i, e := range b.Events() {
		if e.PCR == pcr && e.SHA256 == digest {
			return i + 1, hexOf(digest)
		}
	}
	t.Fatalf("no event with the digest of %q in PCR %d", content, pcr)
	return 0, ""
}

func fileDigest(t testing.TB, b *build.Builder, pcr int, path string) (int, string) {
	t.Helper()
	log, err := eventlog.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.Events() {
		if e.PCR == pcr && e.Describe() == path {
			return e.Index, hex.EncodeToString(e.Digest)
		}
	}
	t.Fatalf("no event %q in PCR %d", path, pcr)
	return 0, ""
}

// TestExplainOtherKernel names, for every PCR that another kernel moves, the
// event of the log at which the boot went another way.
func TestExplainOtherKernel(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	golden, accepted := h.values(), h.prev
	h.tpm.Boot(otherKernel.Log())
	id := h.denied(reason.PolicyPCRMismatch)

	x, err := r.b.Explain(t.Context(), operator, id)
	r.must(err)
	if x.ID != id || x.Node != h.node || x.Zone != "measured" || x.Code != string(reason.PolicyPCRMismatch) ||
		x.Remedy != api.Remedy(reason.PolicyPCRMismatch) || len(x.Reasons) < 3 || !x.RecordedAt.Equal(r.now()) {
		t.Errorf("explanation %+v", x)
	}
	was, is := build.Machine{}.Log(), otherKernel.Log()
	oldPath, newPath := "/boot/vmlinuz-6.1.0-28-amd64", "/boot/vmlinuz-6.12.1"
	menu := func(path string) string {
		return "menuentry Debian GNU/Linux --class debian --class gnu-linux --id gnulinux-simple { linux " + path + " root=/dev/vda1 ro quiet }"
	}
	_, oldKernel := fileDigest(t, was, 4, oldPath)
	number4, newKernel := fileDigest(t, is, 4, newPath)
	_, oldMenu := eventOf(t, was, 8, menu(oldPath))
	number8, newMenu := eventOf(t, is, 8, menu(newPath))
	const config = "(hd0,gpt1)/boot/grub/grub.cfg"
	_, oldConfig := fileDigest(t, was, 9, config)
	number9, newConfig := fileDigest(t, is, 9, config)
	want := []api.Mismatch{
		{PCR: 4, Set: "golden", Kind: "value", Expected: []string{golden["4"]}, Seen: hexOf(h.tpm.PCRs[4]), Event: &api.EventDifference{
			Number: number4, Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Description: newPath, Digest: newKernel,
			Before: oldKernel, BeforeDescription: oldPath, Against: accepted,
		}},
		{PCR: 8, Set: "golden", Kind: "value", Expected: []string{golden["8"]}, Seen: hexOf(h.tpm.PCRs[8]), Event: &api.EventDifference{
			Number: number8, Type: "EV_IPL", Description: "grub_cmd: " + menu(newPath), Digest: newMenu,
			Before: oldMenu, BeforeDescription: "grub_cmd: " + menu(oldPath), Against: accepted,
		}},
		{PCR: 9, Set: "golden", Kind: "events", Seen: hexOf(h.tpm.PCRs[9]), Event: &api.EventDifference{
			Number: number9, Type: "EV_IPL", Description: config, Digest: newConfig, Before: oldConfig, BeforeDescription: config, Against: accepted,
		}},
	}
	for _, path := range []string{config, oldPath, "/boot/initrd.img-6.1.0-28-amd64"} {
		_, digest := fileDigest(t, was, 9, path)
		want[2].Expected = append(want[2].Expected, digest)
	}
	slices.Sort(want[2].Expected)
	if diff := cmp.Diff(want, x.Mismatches); diff != "" {
		t.Errorf("mismatches (-want +got):\n%s", diff)
	}
}

// TestExplainWithoutAcceptedBoot compares with the boot that the reference set
// was learnt from, and else with the events that the set names.
func TestExplainWithoutAcceptedBoot(t *testing.T) {
	r := newRig(t)
	model := r.enrolled()
	set := r.golden(api.ReferenceMaterial{
		Node: model.node, AttestationID: model.prev, PCRs: model.values(), Events: map[string][]string{"9": model.events(9)},
	})
	r.activate(zoneMeasured, set)
	first := r.admitted()
	first.tpm.Boot(otherKernel.Log())
	if _, err := first.tryEnrol(); reason.Of(err) != reason.PolicyPCRMismatch {
		t.Fatal(err)
	}
	newest := func() api.Explanation {
		t.Helper()
		page, err := r.b.History(t.Context(), operator, api.HistoryQuery{Node: first.node, Limit: 1})
		r.must(err)
		x, err := r.b.Explain(t.Context(), operator, page.Entries[0].ID)
		r.must(err)
		return x
	}
	x := newest()
	if len(x.Mismatches) != 3 || x.Mismatches[0].Event == nil || x.Mismatches[0].Event.Against != model.prev {
		t.Errorf("mismatches %+v", x.Mismatches)
	}
	// Without that boot: PCR 4 and 8 have values alone, PCR 9 its events.
	r.activate(zoneMeasured, strings.Replace(set, model.prev, uuid.Nil.String(), 1))
	first.denied(reason.PolicyPCRMismatch)
	x = newest()
	number, digest := fileDigest(t, otherKernel.Log(), 9, "(hd0,gpt1)/boot/grub/grub.cfg")
	want := &api.EventDifference{Number: number, Type: "EV_IPL", Description: "(hd0,gpt1)/boot/grub/grub.cfg", Digest: digest}
	if len(x.Mismatches) != 3 || x.Mismatches[0].Event != nil || x.Mismatches[1].Event != nil || !cmp.Equal(x.Mismatches[2].Event, want) {
		t.Errorf("mismatches %+v", x.Mismatches)
	}
}

// TestExplainUnderTheRecordedPolicy: what was refused is explained by what was
// demanded then.
func TestExplainUnderTheRecordedPolicy(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Boot(otherKernel.Log())
	id := h.denied(reason.PolicyPCRMismatch)
	before, err := r.b.Explain(t.Context(), operator, id)
	r.must(err)
	r.activate(zoneLab)
	h.renew()
	after, err := r.b.Explain(t.Context(), operator, id)
	before.AsOf, after.AsOf = api.AsOf{}, api.AsOf{} // the second one read a longer log
	if diff := cmp.Diff(before, after); diff != "" || err != nil || len(after.Mismatches) == 0 {
		t.Errorf("%v, later (-before +after):\n%s", err, diff)
	}
}

// TestExplainRefusalOfTheVerifier has reasons and no mismatches: nothing was
// compared with a zone.
func TestExplainRefusalOfTheVerifier(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Extend(4, sha256.Sum256([]byte("not logged")))
	id := h.denied(reason.EventLogReplayMismatch)
	r.store.failing("Evidence", reason.New(reason.StoreUnavailable, "must not be read"))
	x, err := r.b.Explain(t.Context(), operator, id)
	if err != nil || x.Code != string(reason.EventLogReplayMismatch) || x.Mismatches == nil || len(x.Mismatches) != 0 || x.Remedy == "" || x.Zone != "" {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestExplainRefuses(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	grant, err := r.b.History(t.Context(), operator, api.HistoryQuery{Type: ledger.TypeAdmission, Limit: 1})
	r.must(err)
	for name, tc := range map[string]struct {
		id   string
		want reason.Code
	}{
		"an_acceptance": {h.prev, reason.RequestNotFound},
		"a_grant":       {grant.Entries[0].ID, reason.RequestNotFound},
		"nothing":       {uuid.NewString(), reason.RequestNotFound},
		"no_id":         {"x", reason.RequestMalformed},
	} {
		if _, err := r.b.Explain(t.Context(), operator, tc.id); reason.Of(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExplainComparesWithWhatTheZoneWants: a node that was accepted under another
// policy, by another kernel, is no measure.
func TestExplainComparesWithWhatTheZoneWants(t *testing.T) {
	r := newRig(t)
	model, h := r.enrolled(), r.enrolled()
	model.tpm.Boot(otherKernel.Log())
	model.renew()
	set := r.golden(api.ReferenceMaterial{Node: model.node, AttestationID: model.prev, PCRs: model.values()}, "4")
	r.activate(zoneMeasured, set)

	// It still boots what was accepted, and sends no log: the kept one is read.
	h.withoutLog = true
	x, err := r.b.Explain(t.Context(), operator, h.denied(reason.PolicyPCRMismatch))
	r.must(err)
	number, _ := fileDigest(t, build.Machine{}.Log(), 4, "/boot/vmlinuz-6.1.0-28-amd64")
	if len(x.Mismatches) != 1 || x.Mismatches[0].Event == nil || x.Mismatches[0].Event.Number != number || x.Mismatches[0].Event.Against != model.prev {
		t.Errorf("mismatches %+v", x.Mismatches)
	}
	// It boots a third kernel: that differs from both, and only one is a measure.
	h.withoutLog = false
	h.tpm.Boot(build.Machine{KernelVersion: "5.10"}.Log())
	if x, err = r.b.Explain(t.Context(), operator, h.denied(reason.PolicyPCRMismatch)); err != nil || x.Mismatches[0].Event.Against != model.prev {
		t.Errorf("%+v, %v", x.Mismatches, err)
	}
}

// TestExplainWithoutLogs: a boot whose log is gone has no events, which is not to
// say that it measured none.
func TestExplainWithoutLogs(t *testing.T) {
	for name, log := range map[string]*build.Builder{"of_the_denied_boot": otherKernel.Log(), "of_the_accepted_boot": build.Machine{}.Log()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			h := r.measured("4")
			h.tpm.Boot(otherKernel.Log())
			id := h.denied(reason.PolicyPCRMismatch)
			r.store.mu.Lock()
			delete(r.store.evidence, sha256.Sum256(log.Bytes()))
			r.store.mu.Unlock()
			x, err := r.b.Explain(t.Context(), operator, id)
			if err != nil || len(x.Mismatches) != 1 || x.Mismatches[0].Event != nil || x.Mismatches[0].Seen == "" {
				t.Errorf("%+v, %v", x.Mismatches, err)
			}
		})
	}
}

// TestLogOfAnotherBootSaysNothing about the PCRs that were quoted.
func TestLogOfAnotherBootSaysNothing(t *testing.T) {
	r := newRig(t)
	h := r.newHost()
	pcrs := map[int][]byte{4: h.tpm.PCRs[4][:]}
	for name, tc := range map[string]struct {
		log  []byte
		want bool
	}{
		"its_own":  {h.tpm.EventLog, true},
		"another":  {otherKernel.Log().Bytes(), false},
		"no_log":   {[]byte("x"), false},
		"none":     {nil, false},
		"no_event": {build.New().Bytes(), false},
	} {
		if got := broker.Logged(pcrs, tc.log); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestExplainForgedPolicy: another policy under the name of the recorded one
// would make a denial look like something else.
func TestExplainForgedPolicy(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Boot(otherKernel.Log())
	id := h.denied(reason.PolicyPCRMismatch)
	r.activate(zoneOpen)
	for name, forged := range map[string][]byte{"another_policy": loadSet(t, zoneLab).Canonical(), "garbage": []byte("x")} {
		r.store.mu.Lock()
		for i := range r.store.objects {
			r.store.objects[i].Bytes = forged
		}
		r.store.mu.Unlock()
		if _, err := r.b.Explain(t.Context(), operator, id); reason.Of(err) != reason.StoreRowForged {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.store.mu.Lock()
	r.store.objects = nil
	r.store.mu.Unlock()
	if x, err := r.b.Explain(t.Context(), operator, id); err != nil || len(x.Reasons) == 0 || len(x.Mismatches) != 0 {
		t.Errorf("a policy that is not kept: %+v, %v", x, err)
	}
}

// TestExplainWhatIsNoLongerKept: the reasons stand by themselves.
func TestExplainWhatIsNoLongerKept(t *testing.T) {
	r := newRig(t)
	h := r.measured()
	h.tpm.Boot(otherKernel.Log())
	id := h.denied(reason.PolicyPCRMismatch)
	r.store.mu.Lock()
	clear(r.store.evidence)
	r.store.mu.Unlock()
	x, err := r.b.Explain(t.Context(), operator, id)
	if err != nil || len(x.Reasons) == 0 || x.Mismatches == nil || len(x.Mismatches) != 0 {
		t.Errorf("%+v, %v", x, err)
	}
}
