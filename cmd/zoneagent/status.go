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

func statusCommand() *cobra.Command {
	var state, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent holds, and how its last attestation ended",
		Long: `status shows the zone that the running agent of this host holds, until when, when
it attests next, and how the last attestation ended. It asks nobody: the agent
writes it to its state folder.`,
		Example: `  zoneagent status
  zoneagent status --state ./state -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := needState(state); err != nil {
				return err
			}
			now := time.Now()
			s, h, err := agent.ReadStatus(state, now)
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), output, s, h, now)
		},
	}
	registerState(cmd, &state)
	registerOutput(cmd, &output)
	return cmd
}

// agentStatus is the JSON of status.
type agentStatus struct {
	agent.Status
	Health agent.Health `json:"health"`
}

func printStatus(w io.Writer, output string, s agent.Status, h agent.Health, now time.Time) error {
	if output == asJSON {
		return terminal.JSON(w, agentStatus{s, h})
	}
	rows := [][2]string{{"phase", string(s.Phase)}, {"health", h.Detail}}
	if s.Zone != "" {
		rows = append(
			rows,
			[2]string{"zone", fmt.Sprintf("%s (tier %d)", s.Zone, s.Tier)},
			[2]string{"spiffe id", s.SPIFFEID},
			[2]string{"attestation", s.AttestationID},
			[2]string{"fresh", "for " + until(now, s.FreshUntil)},
			[2]string{"expires", "in " + until(now, s.ExpiresAt)},
			[2]string{"workloads", strings.Join(s.Workloads, ", ")},
		)
	}
	rows = append(rows, [2]string{"broker", s.Server}, [2]string{"next attempt", "in " + until(now, s.NextAttempt)})
	if a := s.LastAttempt; a != nil && a.Code != "" {
		rows = append(rows, [2]string{"last attempt", a.Code + ": " + a.Detail}, [2]string{"failures", fmt.Sprintf("%d in a row", s.Failures)})
		if a.Remedy != "" {
			rows = append(rows, [2]string{"what to do", a.Remedy})
		}
	}
	return terminal.Rows(w, rows)
}

func healthCommand() *cobra.Command {
	var state, level, output string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say whether the running agent lives, serves and is attested",
		Long: `health exits 0 or 1, for probes. The levels build on each other:

  live      the agent runs, and its loop moves
  ready     it has an identity to serve (the default)
  attested  and the evidence behind it is fresh

A host whose broker is away stays ready until what it holds ends, and stops to be
attested at fresh_until. Restarting an agent that is live mends nothing.`,
		Example: `  zoneagent health
  zoneagent health --level live
  zoneagent health --level attested -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if level != "live" && level != "ready" && level != "attested" {
				return usageError{"--level: want live, ready or attested"}
			}
			if err := needState(state); err != nil {
				return err
			}
			_, h, err := agent.ReadStatus(state, time.Now())
			if err != nil {
				return err
			}
			if err := printHealth(cmd.OutOrStdout(), output, h); err != nil {
				return err
			}
			if !map[string]bool{"live": h.Live, "ready": h.Ready, "attested": h.Attested}[level] {
				return unhealthy{"this agent is not " + level, h.Detail}
			}
			return nil
		},
	}
	registerState(cmd, &state)
	cmd.Flags().StringVar(&level, "level", "ready", "what to demand: live, ready or attested")
	registerOutput(cmd, &output)
	return cmd
}

func printHealth(w io.Writer, output string, h agent.Health) error {
	if output == asJSON {
		return terminal.JSON(w, h)
	}
	sign := func(ok bool) string {
		if ok {
			return "✔"
		}
		return "✗"
	}
	return terminal.Rows(w, [][2]string{
		{"live", sign(h.Live)},
		{"ready", sign(h.Ready)},
		{"attested", sign(h.Attested)},
		{"detail", h.Detail},
	})
}

// unhealthy ends health with exit code 1.
type unhealthy struct{ what, why string }

func (e unhealthy) Error() string { return e.what + ": " + e.why }
