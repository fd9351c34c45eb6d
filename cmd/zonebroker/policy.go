package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/cmd/internal/zonefiles"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func newPolicyCmd() *cobra.Command {
	return group("policy", "Zone documents: lint",
		"Policy looks at zone documents before a broker does.",
		"  zonebroker policy lint ./zones", policyLintCmd())
}

func policyLintCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint DIR",
		Short: "Report everything that is wrong with a folder of zone documents",
		Long: `Lint reads a folder as the broker reads it (files that end in .yaml or .yml, one
document each) and prints every problem as file:line:column: text [code]. It exits
1 when there is one; a broker refuses such a folder as a whole. It needs no broker.`,
		Example: `  zonebroker policy lint ./zones
  zonebroker policy lint ./zones -o json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		files, err := zonefiles.Read(args[0])
		if err != nil {
			return err
		}
		set, problems := policy.Load(files)
		if err := printProblems(cmd.OutOrStdout(), *output, problems); err != nil {
			return err
		}
		if len(problems) > 0 {
			return found{code: reason.PolicyInvalid, why: fmt.Sprintf("%d problems in %s", len(problems), args[0])}
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d zones in %d files, %s\n", len(set.Zones()), len(files), set.Hash())
		return nil
	}
	return cmd
}

// lintProblem is a problem in JSON; line and column are 0 for the whole set.
type lintProblem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Code   string `json:"code"`
	Text   string `json:"text"`
}

func printProblems(w io.Writer, output format, problems []policy.Problem) error {
	if output == asJSON {
		list := make([]lintProblem, 0, len(problems))
		for _, p := range problems {
			list = append(list, lintProblem{p.File, p.Line, p.Column, string(p.Code), p.Text})
		}
		return terminal.JSON(w, list)
	}
	for _, p := range problems {
		if _, err := fmt.Fprintln(w, terminal.Plain(p.String())); err != nil {
			return err
		}
	}
	return nil
}

func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
