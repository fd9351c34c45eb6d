package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAnnouncedReboot: one announcement is one reboot, until its time; who did
// not announce has a denial until an operator says that the machine is fine.
func TestAnnouncedReboot(t *testing.T) {
	r := newRig(t, zoneLab+"requires: {announced_reboots: true}\n")
	h := r.enrolled()
	h.renew()
	announce := func(within int) {
		t.Helper()
		n, err := r.b.Announce(t.Context(), operator, h.node, api.AnnounceRequest{Within: within, Note: "kernel update"})
		if err != nil || !n.RebootUntil.After(r.now()) {
			t.Fatalf("%+v, %v", n, err)
		}
	}
	announce(1800)
	if st := h.state(); !st.RebootUntil.Equal(r.now().Add(30*time.Minute).Truncate(time.Millisecond)) || st.Verdict != ledger.VerdictAllow {
		t.Fatalf("%+v", st)
	}
	h.renew()
	if h.state().RebootUntil.IsZero() {
		t.Error("a renewal used the announcement up")
	}
	h.tpm.Clock.ResetCount++
	h.renew()
	if !h.state().RebootUntil.IsZero() {
		t.Error("the reboot did not use the announcement up")
	}

	h.tpm.Clock.ResetCount++
	out, err := h.tryRenew()
	wantCode(t, out, err, reason.NodeRebootUnannounced)
	announce(0)
	h.renew()

	announce(60)
	r.wait(61 * time.Second)
	h.tpm.Clock.ResetCount++
	out, err = h.tryRenew()
	wantCode(t, out, err, reason.NodeRebootUnannounced)
	if _, err := r.b.Approve(t.Context(), operator, h.node, api.ApproveRequest{Note: "power cut"}); err != nil {
		t.Fatal(err)
	}
	h.renew()

	for _, bad := range []int{-1, 24*3600 + 1} {
		if _, err := r.b.Announce(t.Context(), operator, h.node, api.AnnounceRequest{Within: bad}); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("within %d: %v", bad, err)
		}
	}
	if _, err := r.b.Announce(t.Context(), operator, strings.Repeat("z", 26), api.AnnounceRequest{}); reason.Of(err) != reason.RequestNotFound {
		t.Errorf("an unknown node: %v", err)
	}
}
