package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// insertNode makes a new node and its state, or neither: RETURNING is empty
// where its id, root of trust or AK is taken, or its admission has its node.
const insertNode = `WITH made AS (
	INSERT INTO node (node_id, root_kind, root_hash, ek_public, ak_public, ak_name, manufacturer, admitted_by, admission,
		machine, groups, status, ak_approved, created_at, mac, tpm_model, tpm_version, ek_expired)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
	ON CONFLICT DO NOTHING RETURNING node_id)
INSERT INTO node_state (node_id, version, last, confirmed, rebaseline, has_clock, clock, reset_count, restart_count, firmware,
	pcrs, event_log, zone, tier, verdict, reason, policy_version, attested_at, fresh_until, expires_at, last_attempt_at,
	last_ok_at, repeats, secure_boot, seen, reboot_until, ima, mac,
	span_zone, span_measured, span_policy, span_from, span_first, span_until, span_expires, span_last, span_renewals)
SELECT node_id, 1, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40,
	$41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53
FROM made RETURNING node_id`

func insertNodeArgs(it *item) []any {
	n := it.commit.Node
	args := []any{
		string(n.ID), n.RootKind, n.RootHash[:], full(n.EKPublic), full(n.AKPublic), full(n.AKName), n.Manufacturer, n.AdmittedBy,
		n.Admission, n.Machine, full(n.Groups), string(n.Status), n.AKApproved, n.CreatedAt, it.macs.node,
		n.TPM.Model, n.TPM.Version, n.TPM.Expired,
	}
	args = append(append(args, stateRow(it.commit.State).args()...), it.macs.state)
	return append(args, spanRow(it.commit.Interval).args()...)
}

// updateNode replaces what may change of a node. The trigger refuses a change of
// the root of trust; the condition refuses it before.
const updateNode = `UPDATE node SET ek_public = $3, ak_public = $4, ak_name = $5, manufacturer = $6, admitted_by = $7,
	admission = $8, machine = $9, groups = $10, status = $11, ak_approved = $12, mac = $13,
	tpm_model = $14, tpm_version = $15, ek_expired = $16
WHERE node_id = $1 AND root_hash = $2 RETURNING node_id`

func updateNodeArgs(it *item) []any {
	n := it.commit.Node
	return []any{
		string(n.ID), n.RootHash[:], full(n.EKPublic), full(n.AKPublic), full(n.AKName), n.Manufacturer, n.AdmittedBy,
		n.Admission, n.Machine, full(n.Groups), string(n.Status), n.AKApproved, it.macs.node,
		n.TPM.Model, n.TPM.Version, n.TPM.Expired,
	}
}

// full makes nil an empty value: no column of these is NULL.
func full[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// nodeKey is what of a node nobody else may have.
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
// machine first, be it with another EK, or its identity belongs to another node.
// Who is told that the challenge is spent tries again, meets the other node and
// waits for an operator.
func lostNew(it *item, present []nodeKey) error {
	n := it.commit.Node
	taken := false
	for _, p := range present {
		if p.ID == string(n.ID) && string(p.RootHash) == string(n.RootHash[:]) {
			return errSpent()
		}
		taken = taken || p.ID == string(n.ID) || string(p.RootHash) == string(n.RootHash[:]) || string(p.AKName) == string(n.AKName)
	}
	if taken {
		return errIdentity()
	}
	return errSpent()
}

const selectNode = `SELECT n.node_id, n.root_kind, n.root_hash, n.ek_public, n.ak_public, n.ak_name, n.manufacturer, n.admitted_by,
	n.admission, n.machine, n.groups, n.status, n.ak_approved, n.created_at, n.mac,
	n.tpm_model, n.tpm_version, n.ek_expired,
	s.version, s.last, s.confirmed, s.rebaseline, s.has_clock, s.clock, s.reset_count, s.restart_count, s.firmware,
	s.pcrs, s.event_log, s.zone, s.tier, s.verdict, s.reason, s.policy_version, s.attested_at, s.fresh_until, s.expires_at,
	s.last_attempt_at, s.last_ok_at, s.repeats, s.secure_boot, s.seen, s.reboot_until, s.ima, s.mac,
	s.span_zone, s.span_measured, s.span_policy, s.span_from, s.span_first, s.span_until, s.span_expires, s.span_last, s.span_renewals
FROM node n JOIN node_state s USING (node_id) `

// nodeRow is a node with its state as both stand in their tables.
type nodeRow struct {
	ledger.Snapshot
	mac, stateMAC []byte
}

// genuineNode reports whether both rows of a node carry our HMAC.
func (s *Store) genuineNode(n *nodeRow) bool {
	id := string(n.Node.ID)
	return s.genuine("node", id, &n.Node, n.mac) && s.genuine("node_state", id, &n.State, n.stateMAC)
}

// nodeScan reads rows of selectNode, one after the other: what it scans into is
// made once, what a row keeps is its own.
type nodeScan struct {
	node                ledger.Node
	state               nodeStateRow
	span                spanColumns
	id, status          string
	root, mac, stateMAC []byte
	version             int64
	dest                []any
}

func newNodeScan() *nodeScan {
	s := &nodeScan{}
	n := &s.node
	s.dest = append([]any{
		&s.id, &n.RootKind, &s.root, &n.EKPublic, &n.AKPublic, &n.AKName, &n.Manufacturer, &n.AdmittedBy,
		&n.Admission, &n.Machine, &n.Groups, &s.status, &n.AKApproved, &n.CreatedAt, &s.mac,
		&n.TPM.Model, &n.TPM.Version, &n.TPM.Expired, &s.version,
	}, append(s.state.dest(), &s.stateMAC)...)
	s.dest = append(s.dest, s.span.dest()...)
	return s
}

// next reads a row. Node and state come from one statement, so from one snapshot.
func (s *nodeScan) next(row pgx.CollectableRow, into *nodeRow) error {
	if err := row.Scan(s.dest...); err != nil {
		return err
	}
	n := s.node
	n.ID, n.Status, n.CreatedAt = ledger.NodeID(s.id), ledger.Status(s.status), n.CreatedAt.UTC()
	n.RootHash = [32]byte{}
	copy(n.RootHash[:], s.root)
	into.Snapshot = ledger.Snapshot{Found: true, Node: n, State: s.state.state(n.ID, s.version), Open: s.span.interval(n.ID)}
	into.mac, into.stateMAC = s.mac, s.stateMAC
	return nil
}

func scanNode(row pgx.CollectableRow) (nodeRow, error) {
	var n nodeRow
	err := newNodeScan().next(row, &n)
	return n, err
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
				n, err := scanNode(row)
				if err != nil {
					return struct{}{}, err
				}
				read, after = read+1, string(n.Node.ID)
				if s.genuineNode(&n) {
					out = append(out, n.Snapshot)
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
