package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newHealthCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say whether this replica can judge, record and issue",
		Long: `Health asks a running broker for its checks, each with what to do where it
fails. It exits 1 when one fails, 4 when no broker answers.`,
		Example: `  zonebroker health
  zonebroker health -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		began := time.Now()
		var h api.Health
		if err := c.get(cmd.Context(), "/v1/health", nil, &h); err != nil {
			return err
		}
		if err := printHealth(cmd, *output, h, time.Since(began)); err != nil {
			return err
		}
		if h.Status != "ok" {
			return errUnhealthy
		}
		return nil
	}
	return cmd
}

// errUnhealthy has no code of its own: the checks say what is wrong.
var errUnhealthy = errors.New("the broker cannot do its whole job; the checks above say what to do")

func printHealth(cmd *cobra.Command, output format, h api.Health, took time.Duration) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), h)
	}
	rows := [][2]string{{"status", h.Status + " (answered in " + took.Round(time.Millisecond).String() + ")"}}
	for _, c := range h.Checks {
		text := "✔ " + c.Detail
		if !c.OK {
			text = "✗ " + c.Detail
			if c.Fix != "" {
				text += "; fix: " + c.Fix
			}
		}
		rows = append(rows, [2]string{c.Name, text})
	}
	return terminal.Rows(cmd.OutOrStdout(), rows)
}
