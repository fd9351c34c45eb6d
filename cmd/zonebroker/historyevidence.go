package main

import (
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func historyEvidenceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence ID -o FILE",
		Short: "Export a recorded attestation to be judged again without a broker",
		Long: `Evidence writes the evidence of a recorded attestation into a file, with all that
it had to match: nonce, key, selection, the baseline of the clock, the log that
stood before it, roots, and the time at which it was judged. zonebroker verify
judges that file anywhere, and has to come to the recorded appraisal.

The file holds no secret, but everything that the machine measured. -o - writes
to standard output.`,
		Example: "  zonebroker history evidence 0192f0c1-2345-7abc-8def-0123456789ab -o evidence.json",
		Args:    cobra.ExactArgs(1),
	}
	server := serverFlag(cmd)
	f := cmd.Flags()
	file := f.StringP("output", "o", "", "file to write, - for standard output")
	force := f.Bool("force", false, "overwrite the file")
	_ = cmd.MarkFlagRequired("output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := os.Lstat(*file); *file != "-" && err == nil && !*force {
			return usageError{*file + " exists; --force overwrites it"}
		}
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var e api.EvidenceFile
		if err := c.get(cmd.Context(), "/v1/history/"+url.PathEscape(args[0])+"/evidence", nil, &e); err != nil {
			return err
		}
		if *file == "-" {
			return terminal.JSON(cmd.OutOrStdout(), e)
		}
		text, err := api.Encode(e)
		if err != nil {
			return err
		}
		if err := writeDocument(*file, append(text, '\n'), *force); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s; zonebroker verify judges it\n", *file)
		return nil
	}
	return cmd
}
