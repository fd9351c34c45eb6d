package verifier

import (
	"encoding/hex"
	"time"
)

// documents commits to what every document proved. Without one the member is
// absent: appraisals of a TPM alone say what they said before there were any.
func (w *canonicalWriter) documents(list []Document) {
	if len(list) == 0 {
		return
	}
	w.out = append(w.out, `,"documents":[`...)
	for i := range list {
		if i > 0 {
			w.out = append(w.out, ',')
		}
		w.document(&list[i])
	}
	w.out = append(w.out, ']')
}

func (w *canonicalWriter) document(d *Document) {
	w.text(`{"format":`, d.Format)
	w.text(`,"class":`, d.Class)
	w.boolean(`,"anchored":`, d.Anchored)
	w.boolean(`,"nonce":`, d.NonceBound)
	w.boolean(`,"key":`, d.KeyBound)
	w.time(`,"issued":`, d.IssuedAt)
	w.time(`,"expires":`, d.ExpiresAt)
	w.time(`,"launched":`, d.Launched)
	w.pair(`,"machine":`, d.Machine.Kind, d.Machine.Name)
	w.text(`,"ak":`, hex.EncodeToString(d.AK))
	w.list(`,"owners":[`, len(d.Owners), func(i int) (string, string) { return d.Owners[i].Kind, d.Owners[i].Value })
	w.list(`,"anchors":[`, len(d.Anchors), func(i int) (string, string) { return d.Anchors[i].Kind, d.Anchors[i].Value })
	w.list(`,"selectors":[`, len(d.Selectors), func(i int) (string, string) { return d.Selectors[i].Name, d.Selectors[i].Value })
	w.list(`,"hazards":[`, len(d.Hazards), func(i int) (string, string) { return string(d.Hazards[i].Code), d.Hazards[i].Detail })
	w.findings(`,"findings":`, d.Findings)
	w.out = append(w.out, '}')
}

// pair writes two texts as a list, so that no separator can stand in one of them.
func (w *canonicalWriter) pair(name, a, b string) {
	w.text(name+"[", a)
	w.text(",", b)
	w.out = append(w.out, ']')
}

func (w *canonicalWriter) list(name string, n int, at func(i int) (a, b string)) {
	w.out = append(w.out, name...)
	for i := range n {
		sep := ","
		if i == 0 {
			sep = ""
		}
		a, b := at(i)
		w.pair(sep, a, b)
	}
	w.out = append(w.out, ']')
}

// time writes RFC 3339 in UTC, "" for none.
func (w *canonicalWriter) time(name string, t time.Time) {
	if t.IsZero() {
		w.text(name, "")
		return
	}
	w.text(name, t.UTC().Format(time.RFC3339Nano))
}
