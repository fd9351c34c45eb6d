package ledger

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Span is the indices from First up to and including Last.
type Span struct{ First, Last int64 }

// Missing lists the rows of one log that a record declares gone: those of a
// class and week that retention dropped, or all of an erased node. It is kept as
// an object, so that an auditor tells a row that was dropped from one that was
// stolen.
type Missing struct {
	LogID string    `json:"log_id"`
	Class string    `json:"class"` // "" for every class, of an erasure
	Leaf  string    `json:"leaf"`  // table that held them, "" of an erasure
	Week  time.Time `json:"week"`  // Monday 00:00 UTC, zero of an erasure
	Keeps []int16   `json:"keeps"` // retention groups of the rows
	Rows  int64     `json:"rows"`  // indices that are listed

	// Retention is the version in force, 0 of an erasure.
	Retention int64 `json:"retention"`

	// Changes counts, by node, the listed records that changed its state: without
	// them the version of a state could not be compared with the log.
	Changes map[NodeID]int64 `json:"changes"`

	// Indexes is the gzip of pairs of unsigned varints, one a run of indices in
	// ascending order: how many are left out before it, and how many it has.
	Indexes []byte `json:"indexes"`
}

// maxRuns bounds what Spans takes: sixteen million runs, 256 MB.
const maxRuns = 16 << 20

// SetSpans sets Indexes and Rows. The spans must ascend and not touch.
func (m *Missing) SetSpans(spans []Span) error {
	var raw []byte
	next := int64(0)
	m.Rows = 0
	for _, s := range spans {
		if s.First < next || s.Last < s.First {
			return errors.New("missing rows: spans do not ascend")
		}
		raw = binary.AppendUvarint(raw, uint64(s.First-next))
		raw = binary.AppendUvarint(raw, uint64(s.Last-s.First+1))
		m.Rows += s.Last - s.First + 1
		next = s.Last + 1
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	m.Indexes = out.Bytes()
	return nil
}

// Spans returns the listed indices.
func (m Missing) Spans() ([]Span, error) {
	r, err := gzip.NewReader(bytes.NewReader(m.Indexes))
	if err != nil {
		return nil, fmt.Errorf("missing rows: %w", err)
	}
	const longest = 2 * binary.MaxVarintLen64
	raw, err := io.ReadAll(io.LimitReader(r, maxRuns*longest))
	if err != nil {
		return nil, fmt.Errorf("missing rows: %w", err)
	}
	var out []Span
	next, rows := int64(0), int64(0)
	for len(raw) > 0 {
		gap, n := binary.Uvarint(raw)
		if n <= 0 {
			return nil, errors.New("missing rows: not a list of runs")
		}
		count, k := binary.Uvarint(raw[n:])
		const most = 1 << 60 // far beyond any log, and no sum overflows
		if k <= 0 || count == 0 || gap > most || count > most || next > most || len(out) == maxRuns {
			return nil, errors.New("missing rows: not a list of runs")
		}
		first := next + int64(gap)
		next = first + int64(count)
		rows += int64(count)
		out = append(out, Span{first, next - 1})
		raw = raw[n+k:]
	}
	if rows != m.Rows {
		return nil, fmt.Errorf("missing rows: %d are listed, %d are claimed", rows, m.Rows)
	}
	return out, nil
}

// Bytes returns the object's bytes.
func (m Missing) Bytes() ([]byte, error) {
	m.Week, m.Keeps = micro(m.Week), list(m.Keeps)
	if m.Changes == nil {
		m.Changes = map[NodeID]int64{}
	}
	return json.Marshal(m) // maps are written in the order of their keys
}

// ParseMissing reads an object's bytes and checks that its list reads.
func ParseMissing(raw []byte) (Missing, []Span, error) {
	var m Missing
	if err := json.Unmarshal(raw, &m); err != nil {
		return Missing{}, nil, fmt.Errorf("missing rows: %w", err)
	}
	spans, err := m.Spans()
	return m, spans, err
}

// Indices is a set of indices, made of spans.
type Indices struct{ spans []Span }

// Add adds spans; Has may be asked after the last of them.
func (s *Indices) Add(spans []Span) {
	all := append(s.spans, spans...)
	slices.SortFunc(all, func(a, b Span) int { return int(min(1, max(-1, a.First-b.First))) })
	merged := all[:0]
	for _, next := range all {
		if n := len(merged); n > 0 && next.First <= merged[n-1].Last+1 {
			merged[n-1].Last = max(merged[n-1].Last, next.Last)
			continue
		}
		merged = append(merged, next)
	}
	s.spans = merged
}

// Has reports whether an index is in the set.
func (s *Indices) Has(i int64) bool {
	n, found := slices.BinarySearchFunc(s.spans, i, func(span Span, i int64) int {
		switch {
		case span.Last < i:
			return -1
		case span.First > i:
			return 1
		}
		return 0
	})
	return found && s.spans[n].First <= i
}

// Spans returns what is in the set.
func (s *Indices) Spans() []Span { return s.spans }

// Without returns what of some spans, ascending, is not in the set.
func (s *Indices) Without(spans []Span) []Span {
	var out []Span
	have := s.spans
	for _, want := range spans {
		for len(have) > 0 && have[0].Last < want.First {
			have = have[1:]
		}
		for _, h := range have {
			if h.First > want.Last || want.First > want.Last {
				break
			}
			if h.First > want.First {
				out = append(out, Span{want.First, h.First - 1})
			}
			want.First = h.Last + 1
		}
		if want.First <= want.Last {
			out = append(out, want)
		}
	}
	return out
}
