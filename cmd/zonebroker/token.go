package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newTokenCmd() *cobra.Command {
	return group("token", "Join tokens: admit one machine once",
		"Token makes secrets that admit one machine each, for machines whose EK is not\nknown before they are unpacked.",
		"  zonebroker token create --machine rack7-n1 --ttl 1h", tokenCreateCmd())
}

func tokenCreateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a one-time join token",
		Long: `Create prints a secret that admits the first machine that shows it, once. The
broker keeps only its hash: what is not written down now is lost.`,
		Example: `  zonebroker token create --machine rack7-n1 --group rack-7
  zonebroker token create --ttl 15m -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	machine, groups := labelFlags(cmd)
	ttl := cmd.Flags().Duration("ttl", time.Hour, "lifetime, up to 168h")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		if *ttl < time.Second {
			return usageError{"--ttl: at least 1s"}
		}
		req := api.TokenRequest{Machine: *machine, Groups: *groups, TTL: int(ttl.Seconds())}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var t api.Token
		if err := c.post(cmd.Context(), "/v1/tokens", req, &t); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), t)
		}
		fmt.Fprintln(cmd.OutOrStdout(), terminal.Plain(t.Secret))
		fmt.Fprintf(cmd.ErrOrStderr(), "join token %s, shown once, expires %s\n", terminal.Plain(t.ID), relative(t.ExpiresAt, time.Now()))
		return nil
	}
	return cmd
}
