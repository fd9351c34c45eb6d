package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func newRetentionCmd() *cobra.Command {
	return group("retention", "What is kept for how long: lint, apply, show, sweep",
		`Retention says how many days decisions, evidence and SVID rows of a zone are
kept, and drops what is older, a week at a time. Without a document nothing is
dropped. The log publishes the document and lists what went; its entries stay, so
that every proof stays valid.`,
		`  zonebroker retention lint retention.yaml
  zonebroker retention sweep --dry-run`,
		retentionLintCmd(), retentionApplyCmd(), retentionShowCmd(), retentionSweepCmd())
}

func retentionLintCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint FILE",
		Short: "Report everything that is wrong with a retention document",
		Long: `Lint reads a document of kind Retention as the broker reads it and prints every
problem as file:line:column: text [code]. It exits 1 when there is one. It needs
no broker. docs/retention.md describes the document.`,
		Example: "  zonebroker retention lint retention.yaml",
		Args:    cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := readUpTo(args[0], policy.MaxFile+1)
		if err != nil {
			return err
		}
		doc, problems := policy.LoadRetention(policy.File{Name: args[0], Bytes: raw})
		if err := printProblems(cmd.OutOrStdout(), *output, problems); err != nil {
			return err
		}
		if len(problems) > 0 {
			return found{code: reason.PolicyInvalid, why: fmt.Sprintf("%d problems in %s", len(problems), args[0])}
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d groups beside the default\n", len(doc.Groups))
		return nil
	}
	return cmd
}

func retentionApplyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a retention document in force",
		Long: `Apply records a retention document in the log and puts it in force. Records of a
group's zones get the number of their group from then on; what was recorded before
keeps its own, and goes when the last group of its week may. What is older than
the new document allows goes with the next sweep: look with sweep --dry-run first.
Only the admin socket takes it.`,
		Example: "  zonebroker retention apply retention.yaml",
		Args:    cobra.ExactArgs(1),
	}
	server, output := socketFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newSocketClient(*server)
		if err != nil {
			return err
		}
		raw, err := readCapped(args[0], maxConfig)
		if err != nil {
			return err
		}
		req := api.RetentionRequest{Document: string(raw)}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var r api.Retention
		if err := c.post(cmd.Context(), "/v1/retention", req, &r); err != nil {
			return err
		}
		return printRetention(cmd, *output, r)
	}
	return cmd
}

func retentionShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the retention policy in force and what went by it",
		Long: `Show prints what every reader of the log gets from /v1/log/retention: the groups
with their periods in days, and the weeks that were dropped, each with the record
that declared them gone.`,
		Example: `  zonebroker retention show
  zonebroker retention show -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var r api.Retention
		if err := c.get(cmd.Context(), "/v1/log/retention", nil, &r); err != nil {
			return err
		}
		return printRetention(cmd, *output, r)
	}
	return cmd
}

func printRetention(cmd *cobra.Command, output format, r api.Retention) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), r)
	}
	w := cmd.OutOrStdout()
	if r.Version == 0 {
		_, err := fmt.Fprintln(w, "no retention document: nothing is dropped")
		return err
	}
	err := terminal.Rows(w, [][2]string{
		{"version", strconv.FormatInt(r.Version, 10)}, {"in force since", both(r.CreatedAt, time.Now())}, {"by", r.By}, {"document", r.SHA256},
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	err = printList(w, output, r.Groups, "GROUP KEEP ZONES DECISIONS EVIDENCE SVIDS", func(g api.RetentionGroup) []string {
		return []string{g.Name, strconv.Itoa(g.Keep), strings.Join(g.Zones, ","), keptFor(g.Decisions), keptFor(g.Evidence), keptFor(g.SVIDs)}
	})
	if err != nil || len(r.Dropped) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return printList(w, output, r.Dropped, "DROPPED WEEK ROWS FIRST LAST RECORD", func(d api.DroppedWeek) []string {
		return []string{
			d.Class, d.Week.Format(time.DateOnly), strconv.FormatInt(d.Rows, 10), strconv.FormatInt(d.First, 10), strconv.FormatInt(d.Last, 10), d.Record,
		}
	})
}

func keptFor(n int) string {
	if n == 0 {
		return "forever"
	}
	return strconv.Itoa(n) + "d"
}

func retentionSweepCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Drop now what may go",
		Long: `Sweep drops the weeks whose periods have ended, as every broker does by itself
several times a day. The log declares first what goes, then it goes. What a legal
hold touches stays, and the hold is named; what a broker of another log has to
declare waits for it; what is in use goes with the next sweep.`,
		Example: `  zonebroker retention sweep --dry-run
  zonebroker retention sweep`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	dry := cmd.Flags().Bool("dry-run", false, "say what would go, and drop nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var r api.SweepReport
		if err := c.post(cmd.Context(), "/v1/retention/sweep", api.SweepRequest{DryRun: *dry}, &r); err != nil {
			return err
		}
		if r.Retention == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "no retention document is in force: nothing is dropped")
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), r)
		}
		return printList(cmd.OutOrStdout(), *output, r.Leaves, "CLASS WEEK ROWS OUTCOME DETAIL", func(l api.SweptLeaf) []string {
			return []string{l.Class, l.Week.Format(time.DateOnly), strconv.FormatInt(l.Rows, 10), l.Outcome, l.Detail}
		})
	}
	return cmd
}
