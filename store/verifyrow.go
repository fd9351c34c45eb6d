package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// row is a record with what belongs to it.
type row struct {
	ledger.Stored
	parts []ledger.EvidenceID
	svids []ledger.IssuedSVID
	stray bool // an SVID's row names another node or time than the record
	drift []driftRow
}

// rows reads the records of a window, by index.
func (v *verification) rows(ctx context.Context, a, b int64) (map[int64][]*row, error) {
	const records = selectRecord + `WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, recorded_at`
	rows, err := v.tx.Query(ctx, records, v.id, a, b)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanRecord)
	if err != nil {
		return nil, err
	}
	out := make(map[int64][]*row, b-a)
	for _, r := range all {
		out[r.Index] = append(out[r.Index], &row{Stored: r})
	}
	if err := v.addParts(ctx, a, b, out); err != nil {
		return nil, err
	}
	if err := v.addSVIDs(ctx, a, b, out); err != nil {
		return nil, err
	}
	return out, v.addDrift(ctx, a, b, out)
}

func (v *verification) addParts(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, kind, digest FROM evidence_part WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var kind string
	var digest []byte
	_, err = pgx.ForEachRow(rows, []any{&idx, &kind, &digest}, func() error {
		for _, r := range out[idx] {
			r.parts = append(r.parts, ledger.EvidenceID{Kind: kind, SHA256: hex.EncodeToString(digest)})
		}
		return nil
	})
	return err
}

// addSVIDs reads the SVIDs of a window. A row without a record would show an
// auditor an SVID that the history never authorised.
func (v *verification) addSVIDs(ctx context.Context, a, b int64, out map[int64][]*row) error {
	const query = `SELECT log_idx, node_id, recorded_at, profile, serial, spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience FROM svid
		WHERE log_id = $1 AND log_idx >= $2 AND log_idx < $3 ORDER BY log_idx, ord`
	rows, err := v.tx.Query(ctx, query, v.id, a, b)
	if err != nil {
		return err
	}
	var idx int64
	var node string
	var at, from, to time.Time
	var s ledger.IssuedSVID
	dest := []any{&idx, &node, &at, &s.Profile, &s.Serial, &s.SPIFFEID, &from, &to, &s.TBSSHA256, &s.CAKeyID, &s.Key, &s.Audience}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		s.NotBefore, s.NotAfter = from.Unix(), to.Unix()
		if len(out[idx]) == 0 && !v.missing.decisions.Has(idx) {
			v.problem("index %d: an SVID of a record that does not exist", idx)
		}
		for _, r := range out[idx] {
			r.svids = append(r.svids, s)
			r.stray = r.stray || node != string(r.Node) || !at.Equal(r.RecordedAt)
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

// content reads what the body says beyond its columns. The type is that of the
// body: one that was changed in the column alone must not hide the rest.
func (v *verification) content(r *row, kind string) {
	var evidence []ledger.EvidenceID
	var svids []ledger.IssuedSVID
	var drift []ledger.Drift
	var zone string
	switch kind {
	case ledger.TypeAttestation:
		var a ledger.Attestation
		if json.Unmarshal(r.Body, &a) != nil {
			return
		}
		v.facts.attestation(a)
		evidence, svids, drift, zone = a.Evidence, a.SVIDs, a.Drift, a.DriftZone()
	case ledger.TypeIssuance:
		var i ledger.Issuance
		if json.Unmarshal(r.Body, &i) != nil {
			return
		}
		if why := v.facts.issuance(i, v.gone[i.Node] > 0); why != "" {
			v.problem("index %d record %s: an SVID was issued %s", r.Index, r.ID, why)
		}
		svids = i.SVIDs
	case ledger.TypeHistoryRead: // it grants nothing
	default:
		v.out.Grants++
		var g ledger.Grant
		if json.Unmarshal(r.Body, &g) == nil {
			v.facts.grant(g, admissionPlace{inLog{v.id, r.Index + 1}, r.RecordedAt})
		}
	}
	if !slices.Equal(evidence, r.parts) && (len(r.parts) > 0 || !v.missing.evidence.Has(r.Index)) {
		v.problem("index %d record %s: its evidence parts are not those of the body", r.Index, r.ID)
	}
	if (!slices.Equal(svids, r.svids) || r.stray) && (len(r.svids) > 0 || !v.missing.svids.Has(r.Index)) {
		v.problem("index %d record %s: its SVIDs are not those of the body", r.Index, r.ID)
	}
	v.drift(r, drift, zone)
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
