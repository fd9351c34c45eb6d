package broker_test

import (
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

// TestWaiting: the cores are given back before a record is awaited, and not
// before it is composed.
func TestWaiting(t *testing.T) {
	r, h, c := newLater(t)
	var got []string
	c.Waiting = func() { got = append(got, "waiting") }
	r.store.onAppend = func(ledger.Commit) error {
		got = append(got, "append")
		return nil
	}
	asks := map[string]func() error{
		"attestation": func() error {
			ch, err := h.askRenew()
			if err == nil {
				_, err = r.b.Attest(t.Context(), c, h.answer(ch))
			}
			return err
		},
		"X.509-SVID": func() error {
			_, err := r.svid(c, "web")
			return err
		},
	}
	for _, what := range []string{"X.509-SVID", "attestation"} {
		got = nil
		r.must(asks[what]())
		if !slices.Equal(got, []string{"waiting", "append"}) {
			t.Errorf("%s: %q", what, got)
		}
	}
	got = nil
	if _, err := r.b.Attest(t.Context(), c, api.AttestRequest{Token: "none of ours"}); err == nil || got != nil {
		t.Errorf("%v, %q", err, got)
	}
}
