package broker

import (
	"maps"
	"slices"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
)

// maxValues and maxValue bound what of the documents stays with the state of a
// node, to tell drift by.
const (
	maxValues = 48
	maxValue  = 128
)

// measuredValues is what an attempt measured by name: quoted PCRs by index, and
// selectors of the documents that are about this machine. Several values of one name
// are numbered.
func measuredValues(a verifier.Appraisal) map[string]string {
	out := hexPCRs(a.PCRs())
	for _, d := range a.Documents() {
		if !d.Anchored {
			continue
		}
		for _, s := range d.Selectors {
			if len(s.Value) <= maxValue && len(out) < maxValues {
				addFact(out, s.Name, s.Value)
			}
		}
	}
	return out
}

// documentParts are the documents as they are kept: what belongs to one record
// beside it, what machines share by content.
func documentParts(a *attempt, put func(kind string, b []byte)) {
	for i := range a.evidence.Items {
		item := &a.evidence.Items[i]
		put(ledger.PartDocument, ledger.PackDocument(item.Format, "", item.Document))
		for _, name := range slices.Sorted(maps.Keys(item.Parts)) {
			kind := ledger.PartDocument
			if len(item.Parts[name]) > maxOwnPart {
				kind = ledger.PartCompanion
			}
			put(kind, ledger.PackDocument(item.Format, name, item.Parts[name]))
		}
	}
	if p := a.req.Agent; p != nil {
		put(ledger.PartAgent, packCertify(p.Public, p.Signature))
	}
}

// maxOwnPart is the size up to which a companion stands beside its record; a
// larger one (a log) is worth sharing.
const maxOwnPart = 8 << 10
