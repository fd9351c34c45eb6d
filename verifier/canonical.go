package verifier

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Canonical returns bytes that two appraisals share exactly if they say the same:
// JSON with fixed member order, 64-bit numbers as strings, bytes in hex. The
// history records their hash, and judging the stored evidence again must give it.
// Advisories are left out: their table changes with releases. Those that refused
// stand in the reasons of the record, as policy does.
func (a Appraisal) Canonical() ([]byte, error) {
	w := canonicalWriter{out: make([]byte, 0, 2<<10)}
	w.text(`{"format":`, a.format)
	w.text(`,"class":`, a.class)
	w.text(`,"key":`, a.key)
	w.boolean(`,"authentic":`, a.authentic)
	w.boolean(`,"genuine":`, a.genuine)
	w.text(`,"manufacturer":`, a.manufacturer)
	w.text(`,"tpm":{"model":`, a.tpm.Model)
	w.text(`,"version":`, a.tpm.Version)
	w.boolean(`,"expired":`, a.tpm.Expired)
	w.out = appendPCRs(append(w.out, `},"pcrs":`...), a.pcrs)
	w.number(`,"clock":"`, a.clock.Millis)
	w.number("/", uint64(a.clock.ResetCount))
	w.number("/", uint64(a.clock.RestartCount))
	w.boolean("/", a.clock.Safe)
	w.number(`","firmware":"`, a.firmware)
	w.text(`","secure_boot":`, a.SecureBoot())
	w.boot(&a)
	w.ima(a.ima)
	w.documents(a.documents)
	w.findings(`,"findings":`, a.findings)
	return append(w.out, '}'), w.err
}

// canonicalWriter appends members as encoding/json writes them.
type canonicalWriter struct {
	out []byte
	err error
}

// boot commits to what the log says about the boot, which its digest covers.
func (w *canonicalWriter) boot(a *Appraisal) {
	w.out = append(w.out, `,"boot":"`...)
	if a.hasLog {
		d := a.log.Boot().Digest()
		w.out = hex.AppendEncode(w.out, d[:])
	}
	w.out = append(w.out, '"')
}

func (w *canonicalWriter) findings(name string, findings []Finding) {
	w.out = append(w.out, name...)
	if len(findings) == 0 {
		w.out = append(w.out, "null"...)
		return
	}
	w.out = append(w.out, '[')
	first := true
	for _, f := range findings {
		if f.Check == checkAdvisory {
			continue
		}
		if !first {
			w.out = append(w.out, ',')
		}
		first = false
		w.text(`{"check":`, f.Check)
		w.text(`,"code":`, string(f.Code))
		w.text(`,"detail":`, f.Detail)
		w.boolean(`,"deny":`, f.Outcome == reason.Refused)
		w.out = append(w.out, '}')
	}
	w.out = append(w.out, ']')
}

func (w *canonicalWriter) boolean(name string, v bool) {
	w.out = strconv.AppendBool(append(w.out, name...), v)
}

func (w *canonicalWriter) number(name string, v uint64) {
	w.out = strconv.AppendUint(append(w.out, name...), v, 10)
}

// text has the library write what needs escapes: a detail may repeat what a host
// wrote.
func (w *canonicalWriter) text(name, s string) {
	w.out = append(w.out, name...)
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			quoted, err := json.Marshal(s)
			w.out, w.err = append(w.out, quoted...), cmp.Or(w.err, err)
			return
		}
	}
	w.out = append(append(append(w.out, '"'), s...), '"')
}

// PCRObject returns PCR values as a JSON object, decimal index to hex, in the
// form of RFC 8785.
func PCRObject(pcrs map[int][]byte) []byte {
	return appendPCRs(make([]byte, 0, 2+len(pcrs)*72), pcrs)
}

// appendPCRs writes the members in the order of their names, which RFC 8785 and
// encoding/json share for digits.
func appendPCRs(out []byte, pcrs map[int][]byte) []byte {
	type pcr struct {
		name  string
		value []byte
	}
	var room [24]pcr
	list := room[:0]
	for i, v := range pcrs {
		list = append(list, pcr{strconv.Itoa(i), v})
	}
	slices.SortFunc(list, func(a, b pcr) int { return cmp.Compare(a.name, b.name) })
	out = append(out, '{')
	for i, p := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), p.name...), `":"`...)
		out = append(hex.AppendEncode(out, p.value), '"')
	}
	return append(out, '}')
}
