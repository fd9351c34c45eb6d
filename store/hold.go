package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// holdTouches asks whether a hold reaches rows of a week and of some groups. A
// denial stands in no zone: its drift names the one that the node had, and where
// nothing drifted the node is in it still.
const holdTouches = `SELECT EXISTS (SELECT 1 FROM attestation
		WHERE recorded_at >= $1 AND recorded_at < $2 AND keep = ANY ($3) AND ($4 = '' OR node_id = $4) AND ($5 = '' OR zone = $5))
	OR $5 <> '' AND EXISTS (SELECT 1 FROM drift_event
		WHERE recorded_at >= $1 AND recorded_at < $2 AND keep = ANY ($3) AND ($4 = '' OR node_id = $4) AND zone = $5)
	OR $5 <> '' AND EXISTS (SELECT 1 FROM attestation a JOIN node_state s ON s.node_id = a.node_id
		WHERE a.recorded_at >= $1 AND a.recorded_at < $2 AND a.keep = ANY ($3) AND ($4 = '' OR a.node_id = $4)
		AND a.verdict = 'deny' AND a.zone = '' AND s.zone = $5)`

// holdsInForce returns all holds that are not released, for whoever is about to
// delete: where the rows may not be all of them, or not as a broker left them, it
// refuses, with reason.StoreRowForged. The writer's role may set released and add
// rows, but has no key; so a released hold counts as released only by its HMAC.
func (s *Store) holdsInForce(ctx context.Context, tx pgx.Tx) ([]ledger.Hold, error) {
	placed, err := placedHolds(ctx, tx)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, selectHold+`ORDER BY hold_id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []ledger.Hold
	for rows.Next() {
		h, err := scanHold(rows)
		if err != nil {
			return nil, err
		}
		if !s.genuine("legal_hold", h.ID.String(), h.Hold, h.mac) {
			return nil, reason.Newf(reason.StoreRowForged, "no broker wrote the row of the legal hold %s as it stands; nothing is deleted", h.ID)
		}
		if !h.Released {
			out = append(out, h.Hold)
			delete(placed, h.ID.String())
		}
	}
	for id := range placed {
		return nil, reason.Newf(reason.StoreRowForged, "the log places the legal hold %s, and its row is gone or released; nothing is deleted", id)
	}
	return out, rows.Err()
}

// placedHolds reads from the records which holds were placed and not released.
func placedHolds(ctx context.Context, tx pgx.Tx) (map[string]bool, error) {
	const query = selectRecord + `WHERE type IN ('hold.placed', 'hold.released') AND type NOT IN ('attestation', 'svid.issued')
		AND log_idx >= 0`
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanRecord)
	if err != nil {
		return nil, err
	}
	placed, released := make(map[string]bool), make(map[string]bool)
	for _, r := range all {
		var g ledger.Grant
		switch err := json.Unmarshal(r.Body, &g); {
		case err != nil:
			return nil, reason.Newf(reason.StoreRowForged, "record %s of a legal hold does not read; nothing is deleted", r.ID)
		case g.Type == ledger.TypeHoldReleased:
			released[g.Subject] = true
		default:
			placed[g.Subject] = true
		}
	}
	for id := range released {
		delete(placed, id)
	}
	return placed, nil
}

// touching notes in a plan the holds that there are, and those that reach its
// rows.
func (o *Owner) touching(ctx context.Context, tx pgx.Tx, plan *ledger.LeafPlan) error {
	holds, err := o.s.holdsInForce(ctx, tx)
	if err != nil {
		return err
	}
	for _, h := range holds {
		plan.Seen = append(plan.Seen, h.ID)
		from, to := plan.Week, plan.Week.Add(week)
		if !h.Covers(from, to) {
			continue
		}
		touches := false
		if err := tx.QueryRow(ctx, holdTouches, latest(from, h.Since), earliest(to, h.Until), plan.Keeps, string(h.Node), h.Zone).Scan(&touches); err != nil {
			return err
		}
		if touches {
			plan.Holds = append(plan.Holds, h)
		}
	}
	return nil
}

// noNewHold looks whether there are other holds than those that were seen, where
// nobody can place one any more before this commits: its record would have to be
// written, too.
func (o *Owner) noNewHold(ctx context.Context, tx pgx.Tx, seen []uuid.UUID) error {
	if _, err := tx.Exec(ctx, `LOCK TABLE ONLY attestation IN SHARE MODE`); err != nil {
		return err
	}
	holds, err := o.s.holdsInForce(ctx, tx)
	if err != nil {
		return err
	}
	for _, h := range holds {
		if !slices.Contains(seen, h.ID) {
			return reason.Newf(reason.RequestOverloaded, "the legal hold %s was placed meanwhile; try again", h.ID)
		}
	}
	return nil
}

// holdsOn returns the holds that reach records of a node, and the ids of all.
func (o *Owner) holdsOn(ctx context.Context, tx pgx.Tx, node ledger.NodeID) (out []ledger.Hold, seen []uuid.UUID, err error) {
	holds, err := o.s.holdsInForce(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	const query = `SELECT EXISTS (SELECT 1 FROM attestation WHERE node_id = $1 AND node_id <> ''
			AND ($2 = '' OR zone = $2) AND recorded_at >= $3 AND recorded_at < $4)
		OR $2 <> '' AND EXISTS (SELECT 1 FROM drift_event WHERE node_id = $1 AND zone = $2 AND recorded_at >= $3 AND recorded_at < $4)
		OR $2 <> '' AND EXISTS (SELECT 1 FROM attestation a JOIN node_state s ON s.node_id = a.node_id
			WHERE a.node_id = $1 AND a.verdict = 'deny' AND a.zone = '' AND s.zone = $2 AND a.recorded_at >= $3 AND a.recorded_at < $4)`
	for _, h := range holds {
		seen = append(seen, h.ID)
		if h.Node != "" && h.Node != node {
			continue
		}
		touches := h.Node == node && h.Zone == "" && h.Since.IsZero() && h.Until.IsZero()
		if !touches {
			never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
			err := tx.QueryRow(ctx, query, string(node), h.Zone, latest(time.Unix(0, 0), h.Since), earliest(never, h.Until)).Scan(&touches)
			if err != nil {
				return nil, nil, err
			}
		}
		if touches {
			out = append(out, h)
		}
	}
	return out, seen, nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// earliest takes the zero time for an open end.
func earliest(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
