package store

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// insertNode makes a new node and its state, or neither: RETURNING is empty
// where its id, root of trust or AK is taken.
const insertNode = `WITH made AS (
	INSERT INTO node (node_id, root_kind, root_hash, ek_public, ak_public, ak_name, manufacturer, admitted_by, admission,
		machine, groups, status, ak_approved, created_at, mac)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
	ON CONFLICT DO NOTHING RETURNING node_id)
INSERT INTO node_state (node_id, version, last, confirmed, rebaseline, has_clock, clock, reset_count, restart_count, firmware,
	pcrs, event_log, zone, tier, verdict, reason, policy_version, attested_at, fresh_until, expires_at, last_attempt_at,
	last_ok_at, repeats)
SELECT node_id, 1, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36
FROM made RETURNING node_id`

func insertNodeArgs(it *item) []any {
	n := it.commit.Node
	args := []any{
		string(n.ID), n.RootKind, n.RootHash[:], full(n.EKPublic), full(n.AKPublic), full(n.AKName), n.Manufacturer, n.AdmittedBy,
		n.Admission, n.Machine, full(n.Groups), string(n.Status), n.AKApproved, n.CreatedAt, it.macs.node,
	}
	return append(args, stateRow(it.commit.State).args()...)
}

// updateNode replaces what may change of a node. The trigger refuses a change of
// the root of trust; the condition refuses it before.
const updateNode = `UPDATE node SET ek_public = $3, ak_public = $4, ak_name = $5, manufacturer = $6, admitted_by = $7,
	admission = $8, machine = $9, groups = $10, status = $11, ak_approved = $12, mac = $13
WHERE node_id = $1 AND root_hash = $2 RETURNING node_id`

func updateNodeArgs(it *item) []any {
	n := it.commit.Node
	return []any{
		string(n.ID), n.RootHash[:], full(n.EKPublic), full(n.AKPublic), full(n.AKName), n.Manufacturer, n.AdmittedBy,
		n.Admission, n.Machine, full(n.Groups), string(n.Status), n.AKApproved, it.macs.node,
	}
}

// full makes nil an empty value: no column of these is NULL.
func full[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// nodeKey is what of a node must be unique.
type nodeKey struct {
	ID       string
	RootHash []byte
	AKName   []byte
}

// queueConflicts reads who holds what the new nodes wanted.
func queueConflicts(b *pgx.Batch, fresh []*item, into *[]nodeKey) {
	const holders = `SELECT node_id, root_hash, ak_name FROM node WHERE node_id = ANY ($1) OR root_hash = ANY ($2) OR ak_name = ANY ($3)`
	var ids []string
	var roots, aks [][]byte
	for _, it := range fresh {
		n := it.commit.Node
		ids, roots, aks = append(ids, string(n.ID)), append(roots, n.RootHash[:]), append(aks, full(n.AKName))
	}
	b.Queue(holders, ids, roots, aks).Query(func(rows pgx.Rows) error {
		var err error
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[nodeKey])
		return err
	})
}

// lostNew says why a new node was not made: somebody else enrolled the same
// machine first, or its identity belongs to another node.
func lostNew(it *item, present []nodeKey) error {
	n := it.commit.Node
	for _, p := range present {
		if p.ID == string(n.ID) && string(p.RootHash) == string(n.RootHash[:]) {
			return errSpent()
		}
	}
	return errIdentity()
}

const selectNode = `SELECT n.node_id, n.root_kind, n.root_hash, n.ek_public, n.ak_public, n.ak_name, n.manufacturer, n.admitted_by,
	n.admission, n.machine, n.groups, n.status, n.ak_approved, n.created_at, n.mac,
	s.version, s.last, s.confirmed, s.rebaseline, s.has_clock, s.clock, s.reset_count, s.restart_count, s.firmware,
	s.pcrs, s.event_log, s.zone, s.tier, s.verdict, s.reason, s.policy_version, s.attested_at, s.fresh_until, s.expires_at,
	s.last_attempt_at, s.last_ok_at, s.repeats
FROM node n JOIN node_state s USING (node_id) `

// scanNode reads a row of selectNode and its HMAC. Node and state come from one
// statement, so from one snapshot.
func scanNode(row pgx.CollectableRow) (ledger.Snapshot, []byte, error) {
	var n ledger.Node
	var st nodeStateRow
	var id, status string
	var root, mac []byte
	var version int64
	dest := []any{
		&id, &n.RootKind, &root, &n.EKPublic, &n.AKPublic, &n.AKName, &n.Manufacturer, &n.AdmittedBy,
		&n.Admission, &n.Machine, &n.Groups, &status, &n.AKApproved, &n.CreatedAt, &mac, &version,
	}
	if err := row.Scan(append(dest, st.dest()...)...); err != nil {
		return ledger.Snapshot{}, nil, err
	}
	n.ID, n.Status, n.CreatedAt = ledger.NodeID(id), ledger.Status(status), n.CreatedAt.UTC()
	copy(n.RootHash[:], root)
	return ledger.Snapshot{Found: true, Node: n, State: st.state(n.ID, version)}, mac, nil
}

// NodeByID reads one node in one snapshot.
func (s *Store) NodeByID(ctx context.Context, id ledger.NodeID) (ledger.Snapshot, error) {
	return s.node(ctx, selectNode+`WHERE n.node_id = $1`, string(id))
}

// NodeByRoot reads the node of a root of trust.
func (s *Store) NodeByRoot(ctx context.Context, rootHash [32]byte) (ledger.Snapshot, error) {
	return s.node(ctx, selectNode+`WHERE n.root_hash = $1`, rootHash[:])
}

// NodeByAK reads the node to which an AK is pinned.
func (s *Store) NodeByAK(ctx context.Context, akName []byte) (ledger.Snapshot, error) {
	return s.node(ctx, selectNode+`WHERE n.ak_name = $1`, full(akName))
}

func (s *Store) node(ctx context.Context, query string, arg any) (ledger.Snapshot, error) {
	var snap ledger.Snapshot
	err := s.read(ctx, "read node", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, arg)
		if err != nil {
			return err
		}
		var mac []byte
		snap, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (ledger.Snapshot, error) {
			var snap ledger.Snapshot
			var err error
			snap, mac, err = scanNode(row)
			return snap, err
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && !s.genuine("node", string(snap.Node.ID), snap.Node, mac) {
			snap = ledger.Snapshot{}
			return reason.New(reason.StoreRowForged, "the node's row was not written by a broker")
		}
		return err
	})
	if err != nil {
		return ledger.Snapshot{}, err
	}
	return snap, nil
}

// NodesByAdmission returns the ids of the nodes enrolled under one admission that
// are not disabled.
func (s *Store) NodesByAdmission(ctx context.Context, admission uuid.UUID) ([]ledger.NodeID, error) {
	const query = `SELECT node_id FROM node WHERE admission = $1 AND status <> 'disabled' ORDER BY node_id LIMIT 100`
	var out []ledger.NodeID
	err := s.read(ctx, "read nodes of an admission", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, admission)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			out = append(out, ledger.NodeID(id))
		}
		return err
	})
	return out, err
}

// Nodes returns at most limit nodes (1 to 500) with their state, ordered by id,
// after cursor. Forged rows are left out.
func (s *Store) Nodes(ctx context.Context, cursor ledger.NodeID, limit int) ([]ledger.Snapshot, error) {
	limit = min(max(limit, 1), maxPage)
	const page = selectNode + `WHERE n.node_id > $1 ORDER BY n.node_id LIMIT $2`
	var out []ledger.Snapshot
	err := s.read(ctx, "list nodes", func(ctx context.Context, c *pgxpool.Conn) error {
		// Forged rows do not shorten a page: a short page reads as the end.
		for after, more := string(cursor), true; more && len(out) < limit; {
			want := limit - len(out)
			rows, err := c.Query(ctx, page, after, want)
			if err != nil {
				return err
			}
			read := 0
			_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
				snap, mac, err := scanNode(row)
				if err != nil {
					return struct{}{}, err
				}
				read, after = read+1, string(snap.Node.ID)
				if s.genuine("node", after, snap.Node, mac) {
					out = append(out, snap)
				}
				return struct{}{}, nil
			})
			if err != nil {
				return err
			}
			more = read == want
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func uuidArg(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != [16]byte{}} }
