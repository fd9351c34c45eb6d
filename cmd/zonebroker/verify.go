package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func newVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Judge an evidence file offline and show every check",
		Long: `Verify judges an evidence file: evidence with all that it has to match (nonce or
qualifying data, PCR selection, roots, time), as zonebroker history evidence
exports it from a recorded attestation, or as anybody writes it for a capture of
some machine. It asks no broker and reads no clock: the time stands in the file.

It prints a tree of the checks: what passed, what was refused, and what was left
unchecked, each with the bytes that decided. Then follows what each document of a
cloud or processor proved: owners as "node admit --owner" takes them, selectors as
zones compare them; and what the event log says about the boot, and whether that
is proved or only claimed. It exits 0 when the
evidence is accepted, 3 when it is refused, and 5 when the appraisal is not the
one that the broker recorded. Zones are not judged: a recorded denial by policy
is shown as such.

FILE - is standard input. docs/evidence/quote.md describes the file and the order
of the checks, docs/schemas/evidence.json its form.`,
		Example: `  zonebroker history evidence 0192f0c1-2345-7abc-8def-0123456789ab -o evidence.json
  zonebroker verify evidence.json
  zonebroker verify evidence.json -o json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	ascii := cmd.Flags().Bool("ascii", false, "no signs beyond ASCII (default: as the locale says)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := readForeign(cmd.InOrStdin(), args[0], api.MaxEvidenceFile)
		if err != nil {
			return err
		}
		f, err := evidencefile.Parse(raw)
		if err != nil {
			return err
		}
		v, err := evidencefile.Judge(f)
		if err != nil {
			return err
		}
		if err := printVerdict(cmd.OutOrStdout(), *output, marksFor(*ascii), f, v); err != nil {
			return err
		}
		return ended(v)
	}
	return cmd
}

// readForeign reads a file that may come from anybody, or standard input.
func readForeign(in io.Reader, path string, limit int64) ([]byte, error) {
	if path != "-" {
		return readCapped(path, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("standard input: larger than %d bytes", limit)
	}
	return raw, err
}

// ended says how the command ends.
func ended(v evidencefile.Verdict) error {
	if v.Refusal != nil {
		return denial(v.Refusal)
	}
	if !v.Same {
		return unproved{why: "the appraisal of this evidence is not the one that the broker recorded"}
	}
	return nil
}

// denial is a refusal of evidence with the next step.
func denial(err error) error {
	code := reason.Of(err)
	return turnedDown{code: code, what: reason.Detail(err), fix: api.Remedy(code)}
}

func printVerdict(w io.Writer, output format, m marks, f api.EvidenceFile, v evidencefile.Verdict) error {
	if output == asJSON {
		return terminal.JSON(w, shownVerdictOf(f, v))
	}
	printTree(w, m, v.Findings)
	if err := printDocuments(w, v.Documents); err != nil {
		return err
	}
	if facts := v.Boot.Facts(); len(facts) > 0 {
		fmt.Fprintln(w, "boot")
		printFacts(w, m, facts)
	}
	verdict := "accepted"
	if v.Refusal != nil {
		verdict = "refused: " + v.Refusal.Error()
	}
	rows := [][2]string{{"verdict", verdict}, {"judged as of", f.Context.Time.UTC().Format("2006-01-02T15:04:05.999Z07:00")}}
	if r := f.Recorded; r != nil {
		rows = append(rows, [2]string{"recorded", r.Verdict + tail(" by ", firstCode(r.Reasons)) + ", record " + r.ID})
		rows = append(rows, [2]string{"same appraisal", map[bool]string{true: "yes", false: "NO"}[v.Same]})
	}
	return terminal.Rows(w, rows)
}

func firstCode(reasons []api.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	return reasons[0].Code
}

// shownVerdict is a verdict in JSON.
type shownVerdict struct {
	Accepted  bool              `json:"accepted"`
	Code      string            `json:"code"`
	Detail    string            `json:"detail"`
	Remedy    string            `json:"remedy"`
	Appraisal string            `json:"appraisal"`
	Same      bool              `json:"same"`
	Recorded  *shownRecorded    `json:"recorded"`
	Findings  []shownFinding    `json:"findings"`
	Documents []shownDocument   `json:"documents"`
	PCRs      map[string]string `json:"pcrs"`
	Boot      []shownBootFact   `json:"boot"`
}

type shownRecorded struct {
	ID      string   `json:"id"`
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
}

// shownFinding is the outcome of one check.
type shownFinding struct {
	Check   string `json:"check"`
	Outcome string `json:"outcome"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
	Part    string `json:"part"`
	Offset  int    `json:"offset"`
	Bytes   string `json:"bytes"` // hex
	Event   int    `json:"event"` // 0: none
	PCR     *int   `json:"pcr"`
}

// shownBootFact is what a log says about a boot.
type shownBootFact struct {
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	Text       string `json:"text"`
	Digest     string `json:"digest"`
	PCR        int    `json:"pcr"`
	Event      int    `json:"event"`
	Proved     bool   `json:"proved"`
	TextProved bool   `json:"text_proved"`
	Why        string `json:"why"`
}

func shownVerdictOf(f api.EvidenceFile, v evidencefile.Verdict) shownVerdict {
	out := shownVerdict{
		Accepted: v.Refusal == nil, Code: string(reason.Of(v.Refusal)), Detail: reason.Detail(v.Refusal),
		Appraisal: v.Appraisal, Same: v.Same, Findings: shownFindings(v.Findings),
		Documents: shownDocuments(v.Documents), PCRs: map[string]string{}, Boot: shownFacts(v.Boot.Facts()),
	}
	if v.Refusal != nil {
		out.Remedy = api.Remedy(reason.Of(v.Refusal))
	}
	for i, value := range v.PCRs {
		out.PCRs[strconv.Itoa(i)] = fmt.Sprintf("%x", value)
	}
	if r := f.Recorded; r != nil {
		out.Recorded = &shownRecorded{ID: r.ID, Verdict: r.Verdict, Reasons: []string{}}
		for _, why := range r.Reasons {
			out.Recorded.Reasons = append(out.Recorded.Reasons, why.Code)
		}
	}
	return out
}

func shownFindings(findings []reason.Finding) []shownFinding {
	out := make([]shownFinding, 0, len(findings))
	for _, f := range findings {
		s := shownFinding{
			Check: f.Check, Outcome: f.Outcome.String(), Code: string(f.Code), Detail: f.Detail,
			Part: f.Part, Offset: f.Offset, Bytes: fmt.Sprintf("%x", f.Bytes), Event: f.Event,
		}
		if f.InPCR {
			s.PCR = &f.PCR
		}
		out = append(out, s)
	}
	return out
}

func shownFacts(facts []eventlog.Fact) []shownBootFact {
	out := make([]shownBootFact, 0, len(facts))
	for _, f := range facts {
		out = append(out, shownBootFact{
			string(f.Kind), f.Name, f.Text, fmt.Sprintf("%x", f.Digest), f.PCR, f.Event, f.Proved, f.TextProved, f.Why,
		})
	}
	return slices.Clip(out)
}
