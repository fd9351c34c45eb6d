package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newHistoryCmd() *cobra.Command {
	return group("history", "The history of decisions, and questions to it",
		`History reads what the broker decided, when, why, and by which policy. Nothing
in it is edited, and what retention or an erasure took is declared in the log;
verify recomputes every leaf and the head of the log and compares them with the
signed checkpoint. Members says who was in a zone at
a time, population which machines measured a value. Each reading is recorded
before it is answered: who, what, which filter.`,
		`  zonebroker history list --since 24h --reason policy.pcr_mismatch
  zonebroker history members --zone payments --at 24h
  zonebroker history verify`,
		historyListCmd(), historyShowCmd(), historyExplainCmd(), historyEvidenceCmd(), historyVerifyCmd(),
		historyMembersCmd(), historyPopulationCmd(), historyRatesCmd(), historyCrossCheckCmd(), historyVerifyErasureCmd())
}

func historyListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List records, newest first",
		Long:  "List prints records of the history, newest first. Filters are applied by the\nbroker and all have to hold; without --since it is the last 24 hours. Who read the\nhistory, and with which filters, is recorded too: --type history.read lists that.",
		Example: `  zonebroker history list --node abcdefghijklmnopqrstuvwxyz
  zonebroker history list --since 24h --verdict deny
  zonebroker history list --type history.read --all -o csv
  zonebroker history list --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --limit 5000 -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newListFlags(cmd, "records")
	list.add(cmd, "node", "only this node")
	list.add(cmd, "zone", "only this zone")
	list.add(cmd, "verdict", "allow or deny")
	list.add(cmd, "type", "type of record, for example attestation or node.approved")
	list.add(cmd, "reason", "first reason code of a denial, for example policy.pcr_mismatch")
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(denialCodes(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Entry], error) {
			var p api.HistoryPage
			err := c.get(cmd.Context(), "/v1/history", query, &p)
			return page[api.Entry]{items: p.Entries, next: p.NextCursor, asOf: p.AsOf, since: p.Since}, err
		}
		return pager[api.Entry]{cmd, list, fetch}.print(*output, "INDEX WHEN TYPE NODE ZONE VERDICT REASON ID", func(e api.Entry) []string {
			return []string{strconv.FormatInt(e.Index, 10), ago(e.RecordedAt), e.Type, e.Node, e.Zone, e.Verdict, e.Reason, e.ID}
		})
	}
	return cmd
}

func historyShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one record with everything that the log commits to",
		Long:    "Show prints a record with the change that it brought and its body: the bytes\nthat the leaf of the log commits to.",
		Example: "  zonebroker history show 0192f0c1-2345-7abc-8def-0123456789ab",
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var e api.Entry
		if err := c.get(cmd.Context(), "/v1/history/"+url.PathEscape(args[0]), nil, &e); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), e)
		}
		return printEntry(cmd, e)
	}
	return cmd
}

func printEntry(cmd *cobra.Command, e api.Entry) error {
	rows := [][2]string{
		{"record", e.ID},
		{"log index", strconv.FormatInt(e.Index, 10)},
		{"recorded", both(e.RecordedAt, time.Now())},
		{"type", e.Type},
		{"node", e.Node},
		{"zone", e.Zone},
		{"verdict", e.Verdict},
		{"reason", e.Reason},
	}
	for _, d := range e.Drift {
		rows = append(rows, [2]string{"changed " + terminal.Plain(d.Kind), d.Before + " -> " + d.After})
	}
	if e.AsOf != nil {
		noteFresh(cmd, *e.AsOf)
	}
	if err := terminal.Rows(cmd.OutOrStdout(), rows); err != nil || len(e.Body) == 0 {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, e.Body, "", "  "); err != nil {
		return fmt.Errorf("body of the record: %w", err)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", terminal.PlainLines(pretty.String()))
	return err
}

func historyVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the whole log and compare it with records, grants and checkpoint",
		Long: `Verify reads every record, recomputes its leaf and the head of the tree, and
compares them with the newest signed checkpoint and the anchor outside the
database; then it compares every row that grants something with its entry. It
exits 5 when anything differs.`,
		Example: `  zonebroker history verify
  zonebroker history verify -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var v api.Verification
		if err := c.post(cmd.Context(), "/v1/history/verify", struct{}{}, &v); err != nil {
			return err
		}
		if err := printVerification(cmd, *output, v); err != nil {
			return err
		}
		// The problems count, whatever the summary says.
		if !v.OK || len(v.Problems) > 0 {
			return unproved{why: fmt.Sprintf("%d problems in the history", max(1, len(v.Problems)))}
		}
		return nil
	}
	return cmd
}

func printVerification(cmd *cobra.Command, output format, v api.Verification) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), v)
	}
	whole := "whole"
	if !v.OK {
		whole = "NOT WHOLE"
	}
	rows := [][2]string{
		{"history", whole},
		{"entries", strconv.FormatInt(v.Size, 10)},
		{"records", strconv.FormatInt(v.Records, 10)},
		{"dropped", strconv.FormatInt(v.Dropped, 10)},
		{"grants", strconv.FormatInt(v.Grants, 10)},
		{"root", v.Root},
	}
	if len(v.Logs) > 1 {
		for _, l := range v.Logs {
			rows = append(rows, [2]string{"log " + l.Log, strconv.FormatInt(l.Size, 10) + " entries, root " + l.Root})
		}
	}
	for _, p := range v.Problems {
		rows = append(rows, [2]string{"problem", p})
	}
	return terminal.Rows(cmd.OutOrStdout(), rows)
}
