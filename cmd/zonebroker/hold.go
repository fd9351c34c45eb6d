package main

import (
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newHoldCmd() *cobra.Command {
	return group("hold", "Legal holds: place, list, release",
		`Hold keeps rows of the history from being dropped by retention and from being
erased, until it is released. Placing and releasing are recorded in the log.`,
		`  zonebroker hold place --zone payments --reason "case 12"
  zonebroker hold list`,
		holdPlaceCmd(), holdListCmd(), holdReleaseCmd())
}

func holdPlaceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "place",
		Short: "Keep what a node, a zone or a period left behind",
		Long: `Place keeps rows from being dropped or erased. What is named narrows it: a node, a
zone, a period, or all of them together. It counts from its commit on; what was
dropped before is gone.`,
		Example: `  zonebroker hold place --zone payments --since 2026-01-01T00:00:00Z --until 2026-04-01T00:00:00Z --reason "case 12"
  zonebroker hold place --node abcdefghijklmnopqrstuvwxyz --reason "case 12"`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	f := cmd.Flags()
	node, zone := f.String("node", "", "only this node"), f.String("zone", "", "only this zone")
	since := f.String("since", "", "from this time on: 24h, or RFC 3339")
	until := f.String("until", "", "before this time: 24h, or RFC 3339")
	why := f.String("reason", "", "why, for the history and for whoever is stopped by it")
	_ = cmd.MarkFlagRequired("reason")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		req := api.HoldRequest{Node: *node, Zone: *zone, Reason: *why}
		now := time.Now()
		for _, p := range []struct {
			name, text string
			into       **time.Time
		}{{"since", *since, &req.Since}, {"until", *until, &req.Until}} {
			if p.text == "" {
				continue
			}
			t, err := parseTime(p.text, now)
			if err != nil {
				return usageError{"--" + p.name + ": " + err.Error()}
			}
			t = t.UTC()
			*p.into = &t
		}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var h api.Hold
		if err := c.post(cmd.Context(), "/v1/holds", req, &h); err != nil {
			return err
		}
		return printHold(cmd, *output, h)
	}
	return cmd
}

func holdListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the holds in force",
		Long:  "List prints the legal holds in force, the newest first; with --all the released\nones behind them, at most 500.",
		Example: `  zonebroker hold list
  zonebroker hold list --all -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	all := cmd.Flags().Bool("all", false, "released ones too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		query := url.Values{}
		if *all {
			query.Set("released", "true")
		}
		var l api.HoldList
		if err := c.get(cmd.Context(), "/v1/holds", query, &l); err != nil {
			return err
		}
		return printHolds(cmd, *output, l.Holds)
	}
	return cmd
}

func holdReleaseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "release HOLD",
		Short:   "Let go what a hold kept",
		Long:    "Release ends a legal hold. What its rows' periods would have dropped meanwhile\ngoes with the next sweep.",
		Example: `  zonebroker hold release 0192f0c1-2345-7abc-8def-0123456789ab --note "case closed"`,
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		req := api.RevokeRequest{Note: *note}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var h api.Hold
		if err := c.post(cmd.Context(), "/v1/holds/"+url.PathEscape(args[0])+"/release", req, &h); err != nil {
			return err
		}
		return printHold(cmd, *output, h)
	}
	return cmd
}

func printHold(cmd *cobra.Command, output format, h api.Hold) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), h)
	}
	return printHolds(cmd, output, []api.Hold{h})
}

func printHolds(cmd *cobra.Command, output format, holds []api.Hold) error {
	now := time.Now()
	return printList(cmd.OutOrStdout(), output, holds, "HOLD NODE ZONE SINCE UNTIL PLACED BY STATUS REASON", func(h api.Hold) []string {
		status := "in force"
		if h.Released {
			status = "released"
		}
		return []string{h.ID, h.Node, h.Zone, dated(h.Since), dated(h.Until), relative(h.CreatedAt, now), h.By, status, h.Reason}
	})
}

func dated(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
