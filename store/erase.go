package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ErasurePlan lists what an erasure of a node takes from this log, and the legal
// holds that forbid it. Indices that are declared gone already are left out, and
// the rest is compared with the log: reason.StoreRowForged where a record is not
// the node's there, as one that somebody would have it take along.
func (o *Owner) ErasurePlan(ctx context.Context, node ledger.NodeID) (ledger.ErasurePlan, error) {
	var out ledger.ErasurePlan
	err := o.do(ctx, "plan an erasure", func(c *pgx.Conn) error {
		tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it wrote nothing
		if out.Holds, _, err = o.holdsOn(ctx, tx, node); err != nil {
			return err
		}
		if out.Missing, err = o.ownRows(ctx, tx, node); err != nil {
			return err
		}
		spans, err := out.Missing.Spans()
		if err != nil {
			return err
		}
		if err := checkListed(ctx, tx, ofNode(out.Missing.LogID, node), spans); err != nil {
			return err
		}
		if out.Digests, err = ownDigests(ctx, tx, node); err != nil {
			return err
		}
		shared, err := ownContents(ctx, tx, node)
		out.Digests = append(out.Digests, shared...)
		return err
	})
	return out, err
}

// ofNode is what the records that an erasure lists must be.
func ofNode(log string, node ledger.NodeID) listing {
	return listing{log: log, gone: &ledger.Indices{}, row: func(r storedRow) string {
		if r.Node != node {
			return "the record is not about the node"
		}
		return ""
	}}
}

// ownRows lists the rows of a node in this log that are not declared gone.
func (o *Owner) ownRows(ctx context.Context, tx pgx.Tx, node ledger.NodeID) (ledger.Missing, error) {
	m := ledger.Missing{LogID: o.s.cfg.LogID, Changes: map[ledger.NodeID]int64{}}
	const query = `SELECT log_idx, type FROM attestation WHERE log_id = $1 AND node_id = $2 AND node_id <> ''
		AND type <> 'node.erased' ORDER BY log_idx`
	rows, err := tx.Query(ctx, query, m.LogID, string(node))
	if err != nil {
		return m, err
	}
	declared, spans, kinds := missing{}, []ledger.Span(nil), map[int64]string{}
	var idx int64
	var kind string
	_, err = pgx.ForEachRow(rows, []any{&idx, &kind}, func() error {
		spans = append(spans, ledger.Span{First: idx, Last: idx})
		kinds[idx] = kind
		return nil
	})
	if err != nil {
		return m, err
	}
	if declared, err = readMissing(ctx, tx, m.LogID, func(string, ...any) {}); err != nil {
		return m, err
	}
	for idx, kind := range kinds {
		if changesNode(kind) && !declared.decisions.Has(idx) {
			m.Changes[node]++
		}
	}
	var all ledger.Indices
	all.Add(spans)
	return m, m.SetSpans(declared.decisions.Without(all.Spans()))
}

// machineKinds are the parts kept by content that belong to one TPM alone: its
// keys, and the certificate of the endorsement key. What hosts may share stays
// until its week goes: logs and PCR values, segments of IMA lists, which are equal
// where equal files ran in one order, and certificates of a chain, which are those
// of the manufacturer's CAs. So nobody else's records have to be read. Another
// node can only name such a part in a denial, having copied it; history verify
// accepts that it is missing there, because the erasure names it. Nobody stores it
// again: an erased node is disabled for good and not recorded any more.
var machineKinds = []string{ledger.PartAKPublic, ledger.PartEKPublic, ledger.PartEKCertificate}

// ownDigests returns the evidence of rows of schema 3 that is the node's own.
func ownDigests(ctx context.Context, tx pgx.Tx, node ledger.NodeID) ([][32]byte, error) {
	const query = `SELECT DISTINCT p.digest FROM evidence_part p JOIN attestation a USING (recorded_at, log_id, log_idx)
		WHERE a.node_id = $1 AND a.node_id <> '' AND octet_length(p.digest) = 32 AND p.kind = ANY ($2) ORDER BY 1`
	rows, err := tx.Query(ctx, query, string(node), slices.Concat(machineKinds, inlineKinds[1:]))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	out := make([][32]byte, len(found))
	for i, d := range found {
		out[i] = [32]byte(d)
	}
	return out, err
}

// weeksOf are the weeks in which a node has records.
const weeksOf = `SELECT DISTINCT date_trunc('week', recorded_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' FROM attestation
	WHERE node_id = $1 AND node_id <> ''`

// ownContents returns the node's own evidence that is kept by content. Only its
// records tell.
func ownContents(ctx context.Context, tx pgx.Tx, node ledger.NodeID) ([][32]byte, error) {
	const query = selectRecord + `WHERE type = 'attestation' AND packed IS NOT NULL AND node_id = $1 AND node_id <> ''`
	rows, err := tx.Query(ctx, query, string(node))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	own := make(map[[32]byte]bool)
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return nil, err
		}
		var body struct {
			Node     ledger.NodeID       `json:"node"`
			Evidence []ledger.EvidenceID `json:"evidence"`
		}
		if json.Unmarshal(r.Body, &body) != nil || body.Node != node {
			continue // history verify finds it
		}
		for _, id := range body.Evidence {
			var d [32]byte
			if n, err := hex.Decode(d[:], []byte(id.SHA256)); err == nil && n == len(d) && slices.Contains(machineKinds, id.Kind) {
				own[d] = true
			}
		}
	}
	out := slices.SortedFunc(maps.Keys(own), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return out, rows.Err()
}

// Erase deletes what the erasure of a node names, of this log; it may be called
// again. Without a genuine erasure, under a legal hold, or where a record of the node
// is not on the log's lists, nothing is deleted.
func (o *Owner) Erase(ctx context.Context, node ledger.NodeID) (ledger.Erased, error) {
	var out ledger.Erased
	err := o.do(ctx, "erase a node", func(c *pgx.Conn) error {
		return insistent(ctx, c, func(tx pgx.Tx) error {
			e, err := o.s.erasureOf(ctx, tx.Conn(), node)
			if err != nil {
				return err
			}
			if e == nil {
				return reason.Newf(reason.RequestNotFound, "node %s is not to be erased", node)
			}
			holds, seen, err := o.holdsOn(ctx, tx, node)
			if err != nil {
				return err
			}
			if len(holds) > 0 {
				return reason.Newf(reason.RequestOverloaded, "the legal hold %s touches the node; nothing is deleted", holds[0].ID)
			}
			if left, err := o.ownRows(ctx, tx, node); err != nil {
				return err
			} else if left.Rows > 0 {
				return reason.Newf(reason.RequestOverloaded, "%d records of the node are not declared gone; erase it again", left.Rows)
			}
			if out, err = o.erase(ctx, tx, e); err != nil {
				return err
			}
			return o.noNewHold(ctx, tx, seen)
		})
	})
	return out, err
}

func (o *Owner) erase(ctx context.Context, tx pgx.Tx, e *ledger.Erasure) (ledger.Erased, error) {
	// Where the rows are, before they go: the parts of a record are known by it.
	const parts = `DELETE FROM evidence_part p USING attestation a WHERE a.node_id = $1 AND a.node_id <> '' AND a.log_id = $2
		AND p.recorded_at = a.recorded_at AND p.log_id = a.log_id AND p.log_idx = a.log_idx`
	const own = `DELETE FROM %s WHERE node_id = $1 AND log_id = $2`
	const records = `DELETE FROM attestation WHERE node_id = $1 AND node_id <> '' AND log_id = $2 AND type <> 'node.erased'`
	digests := make([][]byte, len(e.Digests))
	for i := range e.Digests {
		digests[i] = e.Digests[i][:]
	}
	var out ledger.Erased
	logID := o.s.cfg.LogID
	for _, step := range []struct {
		count *int64
		sql   string
		args  []any
	}{
		{&out.Evidence, parts, []any{string(e.Node), logID}},
		{&out.Contents, `DELETE FROM evidence_content WHERE digest = ANY ($2) AND kind = ANY ($3)
			AND recorded_at IN (` + weeksOf + `)`, []any{string(e.Node), digests, machineKinds}},
		{&out.Contents, `DELETE FROM evidence e WHERE digest = ANY ($1)
			AND NOT EXISTS (SELECT 1 FROM evidence_part p WHERE p.digest = e.digest AND p.packed IS NULL)`, []any{digests}},
		{&out.SVIDs, fmt.Sprintf(own, "svid"), []any{string(e.Node), logID}},
		{&out.Drift, fmt.Sprintf(own, "drift_event"), []any{string(e.Node), logID}},
		{&out.Intervals, fmt.Sprintf(own, "measurement_interval"), []any{string(e.Node), logID}},
		{&out.Records, records, []any{string(e.Node), logID}},
	} {
		tag, err := tx.Exec(ctx, step.sql, step.args...)
		if err != nil {
			return out, err
		}
		*step.count += tag.RowsAffected()
	}
	return out, nil
}
