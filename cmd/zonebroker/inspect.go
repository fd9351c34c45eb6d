package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// maxInspected bounds a raw file in bytes: the longest list that is judged has 4
// MiB.
const maxInspected = 16 << 20

func newInspectCmd() *cobra.Command {
	return group("inspect", "Decode raw TPM evidence: eventlog, ima, ekcert, quote, akpublic",
		`Inspect decodes raw files as machines hand them out, and verifies nothing: anybody
can write such a file. What it shows of foreign bytes is made harmless for the
terminal. It needs no broker.`,
		"  zonebroker inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements",
		inspectEventLogCmd(), inspectIMACmd(), inspectEKCertCmd(), inspectQuoteCmd(), inspectAKPublicCmd())
}

// shownField is one field of a structure.
type shownField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// inspectFieldsCmd makes a command that shows the fields of one structure.
func inspectFieldsCmd(use, short, long, example string, read func([]byte) ([]shownField, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use + " FILE", Short: short, Long: long, Example: example, Args: cobra.ExactArgs(1)}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := readForeign(cmd.InOrStdin(), args[0], maxInspected)
		if err != nil {
			return err
		}
		fields, err := read(raw)
		if err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), fields)
		}
		rows := make([][2]string, 0, len(fields))
		for _, f := range fields {
			rows = append(rows, [2]string{f.Name, f.Value})
		}
		return terminal.Rows(cmd.OutOrStdout(), rows)
	}
	return cmd
}

// shownComparison is a PCR whose replayed value is compared with a given one.
type shownComparison struct {
	PCR      int    `json:"pcr"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Same     bool   `json:"same"`
}

// comparePCRs compares what a log leads to with the values in a file.
func comparePCRs(in io.Reader, file string, bank tpm2.Bank, replayed map[int][]byte) ([]shownComparison, error) {
	out := []shownComparison{}
	if file == "" {
		return out, nil
	}
	raw, err := readForeign(in, file, maxInspected)
	if err != nil {
		return nil, err
	}
	given, err := conformance.PCRValues(raw, bank)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for pcr := range tpm2.PCRs {
		want, ok := given[pcr]
		seen, has := replayed[pcr]
		if ok && has && len(want) != len(seen) {
			return nil, fmt.Errorf("%s: PCR %d is no value of the %s bank", file, pcr, bank)
		}
		if ok && has {
			out = append(out, shownComparison{pcr, fmt.Sprintf("%x", want), fmt.Sprintf("%x", seen), bytes.Equal(want, seen)})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no value of a PCR that the log is about", file)
	}
	return out, nil
}

// printComparison names each PCR that differs, and ends the command with 3 then.
func printComparison(w io.Writer, compared []shownComparison) {
	for _, c := range compared {
		if c.Same {
			fmt.Fprintf(w, "pcr %d is as given\n", c.PCR)
			continue
		}
		fmt.Fprintf(w, "pcr %d differs: expected %s, seen %s\n", c.PCR, c.Expected, c.Seen)
	}
}

func differingPCRs(compared []shownComparison) error {
	var pcrs []string
	for _, c := range compared {
		if !c.Same {
			pcrs = append(pcrs, fmt.Sprint(c.PCR))
		}
	}
	if len(pcrs) == 0 {
		return nil
	}
	return turnedDown{
		code: reason.EventLogReplayMismatch, what: "the log leads to other values in PCR " + strings.Join(pcrs, ", "),
		fix: "take log and values of one boot, in one bank; --diff shows what changed between two boots",
	}
}
