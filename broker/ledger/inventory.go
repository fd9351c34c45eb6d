package ledger

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"slices"
	"strings"
)

// Digest is what the record of an import commits to: the SHA-256, in hex, of the
// list as CSV (RFC 4180, with the header machine,model,site,ek_sha256), in order
// of machines. It is that of api.InventoryDigest, which the store cannot ask.
func (i Inventory) Digest() string {
	list := slices.Clone(i.Machines)
	slices.SortFunc(list, func(a, b InventoryMachine) int { return strings.Compare(a.Machine, b.Machine) })
	h := sha256.New()
	out := csv.NewWriter(h)
	_ = out.Write([]string{"machine", "model", "site", "ek_sha256"}) // a hash takes everything
	for _, m := range list {
		ek := ""
		if m.EKHash != nil {
			ek = hex.EncodeToString(m.EKHash[:])
		}
		_ = out.Write([]string{m.Machine, m.Model, m.Site, ek})
	}
	out.Flush()
	return hex.EncodeToString(h.Sum(nil))
}
