package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// row is a record with what belongs to it.
type row struct {
	storedRow
	parts []ledger.EvidenceID // of rows of schema 3 all, of others its own
	svids []ledger.IssuedSVID
	stray bool // a row beside it names another node, time or group than the record
	drift []driftRow
	ended []endedRow

	misplaced bool // its evidence stands at another time or in another group
}

// rows reads the records of a window, by index.
func (v *verification) rows(ctx context.Context, a, b int64) (map[int64][]*row, error) {
	const records = selectRecord + `WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, recorded_at`
	rows, err := v.tx.Query(ctx, records, v.id, a, b)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, err
	}
	out := make(map[int64][]*row, b-a)
	for _, r := range all {
		out[r.Index] = append(out[r.Index], &row{storedRow: r})
	}
	if err := v.addParts(ctx, a, b, out); err != nil {
		return nil, err
	}
	if err := v.addSVIDs(ctx, a, b, out); err != nil {
		return nil, err
	}
	if err := v.addIntervals(ctx, a, b, out); err != nil {
		return nil, err
	}
	return out, v.addDrift(ctx, a, b, out)
}

// addSVIDs reads the SVIDs of a window. A row without a record would show an
// auditor an SVID that the history never authorised.
func (v *verification) addSVIDs(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, node_id, recorded_at, profile, serial, spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience, keep FROM svid
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var node string
	var at, from, to time.Time
	var keep int16
	var s ledger.IssuedSVID
	dest := []any{&idx, &node, &at, &s.Profile, &s.Serial, &s.SPIFFEID, &from, &to, &s.TBSSHA256, &s.CAKeyID, &s.Key, &s.Audience, &keep}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		s.NotBefore, s.NotAfter = from.Unix(), to.Unix()
		if len(out[idx]) == 0 && !v.missing.decisions.Has(idx) {
			v.problem("index %d: an SVID of a record that does not exist", idx)
		}
		for _, r := range out[idx] {
			r.svids = append(r.svids, s)
			r.stray = r.stray || node != string(r.Node) || !at.Equal(r.RecordedAt) || keep != r.keep
		}
		return nil
	})
	return err
}

// row compares a record with its own body, with the log, and with the rows
// beside it, and remembers what it says about grants.
func (v *verification) row(r *row, entry ledger.Entry, logged bool) {
	want, err := ledger.RecordOf(r.ID, r.Body, r.Salt)
	if err != nil {
		v.problem("index %d record %s: the body is not one that a broker wrote (%s)", r.Index, r.ID, err)
	} else if diff := differing(want, r.Record); len(diff) > 0 {
		v.problem("index %d record %s: column %s differs from the body", r.Index, r.ID, strings.Join(diff, ", "))
	}
	switch {
	case !logged:
		v.problem("index %d record %s: the log has no entry for it", r.Index, r.ID)
	case entry.ID() != r.ID:
		v.problem("index %d record %s: the log has record %s at this index", r.Index, r.ID, entry.ID())
	case entry != ledger.NewEntry(r.Record, r.RecordedAt):
		v.problem("index %d record %s: the record is not the one that the log committed to", r.Index, r.ID)
	}
	if err != nil {
		return
	}
	v.out.Records++
	v.content(r, want.Type)
	v.uncount(r)
}

// said is what a body says beyond its columns.
type said struct {
	evidence  []ledger.EvidenceID
	svids     []ledger.IssuedSVID
	drift     []ledger.Drift
	driftZone string
	baseLog   string    // hex digest of the event log that it was judged by without sending it
	lastGood  time.Time // what the drift follows, zero for nothing
	sure      bool      // lastGood is known
}

// content compares what the body says beyond its columns. The type is that of the
// body: one that was changed in the column alone must not hide the rest.
func (v *verification) content(r *row, kind string) {
	var s said
	switch kind {
	case ledger.TypeAttestation:
		var a ledger.Attestation
		if json.Unmarshal(r.Body, &a) != nil {
			return
		}
		s = said{evidence: a.Evidence, svids: a.SVIDs, drift: a.Drift, driftZone: a.DriftZone(), lastGood: v.facts.lastGood(a.Node)}
		s.sure = v.gone[a.Node] == 0 || v.facts.node(a.Node).sure
		if a.Baseline != nil {
			s.baseLog = a.Baseline.EventLog
		}
		v.facts.attestation(a)
		v.attested(r, a)
	case ledger.TypeIssuance:
		var i ledger.Issuance
		if json.Unmarshal(r.Body, &i) != nil {
			return
		}
		if why := v.facts.issuance(i, v.gone[i.Node] > 0); why != "" {
			v.problem("index %d record %s: an SVID was issued %s", r.Index, r.ID, why)
		}
		s.svids = i.SVIDs
	case ledger.TypeHistoryRead: // it grants nothing
	default:
		v.out.Grants++
		var g ledger.Grant
		if json.Unmarshal(r.Body, &g) == nil {
			v.granted(r, g)
			v.facts.grant(g, admissionPlace{inLog{v.id, r.Index + 1}, r.RecordedAt})
		}
	}
	v.evidence(r, s)
	if (!sameSVIDs(s.svids, r.svids) || r.stray) && (len(r.svids) > 0 || !v.missing.svids.Has(r.Index)) {
		v.problem("index %d record %s: its SVIDs are not those of the body", r.Index, r.ID)
	}
	v.drift(r, s)
}

// sameSVIDs compares rows with the body. What a row leaves out, nobody reads
// there.
func sameSVIDs(want, got []ledger.IssuedSVID) bool {
	return slices.EqualFunc(want, got, func(w, g ledger.IssuedSVID) bool {
		g.SPIFFEID, g.TBSSHA256, g.CAKeyID = cmp.Or(g.SPIFFEID, w.SPIFFEID), cmp.Or(g.TBSSHA256, w.TBSSHA256), cmp.Or(g.CAKeyID, w.CAKeyID)
		return w == g
	})
}

// differing names the columns that do not repeat what the body says.
func differing(want, got ledger.Record) []string {
	var out []string
	for _, c := range []struct {
		name string
		same bool
	}{
		{"type", want.Type == got.Type},
		{"node", want.Node == got.Node},
		{"zone", want.Zone == got.Zone},
		{"verdict", want.Verdict == got.Verdict},
		{"reason", want.Reason == got.Reason},
		{"attested_at", want.AttestedAt.Equal(got.AttestedAt)},
		{"fresh_until", want.FreshUntil.Equal(got.FreshUntil)},
		{"policy_version", want.PolicyVersion == got.PolicyVersion},
		{"body", bytes.Equal(want.Body, got.Body)},
	} {
		if !c.same {
			out = append(out, c.name)
		}
	}
	return out
}
