package broker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// eventsOf makes events of letters; number n of the log is the n-th letter.
func eventsOf(letters string) []eventlog.Event {
	var out []eventlog.Event
	for i, c := range letters {
		digest := sha256.Sum256([]byte(string(c)))
		out = append(out, eventlog.Event{Index: i + 1, Type: eventlog.TypeIPL, Digest: digest[:], Data: []byte(string(c))})
	}
	return out
}

func TestCompareEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		now, before string
		number      int
		is, was     string // letters, "" for none
	}{
		"changed":               {"abXd", "abcd", 3, "X", "c"},
		"changed_first":         {"Xbcd", "abcd", 1, "X", "a"},
		"changed_last":          {"abcX", "abcd", 4, "X", "d"},
		"added":                 {"abXcd", "abcd", 3, "X", ""},
		"added_at_the_end":      {"abcdX", "abcd", 5, "X", ""},
		"added_to_none":         {"X", "", 1, "X", ""},
		"two_changed":           {"aXcY", "abcd", 2, "X", "b"},
		"missing":               {"abd", "abcd", 0, "", "c"},
		"missing_at_the_end":    {"abc", "abcd", 0, "", "d"},
		"missing_all":           {"", "ab", 0, "", "a"},
		"missing_then_new":      {"aXd", "abcd", 2, "X", "b"},
		"twice":                 {"abbc", "abc", 3, "b", ""},
		"other_order":           {"acbd", "abcd", 3, "b", ""},
		"moved_and_new":         {"acXbd", "abcd", 3, "X", ""},
		"same":                  {"abcd", "abcd", 0, "", ""},
		"nothing_on_both_sides": {"", "", 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := broker.CompareEvents(eventsOf(tc.now), eventsOf(tc.before))
			var want *api.EventDifference
			if tc.now != tc.before {
				want = &api.EventDifference{Type: "EV_IPL", Number: tc.number, Description: tc.is, BeforeDescription: tc.was}
				for letter, digest := range map[string]*string{tc.is: &want.Digest, tc.was: &want.Before} {
					if letter != "" {
						h := sha256.Sum256([]byte(letter))
						*digest = hex.EncodeToString(h[:])
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCompareEventsOfAHostileLog: a log may hold twenty thousand events of one
// PCR, and asking why must stay cheap.
func TestCompareEventsOfAHostileLog(t *testing.T) {
	now, before := eventsOf(strings.Repeat("xy", 10_000)), eventsOf(strings.Repeat("yx", 10_000))
	if got := broker.CompareEvents(now, before); got == nil || got.Number != 1 {
		t.Errorf("%+v", got)
	}
}
