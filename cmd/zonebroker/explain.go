package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func historyExplainCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Explain a denial, down to the event of the boot log",
		Long: `Explain says why a recorded attestation was denied and what to do about it. For
each PCR that is not what the zone accepts it names the expected values, the one
that was quoted, and the first event of the boot log that the last accepted boot
does not have, with what stood there before. It judges by the evidence and the
policy of that record, not by those in force now.`,
		Example: `  zonebroker history list --verdict deny --limit 1
  zonebroker history explain 0192f0c1-2345-7abc-8def-0123456789ab`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var x api.Explanation
		if err := c.get(cmd.Context(), "/v1/history/"+url.PathEscape(args[0])+"/explanation", nil, &x); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), x)
		}
		noteFresh(cmd, x.AsOf)
		return printExplanation(cmd, x)
	}
	return cmd
}

func printExplanation(cmd *cobra.Command, x api.Explanation) error {
	rows := [][2]string{
		{"record", x.ID},
		{"recorded", both(x.RecordedAt, time.Now())},
		{"node", x.Node},
		{"zone", x.Zone},
		{"denied", x.Code},
		{"remedy", x.Remedy},
	}
	for _, r := range x.Reasons {
		rows = append(rows, [2]string{"reason", r.Code + tail(": ", r.Detail)})
	}
	if err := terminal.Rows(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	for _, m := range x.Mismatches {
		fmt.Fprintf(cmd.OutOrStdout(), "\nPCR %d is not that of reference set %s\n", m.PCR, terminal.Plain(m.Set))
		if err := terminal.Rows(cmd.OutOrStdout(), mismatchRows(m)); err != nil {
			return err
		}
	}
	return nil
}

func mismatchRows(m api.Mismatch) [][2]string {
	expected := "expected"
	if m.Kind == api.MismatchEvents {
		expected = "missing event"
	}
	var rows [][2]string
	for _, v := range m.Expected {
		rows = append(rows, [2]string{expected, v})
	}
	rows = append(rows, [2]string{"seen", m.Seen})
	e := m.Event
	if e == nil {
		return rows
	}
	what := strings.TrimSpace(strconv.Itoa(e.Number) + " " + e.Type + " " + e.Description)
	before := strings.TrimSpace(e.Before + " " + e.BeforeDescription)
	if e.Number == 0 {
		what = "none: an event of the accepted boot is missing"
	}
	if before == "" {
		before = "none"
	}
	against := "reference set " + m.Set
	if e.Against != "" {
		against = "attestation " + e.Against
	}
	return append(rows, [][2]string{
		{"event", what}, {"digest", e.Digest}, {"before", before}, {"compared with", against},
	}...)
}

// denialCodes are the codes that can be the reason of a recorded denial.
func denialCodes() []string {
	var out []string
	for _, info := range reason.All() {
		if info.Class == reason.Deny {
			out = append(out, string(info.Code))
		}
	}
	return out
}
