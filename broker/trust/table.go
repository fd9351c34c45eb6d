// Package trust knows the CAs of TPM manufacturers: a table of what there is to
// trust, and a folder of what an operator has fetched or imported.
//
// The table ships with the broker and holds no certificate. A certificate that
// its maker's server hands out is kept only where its SHA-256 is that of a row,
// so that neither the network nor that server has to be trusted; the table does.
// What is in the folder makes TPMs genuine: who can write it can make any.
package trust

import (
	_ "embed" // the table
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// Roles of a certificate.
const (
	RoleRoot         = "root"         // self-issued: an anchor
	RoleIntermediate = "intermediate" // chains to an anchor, or to one that is not published
)

// Row is one certificate that a maker has published.
type Row struct {
	Maker     string // TCG vendor name; of clouds without one, their own
	Role      string
	Subject   string // RFC 2253
	Serial    string // hex
	NotBefore time.Time
	NotAfter  time.Time
	SHA256    [32]byte // of the DER
	Address   string   // where the maker offers it; "" where none is known
}

// makers.tsv is made from the published bundles of manufacturers' CAs; its addresses
// are those of the makers' own pages, and of caIssuers in certificates below.
//
//go:embed makers.tsv
var tableText string

var table = sync.OnceValues(func() ([]Row, error) { return parseTable(tableText) })

// Table returns the rows that this version ships, by maker, role and subject.
// The slice is the caller's.
func Table() ([]Row, error) {
	rows, err := table()
	return append([]Row(nil), rows...), err
}

const tableHead = "maker\trole\tsubject\tserial\tnot_before\tnot_after\tsha256\taddress"

func parseTable(text string) ([]Row, error) {
	return ReadTable("table of makers", tableHead, text, parseRow)
}

func parseRow(f []string) (Row, error) {
	if len(f) != 8 {
		return Row{}, fmt.Errorf("%d fields, want 8", len(f))
	}
	r := Row{Maker: f[0], Role: f[1], Subject: f[2], Serial: f[3], Address: f[7]}
	if r.Role != RoleRoot && r.Role != RoleIntermediate {
		return Row{}, fmt.Errorf("role %q", r.Role)
	}
	var err error
	if r.NotBefore, err = time.Parse(time.RFC3339, f[4]); err != nil {
		return Row{}, err
	}
	if r.NotAfter, err = time.Parse(time.RFC3339, f[5]); err != nil {
		return Row{}, err
	}
	sum, err := hex.DecodeString(f[6])
	if err != nil || len(sum) != len(r.SHA256) {
		return Row{}, fmt.Errorf("fingerprint %q", f[6])
	}
	r.SHA256 = [32]byte(sum)
	if r.Address == "-" {
		r.Address = ""
	}
	return r, nil
}
