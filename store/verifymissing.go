package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// missing is what records of the log declare gone. It is believed while the log
// is read: a record that was put into the database stands at an index where the
// log has another, or none, and that is found like every such record.
type missing struct {
	decisions, evidence, svids ledger.Indices
	changes                    map[ledger.NodeID]int64 // of listed records that changed a node's state
	until                      map[ledger.NodeID]int64 // index behind the last list that has such records
	leaves                     map[leafKey]int64       // whose decisions went, with the index that says so
	weeks                      map[int64][]time.Time   // of drops, by the first and by the last index of each
}

// leafKey is a week and a retention group of it.
type leafKey struct {
	week int64 // Unix seconds
	keep int16
}

// misdated says that an index is on the list of another week than its entry's.
// Entries stand in the order of time, so that the ends of a list tell of all of it.
func (v *verification) misdated(i int64, entry ledger.Entry) {
	for _, week := range v.missing.weeks[i] {
		if !ledger.Week(entry.RecordedAt()).Equal(week) {
			v.problem("index %d record %s: declared gone with the week of %s, and recorded at %s",
				i, entry.ID(), week.Format(time.DateOnly), entry.RecordedAt().Format(time.RFC3339))
		}
	}
}

func (m *missing) of(class string) []*ledger.Indices {
	switch class {
	case ledger.ClassDecisions:
		return []*ledger.Indices{&m.decisions}
	case ledger.ClassEvidence:
		return []*ledger.Indices{&m.evidence}
	case ledger.ClassSVIDs:
		return []*ledger.Indices{&m.svids}
	case "":
		return []*ledger.Indices{&m.decisions, &m.evidence, &m.svids}
	}
	return nil
}

// rowQuerier is a connection, or a transaction on it.
type rowQuerier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readMissing reads what the log of an id declares gone; problem hears of what
// does not read.
func readMissing(ctx context.Context, q rowQuerier, logID string, problem func(format string, args ...any)) (missing, error) {
	m := missing{changes: make(map[ledger.NodeID]int64), until: make(map[ledger.NodeID]int64), leaves: make(map[leafKey]int64), weeks: make(map[int64][]time.Time)}
	const query = selectRecord + `WHERE log_id = $1 AND type IN ('retention.dropped', 'node.erased')
		AND type NOT IN ('attestation', 'svid.issued') ORDER BY log_idx`
	rows, err := q.Query(ctx, query, logID)
	if err != nil {
		return m, err
	}
	all, err := pgx.CollectRows(rows, scanRecord)
	if err != nil {
		return m, err
	}
	seen := make(map[string]bool)
	for _, r := range all {
		var g ledger.Grant
		if json.Unmarshal(r.Body, &g) != nil || seen[g.Object] {
			continue // what is no grant is found with the record
		}
		seen[g.Object] = true
		if err := m.add(ctx, q, logID, r.Index, g); errors.Is(err, errNotMissing) {
			problem("index %d record %s: what it declares gone does not read (%s)", r.Index, r.ID, err)
		} else if err != nil {
			return m, err
		}
	}
	return m, nil
}

// errNotMissing marks an object that lists no missing rows.
var errNotMissing = errors.New("its object is gone or was changed")

func (m *missing) add(ctx context.Context, q rowQuerier, logID string, at int64, g ledger.Grant) error {
	digest, err := hex.DecodeString(g.Object)
	if err != nil {
		return errNotMissing
	}
	rows, err := q.Query(ctx, `SELECT bytes FROM object WHERE kind = $1 AND digest = $2`, g.Type, digest)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return errNotMissing
	}
	if got := sha256.Sum256(found[0]); string(got[:]) != string(digest) {
		return errNotMissing
	}
	listed, spans, err := ledger.ParseMissing(found[0])
	if err != nil || listed.LogID != logID || (listed.Class == "") != (g.Type == ledger.TypeErased) {
		return errNotMissing
	}
	for _, set := range m.of(listed.Class) {
		set.Add(spans)
	}
	if n := len(spans); n > 0 && listed.Class != "" {
		for _, i := range slices.Compact([]int64{spans[0].First, spans[n-1].Last}) {
			m.weeks[i] = append(m.weeks[i], listed.Week.UTC())
		}
	}
	if listed.Class == ledger.ClassDecisions {
		for _, keep := range listed.Keeps {
			k := leafKey{listed.Week.Unix(), keep}
			m.leaves[k] = max(m.leaves[k], at)
		}
	}
	for node, n := range listed.Changes {
		m.changes[node] += n
		if len(spans) > 0 {
			m.until[node] = max(m.until[node], spans[len(spans)-1].Last+1)
		}
	}
	return nil
}

// uncount takes a change back that is declared gone and stands still: a crash
// came between publishing and dropping, and it is counted by the declaration.
func (v *verification) uncount(r *row) {
	if r.Node != "" && v.missing.decisions.Has(r.Index) && changesNode(r.Type) {
		v.facts.node(r.Node).changes--
	}
}

func changesNode(kind string) bool {
	switch kind {
	case ledger.TypeAttestation, ledger.TypeNodeApproved, ledger.TypeNodeDisabled, ledger.TypeNodeAnnounced, ledger.TypeErased:
		return true
	}
	return false
}

// retentionFacts is what the log says of rows that keep or drop others.
func (f *facts) retention(g ledger.Grant) {
	switch g.Type {
	case ledger.TypeRetention:
		f.rows["retention "+g.Subject] = g.RowHash
	case ledger.TypeInventoryImport:
		f.imported = g
	case ledger.TypeHoldPlaced, ledger.TypeHoldReleased:
		f.rows["legal_hold "+g.Subject] = g.RowHash
	case ledger.TypeErased:
		// Where the node has records in several logs, that of each other log lists
		// what goes there; its row is the list, and no node changes.
		if _, list, err := g.ObjectRow(); err == nil && g.RowHash == list {
			break
		}
		n := f.node(ledger.NodeID(g.Subject))
		*n = nodeFacts{rowHash: g.RowHash, akApproved: true, attested: true, erased: true, changes: n.changes + 1}
		f.erased[ledger.NodeID(g.Subject)] = g.Object
	}
	if id, hash, err := g.ObjectRow(); err == nil && id != "" {
		f.rows["object "+id] = hash
	}
}

// checkRetention compares the rows that keep or drop others with the log.
func (v *verification) checkRetention(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectRetention+`ORDER BY version`)
	if err != nil {
		return err
	}
	versions, err := pgx.CollectRows(rows, scanRetention)
	if err != nil {
		return err
	}
	for _, r := range versions {
		v.grantRow("retention", strconv.FormatInt(r.Version, 10), r.Retention, r.mac)
	}
	if rows, err = v.tx.Query(ctx, selectHold+`ORDER BY hold_id`); err != nil {
		return err
	}
	holds, err := pgx.CollectRows(rows, scanHold)
	if err != nil {
		return err
	}
	for _, h := range holds {
		v.grantRow("legal_hold", h.ID.String(), h.Hold, h.mac)
	}
	return v.checkErasures(ctx)
}

// checkErasures: the record of an erasure commits to the blanked node, and by its
// object to the rows that it names.
func (v *verification) checkErasures(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectErasure+`ORDER BY node_id`)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, scanErasure)
	if err != nil {
		return err
	}
	for _, e := range all {
		object, known := v.facts.erased[e.Node]
		delete(v.facts.erased, e.Node)
		switch {
		case !v.s.genuine("erasure", string(e.Node), e.Erasure, e.mac):
			v.problem("erasure %s: its HMAC does not hold: not written by a broker", e.Node)
		case !known || object != hex.EncodeToString(e.Object[:]):
			v.problem("erasure %s: no record of the log grants it", e.Node)
		}
	}
	for node := range v.facts.erased {
		v.problem("erasure %s: the log grants it, and its row is missing", node)
	}
	return nil
}

// partErased reports whether an erasure names a part: in other logs of the node,
// and in denials of whoever copied it, it may be missing. That the log grants the
// erasure is checked with its row.
func (v *verification) partErased(ctx context.Context, digest [32]byte) (bool, error) {
	if v.erased == nil {
		rows, err := v.tx.Query(ctx, selectErasure+`ORDER BY node_id`)
		if err != nil {
			return false, err
		}
		all, err := pgx.CollectRows(rows, scanErasure)
		if err != nil {
			return false, err
		}
		v.erased = make(map[[32]byte]bool)
		for _, e := range all {
			for _, d := range e.Digests {
				v.erased[d] = v.erased[d] || v.s.genuine("erasure", string(e.Node), e.Erasure, e.mac)
			}
		}
	}
	return v.erased[digest], nil
}

// lastAccepted reports whether a node's last accepted attestation is one that
// stands, for a node of which records are declared gone: among them may be the
// denial that went back to it.
func (v *verification) lastAccepted(ctx context.Context, n nodeRow) (bool, error) {
	const query = `SELECT count(*) FROM attestation WHERE record_id = $1 AND node_id = $2 AND type = 'attestation' AND verdict = 'allow'`
	var count int
	err := v.tx.QueryRow(ctx, query, n.State.Last, string(n.Node.ID)).Scan(&count)
	return count == 1, err
}
