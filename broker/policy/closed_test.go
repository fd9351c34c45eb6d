package policy_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestClosedEvents: what root extends after another boot, so that the wanted
// digests are all there, is an event beside the one that was booted.
func TestClosedEvents(t *testing.T) {
	open := load(t, zonePayments, referenceDebian)
	closed := load(t, zonePayments, referenceDebian+"closed: [9]\n")
	evil := strings.Repeat("e", 64)
	for name, c := range map[string]struct {
		set    *policy.Set
		events []string
		want   string
	}{
		"as_listed":               {closed, []string{kernel, initrd}, ""},
		"another_order_and_twice": {closed, []string{initrd, kernel, initrd}, ""},
		"another_boot_made_good":  {closed, []string{kernel, evil, initrd}, "policy.pcr_mismatch"},
		"something_behind":        {closed, []string{kernel, initrd, evil}, "policy.pcr_mismatch"},
		"one_is_missing":          {closed, []string{kernel}, "policy.pcr_mismatch"},
		"open_sets_take_it":       {open, []string{kernel, evil, initrd}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in, ev := good()
			ev.events[9] = c.events
			d := c.set.Decide(in)
			if codes(d) != c.want {
				t.Errorf("%q, want %q", codes(d), c.want)
			}
			if strings.Contains(strings.Join(c.events, ""), evil) && c.want != "" && !strings.Contains(d.Reasons[0].Detail, evil+", which is not listed") {
				t.Errorf("the event is not named: %s", d.Reasons[0].Detail)
			}
		})
	}
	for _, bad := range []string{"closed: [4]", "closed: [9, 9]", "closed: [24]", "closed: nine"} {
		if _, problems := policy.Load(files(zonePayments, referenceDebian+bad+"\n")); len(problems) == 0 {
			t.Errorf("%s is taken", bad)
		}
	}
}
