package platform

import (
	_ "embed" // the table
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonebroker/zonebroker/broker/trust"
)

// Row is one object that a platform publishes.
type Row struct {
	ID
	// Format is the format of evidence that keys are for; "" where the kind says it.
	Format string
	// Subject is that of the first certificate (RFC 2253), or the issuer of keys.
	Subject             string
	NotBefore, NotAfter time.Time // zero where the content is not fixed
	// SHA256 are those of the certificates' DER, in their order; none where the
	// content is not fixed.
	SHA256  [][32]byte
	Address string // "" where none is known
}

// platforms.tsv is made from the certificates themselves; its addresses are those
// of the platforms' documentation and of distribution points in certificates.
//
//go:embed platforms.tsv
var tableText string

var table = sync.OnceValues(func() ([]Row, error) { return parseTable(tableText) })

// Table returns the rows that this version ships, by kind and name. The slice is
// the caller's.
func Table() ([]Row, error) {
	rows, err := table()
	return slices.Clone(rows), err
}

const tableHead = "kind\tname\tformat\tsubject\tnot_before\tnot_after\tsha256\taddress"

func parseTable(text string) ([]Row, error) {
	return trust.ReadTable("table of platforms", tableHead, text, parseRow)
}

func parseRow(f []string) (Row, error) {
	if len(f) != 8 {
		return Row{}, fmt.Errorf("%d fields, want 8", len(f))
	}
	for i := range f {
		if f[i] == "-" {
			f[i] = ""
		}
	}
	r := Row{ID: ID{f[0], f[1]}, Format: f[2], Subject: f[3], Address: f[7]}
	k, ok := kindOf(r.Kind)
	if !ok {
		return Row{}, fmt.Errorf("kind %q", r.Kind)
	}
	if f[6] == "" {
		if k.form == formCertificates {
			return Row{}, fmt.Errorf("%s without a fingerprint", r.ID)
		}
		return r, nil
	}
	var err error
	if r.NotBefore, err = time.Parse(time.RFC3339, f[4]); err != nil {
		return Row{}, err
	}
	if r.NotAfter, err = time.Parse(time.RFC3339, f[5]); err != nil {
		return Row{}, err
	}
	for sum := range strings.SplitSeq(f[6], "+") {
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != 32 {
			return Row{}, fmt.Errorf("fingerprint %q", sum)
		}
		r.SHA256 = append(r.SHA256, [32]byte(raw))
	}
	return r, nil
}
