package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

type inspectLogOptions struct{ bank, pcrs, diff string }

func inspectEventLogCmd() *cobra.Command {
	var o inspectLogOptions
	cmd := &cobra.Command{
		Use:   "eventlog FILE",
		Short: "List the events of a firmware event log and replay them",
		Long: `Eventlog lists the records of a firmware event log, crypto-agile or legacy, with
their digests in one bank, and the PCR values that they lead to. A record marked *
has a digest that is the hash of its data; of the others data is a claim.

--pcrs compares the replay with given values (JSON, the YAML of tpm2_eventlog and
tpm2_pcrread, or a hex line a PCR) and exits 3 where one differs. --diff shows what
changed since the boot of another log, event by event, with the PCR that it
explains.`,
		Example: `  zonebroker inspect eventlog /sys/kernel/security/tpm0/binary_bios_measurements
  zonebroker inspect eventlog today.bin --pcrs pcrs.json
  zonebroker inspect eventlog today.bin --diff yesterday.bin -o json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.bank, "bank", "sha256", "sha1, sha256 or sha384")
	f.StringVar(&o.pcrs, "pcrs", "", "file of PCR values to compare the replay with")
	f.StringVar(&o.diff, "diff", "", "log of an earlier boot")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		shown, err := o.inspect(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		if *output == asJSON {
			err = terminal.JSON(cmd.OutOrStdout(), shown)
		} else {
			err = shown.print(cmd.OutOrStdout(), o)
		}
		if err != nil {
			return err
		}
		return differingPCRs(shown.Compared)
	}
	return cmd
}

// shownLog is an inspected event log.
type shownLog struct {
	Form     string            `json:"form"`
	Banks    []string          `json:"banks"`
	Bank     string            `json:"bank"`
	Records  []shownRecord     `json:"records"`
	PCRs     map[string]string `json:"pcrs"`
	Compared []shownComparison `json:"compared"`
	Changes  []shownChange     `json:"changes"`
}

// shownRecord is one record; Covered says that its digest is the hash of its data.
type shownRecord struct {
	Number      int    `json:"number"`
	PCR         int    `json:"pcr"`
	Type        string `json:"type"`
	Digest      string `json:"digest"`
	Description string `json:"description"`
	Covered     bool   `json:"covered"`
}

// shownChange is a difference between two boots.
type shownChange struct {
	PCR    int          `json:"pcr"`
	Kind   string       `json:"kind"`
	Before *shownRecord `json:"before"`
	After  *shownRecord `json:"after"`
}

func (o inspectLogOptions) inspect(in io.Reader, file string) (shownLog, error) {
	bank, ok := tpm2.ParseBank(o.bank)
	if !ok {
		return shownLog{}, usageError{"--bank: want sha1, sha256 or sha384"}
	}
	list, err := readListing(in, file)
	if err != nil {
		return shownLog{}, err
	}
	of := eventlog.Bank(bank)
	out := shownLog{Form: list.Form, Banks: []string{}, Bank: bank.String(), Records: []shownRecord{}, PCRs: map[string]string{}, Changes: []shownChange{}}
	for _, b := range list.Banks {
		out.Banks = append(out.Banks, b.String())
	}
	for _, r := range list.Records {
		out.Records = append(out.Records, shownRecord{r.Index, r.PCR, r.TypeName(), fmt.Sprintf("%x", r.In(of)), r.Describe(), r.Covered()})
	}
	replayed := map[int][]byte{}
	if values, ok := list.Replay(of); ok {
		for pcr, v := range values {
			replayed[pcr], out.PCRs[strconv.Itoa(pcr)] = v, fmt.Sprintf("%x", v)
		}
	}
	if out.Compared, err = comparePCRs(in, o.pcrs, bank, replayed); err != nil {
		return out, err
	}
	if o.diff == "" {
		return out, nil
	}
	before, err := readListing(in, o.diff)
	if err != nil {
		return out, err
	}
	for _, c := range eventlog.Diff(before.Events(of), list.Events(of)) {
		out.Changes = append(out.Changes, shownChange{c.PCR, string(c.Kind), recordOf(c.Before), recordOf(c.After)})
	}
	return out, nil
}

func readListing(in io.Reader, file string) (eventlog.Listing, error) {
	raw, err := readForeign(in, file, maxInspected)
	if err != nil {
		return eventlog.Listing{}, err
	}
	return eventlog.Inspect(raw)
}

func recordOf(e *eventlog.Event) *shownRecord {
	if e == nil {
		return nil
	}
	return &shownRecord{Number: e.Index, PCR: e.PCR, Type: e.TypeName(), Digest: fmt.Sprintf("%x", e.Digest), Description: e.Describe()}
}

func (l shownLog) print(w io.Writer, o inspectLogOptions) error {
	if o.diff != "" {
		for _, c := range l.Changes {
			line := fmt.Sprintf("pcr %d %s", c.PCR, c.Kind)
			for _, side := range []struct {
				name string
				r    *shownRecord
			}{{"before", c.Before}, {"after", c.After}} {
				if side.r != nil {
					line += fmt.Sprintf("; %s: event %d %s %s %s", side.name, side.r.Number, side.r.Type, side.r.Digest, side.r.Description)
				}
			}
			fmt.Fprintln(w, terminal.Plain(line))
		}
	} else {
		for _, r := range l.Records {
			mark := " "
			if r.Covered {
				mark = "*"
			}
			fmt.Fprintln(w, terminal.Plain(fmt.Sprintf("%4d pcr %2d %s %s %s %s", r.Number, r.PCR, mark, r.Type, r.Digest, r.Description)))
		}
		for pcr := range tpm2.PCRs {
			if v := l.PCRs[strconv.Itoa(pcr)]; v != "" {
				fmt.Fprintf(w, "pcr %2d leads to %s\n", pcr, v)
			}
		}
	}
	printComparison(w, l.Compared)
	return nil
}

func inspectIMACmd() *cobra.Command {
	var bank, pcrs string
	cmd := &cobra.Command{
		Use:   "ima FILE",
		Short: "List the files of a measurement list and replay it",
		Long: `Ima lists the entries of the kernel's measurement list in its binary form, what is
wrong with each, and the PCR 10 that they lead to: by the bank's own hash, and by
the padded SHA-1 digest that kernels before 5.8 extend. --pcrs compares the first
with a given value and exits 3 where it differs.`,
		Example: `  zonebroker inspect ima /sys/kernel/security/ima/binary_runtime_measurements
  zonebroker inspect ima list.bin -o json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.Flags().StringVar(&bank, "bank", "sha256", "sha1, sha256 or sha384")
	cmd.Flags().StringVar(&pcrs, "pcrs", "", "file of PCR values to compare the replay with")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		shown, err := inspectIMA(cmd.InOrStdin(), args[0], bank, pcrs)
		if err != nil {
			return err
		}
		if *output == asJSON {
			err = terminal.JSON(cmd.OutOrStdout(), shown)
		} else {
			shown.print(cmd.OutOrStdout())
		}
		if err != nil {
			return err
		}
		return differingPCRs(shown.Compared)
	}
	return cmd
}

// shownList is an inspected measurement list.
type shownList struct {
	Entries    int               `json:"entries"`
	Violations int               `json:"violations"`
	Bank       string            `json:"bank"`
	PCR10      string            `json:"pcr10"`
	Padded     string            `json:"pcr10_padded"`
	Files      []shownFile       `json:"files"`
	Compared   []shownComparison `json:"compared"`
}

// shownFile is one entry of a list.
type shownFile struct {
	Entry     uint64 `json:"entry"`
	PCR       uint32 `json:"pcr"`
	Template  string `json:"template"`
	Path      string `json:"path"`
	Digest    string `json:"digest"`
	Violation bool   `json:"violation"`
	Signed    bool   `json:"signed"`
	Offence   string `json:"offence"`
}

func inspectIMA(in io.Reader, file, bankName, pcrs string) (shownList, error) {
	bank, ok := tpm2.ParseBank(bankName)
	if !ok {
		return shownList{}, usageError{"--bank: want sha1, sha256 or sha384"}
	}
	raw, err := readForeign(in, file, maxInspected)
	if err != nil {
		return shownList{}, err
	}
	list, err := ima.Parse(raw)
	if err != nil {
		return shownList{}, err
	}
	r := list.Replay(ima.Bank(bank.String()))
	out := shownList{
		Entries: r.Entries, Violations: r.Violations, Bank: bank.String(),
		PCR10: fmt.Sprintf("%x", r.PCR10), Padded: fmt.Sprintf("%x", r.Padded), Files: []shownFile{},
	}
	for f := range list.Files(0, nil) {
		out.Files = append(out.Files, shownFile{f.Entry, f.PCR, f.Template, f.Path, f.Digest, f.Violation, f.Signed, f.Offence})
	}
	out.Compared, err = comparePCRs(in, pcrs, bank, map[int][]byte{10: r.PCR10})
	return out, err
}

func (l shownList) print(w io.Writer) {
	for _, f := range l.Files {
		line := fmt.Sprintf("%6d %s %s %s", f.Entry, f.Template, f.Digest, f.Path)
		if f.Violation {
			line += " VIOLATION"
		}
		fmt.Fprintln(w, terminal.Plain(line+tail(": ", f.Offence)))
	}
	fmt.Fprintf(w, "pcr 10 leads to %s, with padded SHA-1 digests to %s\n", l.PCR10, l.Padded)
	printComparison(w, l.Compared)
}
