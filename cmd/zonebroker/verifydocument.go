package main

import (
	"fmt"
	"io"
	"time"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// shownDocument is what a document proved, in JSON.
type shownDocument struct {
	Format     string          `json:"format"`
	Class      string          `json:"class"`
	NonceBound bool            `json:"nonce_bound"`
	KeyBound   bool            `json:"key_bound"`
	Anchored   bool            `json:"anchored"`
	IssuedAt   *time.Time      `json:"issued_at"`
	ExpiresAt  *time.Time      `json:"expires_at"`
	Launched   *time.Time      `json:"launched"`
	Machine    string          `json:"machine"` // "kind name", empty for none
	Owners     []string        `json:"owners"`  // kind=value, as node admit --owner takes them
	Selectors  []shownSelector `json:"selectors"`
	Hazards    []shownHazard   `json:"hazards"`
}

type shownSelector struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type shownHazard struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func shownDocuments(docs []verifier.Document) []shownDocument {
	out := make([]shownDocument, 0, len(docs))
	for i := range docs {
		d := &docs[i]
		s := shownDocument{
			Format: d.Format, Class: d.Class, NonceBound: d.NonceBound, KeyBound: d.KeyBound, Anchored: d.Anchored,
			IssuedAt: timeOrNone(d.IssuedAt), ExpiresAt: timeOrNone(d.ExpiresAt), Launched: timeOrNone(d.Launched),
			Owners: []string{}, Selectors: []shownSelector{}, Hazards: []shownHazard{},
		}
		if d.Machine != (document.Machine{}) {
			s.Machine = d.Machine.Kind + " " + d.Machine.Name
		}
		for _, o := range d.Owners {
			s.Owners = append(s.Owners, o.Kind+"="+o.Value)
		}
		for _, v := range d.Selectors {
			s.Selectors = append(s.Selectors, shownSelector{v.Name, v.Value})
		}
		for _, h := range d.Hazards {
			s.Hazards = append(s.Hazards, shownHazard{string(h.Code), h.Detail})
		}
		out = append(out, s)
	}
	return out
}

func timeOrNone(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// printDocuments writes what zones compare and operators admit, each in the words
// that they take.
func printDocuments(w io.Writer, docs []verifier.Document) error {
	for _, d := range shownDocuments(docs) {
		rows := [][2]string{{"  class", d.Class}, {"  machine", d.Machine}, {"  issued", timeText(d.IssuedAt)}, {"  launched", timeText(d.Launched)}}
		if !d.Anchored {
			rows = append(rows, [2]string{"  same machine", "not proved"})
		}
		for _, o := range d.Owners {
			rows = append(rows, [2]string{"  owner", o})
		}
		for _, h := range d.Hazards {
			rows = append(rows, [2]string{"  hazard", h.Code + tail(": ", h.Detail)})
		}
		for _, s := range d.Selectors {
			rows = append(rows, [2]string{"  " + s.Name, s.Value})
		}
		fmt.Fprintln(w, "document "+terminal.Plain(d.Format))
		if err := terminal.Rows(w, rows); err != nil {
			return err
		}
	}
	return nil
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}
