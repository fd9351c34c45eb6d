package store

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func (v *verification) checkNodes(ctx context.Context, admitted map[uuid.UUID]origin) error {
	rows, err := v.tx.Query(ctx, selectNode+`ORDER BY n.node_id`)
	if err != nil {
		return err
	}
	var unsure []nodeRow
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		n, err := scanNode(row)
		if err == nil && v.checkNode(n, admitted) {
			unsure = append(unsure, n)
		}
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	for _, n := range unsure {
		if ok, err := v.lastAccepted(ctx, n); err != nil {
			return err
		} else if !ok {
			v.problem("node_state %s: it names %s as last accepted, which is no accepted attestation of it", n.Node.ID, n.State.Last)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.facts.nodes)) {
		v.problem("node %s: record %s names it, and its row is missing", id, v.facts.nodes[id].last.ID)
	}
	return nil
}

// checkNode compares a node with the log. It is unsure of the last accepted
// attestation where records of the node are gone.
func (v *verification) checkNode(n nodeRow, admitted map[uuid.UUID]origin) (unsure bool) {
	id, st := n.Node.ID, n.State
	if !v.s.genuine("node", string(id), n.Node, n.mac) {
		v.problem("node %s: its HMAC does not hold: not written by a broker", id)
	}
	if !v.s.genuine("node_state", string(id), st, n.stateMAC) {
		v.problem("node_state %s: its HMAC does not hold: not written by a broker", id)
	}
	fact := v.facts.nodes[id]
	delete(v.facts.nodes, id)
	if fact == nil || !fact.attested {
		v.problem("node %s: no attestation of the log names it", id)
		return false
	}
	v.checkOpen(&n, fact)
	gone := v.gone[id]
	if gone > 0 && !n.Node.AKApproved {
		fact.akApproved = false // the record that another AK came with may be gone
	}
	if diff := fact.differs(n.Node, admitted); len(diff) > 0 {
		v.problem("node %s: %s differs from what record %s left", id, strings.Join(diff, ", "), fact.last.ID)
	}
	unsure = gone > 0 && st.Last != fact.accepted && st.Last != uuid.Nil
	if st.Last != fact.accepted && !unsure {
		v.problem("node_state %s: it names %s as last accepted, the log %s", id, st.Last, fact.accepted)
	}
	if st.Rebaseline && !fact.approved {
		v.problem("node_state %s: it takes the next clock as it comes, and no approval is newer than the last accepted attestation", id)
	}
	if until := st.RebootUntil; !until.IsZero() && until.UnixMilli() != fact.announced {
		v.problem("node_state %s: it expects a reboot that the log does not announce", id)
	}
	// An older state with its own HMAC was put back, or a change left no record.
	if changes := fact.changes + gone; st.Version != changes {
		v.problem("node_state %s: it has version %d, the log %d changes of it", id, st.Version, changes)
	}
	return unsure
}

// differs names what of a node's row is not as its records left it. An approval
// or disabling commits to the whole row; an attestation to what it pinned.
func (f *nodeFacts) differs(n ledger.Node, admitted map[uuid.UUID]origin) []string {
	if f.rowHash != "" {
		if got, err := ledger.RowHash(n); err != nil || got != f.rowHash {
			return []string{"row"}
		}
		return nil
	}
	a := f.last
	admission := ""
	if n.Admission != uuid.Nil {
		admission = n.Admission.String()
	}
	from := admitted[n.Admission]
	var out []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"root of trust", hex.EncodeToString(n.RootHash[:]) == a.RootHash && n.RootKind == a.RootKind},
		{"AK", hex.EncodeToString(n.AKName) == a.AKName || f.keyless() && ledger.Released(n)},
		{"AK approval", n.AKApproved == f.akApproved},
		{"status", string(n.Status) == a.NodeStatus},
		{"admission", admission == a.Admission && n.AdmittedBy == a.AdmittedBy},
		{"admitted EK", from.eks == nil || slices.Contains(from.eks, n.RootHash)},
		{"manufacturer", n.Manufacturer == a.Manufacturer && n.TPM == a.TPM},
		{"machine", n.Machine == from.machine},
		{"groups", slices.Equal(n.Groups, from.groups)},
	} {
		if !c.same {
			out = append(out, c.name)
		}
	}
	return out
}

// keyless reports whether nobody may have the key of the node: documents named it,
// and it was only ever denied.
func (f *nodeFacts) keyless() bool {
	return f.accepted == uuid.Nil && f.last.RootKind != ledger.RootEK
}
