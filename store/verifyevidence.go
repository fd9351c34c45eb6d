package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// addParts reads the evidence rows of a window: a record's own evidence, packed,
// or the parts of a record of schema 3, by digest.
func (v *verification) addParts(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, recorded_at, kind, digest, packed, keep FROM evidence_part
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var at time.Time
	var kind string
	var digest, packed []byte
	var keep int16
	_, err = pgx.ForEachRow(rows, []any{&idx, &at, &kind, &digest, &packed, &keep}, func() error {
		ids := []ledger.EvidenceID{{Kind: kind, SHA256: hex.EncodeToString(digest)}}
		if packed != nil {
			parts, err := unpackInline(packed)
			if err != nil {
				v.problem("index %d: its evidence does not unpack", idx)
			}
			ids = digestsOf(parts)
		}
		if len(out[idx]) == 0 && !v.missing.decisions.Has(idx) {
			v.problem("index %d: evidence of a record that does not exist", idx)
		}
		for _, r := range out[idx] {
			r.parts = append(r.parts, ids...)
			// Where it stands decides when it goes.
			r.misplaced = r.misplaced || !at.Equal(r.RecordedAt) || keep != r.keep || (packed != nil) != (kind == kindInline)
		}
		return nil
	})
	return err
}

func digestsOf(parts []ledger.EvidencePart) []ledger.EvidenceID {
	out := make([]ledger.EvidenceID, len(parts))
	for i, p := range parts {
		d := sha256.Sum256(p.Bytes)
		out[i] = ledger.EvidenceID{Kind: p.Kind, SHA256: hex.EncodeToString(d[:])}
	}
	return out
}

// evidence compares a record's own evidence with the body, and notes what it
// shares with others.
func (v *verification) evidence(r *row, s said) {
	want := s.evidence
	gone := v.missing.evidence.Has(r.Index)
	if r.packed {
		want = slices.DeleteFunc(slices.Clone(want), func(e ledger.EvidenceID) bool { return !isInline(e.Kind) })
		for _, e := range s.evidence {
			if !gone && !isInline(e.Kind) {
				v.shares(r, e.SHA256)
			}
		}
		if !gone && s.baseLog != "" {
			v.shares(r, s.baseLog)
		}
	}
	if (!slices.Equal(want, r.parts) || r.misplaced) && (len(r.parts) > 0 || !gone) {
		v.problem("index %d record %s: its evidence parts are not those of the body", r.Index, r.ID)
	}
}

// shares notes that a part has to stand in the week and group of a record.
func (v *verification) shares(r *row, digest string) {
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) != sha256.Size {
		v.problem("index %d record %s: it names evidence by something that is no digest", r.Index, r.ID)
		return
	}
	if v.shared == nil {
		v.shared = make(map[contentKey]int64)
	}
	k := contentKey{digest: [32]byte(raw), week: ledger.Week(r.RecordedAt).Unix(), keep: r.keep}
	if _, seen := v.shared[k]; !seen {
		v.shared[k] = r.Index
	}
}

// checkShared looks for the parts that the records of a window share.
func (v *verification) checkShared(ctx context.Context) error {
	if len(v.shared) == 0 {
		return nil
	}
	var digests [][]byte
	var weeks []time.Time
	for k := range v.shared {
		digests, weeks = append(digests, k.digest[:]), append(weeks, time.Unix(k.week, 0))
	}
	const query = `SELECT digest, recorded_at, keep FROM evidence_content WHERE digest = ANY ($1) AND recorded_at BETWEEN $2 AND $3`
	rows, err := v.tx.Query(ctx, query, digests, slices.MinFunc(weeks, time.Time.Compare), slices.MaxFunc(weeks, time.Time.Compare))
	if err != nil {
		return err
	}
	var digest []byte
	var week time.Time
	var keep int16
	_, err = pgx.ForEachRow(rows, []any{&digest, &week, &keep}, func() error {
		delete(v.shared, contentKey{digest: [32]byte(digest), week: week.Unix(), keep: keep})
		return nil
	})
	if err != nil {
		return err
	}
	for k, idx := range v.shared {
		if erased, err := v.partErased(ctx, k.digest); err != nil {
			return err
		} else if erased {
			continue
		}
		v.problem("evidence %x: the record of index %d names it, and it is missing", k.digest, idx)
	}
	clear(v.shared)
	return nil
}

// contentPage is how many parts are read at once to be hashed.
const contentPage = 64

// checkEvidence looks for parts whose bytes were changed, and for those of
// records of schema 3 that nobody has.
func (v *verification) checkEvidence(ctx context.Context) error {
	if err := v.checkContent(ctx); err != nil {
		return err
	}
	if err := v.checkMeasurements(ctx); err != nil {
		return err
	}
	const changed = `SELECT encode(digest, 'hex') FROM evidence WHERE sha256(bytes) <> digest LIMIT 100`
	const missing = `SELECT DISTINCT encode(p.digest, 'hex') FROM evidence_part p
		WHERE p.packed IS NULL AND NOT EXISTS (SELECT 1 FROM evidence e WHERE e.digest = p.digest) LIMIT 100`
	for _, q := range []struct{ sql, what string }{
		{changed, "its bytes do not have its digest"},
		{missing, "a record names it, and it is missing"},
	} {
		rows, err := v.tx.Query(ctx, q.sql)
		if err != nil {
			return err
		}
		digests, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, d := range digests {
			v.problem("evidence %s: %s", d, q.what)
		}
	}
	return nil
}

// checkContent hashes the shared parts, a page at a time.
func (v *verification) checkContent(ctx context.Context) error {
	const query = `SELECT recorded_at, digest, keep, size, packed FROM evidence_content
		WHERE (digest, recorded_at, keep) > ($1, $2, $3) ORDER BY digest, recorded_at, keep LIMIT $4`
	digest, week, keep := []byte{}, time.Unix(0, 0), int16(0)
	for {
		page, cancel := bounded(ctx)
		rows, err := v.tx.Query(page, query, digest, week, keep, contentPage)
		if err != nil {
			cancel()
			return err
		}
		var size int
		var packed []byte
		tag, err := pgx.ForEachRow(rows, []any{&week, &digest, &keep, &size, &packed}, func() error {
			raw, err := unpackContent(packed)
			if d := sha256.Sum256(raw); err != nil || len(raw) != size || string(d[:]) != string(digest) {
				v.problem("evidence %x: its bytes do not have its digest", digest)
			}
			return nil
		})
		cancel()
		if err != nil || tag.RowsAffected() < contentPage {
			return err
		}
	}
}
