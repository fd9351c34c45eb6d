package conformance

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// facts are what came out of a judgement beside the verdict, by the keys of a
// context.
type facts map[string]string

// factKeys are the keys of a context that are compared and not given.
var factKeys = []string{"replay", "secure_boot", "entries", "violations", "zone", "instance_id", "instance_name", "project"}

// judge judges one case. The error is the verdict: nil accepts, an error with a
// reason code refuses, and badContext does neither.
type judge func(*testcase) (facts, error)

// judges is the table of kinds. What is not in it is counted as not implemented.
var judges = map[string]judge{
	"attest":     judgeAttest,
	"quote":      judgeQuote,
	"certify":    judgeCertify,
	"eventlog":   judgeEventLog,
	"ima":        judgeIMA,
	"ekcert":     judgeEKCertificate,
	"platcert":   judgeEKCertificate,
	"akcert":     judgeAKCertificateRow,
	"gce.akcert": judgeAKCertificateRow,

	"azure.cvm":        judgeAzureCVM,
	"azure.maa":        judgeAzureMAA,
	"azure.msi":        judgeAzureMSI,
	"ear":              judgeEAR,
	"gce.identity":     judgeGCEIdentity,
	"gcp.confidential": judgeGCPConfidential,
	"k8s.psat":         judgeK8sPSAT,
	"azure.imds":       judgeAzureIMDS,
	"ec2.iid":          judgeEC2IID,
	"ec2.sts":          judgeEC2STS,
	"snp":              judgeSNP,
	"x509pop":          judgeX509PoP,
	"tdx":              judgeTDX,
	"ccel":             judgeCCEL,
	"nvidia":           judgeNVIDIA,
	"cca":              judgeCCA,
	"nitro":            judgeNitro,
	"nitrotpm":         judgeNitroTPM,
}

// Kinds returns the kinds that are judged, in alphabetical order.
func Kinds() []string { return slices.Sorted(maps.Keys(judges)) }

// Status says how a case ended.
type Status string

const (
	Same           Status = "same"
	Differs        Status = "differs"
	Overridden     Status = "overridden" // differs, and a line of the overrides says why
	NotImplemented Status = "not_implemented"
	Broken         Status = "broken" // the row cannot be judged: a file is missing, a value makes no sense
)

// Result is one judged case.
type Result struct {
	Line    int
	Path    string
	Kind    string
	Context string
	Wanted  string // "accept" or a reason code
	Got     string // the same, or "" where nothing was judged
	Detail  string // of our refusal, or why nothing was judged
	Status  Status
	Facts   []Fact // that differ
	Reason  string // of an override
	Note    string // worth knowing, for example a file that the manifest does not describe
}

// Fact is a value that has to come out of an accepted case.
type Fact struct{ Name, Wanted, Got string }

// Run judges every case of the folder, in the order of its manifest. Errors are
// those of the folder and its manifest (*LineError, joined); what is wrong with
// one row alone is that row's Result.
func Run(dir fs.FS, overrides []Override) (Report, error) {
	top := testcase{dir: dir}
	raw, err := top.open(Manifest)
	if err != nil {
		return Report{}, err
	}
	rows, err := ParseManifest(raw)
	if err != nil {
		return Report{}, err
	}
	var results []Result
	companions := 0
	for i := range rows {
		if rows[i].Verdict == Support {
			companions++
			continue
		}
		results = append(results, judgeRow(dir, &rows[i]))
	}
	if err := override(results, overrides); err != nil {
		return Report{}, err
	}
	return Report{Results: results, Companions: companions}, nil
}

func judgeRow(dir fs.FS, row *Row) Result {
	c := testcase{dir: dir, row: row, read: map[string]bool{}}
	out := Result{Line: row.Line, Path: row.Path, Kind: row.Kind, Context: row.Context, Wanted: row.wanted(), Note: c.note()}
	by, ok := judges[c.offeredAs()]
	if !ok {
		out.Status, out.Detail = NotImplemented, "no verifier for this kind"
		return out
	}
	if key := row.unknownKey(); key != "" {
		out.Status, out.Detail = Broken, "context has an unknown key: "+strconv.Quote(key)
		return out
	}
	got, err := by(&c)
	if e, ok := errors.AsType[badContext](err); ok {
		out.Status, out.Detail = Broken, e.what
		return out
	}
	// What was refused need not have come as far as every key. What was accepted
	// without one was accepted although the row may have asked for more.
	if key := c.unread(); err == nil && key != "" && out.Note == "" {
		out.Note = "nothing reads this key of the context here: " + strconv.Quote(key)
	}
	out.Got, out.Detail = Accept, ""
	if err != nil {
		out.Got, out.Detail = string(reason.Of(err)), reason.Detail(err)
	}
	out.Status = Differs
	if out.Got == out.Wanted {
		out.Status = Same
	}
	if err == nil && out.Status == Same {
		out.Facts = c.compare(got)
	}
	if len(out.Facts) > 0 {
		out.Status = Differs
	}
	return out
}

// offeredAs: a file may be offered as something that it is not.
func (c *testcase) offeredAs() string {
	if as := c.get("as"); as != "" {
		return as
	}
	return c.row.Kind
}

// note warns of a file that is not the one that the manifest was written for.
func (c *testcase) note() string {
	if c.row.Sum == "" {
		return ""
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return ""
	}
	if sum := sha256.Sum256(raw); !strings.EqualFold(hex.EncodeToString(sum[:]), c.row.Sum) {
		return "the file does not have the sha256 of the manifest"
	}
	return ""
}

// compare returns the facts that differ. A fact that the row names and the
// judgement did not yield differs too.
func (c *testcase) compare(got facts) []Fact {
	var out []Fact
	for _, name := range factKeys {
		if want, ok := c.row.context[name]; ok && !strings.EqualFold(want, got[name]) {
			out = append(out, Fact{name, want, got[name]})
		}
	}
	return out
}
