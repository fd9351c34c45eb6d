package agent_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const (
	maxAge   = 5 * time.Minute
	half     = maxAge / 2
	almost   = 1 - 1e-9
	rounding = time.Millisecond // of random values just below one
)

func TestNextAttestation(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	accepted := func(began time.Time, renewIn, maxAge time.Duration) agent.Outcome {
		return agent.NewOutcome(agent.Accepted, began, renewIn, maxAge, 0)
	}
	outage := func(maxAge, retryAfter time.Duration) agent.Outcome {
		return agent.NewOutcome(agent.Outage, noon, 0, maxAge, retryAfter)
	}
	denied := func(retryAfter time.Duration) agent.Outcome {
		return agent.NewOutcome(agent.Denied, noon, half, maxAge, retryAfter)
	}
	for name, tt := range map[string]struct {
		failures   int
		outcome    agent.Outcome
		soon, late time.Duration // with random 0 and almost 1
		count      int
	}{
		"half of max_age, less or more a tenth":      {0, accepted(noon, half, maxAge), 135 * time.Second, 165 * time.Second, 0},
		"counted from the begin":                     {0, accepted(ago(10*time.Second), half, maxAge), 125 * time.Second, 155 * time.Second, 0},
		"failures before do not matter":              {9, accepted(noon, half, maxAge), 135 * time.Second, 165 * time.Second, 0},
		"slower than half of max_age":                {0, accepted(ago(time.Hour), half, maxAge), time.Second, time.Second, 0},
		"max_age of a second":                        {0, accepted(noon, 500*time.Millisecond, time.Second), 500 * time.Millisecond, 550 * time.Millisecond, 0},
		"first failure":                              {0, outage(maxAge, 0), 0, time.Second, 1},
		"third failure":                              {2, outage(maxAge, 0), 0, 4 * time.Second, 3},
		"at most a tenth of max_age":                 {20, outage(maxAge, 0), 0, 30 * time.Second, 21},
		"at most a minute":                           {20, outage(24*time.Hour, 0), 0, time.Minute, 21},
		"at least up to a second":                    {20, outage(4*time.Second, 0), 0, time.Second, 21},
		"never had a zone":                           {20, outage(0, 0), 0, time.Minute, 21},
		"a count that would overflow":                {1 << 30, outage(24*time.Hour, 0), 0, time.Minute, 1<<30 + 1},
		"denied: max_age says nothing":               {20, denied(0), 0, time.Minute, 21},
		"first denial":                               {0, denied(0), 0, time.Second, 1},
		"Retry-After is the least":                   {0, outage(maxAge, 7*time.Second), 7 * time.Second, 10500 * time.Millisecond, 1},
		"Retry-After below the backoff":              {4, outage(maxAge, 2*time.Second), 2 * time.Second, 18 * time.Second, 5},
		"Retry-After above what backoff would allow": {9, outage(maxAge, 10*time.Minute), 10 * time.Minute, 15 * time.Minute, 10},
		"Retry-After of a denial":                    {0, denied(30 * time.Second), 30 * time.Second, 45 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for random, want := range map[float64]time.Duration{0: tt.soon, almost: tt.late} {
				at, pace := agent.NewPace(tt.failures).Next(tt.outcome, noon, random)
				if off := at.Sub(noon) - want; off < -rounding || off > rounding {
					t.Errorf("random %v: after %s, want %s", random, at.Sub(noon), want)
				}
				if pace.Failures() != tt.count {
					t.Errorf("%d failures in a row, want %d", pace.Failures(), tt.count)
				}
			}
		})
	}
}

// TestRenewalOfOldEvidence: what counts is what was left of it.
func TestRenewalOfOldEvidence(t *testing.T) {
	for name, tt := range map[string]struct{ attested, renew, fresh, want time.Duration }{
		"of the challenge":            {0, half, maxAge, half},
		"four minutes old":            {-4 * time.Minute, 30 * time.Second, time.Minute, 30 * time.Second},
		"a renewal nearer to its end": {0, 4 * time.Minute, maxAge, time.Minute},
	} {
		s := agent.State{AttestedAt: noon.Add(tt.attested), RenewAt: noon.Add(tt.renew), FreshUntil: noon.Add(tt.fresh)}
		if got := s.RenewIn(); got != tt.want {
			t.Errorf("%s: after %s, want %s", name, got, tt.want)
		}
	}
}

func TestFirstAttestation(t *testing.T) {
	last := func(began time.Time) agent.Outcome {
		return agent.NewOutcome(agent.Accepted, began, half, maxAge, 0)
	}
	for name, tt := range map[string]struct {
		last       agent.Outcome
		valid      bool
		spread     time.Duration
		soon, late time.Duration
	}{
		"never attested":                     {last(time.Time{}), false, 2 * time.Second, 0, 2 * time.Second},
		"never attested, no spread":          {last(time.Time{}), false, -1, 0, 0},
		"expired or denied":                  {last(noon.Add(-time.Hour)), false, 2 * time.Second, 0, 2 * time.Second},
		"valid, the renewal is to come":      {last(noon.Add(-time.Minute)), true, 2 * time.Second, 75 * time.Second, 105 * time.Second},
		"valid, overdue":                     {last(noon.Add(-time.Hour)), true, 2 * time.Second, 0, 30 * time.Second},
		"valid, the clock went back an hour": {last(noon.Add(time.Hour)), true, 2 * time.Second, 135 * time.Second, 165 * time.Second},
		"valid, of an agent before this one": {last(time.Time{}), true, 2 * time.Second, 0, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for random, want := range map[float64]time.Duration{0: tt.soon, almost: tt.late} {
				at := agent.First(tt.last, tt.valid, tt.spread, noon, random)
				if off := at.Sub(noon) - want; off < -rounding || off > rounding {
					t.Errorf("random %v: after %s, want %s", random, at.Sub(noon), want)
				}
			}
		})
	}
}

// TestJudgeOutcome: only the broker's own word about this host withdraws.
func TestJudgeOutcome(t *testing.T) {
	refused := func(code reason.Code, after time.Duration) error {
		return &client.RefusedError{Code: code, Status: reason.Lookup(code).HTTP, RetryAfter: after}
	}
	for name, tt := range map[string]struct {
		err  error
		want agent.Outcome
	}{
		"nothing wrong":            {nil, agent.NewOutcome(agent.Accepted, time.Time{}, 0, 0, 0)},
		"evidence":                 {refused(reason.PolicyPCRMismatch, 0), agent.NewOutcome(agent.Denied, time.Time{}, 0, 0, 0)},
		"status":                   {refused(reason.NodeDisabled, 0), agent.NewOutcome(agent.Denied, time.Time{}, 0, 0, 0)},
		"waits for approval":       {refused(reason.NodeAdmissionPending, 0), agent.NewOutcome(agent.Denied, time.Time{}, 0, 0, 0)},
		"rate":                     {refused(reason.RequestRateLimited, 6*time.Second), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 6*time.Second)},
		"busy":                     {refused(reason.RequestOverloaded, time.Second), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, time.Second)},
		"database":                 {refused(reason.StoreUnavailable, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"policy that fails":        {refused(reason.PolicyError, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"the broker's own history": {refused(reason.LedgerFork, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"an SVID not taken":        {refused(reason.AuthInvalid, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"a spent challenge":        {refused(reason.ChallengeSpent, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"a bug":                    {refused(reason.RequestMalformed, 0), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"a page of somebody":       {&client.AnswerError{Status: 403}, agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"a stranger":               {&client.UntrustedError{}, agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"nobody":                   {&client.UnreachableError{}, agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"the TPM":                  {&agent.Fault{Kind: agent.FaultTPM}, agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
		"anything":                 {errors.New("x"), agent.NewOutcome(agent.Outage, time.Time{}, 0, 0, 0)},
	} {
		if got := agent.Judge(tt.err); got.Verdict() != tt.want.Verdict() || got.RetryAfter() != tt.want.RetryAfter() {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
