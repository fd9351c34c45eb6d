package store

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// facts is what the log says about rights, in the order of the log.
type facts struct {
	rows  map[string]string // "table id" -> hash of the granting row as last recorded
	nodes map[ledger.NodeID]*nodeFacts
	used  map[string]ledger.NodeID  // join token id -> node that it admitted
	seqs  map[string]admissionPlace // admission id -> place of its last record

	imported ledger.Grant // newest import of an inventory, zero for none

	erased map[ledger.NodeID]string // hex digest of what the erasure of a node lists
}

// admissionPlace is where an admission was changed last: its row repeats it.
type admissionPlace struct {
	inLog // with the index plus one
	at    time.Time
}

// nodeFacts is what a node's row must look like after its last record.
type nodeFacts struct {
	rowHash    string // of the last approval or disabling; "" after an attestation
	last       ledger.Attestation
	attested   bool
	accepted   uuid.UUID // last accepted attestation that the host may name
	good       int64     // attested_at of the last accepted attestation, Unix ms; 0 for none
	akApproved bool
	approved   bool  // after the last accepted attestation
	active     bool  // may be issued SVIDs
	announced  int64 // Unix ms until which one reboot is expected, 0 for none
	changes    int64 // records that changed its state
	erased     bool

	open  *ledger.Interval // that stands after its last record; nil for none
	span  followed         // how much of open is known
	sure  bool             // good is known, where records of the node are declared gone
	state ledger.NodeState // of it, what the next interval depends on
}

func newFacts() *facts {
	return &facts{
		rows: make(map[string]string), nodes: make(map[ledger.NodeID]*nodeFacts),
		used: make(map[string]ledger.NodeID), seqs: make(map[string]admissionPlace), erased: make(map[ledger.NodeID]string),
	}
}

func (f *facts) grant(g ledger.Grant, at admissionPlace) {
	switch g.Type {
	case ledger.TypeAdmission, ledger.TypeAdmissionEnded:
		f.rows["admission "+g.Subject], f.seqs[g.Subject] = g.RowHash, at
	case ledger.TypeTokenCreated:
		f.rows["join_token "+g.Subject] = g.RowHash
	case ledger.TypeKeyPublished:
		f.rows["key "+g.Subject] = g.RowHash
	case ledger.TypeOperatorAdded, ledger.TypeOperatorRevoked:
		f.rows["operator "+g.Subject] = g.RowHash
	case ledger.TypePolicyActivated, ledger.TypeTrustActivated:
		// A policy that is in force again has its row from its first activation.
		if g.RowHash != "" {
			f.rows["object "+g.Subject] = g.RowHash
		}
	case ledger.TypeNodeApproved, ledger.TypeNodeDisabled:
		n := f.node(ledger.NodeID(g.Subject))
		n.rowHash = g.RowHash
		n.changes++
		n.active = g.Type == ledger.TypeNodeApproved
		if n.active {
			n.akApproved, n.approved = true, true
		}
	case ledger.TypeNodeAnnounced:
		n := f.node(ledger.NodeID(g.Subject))
		n.rowHash, n.announced = g.RowHash, g.Until
		n.changes++
	default:
		f.retention(g)
	}
}

func (f *facts) attestation(a ledger.Attestation) {
	n := f.node(a.Node)
	n.rowHash, n.last, n.attested = "", a, true
	n.active = a.NodeStatus == string(ledger.StatusActive)
	n.changes++
	switch {
	case a.Verdict == ledger.VerdictAllow:
		n.accepted, n.good, n.approved = a.ID, a.AttestedAt, false
		if slices.Contains(a.Events, string(reason.TPM2Rebooted)) {
			n.announced = 0
		}
	case a.Void != "":
		// The host never saw the last answer and goes on from the one before.
		n.accepted, _ = uuid.Parse(a.Prev)
	}
	if slices.Contains(a.Events, string(reason.NodeAKChanged)) {
		n.akApproved = false
	}
	if a.AdmittedBy == ledger.AdmitJoinToken {
		f.used[a.Admission] = a.Node
	}
}

// lastGood is when a node attested last what was accepted, zero for never.
func (f *facts) lastGood(id ledger.NodeID) time.Time {
	if n := f.nodes[id]; n != nil && n.good != 0 {
		return time.UnixMilli(n.good)
	}
	return time.Time{}
}

// issuance says why an SVID should not have been issued at this place of the
// log, "" where all is well: the writer commits it only while the node stands as
// its last attestation left it. Where records of the node are gone, that
// attestation may be among them.
func (f *facts) issuance(i ledger.Issuance, gone bool) string {
	n := f.nodes[i.Node]
	switch {
	case gone && (n == nil || !n.attested || n.last.ID.String() != i.Attestation):
		return ""
	case n == nil || !n.attested:
		return "for a node that no attestation names"
	case n.last.Verdict != ledger.VerdictAllow || n.last.ID.String() != i.Attestation:
		return "on another attestation than the node's last"
	case !n.active:
		return "while the node was not active"
	case i.Zone != n.last.Zone || i.Tier != n.last.Tier || i.AttestedAt != n.last.AttestedAt || i.FreshUntil > n.last.FreshUntil:
		return "for more than the attestation earned"
	case i.At >= i.FreshUntil:
		return "after its evidence was no longer fresh"
	}
	if s := i.SVIDs[0]; s.Profile == ledger.ProfileJWT && s.NotAfter*1000 > i.FreshUntil {
		return "as a token that outlives its evidence"
	}
	return ""
}

func (f *facts) node(id ledger.NodeID) *nodeFacts {
	n := f.nodes[id]
	if n == nil {
		n = &nodeFacts{akApproved: true}
		f.nodes[id] = n
	}
	return n
}

// checkGrants compares every granting row with the log: a row without a record
// was put there by somebody, a record without its row was taken away.
func (v *verification) checkGrants(ctx context.Context) error {
	admitted, err := v.checkAdmissions(ctx)
	if err != nil {
		return err
	}
	if err := v.checkTokens(ctx, admitted); err != nil {
		return err
	}
	if err := v.checkKeys(ctx); err != nil {
		return err
	}
	if err := v.checkObjects(ctx); err != nil {
		return err
	}
	if err := v.checkOperators(ctx); err != nil {
		return err
	}
	if err := v.checkRetention(ctx); err != nil {
		return err
	}
	if err := v.checkInventory(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(v.facts.rows)) {
		v.problem("%s: the log grants it, and its row is missing", name)
	}
	if err := v.checkNodes(ctx, admitted); err != nil {
		return err
	}
	return v.checkEvidence(ctx)
}

// grantRow settles one row with the log; no HMAC is checked where mac is nil.
func (v *verification) grantRow(table, id string, r canonicaler, mac []byte) {
	name := table + " " + id
	if mac != nil && !v.s.genuine(table, id, r, mac) {
		v.problem("%s: its HMAC does not hold: not written by a broker", name)
	}
	want, ok := v.facts.rows[name]
	delete(v.facts.rows, name)
	if got, err := ledger.RowHash(r); !ok {
		v.problem("%s: no record of the log grants it", name)
	} else if err != nil || got != want {
		v.problem("%s: it is not the row that the log's record granted", name)
	}
}

// origin is what an admission or a join token hands to a node.
type origin struct {
	machine string
	groups  []string
	eks     [][32]byte // nil for a join token and for an owner
}

func (v *verification) checkAdmissions(ctx context.Context) (map[uuid.UUID]origin, error) {
	rows, err := v.tx.Query(ctx, selectAdmission+`ORDER BY admission_id`)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, plainAdmission)
	if err != nil {
		return nil, err
	}
	out := make(map[uuid.UUID]origin, len(all))
	for _, a := range all {
		v.grantRow("admission", a.ID.String(), a.Admission, a.mac)
		switch want, ok := v.facts.seqs[a.ID.String()]; {
		case !ok:
		case want.log != a.changed.log:
			v.problem("admission %s: its row names log %s for its last change, which is in log %s", a.ID, a.changed.log, want.log)
		case want.index != a.changed.index:
			v.problem("admission %s: its change_seq is %d, the log gave it %d", a.ID, a.changed.index, want.index)
		case a.at.Valid && !a.at.Time.Equal(want.at):
			v.problem("admission %s: its row names another time for its last change than the log", a.ID)
		}
		if a.Kind == ledger.AdmitOwner { // of many machines: none of them has its label or hash
			out[a.ID] = origin{groups: a.Groups}
			continue
		}
		out[a.ID] = origin{machine: a.Machine, groups: a.Groups, eks: a.EKHashes}
	}
	return out, nil
}

func (v *verification) checkTokens(ctx context.Context, admitted map[uuid.UUID]origin) error {
	rows, err := v.tx.Query(ctx, selectToken+`ORDER BY token_id`)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return err
	}
	for _, t := range all {
		if !v.s.genuine("join_token", t.ID.String(), t.JoinToken, t.mac) {
			v.problem("join_token %s: its HMAC does not hold: not written by a broker", t.ID)
		}
		// The grant is of the unused token.
		granted := t.JoinToken
		granted.UsedBy = ""
		v.grantRow("join_token", t.ID.String(), granted, nil)
		admitted[t.ID] = origin{machine: t.Machine, groups: t.Groups}
		if used := v.facts.used[t.ID.String()]; used != t.UsedBy {
			v.problem("join_token %s: its row says used by %q, the log by %q", t.ID, t.UsedBy, used)
		}
	}
	return nil
}

func (v *verification) checkKeys(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectKey+`ORDER BY key_id`)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, scanKey)
	for _, k := range all {
		v.grantRow("key", k.ID, k.Key, k.mac)
	}
	return err
}

func (v *verification) checkOperators(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectOperator+`ORDER BY operator_id`)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, scanOperator)
	for _, o := range all {
		v.grantRow("operator", o.ID.String(), o.Operator, o.mac)
	}
	return err
}

func (v *verification) checkObjects(ctx context.Context) error {
	const query = `SELECT kind, digest, sha256(bytes) = digest FROM object ORDER BY kind, version`
	rows, err := v.tx.Query(ctx, query)
	if err != nil {
		return err
	}
	var kind string
	var digest []byte
	var whole bool
	_, err = pgx.ForEachRow(rows, []any{&kind, &digest, &whole}, func() error {
		o := ledger.Object{Kind: kind}
		copy(o.Digest[:], digest)
		v.grantRow("object", hex.EncodeToString(digest), o, nil)
		if !whole {
			v.problem("object %x: its bytes do not have its digest", digest)
		}
		return nil
	})
	return err
}
