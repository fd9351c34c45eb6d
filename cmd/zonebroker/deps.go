package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
)

func newDepsCmd() *cobra.Command {
	var yes bool
	var env string
	cmd := &cobra.Command{
		Use:   "deps",
		Short: "Find the host programs that Zonebroker uses, and fetch missing ones without root",
		Long: `Deps looks for Postgres, swtpm, tpm2-tools, openssl, pgbouncer and a Python with
gRPC and JWT in ZONEBROKER_PG_BIN, ZONEBROKER_SWTPM and ZONEBROKER_PGBOUNCER, in
PATH, in /usr/lib/postgresql/*/bin and in a private prefix.
On Debian and Ubuntu it fetches what is missing into that prefix, after asking
at a terminal; without one it goes on only under CI=1 or --yes. Nothing on the
system changes, and deleting the prefix undoes it.

A broker needs Postgres, the demo swtpm too; tpm2-tools, openssl, pgbouncer and
Python are for the tests, which judge the product by foreign programs.

It prints the environment by which others find the programs.`,
		Example: `  zonebroker deps
  zonebroker deps --yes --env host.env`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := hostdeps.Ensure(cmd.Context(), hostdeps.Options{Yes: yes, In: cmd.InOrStdin(), Err: cmd.ErrOrStderr()})
			if err != nil {
				return err
			}
			text := strings.Join(found.Environ(), "\n") + "\n"
			if env != "" {
				return os.WriteFile(env, []byte(text), 0o600)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "fetch what is missing without asking")
	cmd.Flags().StringVar(&env, "env", "", "write the environment to this file instead of printing it")
	return cmd
}
