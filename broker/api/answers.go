package api

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The two answers of every attestation are written straight from their values:
// reflection, copies without nil lists and compacting the same bundle each time
// were a twentieth of a renewal's CPU. A value that is not written here (a time
// past the year 9999, a bundle that is no JSON) is the library's to refuse.

// answerWriter appends members and remembers a value that is not written here.
type answerWriter struct {
	out []byte
	ok  bool
}

// direct writes v if it is one of the two answers.
func direct(v any) ([]byte, bool) {
	w := answerWriter{ok: true}
	switch v := v.(type) {
	case Challenge:
		w.challenge(&v)
	case AttestResponse:
		w.attestation(&v)
	default:
		return nil, false
	}
	return w.out, w.ok
}

func (w *answerWriter) challenge(c *Challenge) {
	w.out = make([]byte, 0, 256+len(c.Token))
	w.text(`{"token":`, c.Token)
	w.text(`,"purpose":`, c.Purpose)
	w.time(`,"expires_at":`, c.ExpiresAt)
	w.text(`,"select":`, c.Select)
	if len(c.Nonce) > 0 {
		w.bytes(`,"nonce":`, c.Nonce)
	}
	if c.Credential != nil {
		w.bytes(`,"credential":{"blob":`, c.Credential.Blob)
		w.bytes(`,"secret":`, c.Credential.Secret)
		w.raw("}")
	}
	if c.IMA != nil {
		w.number(`,"ima":{"entries":`, c.IMA.Entries)
		w.raw("}")
	}
	for i, format := range c.Evidence {
		if i == 0 {
			w.raw(`,"evidence":[`)
		}
		w.text(separator(i), format)
	}
	if len(c.Evidence) > 0 {
		w.raw("]")
	}
	w.raw("}")
}

func (w *answerWriter) attestation(r *AttestResponse) {
	bundle, ok := compact(r.Bundle)
	size := 1<<10 + len(bundle)
	for _, der := range r.Chain {
		size += len(der) * 3 / 2
	}
	w.out, w.ok = make([]byte, 0, size), ok
	w.text(`{"attestation_id":`, r.AttestationID)
	w.text(`,"node":`, r.Node)
	w.text(`,"spiffe_id":`, r.SPIFFEID)
	w.text(`,"zone":`, r.Zone)
	w.number(`,"tier":`, int64(r.Tier))
	w.time(`,"attested_at":`, r.AttestedAt)
	w.time(`,"fresh_until":`, r.FreshUntil)
	w.time(`,"renew_at":`, r.RenewAt)
	w.raw(`,"chain":[`)
	for i, der := range r.Chain {
		w.bytes(separator(i), der)
	}
	w.raw(`],"bundle":`)
	w.out = append(w.out, bundle...)
	w.raw(`,"workloads":[`)
	for i := range r.Workloads {
		w.raw(separator(i))
		w.workload(&r.Workloads[i])
	}
	w.text(`],"log":{"origin":`, r.Log.Origin)
	w.number(`,"index":`, r.Log.Index)
	w.number(`,"size":`, r.Log.Size)
	w.optional(`,"checkpoint":`, r.Log.Checkpoint)
	w.raw(`},"events":[`)
	for i, event := range r.Events {
		w.text(separator(i), event)
	}
	w.raw("]}")
}

func (w *answerWriter) workload(l *Workload) {
	w.text(`{"name":`, l.Name)
	if l.UID != nil {
		w.number(`,"uid":`, int64(*l.UID))
	}
	w.optional(`,"path":`, l.Path)
	if len(l.Groups) > 0 {
		w.raw(`,"groups":[`)
		for i, group := range l.Groups {
			w.text(separator(i), group)
		}
		w.raw("]")
	}
	w.raw("}")
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func (w *answerWriter) raw(s string) { w.out = append(w.out, s...) }

func (w *answerWriter) number(name string, v int64) {
	w.raw(name)
	w.out = strconv.AppendInt(w.out, v, 10)
}

func (w *answerWriter) optional(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

// text leaves to the library what it would escape, or mend.
func (w *answerWriter) text(name, s string) {
	w.raw(name)
	for i := range len(s) {
		if escaped[s[i]] {
			quoted, err := json.Marshal(s)
			w.out, w.ok = append(w.out, quoted...), w.ok && err == nil
			return
		}
	}
	w.raw(`"`)
	w.raw(s)
	w.raw(`"`)
}

// escaped has the bytes that encoding/json does not write as they are, or not
// always.
var escaped = func() (e [256]bool) {
	for c := range e {
		e[c] = c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, byte(c)) >= 0
	}
	return e
}()

func (w *answerWriter) time(name string, t time.Time) {
	w.raw(name)
	text, err := t.UTC().AppendText(append(w.out, '"'))
	if err != nil {
		w.ok = false
		return
	}
	w.out = append(text, '"')
}

func (w *answerWriter) bytes(name string, b Bytes) {
	w.raw(name)
	w.out = append(b64.AppendEncode(append(w.out, '"'), b), '"')
}

// document is a JSON document as given, and as the library writes it.
type document struct{ raw, compact []byte }

// lastBundle is the bundle of the last answer: the next one has the same until a
// key comes or goes.
var lastBundle atomic.Pointer[document]

// compact returns raw as json.Marshal writes it; false where that fails. The
// slice is shared.
func compact(raw json.RawMessage) ([]byte, bool) {
	if d := lastBundle.Load(); d != nil && raw != nil && bytes.Equal(d.raw, raw) {
		return d.compact, true
	}
	out, err := json.Marshal(raw)
	if err != nil {
		return nil, false
	}
	if raw != nil {
		lastBundle.Store(&document{raw: bytes.Clone(raw), compact: out})
	}
	return out, true
}
