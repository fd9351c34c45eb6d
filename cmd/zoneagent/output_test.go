package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestResult(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	result := agent.Result{
		Node: "abcdefghijklmnopqrstuvwxyz", SPIFFEID: "spiffe://example.org/zone/lab/node/abcdefghijklmnopqrstuvwxyz",
		TrustDomain: "example.org", Zone: "lab", Tier: 2, AttestationID: "01970000-0000-7000-8000-000000000000", Purpose: "renew", Format: "tpm2", InTPM: true,
		AttestedAt: at, FreshUntil: at.Add(5 * time.Minute), RenewAt: at.Add(150 * time.Second), ExpiresAt: at.Add(time.Hour),
		Log: api.LogPosition{Origin: "example.org/zonebroker/1", Index: 41, Size: 42}, Events: []string{"tpm2.rebooted"},
	}
	for output, want := range map[string]string{
		asTable: `zone         lab (tier 2)
spiffe id    spiffe://example.org/zone/lab/node/abcdefghijklmnopqrstuvwxyz
node         abcdefghijklmnopqrstuvwxyz
attestation  01970000-0000-7000-8000-000000000000
fresh        for 5m
expires      in 60m
log entry    41 of example.org/zonebroker/1
events       tpm2.rebooted
`,
		asJSON: `{
  "node": "abcdefghijklmnopqrstuvwxyz",
  "spiffe_id": "spiffe://example.org/zone/lab/node/abcdefghijklmnopqrstuvwxyz",
  "trust_domain": "example.org",
  "zone": "lab",
  "tier": 2,
  "attestation_id": "01970000-0000-7000-8000-000000000000",
  "purpose": "renew",
  "format": "tpm2",
  "key": "tpm",
  "attested_at": "2026-11-20T12:00:00Z",
  "fresh_until": "2026-11-20T12:05:00Z",
  "renew_at": "2026-11-20T12:02:30Z",
  "expires_at": "2026-11-20T13:00:00Z",
  "log_origin": "example.org/zonebroker/1",
  "log_index": 41,
  "events": [
    "tpm2.rebooted"
  ]
}
`,
	} {
		t.Run(output, func(t *testing.T) {
			var out bytes.Buffer
			if err := printResult(&out, output, result, at); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("no_events_is_an_empty_list", func(t *testing.T) {
		var out bytes.Buffer
		result.Events = nil
		if err := printResult(&out, asJSON, result, at); err != nil || !strings.Contains(out.String(), `"events": []`) {
			t.Errorf("%v\n%s", err, out.String())
		}
	})
}

// TestExitCodes: scripts branch on them.
func TestExitCodes(t *testing.T) {
	refused := func(code reason.Code, status int) error {
		return &client.RefusedError{Code: code, Status: status}
	}
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"usage":             {usageError{"x"}, terminal.ExitUsage},
		"denied":            {refused(reason.PolicyPCRMismatch, 403), terminal.ExitDenied},
		"pending":           {refused(reason.NodeAdmissionPending, 403), terminal.ExitDenied},
		"spent":             {refused(reason.ChallengeSpent, 409), terminal.ExitError},
		"malformed":         {refused(reason.RequestMalformed, 400), terminal.ExitError},
		"overloaded":        {refused(reason.RequestOverloaded, 503), terminal.ExitError},
		"database_away":     {refused(reason.StoreUnavailable, 503), terminal.ExitError},
		"unknown_code":      {refused("later.code", 500), terminal.ExitError},
		"unknown_denial":    {refused("later.code", 403), terminal.ExitDenied},
		"unreachable":       {&client.UnreachableError{}, terminal.ExitUnreachable},
		"untrusted":         {&client.UntrustedError{}, terminal.ExitUnproved},
		"not_the_contract":  {&client.AnswerError{}, terminal.ExitError},
		"tpm":               {&agent.Fault{Kind: agent.FaultTPM}, terminal.ExitError},
		"answer":            {&agent.Fault{Kind: agent.FaultAnswer}, terminal.ExitUnproved},
		"activation_failed": {reason.New(reason.TPM2AKActivationFailed, "x"), terminal.ExitError},
		"anything":          {errors.New("x"), terminal.ExitError},
		"not_trusted":       {unproved{"x"}, terminal.ExitUnproved},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if got := fail(&out, test.err); got != test.want {
				t.Errorf("exit %d, want %d", got, test.want)
			}
			if !strings.HasPrefix(out.String(), "error: ") {
				t.Errorf("printed %q", out.String())
			}
		})
	}
}

func TestErrorsFromTheNetworkStayOnTheirLine(t *testing.T) {
	var out bytes.Buffer
	fail(&out, &client.RefusedError{
		Status: 403, Code: "node.disabled", Detail: "a\x1b[2Jb\nerror: forged\u009b1m", RequestID: "r\r1",
		Reasons: []api.Reason{{Code: "node.disabled", Detail: "x"}, {Code: "policy.no_zone\n"}},
	})
	if got := out.String(); strings.ContainsAny(got, "\x1b\r\u009b") || strings.Contains(got, "\nerror: forged") {
		t.Errorf("%q", got)
	}
}

// TestRefusalsSayWhy: to a host that a broker does not know it says the code alone;
// the agent says what that means. A code of later is left as it came.
func TestRefusalsSayWhy(t *testing.T) {
	for _, c := range []struct {
		code         reason.Code
		detail, want string
	}{
		{reason.NodeNotAdmitted, "", "  why: " + reason.Lookup(reason.NodeNotAdmitted).Meaning + "\n"},
		{reason.NodeNotAdmitted, "revoked", "  why: revoked\n"},
		{"later.code", "", ""},
	} {
		var out bytes.Buffer
		fail(&out, &client.RefusedError{Status: 403, Code: c.code, Detail: c.detail, Reasons: []api.Reason{{Code: string(c.code), Detail: c.detail}}})
		if got := out.String(); !strings.Contains(got, c.want) || strings.Contains(got, "why:") != (c.want != "") || strings.Contains(got, "also:") {
			t.Errorf("%s %q:\n%s", c.code, c.detail, got)
		}
	}
}
