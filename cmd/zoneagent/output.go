package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

const (
	asTable = "table"
	asJSON  = "json"
)

func registerOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", asTable, "table or json")
}

func checkOutput(output string) error {
	if output != asTable && output != asJSON {
		return usageError{"-o: want table or json"}
	}
	return nil
}

// attestation is the JSON of an earned zone; times are RFC 3339 in UTC.
type attestation struct {
	Node          string    `json:"node"`
	SPIFFEID      string    `json:"spiffe_id"`
	TrustDomain   string    `json:"trust_domain"`
	Zone          string    `json:"zone"`
	Tier          int       `json:"tier"`
	AttestationID string    `json:"attestation_id"`
	Purpose       string    `json:"purpose"`
	Format        string    `json:"format"` // of the evidence that names the node
	Key           string    `json:"key"`    // where the SVID's key lives: "tpm" or "software"
	AttestedAt    time.Time `json:"attested_at"`
	FreshUntil    time.Time `json:"fresh_until"`
	RenewAt       time.Time `json:"renew_at"`
	ExpiresAt     time.Time `json:"expires_at"`
	LogOrigin     string    `json:"log_origin"`
	LogIndex      int64     `json:"log_index"`
	Events        []string  `json:"events"`
}

func printResult(w io.Writer, output string, r agent.Result, now time.Time) error {
	if output == asJSON {
		events := r.Events
		if events == nil {
			events = []string{}
		}
		return terminal.JSON(w, attestation{
			Node: r.Node, SPIFFEID: r.SPIFFEID, TrustDomain: r.TrustDomain, Zone: r.Zone, Tier: r.Tier,
			AttestationID: r.AttestationID, Purpose: r.Purpose, Format: r.Format, Key: keyPlace(r),
			AttestedAt: r.AttestedAt.UTC(), FreshUntil: r.FreshUntil.UTC(), RenewAt: r.RenewAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
			LogOrigin: r.Log.Origin, LogIndex: r.Log.Index, Events: events,
		})
	}
	rows := [][2]string{
		{"zone", fmt.Sprintf("%s (tier %d)", r.Zone, r.Tier)},
		{"spiffe id", r.SPIFFEID},
		{"node", r.Node},
		{"attestation", r.AttestationID},
		{"fresh", "for " + until(now, r.FreshUntil)},
		{"expires", "in " + until(now, r.ExpiresAt)},
		{"log entry", fmt.Sprintf("%d of %s", r.Log.Index, r.Log.Origin)},
	}
	if len(r.Events) > 0 {
		rows = append(rows, [2]string{"events", strings.Join(r.Events, ", ")})
	}
	return terminal.Rows(w, rows)
}

func keyPlace(r agent.Result) string {
	if r.InTPM {
		return "tpm"
	}
	return "software"
}

// until is for people: seconds up to two minutes, then minutes, then hours.
func until(now, then time.Time) string {
	d := then.Sub(now)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%dh", int(d.Hours()))
}
