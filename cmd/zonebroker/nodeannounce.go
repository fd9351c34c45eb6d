package main

import (
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
)

func nodeAnnounceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "announce NODE",
		Short: "Announce a reboot: one is expected within a time",
		Long: `Announce expects one reboot of a node. A zone that says announced_reboots: true
denies a machine that rebooted when nobody expected it (node.reboot_unannounced):
a reset of the TPM alone would let software build its PCRs anew. The first
accepted attestation after the reboot uses the announcement up, however many
resets lie between: firmware updates reset a machine more than once.`,
		Example: `  zonebroker node announce abcdefghijklmnopqrstuvwxyz --within 30m --note "kernel update"`,
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	within := cmd.Flags().Duration("within", time.Hour, "until when the reboot is expected, at most 24h")
	note := cmd.Flags().String("note", "", "why, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		if *within < time.Second {
			return usageError{"--within: less than a second"}
		}
		req := api.AnnounceRequest{Within: int(*within / time.Second), Note: *note}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var n api.Node
		if err := c.post(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/announce", req, &n); err != nil {
			return err
		}
		return printNode(cmd, *output, n)
	}
	return cmd
}
