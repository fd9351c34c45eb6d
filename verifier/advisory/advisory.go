package advisory

import (
	_ "embed" // the table
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// anyMaker stands in the table for every maker.
const anyMaker = "*"

// MaxTier is above every tier: an advisory that denies leaves none, and one that
// caps leaves those up to its Tier.
const MaxTier = 4

// Advisory is what is known of one flaw of one TPM.
type Advisory struct {
	ID      string // CVE, or the name that it goes by
	Deny    bool   // no tier is earned
	Tier    int    // without Deny: the highest tier that is earned
	Source  string // address of who says so
	Summary string

	text string
}

// String says what it is and who says so, in one line.
func (a Advisory) String() string { return a.text }

// Blocks reports whether the advisory keeps a machine from a tier.
func (a Advisory) Blocks(tier int) bool { return a.Deny || tier > a.Tier }

// row is a range of firmware versions of a maker.
type row struct {
	Advisory
	maker, kind  string // kind "" is any
	from, before Version
	open         bool // before is not set: every version from "from" on
}

//go:embed advisories.tsv
var tableText string

var table = sync.OnceValues(func() (map[string][]row, error) { return parse(tableText) })

// Lookup returns the advisories about a TPM in the order of the table, those of
// its maker first: maker is the TCG vendor name ("STM"), kind what ekcert.Certificate.Kind
// says. A maker that nobody proved ("") is affected by nothing that names one.
func Lookup(maker, kind string, firmware Version) []Advisory {
	rows, _ := table() // a test parses what is shipped
	if maker == "" {
		return nil
	}
	var out []Advisory
	for _, key := range []string{maker, anyMaker} {
		for _, r := range rows[key] {
			if r.affects(kind, firmware) {
				out = append(out, r.Advisory)
			}
		}
	}
	return out
}

func (r row) affects(kind string, firmware Version) bool {
	return (r.kind == "" || r.kind == kind) && firmware >= r.from && (r.open || firmware < r.before)
}

// Known reports whether the table has an advisory of that id.
func Known(id string) bool {
	rows, _ := table()
	for _, list := range rows {
		if slices.ContainsFunc(list, func(r row) bool { return r.ID == id }) {
			return true
		}
	}
	return false
}

const tableHead = "id\tmaker\tkind\tfrom\tbefore\tverdict\tsource\tsummary"

func parse(text string) (map[string][]row, error) {
	out := map[string][]row{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if n == 1 {
			if line != tableHead {
				return nil, fmt.Errorf("advisories: line 1 is not the head of the table")
			}
			continue
		}
		r, err := parseRow(strings.Split(line, "\t"))
		if err != nil {
			return nil, fmt.Errorf("advisories: line %d: %w", n, err)
		}
		out[r.maker] = append(out[r.maker], r)
	}
	return out, nil
}

func parseRow(f []string) (row, error) {
	if len(f) != 8 {
		return row{}, fmt.Errorf("%d fields, want 8", len(f))
	}
	r := row{Advisory: Advisory{ID: f[0], Source: f[6], Summary: f[7]}, maker: f[1], kind: f[2]}
	if r.ID == "" || r.maker == "" || !strings.HasPrefix(r.Source, "https://") || r.Summary == "" {
		return row{}, fmt.Errorf("id, maker, source and summary are needed")
	}
	r.text = r.ID + ": " + r.Summary + "; see " + r.Source
	if r.kind == "-" {
		r.kind = ""
	}
	var err error
	if r.from, err = ParseVersion(f[3]); err != nil {
		return row{}, err
	}
	if r.open = f[4] == "-"; !r.open {
		if r.before, err = ParseVersion(f[4]); err != nil {
			return row{}, err
		}
		if r.before <= r.from {
			return row{}, fmt.Errorf("the range %s to %s is empty", f[3], f[4])
		}
	}
	if f[5] == "deny" {
		r.Deny = true
		return r, nil
	}
	tier, ok := strings.CutPrefix(f[5], "cap ")
	if r.Tier, err = strconv.Atoi(tier); !ok || err != nil || r.Tier < 0 || r.Tier >= MaxTier {
		return row{}, fmt.Errorf("verdict %q is neither deny nor cap and a tier below %d", f[5], MaxTier)
	}
	return r, nil
}
