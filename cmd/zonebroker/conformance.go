package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/conformance"
)

// maxOverrides bounds a list of overrides in bytes.
const maxOverrides = 1 << 20

func newConformanceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conformance DIR [--overrides FILE]",
		Short: "Judge a folder of captured evidence against the verdicts of its manifest",
		Long: `Conformance judges every case of a folder of test vectors, or of captures of your
own machines, and compares verdict, reason code and facts with those that the
MANIFEST.tsv of the folder states. It prints a line for each case that differs
and totals by kind and verdict, and exits 3 when any differs; kinds that nothing
here can judge differ too. It needs no broker, and reads nothing outside DIR.

MANIFEST.tsv has a line for each case: path, kind, verdict (accept, reject,
support), code, and context, which is what the evidence has to match (key=value
joined by semicolons). docs/evidence/vectors.md describes it. The kinds are
` + kindList(80) + `.

Differences that are meant stand in a file of overrides (path, context, wanted,
ours, reason; tab-separated), which --overrides names.`,
		Example: `  zonebroker conformance ./vectors/tpm
  zonebroker conformance ./vectors/tpm --overrides test/vectors/OVERRIDES.tsv -o json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	overrides := cmd.Flags().String("overrides", "", "file of the differences that are meant")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		report, err := runConformance(args[0], *overrides)
		if err != nil {
			return err
		}
		if err := printConformance(cmd.OutOrStdout(), *output, report); err != nil {
			return err
		}
		return differing(cmd.ErrOrStderr(), report)
	}
	return cmd
}

// kindList lists the kinds that are judged, in lines of at most width.
func kindList(width int) string {
	var out strings.Builder
	column := 0
	for i, kind := range conformance.Kinds() {
		switch {
		case i == 0:
		case column+len(", ")+len(kind) >= width:
			out.WriteString(",\n")
			column = 0
		default:
			out.WriteString(", ")
			column += len(", ")
		}
		out.WriteString(kind)
		column += len(kind)
	}
	return out.String()
}

// runConformance opens the folder so that nothing in it, links included, leads
// out of it.
func runConformance(dir, overrides string) (conformance.Report, error) {
	var list []conformance.Override
	if overrides != "" {
		raw, err := readCapped(overrides, maxOverrides)
		if err != nil {
			return conformance.Report{}, err
		}
		if list, err = conformance.ParseOverrides(overrides, raw); err != nil {
			return conformance.Report{}, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return conformance.Report{}, err
	}
	defer func() { _ = root.Close() }()
	return conformance.Run(root.FS(), list)
}

// differing ends the command, and tells what is worth knowing about the folder.
func differing(notes io.Writer, report conformance.Report) error {
	for _, r := range report.Results {
		if r.Note != "" {
			fmt.Fprintf(notes, "%s: %s\n", terminal.Plain(r.Path), terminal.Plain(r.Note))
		}
	}
	n := len(report.Differences())
	if n == 0 {
		fmt.Fprintf(notes, "%d cases, none differs\n", len(report.Results))
		return nil
	}
	return turnedDown{
		what: fmt.Sprintf("%d of %d cases differ", n, len(report.Results)),
		fix:  "each line names the case, what the manifest wants and what came out; a difference that is meant goes into a file for --overrides",
	}
}

// shownCase is a case that differs, in JSON.
type shownCase struct {
	Line    int         `json:"line"`
	Path    string      `json:"path"`
	Kind    string      `json:"kind"`
	Context string      `json:"context"`
	Status  string      `json:"status"`
	Wanted  string      `json:"wanted"`
	Got     string      `json:"got"`
	Detail  string      `json:"detail"`
	Facts   []shownFact `json:"facts"`
	Reason  string      `json:"reason"`
}

// shownFact is a fact that did not come out.
type shownFact struct {
	Name   string `json:"name"`
	Wanted string `json:"wanted"`
	Got    string `json:"got"`
}

// shownTotal counts cases, in JSON.
type shownTotal struct {
	Kind           string `json:"kind"`
	Verdict        string `json:"verdict"`
	Cases          int    `json:"cases"`
	Same           int    `json:"same"`
	Differs        int    `json:"differs"`
	Overridden     int    `json:"overridden"`
	NotImplemented int    `json:"not_implemented"`
}

func printConformance(w io.Writer, output format, report conformance.Report) error {
	if output == asJSON {
		return terminal.JSON(w, conformanceJSON(report))
	}
	for _, r := range report.Results {
		if r.Status == conformance.Same {
			continue
		}
		if err := printCase(w, r); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tVERDICT\tCASES\tSAME\tDIFFERS\tOVERRIDDEN\tNOT IMPLEMENTED")
	for _, n := range report.Totals() {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", terminal.Plain(n.Kind), n.Verdict, n.Cases, n.Same, n.Differs, n.Overridden, n.NotImplemented)
	}
	return t.Flush()
}

// printCase writes one line: path, kind, context, what was wanted, what came.
func printCase(w io.Writer, r conformance.Result) error {
	got := r.Got
	switch r.Status {
	case conformance.NotImplemented:
		got = "not implemented"
	case conformance.Broken:
		got = "cannot be judged"
	}
	line := fmt.Sprintf("line %d: %s %s [%s]: wanted %s, got %s", r.Line, r.Path, r.Kind, r.Context, r.Wanted, got)
	if r.Detail != "" {
		line += " (" + r.Detail + ")"
	}
	for _, f := range r.Facts {
		line += fmt.Sprintf("; %s wanted %s, got %s", f.Name, f.Wanted, f.Got)
	}
	if r.Reason != "" {
		line += "; meant: " + r.Reason
	}
	_, err := fmt.Fprintln(w, terminal.Plain(line))
	return err
}

func conformanceJSON(report conformance.Report) any {
	cases, totals := []shownCase{}, []shownTotal{}
	for _, r := range report.Results {
		if r.Status == conformance.Same {
			continue
		}
		facts := []shownFact{}
		for _, f := range r.Facts {
			facts = append(facts, shownFact(f))
		}
		cases = append(cases, shownCase{r.Line, r.Path, r.Kind, r.Context, string(r.Status), r.Wanted, r.Got, r.Detail, facts, r.Reason})
	}
	for _, n := range report.Totals() {
		totals = append(totals, shownTotal(n))
	}
	return struct {
		Cases      int          `json:"cases"`
		Companions int          `json:"companions"`
		Differing  int          `json:"differing"`
		Listed     []shownCase  `json:"listed"`
		Totals     []shownTotal `json:"totals"`
	}{len(report.Results), report.Companions, len(report.Differences()), cases, totals}
}
