package main

import (
	"github.com/spf13/cobra"
)

// constructors make the commands, in the order of the help.
var constructors = []func() *cobra.Command{
	newInitCmd,
	newServeCmd,
	newDemoCmd,
	newKeeperCmd,
	newDepsCmd,
	newNodeCmd,
	newTokenCmd,
	newOperatorCmd,
	newHistoryCmd,
	newDriftCmd,
	newSVIDCmd,
	newInventoryCmd,
	newReferenceCmd,
	newPolicyCmd,
	newRetentionCmd,
	newHoldCmd,
	newTrustCmd,
	newClaimCmd,
	newVerifyCmd,
	newInspectCmd,
	newConformanceCmd,
	newHealthCmd,
	newCompletionCmd,
	newManCmd,
	newVersionCmd,
}

// newRootCmd puts the commands together. began becomes true when a command has
// passed all checks of its command line and runs.
func newRootCmd() (root *cobra.Command, began *bool) {
	root = &cobra.Command{
		Use:   "zonebroker",
		Short: "Attestation broker: what a host proves of its boot earns it a trust zone",
		Long: `Zonebroker verifies what hosts prove of themselves, decides by policy which
trust zone that earns, writes the decision into a provable history, and issues
SVIDs that carry it.

The commands that ask a running broker find it by --server, else by a role
certificate (--credential or ZONEBROKER_CREDENTIAL, see zonebroker operator),
else by the admin socket in the folder that ZONEBROKER_DIR names.

Data goes to standard output, notes and errors to standard error.

Exit codes: 0 ok, 1 error, 2 usage, 3 denied, 4 broker unreachable, 5 a proof
does not verify.`,
		Example: `  zonebroker demo
  zonebroker init ./lab --trust-domain lab.test
  ZONEBROKER_DIR=./lab zonebroker node list -o json`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, c := range constructors {
		root.AddCommand(c())
	}
	places().Register(root)
	began = new(bool)
	markBegan(root, began)
	return root, began
}

func markBegan(cmd *cobra.Command, began *bool) {
	if do := cmd.RunE; do != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			return do(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		markBegan(c, began)
	}
}

// group makes a command that only holds others.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}
