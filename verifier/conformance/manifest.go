package conformance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Manifest is the name of the file that describes a folder of vectors.
const Manifest = "MANIFEST.tsv"

// columns of a manifest, in order. The first five say what is judged, the others
// where it came from.
var columns = []string{"path", "kind", "verdict", "code", "context", "what", "source", "commit", "license", "sha256", "note"}

const (
	required  = 5
	columnSum = 9

	maxManifest = 8 << 20
	maxRows     = 100_000
)

// Verdicts of a row.
const (
	Accept  = "accept"
	Reject  = "reject"
	Support = "support" // a companion of other rows, no case
)

// Row is one line of a manifest.
type Row struct {
	Line    int // of the file, from 1
	Path    string
	Kind    string
	Verdict string
	Code    reason.Code // of Reject
	Context string      // as it stands
	Sum     string      // SHA-256 of the file in hex, "" where the manifest has none

	context map[string]string
}

// wanted is the verdict as one word: "accept" or the code.
func (r *Row) wanted() string {
	if r.Verdict == Reject {
		return string(r.Code)
	}
	return r.Verdict
}

// LineError says what is wrong with a line of a manifest or of a list of
// overrides.
type LineError struct {
	File string
	Line int
	What string
}

// Error implements error.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What) }

// ParseManifest reads a manifest. It is strict: a line that says something
// unclear would else be a case that nobody runs. The errors are *LineError,
// joined in the order of the lines.
func ParseManifest(raw []byte) ([]Row, error) {
	lines, err := readTable(Manifest, raw, columns, required)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, 0, len(lines))
	var problems lineErrors
	for _, l := range lines {
		row, what := parseRow(l)
		if what != "" {
			problems = append(problems, &LineError{Manifest, l.number, what})
			continue
		}
		rows = append(rows, row)
	}
	return rows, problems.join()
}

func parseRow(l line) (Row, string) {
	r := Row{Line: l.number, Path: l.fields[0], Kind: l.fields[1], Verdict: l.fields[2], Code: reason.Code(l.fields[3]), Context: l.fields[4]}
	if !fs.ValidPath(r.Path) || r.Path == "." {
		return r, "path has to lie below the folder of the manifest"
	}
	if r.Kind == "" {
		return r, "kind is missing"
	}
	switch {
	case r.Verdict == Reject && !reason.Known(r.Code):
		return r, "code is none of the reason codes"
	case r.Verdict == Reject:
	case r.Verdict != Accept && r.Verdict != Support:
		return r, "verdict has to be accept, reject or support"
	case r.Code != "":
		return r, "a code belongs to verdict reject only"
	}
	if len(l.fields) > columnSum && l.fields[columnSum] != "-" && l.fields[columnSum] != "" {
		r.Sum = l.fields[columnSum]
		if b, err := hex.DecodeString(r.Sum); err != nil || len(b) != 32 {
			return r, "sha256 is not 64 hex digits"
		}
	}
	var what string
	r.context, what = parseContext(r.Context)
	return r, what
}

// parseContext reads key=value;key=value.
func parseContext(s string) (map[string]string, string) {
	out := map[string]string{}
	if s == "" {
		return out, ""
	}
	for pair := range strings.SplitSeq(s, ";") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, "context is not key=value, joined by semicolons: " + strconv.Quote(pair)
		}
		if _, twice := out[key]; twice {
			return nil, "context names " + strconv.Quote(key) + " twice"
		}
		out[key] = value
	}
	return out, ""
}

// keys of a context, of cloud evidence too: a manifest may hold both.
var keys = []string{
	"account", "ak", "as", "audience", "bank", "check", "collateral", "config", "container", "crypto", "entries", "form",
	"instance_id", "instance_name", "issued", "issuer", "jwks", "keys", "log", "max_lifetime", "nonce", "pcrs", "pcrs_format",
	"pkcs7", "project", "pub", "qualifying", "quote", "region", "replay", "report", "report_data", "roots", "secure_boot",
	"select", "sig", "sigformat", "td_quote", "time", "type", "vcek", "violations", "vlek", "zone",
}

// unknownKey returns the first key that means nothing here, "" for none. Such a
// row cannot be judged: the key may ask for what nobody would check. The others
// of the manifest can.
func (r *Row) unknownKey() string {
	for _, key := range slices.Sorted(maps.Keys(r.context)) {
		if !knownKey(key) {
			return key
		}
	}
	return ""
}

func knownKey(key string) bool {
	if n, ok := strings.CutPrefix(key, "pcr."); ok {
		_, ok := pcrIndex(n)
		return ok
	}
	return slices.Contains(keys, key)
}

// pcrIndex reads the decimal number of a PCR in its only spelling.
func pcrIndex(s string) (int, bool) {
	i, err := strconv.Atoi(s)
	return i, err == nil && i >= 0 && i < 24 && strconv.Itoa(i) == s
}

type line struct {
	number int
	fields []string
}

type lineErrors []*LineError

func (l lineErrors) join() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Error lists the first ten.
func (l lineErrors) Error() string {
	var b strings.Builder
	for i, e := range l {
		if i == 10 {
			fmt.Fprintf(&b, "\nand %d more", len(l)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// readTable reads tab-separated lines under a header. Fewer columns than the
// header names are allowed down to the required ones.
func readTable(file string, raw []byte, header []string, required int) ([]line, error) {
	fail := func(n int, what string) ([]line, error) { return nil, &LineError{file, n, what} }
	if len(raw) > maxManifest {
		return fail(1, "the file is larger than 8 MiB")
	}
	if bytes.IndexByte(raw, 0) >= 0 {
		return fail(1, "the file is not text")
	}
	var out []line
	var problems lineErrors
	number, width := 0, 0
	for text := range strings.Lines(string(raw)) {
		number++
		fields := strings.Split(strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), "\t")
		if number == 1 {
			width = len(fields)
			if width < required || width > len(header) || !slices.Equal(fields, header[:width]) {
				return fail(1, "the header has to be "+strings.Join(header, ", ")+"; the first "+strconv.Itoa(required)+" are required")
			}
			continue
		}
		if number > maxRows {
			return fail(number, "more lines than are judged at once")
		}
		if len(fields) != width {
			problems = append(problems, &LineError{file, number, fmt.Sprintf("%d columns where the header has %d", len(fields), width)})
			continue
		}
		out = append(out, line{number, fields})
	}
	if number == 0 {
		return fail(1, "the file is empty")
	}
	return out, problems.join()
}
