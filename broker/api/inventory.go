package api

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MaxInventory bounds the CSV of an import, in bytes: some 80 000 machines of 100
// bytes. A body may have twice that, for what JSON escapes. The list is replaced as a whole, in one transaction that decisions
// wait for.
const MaxInventory = 8 << 20

// InventoryHeader is the first line of an inventory.
const InventoryHeader = "machine,model,site,ek_sha256"

// InventoryRequest replaces the list of machines that there should be. It admits
// nothing: see AdmitRequest.
type InventoryRequest struct {
	// CSV is RFC 4180 with InventoryHeader as its first line. Model, site and
	// ek_sha256 may be empty; a machine stands in it once.
	CSV  string `json:"csv"`
	Note string `json:"note,omitempty"`
}

// Inventory is an import as it was recorded.
type Inventory struct {
	ID        string    `json:"id"` // of the record
	By        string    `json:"by"`
	Machines  int64     `json:"machines"`
	SHA256    string    `json:"sha256"` // of the list in its canonical form, hex
	CreatedAt time.Time `json:"created_at"`
}

// InventoryMachine is a line of an inventory.
type InventoryMachine struct {
	Machine, Model, Site string
	EKSHA256             string // hex, "" where only the name is known
}

var namedForm = regexp.MustCompile(`^[^\x00-\x1f\x7f]{0,128}$`)

// Validate checks the form of every line.
func (r InventoryRequest) Validate() error {
	var c checks
	c.note(r.Note)
	c.size("/csv", len(r.CSV), MaxInventory)
	if c.err != nil {
		return c.err
	}
	_, err := r.Machines()
	return err
}

// Machines reads the list, ordered by machine. Errors are reason.RequestMalformed
// and name the line.
func (r InventoryRequest) Machines() ([]InventoryMachine, error) {
	in := csv.NewReader(strings.NewReader(r.CSV))
	in.FieldsPerRecord = 4
	in.ReuseRecord = true
	var out []InventoryMachine
	for first := true; ; first = false {
		line, err := in.Read()
		if errors.Is(err, io.EOF) && !first {
			return sorted(out)
		}
		at, _ := 0, 0
		if err == nil {
			at, _ = in.FieldPos(0)
		}
		switch {
		case err != nil:
			return nil, reason.New(reason.RequestMalformed, "/csv: "+whereOf(err))
		case first && strings.Join(line, ",") != InventoryHeader:
			return nil, reason.New(reason.RequestMalformed, "/csv: line 1 is not "+InventoryHeader)
		case first:
			continue
		case !labelForm.MatchString(line[0]):
			return nil, reason.Newf(reason.RequestMalformed, "/csv: line %d: the machine is not a label: letters, digits, . _ : -, at most 63", at)
		case !namedForm.MatchString(line[1]) || !namedForm.MatchString(line[2]):
			return nil, reason.Newf(reason.RequestMalformed, "/csv: line %d: model or site is longer than 128 characters or has control characters", at)
		case line[3] != "" && !digestForm.MatchString(line[3]):
			return nil, reason.Newf(reason.RequestMalformed, "/csv: line %d: ek_sha256 is not 64 hex digits", at)
		}
		out = append(out, InventoryMachine{Machine: line[0], Model: line[1], Site: line[2], EKSHA256: line[3]})
	}
}

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// whereOf says what is wrong with a CSV without repeating it.
func whereOf(err error) string {
	if p, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Sprintf("line %d: %s", p.Line, p.Err)
	}
	return "no header; the first line is " + InventoryHeader
}

func sorted(list []InventoryMachine) ([]InventoryMachine, error) {
	slices.SortFunc(list, func(a, b InventoryMachine) int { return strings.Compare(a.Machine, b.Machine) })
	for i := 1; i < len(list); i++ {
		if list[i].Machine == list[i-1].Machine {
			return nil, reason.Newf(reason.RequestMalformed, "/csv: machine %s stands in it twice", list[i].Machine)
		}
	}
	return list, nil
}

// InventoryDigest is the SHA-256, in hex, of a list in its canonical form: the
// lines in order of machines, as InventoryCSV writes them.
func InventoryDigest(list []InventoryMachine) string {
	d := sha256.Sum256([]byte(InventoryCSV(list)))
	return hex.EncodeToString(d[:])
}

// InventoryCSV writes a list, with its header.
func InventoryCSV(list []InventoryMachine) string {
	var b strings.Builder
	out := csv.NewWriter(&b)
	_ = out.Write(strings.Split(InventoryHeader, ",")) // a builder takes everything
	for _, m := range list {
		_ = out.Write([]string{m.Machine, m.Model, m.Site, m.EKSHA256})
	}
	out.Flush()
	return b.String()
}

// CoverageQuery asks which machines of the inventory do not attest, and which
// nodes no machine of it stands for.
type CoverageQuery struct {
	Site   string    `query:"site"`  // of the machines; leaves unknown nodes out, which have none
	Fresh  time.Time `query:"fresh"` // attested since; default: an hour ago
	Cursor string    `query:"cursor"`
	Limit  int       `query:"limit"` // of each of both lists
}

// Coverage is a page of what is missing and of what is unknown.
type Coverage struct {
	Since      time.Time     `json:"since"`    // a machine that attested since then is fresh
	Machines   int64         `json:"machines"` // in the inventory
	Fresh      int64         `json:"fresh"`    // of them
	Missing    []CoverageRow `json:"missing"`
	Unknown    []CoverageRow `json:"unknown"`
	NextCursor string        `json:"next_cursor"`
	AsOf       AsOf          `json:"as_of"`
}

// CoverageRow is a machine without a fresh node, or a node without a machine.
type CoverageRow struct {
	Machine  string    `json:"machine"`
	Model    string    `json:"model"`
	Site     string    `json:"site"`
	Node     string    `json:"node"` // "" where the machine never enrolled
	LastOKAt time.Time `json:"last_ok_at"`
}
