package store

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// listing is what the records behind a list of indices must be before the list is
// signed: what it names counts as gone for ever, so that who can write columns
// must not be able to put another record on it.
type listing struct {
	log  string
	gone *ledger.Indices // of decisions, declared before: their records need not stand
	// row says what else is wrong with a record, "" for nothing. Its columns are
	// those of its body by then.
	row func(r storedRow) string
	// entry says what is wrong with an index whose record is gone, or not; nil for
	// nothing.
	entry func(e ledger.Entry) string
}

// checkListed compares the record of every index of some spans, ascending, with
// its body and with the log's entry: reason.StoreRowForged where they differ or
// one is missing. It reads a window of indices at a time.
func checkListed(ctx context.Context, tx pgx.Tx, l listing, spans []ledger.Span) error {
	for len(spans) > 0 {
		from := spans[0].First - spans[0].First%verifyWindow
		to := from + verifyWindow
		var within []ledger.Span
		for len(spans) > 0 && spans[0].First < to {
			within = append(within, ledger.Span{First: spans[0].First, Last: min(spans[0].Last, to-1)})
			if spans[0].Last >= to {
				spans = append([]ledger.Span{{First: to, Last: spans[0].Last}}, spans[1:]...)
				break
			}
			spans = spans[1:]
		}
		if err := l.window(ctx, tx, from, to, within); err != nil {
			return err
		}
	}
	return nil
}

func (l listing) window(ctx context.Context, tx pgx.Tx, from, to int64, spans []ledger.Span) error {
	entries, err := readEntries(ctx, tx, l.log, from, to)
	if err != nil {
		return err
	}
	found, err := l.records(ctx, tx, spans[0].First, spans[len(spans)-1].Last)
	if err != nil {
		return err
	}
	for _, s := range spans {
		for i := s.First; i <= s.Last; i++ {
			if why := l.wrong(i, entries, found[i]); why != "" {
				return reason.Newf(reason.StoreRowForged, "index %d of log %s is not declared gone: %s; run zonebroker history verify", i, l.log, why)
			}
		}
	}
	return nil
}

func (l listing) records(ctx context.Context, tx pgx.Tx, first, last int64) (map[int64][]storedRow, error) {
	rows, err := tx.Query(ctx, selectRecord+`WHERE log_id = $1 AND log_idx >= $2 AND log_idx <= $3 ORDER BY log_idx`, l.log, first, last)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanRow)
	out := make(map[int64][]storedRow, len(all))
	for _, r := range all {
		out[r.Index] = append(out[r.Index], r)
	}
	return out, err
}

// wrong says what is wrong with an index, "" for nothing.
func (l listing) wrong(i int64, entries map[int64]ledger.Entry, found []storedRow) string {
	entry, logged := entries[i]
	if !logged {
		return "the log has no entry for it"
	}
	if l.entry != nil {
		if why := l.entry(entry); why != "" {
			return why
		}
	}
	if len(found) == 0 && l.gone.Has(i) {
		return ""
	}
	if len(found) != 1 {
		return "it does not have one record"
	}
	r := found[0]
	want, err := ledger.RecordOf(r.ID, r.Body, r.Salt)
	if err != nil {
		return "its body is not one that a broker wrote"
	}
	if diff := differing(want, r.Record); len(diff) > 0 {
		return "column " + strings.Join(diff, ", ") + " differs from the body"
	}
	if entry != ledger.NewEntry(r.Record, r.RecordedAt) {
		return "the record is not the one that the log committed to"
	}
	return l.row(r)
}

// ofLeaf is what the records of a leaf that goes must be.
func ofLeaf(plan ledger.LeafPlan, log string, gone *ledger.Indices, group ledger.GroupAt) listing {
	return listing{
		log: log, gone: gone,
		entry: func(e ledger.Entry) string {
			if !ledger.Week(e.RecordedAt()).Equal(plan.Week) {
				return "its rows stand in the week of " + plan.Week.Format(time.DateOnly) + ", and it was recorded at " + e.RecordedAt().Format(time.RFC3339)
			}
			return ""
		},
		row: func(r storedRow) string {
			switch {
			case plan.Class == ledger.ClassDecisions && !mayGo(r.Type):
				return "rights rest on records of type " + r.Type
			case !slices.Contains(plan.Keeps, r.keep):
				return "its rows stand in another retention group than the record"
			case !group(zoneOf(r.Record), r.RecordedAt, r.keep):
				return "no retention document of its time gave it group " + strconv.Itoa(int(r.keep))
			}
			return ""
		},
	}
}

// zoneOf is the zone by which a record has its retention group.
func zoneOf(r ledger.Record) string {
	if r.Zone != "" || r.Type != ledger.TypeAttestation {
		return r.Zone
	}
	var a ledger.Attestation
	if json.Unmarshal(r.Body, &a) != nil {
		return "" // its columns were derived from the body
	}
	return a.DriftZone()
}

// mayGo is goes, of one record.
func mayGo(kind string) bool {
	switch kind {
	case ledger.TypeAttestation, ledger.TypeIssuance, ledger.TypeHistoryRead:
		return true
	}
	return false
}

// readEntries reads the log's entries of indices from a window's start up to, but
// not including, its end.
func readEntries(ctx context.Context, tx pgx.Tx, log string, from, to int64) (map[int64]ledger.Entry, error) {
	out := make(map[int64]ledger.Entry, to-from)
	bundles, err := readTiles(ctx, tx, log, levelEntries, from/tileWidth, (to+tileWidth-1)/tileWidth)
	if err != nil {
		return nil, err
	}
	for n := from / tileWidth; n*tileWidth < to; n++ {
		bundle, whole := bundles[n]
		if !whole {
			open, err := readOpen(ctx, tx, log, n)
			if err != nil {
				return nil, err
			}
			for i, e := range open {
				out[n*tileWidth+int64(i)] = e
			}
		}
		for i := 0; i+ledger.EntrySize <= len(bundle); i += ledger.EntrySize {
			out[n*tileWidth+int64(i/ledger.EntrySize)] = ledger.Entry(bundle[i:])
		}
	}
	return out, nil
}
