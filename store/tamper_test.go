package store_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// freely turns the fences off, as only a superuser can.
const freely = `SET session_replication_role = replica; `

// tampered is a history of 300 and more records with a signed checkpoint at 280
// and another at its end.
func tampered(t *testing.T) (w *world, anchor *memoryAnchor) {
	t.Helper()
	w, anchor = newWorld(t), &memoryAnchor{}
	signer, _ := logKeys()
	snaps := []ledger.Snapshot{w.enrol(1), w.enrol(2)}
	fill := func(size int64) {
		for at := int64(0); at < size-2; {
			var wg sync.WaitGroup
			for range 60 {
				wg.Go(func() {
					if _, err := w.s.Append(t.Context(), event(t)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for i := range snaps {
				c := attestation(t, snaps[i], ledger.VerdictAllow)
				p := w.append(c)
				c.State.Version = p.Version
				snaps[i].State, at = *c.State, p.Index
			}
		}
	}
	denied := attestation(t, snaps[0], ledger.VerdictDeny)
	denied.State.Version = w.append(denied).Version
	snaps[0].State = *denied.State
	for _, size := range []int64{240, 360} {
		fill(size)
		if _, err := w.s.SignCheckpoint(t.Context(), signer, anchor); err != nil {
			t.Fatal(err)
		}
	}
	w.verify(anchor.text)
	return w, anchor
}

// unpack puts the body of a row into the column of schema 3, where SQL can edit
// it.
func (w *world) unpack(idx int64) {
	w.t.Helper()
	id := query[uuid.UUID](w.t, w.db, fmt.Sprintf(`SELECT record_id FROM attestation WHERE log_idx = %d`, idx))
	r, err := w.s.Record(w.t.Context(), id)
	if err != nil || r == nil {
		w.t.Fatalf("record %d: %v, %v", idx, r, err)
	}
	w.db.Exec(w.t, freely+fmt.Sprintf(`UPDATE attestation SET packed = NULL, body = '%s' WHERE log_idx = %d`,
		strings.ReplaceAll(string(r.Body), "'", "''"), idx))
}

// problems verifies and returns what was found, one a line.
func (w *world) problems(anchor string) string {
	w.t.Helper()
	_, key := logKeys()
	v, err := w.s.VerifyHistory(w.t.Context(), anchor, key, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(v.Problems, "\n")
}

func TestT60_Tampering(t *testing.T) {
	t.Parallel()
	// Index 3 is the first attestation of node 2; 100 lies in a tile, the last
	// indices do not.
	const accepted = `log_idx = (SELECT min(log_idx) FROM attestation WHERE log_idx > 100 AND type = 'attestation')`
	const open = `log_idx = (SELECT max(log_idx) FROM attestation)`
	const idxOf = `SELECT min(log_idx) FROM attestation WHERE log_idx > 100 AND type = 'attestation'`
	const drifted = `log_idx = (SELECT min(log_idx) FROM drift_event)`
	const ended = `SELECT min(log_idx) FROM measurement_interval`
	const idxOfDrift = `SELECT min(log_idx) FROM drift_event`
	for name, tc := range map[string]struct {
		sql  []string
		at   string // query of the index that must be named
		want string
	}{
		"edit_body": {
			[]string{`UPDATE attestation SET body = replace(body, '"tier":2', '"tier":3') WHERE ` + accepted},
			idxOf,
			"not the one that the log committed to",
		},
		"edit_body_and_column": {
			[]string{`UPDATE attestation SET zone = 'vault', body = replace(body, '"zone":"payments"', '"zone":"vault"') WHERE ` + accepted},
			idxOf,
			"not the one that the log committed to",
		},
		"edit_body_uncanonically": {
			[]string{`UPDATE attestation SET body = replace(body, '{"', '{ "') WHERE ` + accepted}, idxOf, "not one that a broker wrote",
		},
		"edit_column":     {[]string{`UPDATE attestation SET zone = 'vault' WHERE ` + accepted}, idxOf, "column zone differs"},
		"edit_verdict":    {[]string{`UPDATE attestation SET verdict = 'deny', reason = 'x' WHERE ` + accepted}, idxOf, "column verdict, reason differs"},
		"edit_node":       {[]string{`UPDATE attestation SET node_id = 'x' WHERE ` + accepted}, idxOf, "not the one that the log committed to"},
		"edit_type":       {[]string{`UPDATE attestation SET type = 'x' WHERE ` + accepted}, idxOf, "column type differs"},
		"edit_times":      {[]string{`UPDATE attestation SET attested_at = now(), fresh_until = now() WHERE ` + accepted}, idxOf, "column attested_at, fresh_until differs"},
		"edit_policy":     {[]string{`UPDATE attestation SET policy_version = 9 WHERE ` + accepted}, idxOf, "column policy_version differs"},
		"edit_salt":       {[]string{`UPDATE attestation SET salt = sha256('x') WHERE ` + accepted}, idxOf, "not the one that the log committed to"},
		"edit_time":       {[]string{`UPDATE attestation SET recorded_at = recorded_at + interval '1 ms' WHERE ` + accepted}, idxOf, "not the one that the log committed to"},
		"edit_id":         {[]string{`UPDATE attestation SET record_id = gen_random_uuid() WHERE ` + accepted}, idxOf, "the log has record"},
		"edit_open_row":   {[]string{`UPDATE attestation SET salt = sha256('x') WHERE ` + open}, `SELECT max(log_idx) FROM attestation`, "not the one that the log committed to"},
		"delete":          {[]string{`DELETE FROM attestation WHERE log_idx = 100`}, `SELECT 100`, "the record is missing"},
		"delete_last":     {[]string{`DELETE FROM attestation WHERE ` + open}, `SELECT max(log_idx) FROM attestation`, "the record is missing"},
		"double":          {[]string{`INSERT INTO attestation SELECT * FROM attestation WHERE log_idx = 100`}, `SELECT 100`, "2 records stand at this index"},
		"append_unlogged": {[]string{`INSERT INTO attestation SELECT recorded_at, log_id, 100000, record_id, type, node_id, zone, verdict, reason, attested_at, fresh_until, policy_version, salt, body, keep, packed FROM attestation WHERE log_idx = 100`}, `SELECT 100000`, "stands behind the head"},
		"reorder": {
			[]string{`UPDATE attestation SET log_idx = CASE log_idx WHEN 100 THEN 101 ELSE 100 END WHERE log_idx IN (100, 101)`},
			`SELECT 100`,
			"the log has record",
		},
		"other_evidence":   {[]string{`UPDATE evidence_part SET packed = set_byte(packed, 20, get_byte(packed, 20) # 1) WHERE ` + accepted}, idxOf, "evidence parts are not those"},
		"evidence_removed": {[]string{`DELETE FROM evidence_part WHERE ` + accepted}, idxOf, "evidence parts are not those"},
		"svid_edited":      {[]string{`UPDATE svid SET serial = 'ff' WHERE ` + accepted}, idxOf, "SVIDs are not those"},
		"svid_added": {
			[]string{`INSERT INTO svid SELECT recorded_at, log_id, log_idx, 1, node_id, profile, 'ff', spiffe_id, not_before, not_after, tbs_sha256, ca_key_id, key, audience FROM svid WHERE ` + accepted},
			idxOf, "SVIDs are not those",
		},
		"svid_of_another_node":  {[]string{`UPDATE svid SET node_id = 'x' WHERE ` + accepted}, idxOf, "SVIDs are not those"},
		"svid_at_another_time":  {[]string{`UPDATE svid SET recorded_at = recorded_at - interval '1 s' WHERE ` + accepted}, idxOf, "SVIDs are not those"},
		"svid_without_a_record": {[]string{`DELETE FROM attestation WHERE ` + accepted}, idxOf, "an SVID of a record that does not exist"},
		"svid_behind_the_head": {
			[]string{`UPDATE svid SET log_idx = (SELECT max(log_idx) FROM attestation) + 5 WHERE ` + accepted},
			`SELECT max(log_idx) + 5 FROM attestation`, "an SVID stands behind the head",
		},
		"drift_removed": {[]string{`DELETE FROM drift_event WHERE ord = 0 AND ` + drifted}, idxOfDrift, "drift is not that"},
		"drift_edited":  {[]string{`UPDATE drift_event SET after_value = 'allow' WHERE ` + drifted}, idxOfDrift, "drift is not that"},
		"drift_added": {
			[]string{`INSERT INTO drift_event SELECT recorded_at, log_id, log_idx, 9, record_id, node_id, zone, 'pcr.4', 'a', 'b' FROM drift_event WHERE ord = 0 AND ` + drifted},
			idxOfDrift, "drift is not that",
		},
		"drift_of_another_record": {[]string{`UPDATE drift_event SET record_id = gen_random_uuid() WHERE ` + drifted}, idxOfDrift, "names another time, record"},
		"drift_of_another_node":   {[]string{`UPDATE drift_event SET node_id = 'x' WHERE ` + drifted}, idxOfDrift, "names another time, record"},
		"drift_of_another_zone":   {[]string{`UPDATE drift_event SET zone = 'x' WHERE ` + drifted}, idxOfDrift, "names another time, record"},
		"drift_at_another_time":   {[]string{`UPDATE drift_event SET recorded_at = recorded_at - interval '1 s' WHERE ` + drifted}, idxOfDrift, "names another time, record"},
		"drift_moved": {
			[]string{`UPDATE drift_event SET log_idx = (SELECT max(log_idx) FROM attestation) + 5 WHERE ` + drifted},
			`SELECT max(log_idx) + 5 FROM attestation`, "its drift stands behind the head",
		},
		"drift_since":   {[]string{`UPDATE drift_event SET last_good = now() WHERE ` + drifted}, idxOfDrift, "names another attestation before it"},
		"drift_group":   {[]string{`UPDATE drift_event SET keep = 3 WHERE ` + drifted}, idxOfDrift, "names another time, record"},
		"packed_byte":   {[]string{`UPDATE attestation SET packed = set_byte(packed, length(packed) / 2, get_byte(packed, length(packed) / 2) # 1) WHERE ` + accepted}, idxOf, "record"},
		"packed_codec":  {[]string{`UPDATE attestation SET packed = set_byte(packed, 0, 9) WHERE ` + accepted}, idxOf, "not one that a broker wrote"},
		"parts_swapped": {[]string{`UPDATE evidence_part SET packed = (SELECT packed FROM evidence_part WHERE log_idx = 1) WHERE ` + accepted}, idxOf, "evidence parts are not those"},
		"parts_group":   {[]string{`UPDATE evidence_part SET keep = 3 WHERE ` + accepted}, idxOf, "evidence parts are not those"},
		"svid_identity": {[]string{`UPDATE svid SET spiffe_id = 'spiffe://x' WHERE ` + accepted}, idxOf, "SVIDs are not those"},
		"svid_group":    {[]string{`UPDATE svid SET keep = 3 WHERE ` + accepted}, idxOf, "SVIDs are not those"},
		"span_removed":  {[]string{`DELETE FROM measurement_interval`}, ended, "intervals are not those"},
		"span_longer":   {[]string{`UPDATE measurement_interval SET valid_until = valid_until + interval '1 hour'`}, ended, "intervals are not those"},
		"span_earlier":  {[]string{`UPDATE measurement_interval SET valid_from = valid_from - interval '1 hour'`}, ended, "intervals are not those"},
		"span_zone":     {[]string{`UPDATE measurement_interval SET zone = 'vault'`}, ended, "intervals are not those"},
		"span_policy":   {[]string{`UPDATE measurement_interval SET policy_version = 2`}, ended, "intervals are not those"},
		"span_node":     {[]string{`UPDATE measurement_interval SET node_id = 'x'`}, ended, "intervals are not those"},
		"span_records":  {[]string{`UPDATE measurement_interval SET first_record = gen_random_uuid()`}, ended, "intervals are not those"},
		"span_added": {
			[]string{`INSERT INTO measurement_interval SELECT recorded_at, log_id, 0, keep, node_id, zone, measured, policy_version, valid_from, valid_until,
				expires_at, first_record, last_record, renewals, ended FROM measurement_interval`},
			`SELECT 0`, "intervals are not those",
		},
		"entry_in_tile":  {[]string{`UPDATE log_tile SET data = set_byte(data, 100 * 57 + 30, get_byte(data, 100 * 57 + 30) # 1) WHERE level = -1 AND n = 0`}, `SELECT 100`, "not the one that the log committed to"},
		"leaf_in_tile":   {[]string{`UPDATE log_tile SET data = set_byte(data, 100 * 32, get_byte(data, 100 * 32) # 1) WHERE level = 0 AND n = 0`}, `SELECT 100`, "leaf in the log's tile"},
		"tile_deleted":   {[]string{`DELETE FROM log_tile WHERE level = -1 AND n = 0`}, `SELECT 0`, "tile is missing"},
		"leaves_deleted": {[]string{`DELETE FROM log_tile WHERE level = 0 AND n = 0`}, `SELECT 0`, "tile is missing"},
		"open_entry": {
			[]string{`UPDATE log_entry SET entries = set_byte(entries, 30, get_byte(entries, 30) # 1) WHERE first_idx = (SELECT max(first_idx) FROM log_entry)`},
			`SELECT max(first_idx) FROM log_entry`, "not the one that the log committed to",
		},
		"open_entries_deleted": {[]string{`DELETE FROM log_entry`}, `SELECT 256`, "the log has no entry"},
		"row_and_entry_deleted": {
			[]string{`DELETE FROM log_tile WHERE n = 0`, `DELETE FROM attestation WHERE log_idx = 100`}, `SELECT 100`, "record and log entry are missing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, anchor := tampered(t)
			idx := query[int64](t, w.db, tc.at)
			for _, sql := range tc.sql {
				if strings.Contains(sql, "replace(body") {
					w.unpack(idx)
				}
				w.db.Exec(t, freely+sql)
			}
			got := w.problems(anchor.text)
			line := ""
			for l := range strings.Lines(got) {
				if strings.HasPrefix(l, fmt.Sprintf("index %d ", idx)) || strings.HasPrefix(l, fmt.Sprintf("index %d:", idx)) {
					line += l
				}
			}
			if !strings.Contains(line, tc.want) {
				t.Errorf("index %d is not named with %q; found:\n%s", idx, tc.want, got)
			}
		})
	}
}

func TestT60_HeadAndCheckpoints(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  string
		want string
	}{
		"head_cut": {
			`UPDATE log_head SET size = size - 1, frontier = set_byte(frontier, 7, (get_byte(frontier, 7) - 1) & 255)`,
			"reaches beyond the log",
		},
		"head_frontier":      {`UPDATE log_head SET frontier = set_byte(frontier, 9, get_byte(frontier, 9) # 1)`, "the head of the log"},
		"head_deleted":       {`DELETE FROM log_head`, "the log has no head"},
		"checkpoint_root":    {`UPDATE checkpoint SET root = sha256('x')`, "not what the log's key signed"},
		"checkpoint_note":    {`UPDATE checkpoint SET note = replace(note, 'example', 'exbmple')`, "not what the log's key signed"},
		"checkpoint_moved":   {`UPDATE checkpoint SET size = size - 1`, "not what the log's key signed"},
		"evidence_edited":    {`UPDATE evidence_content SET packed = '\x0078'`, "its bytes do not have its digest"},
		"evidence_deleted":   {`DELETE FROM evidence_content`, "it is missing"},
		"facts_edited":       {`UPDATE measurement_set SET facts = replace(facts, 'aa', 'bb')`, "its facts do not have its digest"},
		"fact_edited":        {`UPDATE measurement_fact SET value = 'off' WHERE name = 'secure_boot'`, "its rows of facts are not those"},
		"fact_removed":       {`DELETE FROM measurement_fact WHERE name = 'secure_boot'`, "its rows of facts are not those"},
		"set_removed":        {`DELETE FROM measurement_fact; DELETE FROM measurement_set`, "an open interval names it"},
		"set_of_no_json":     {`INSERT INTO measurement_set VALUES (sha256('x'), 'x')`, "are not an object of strings"},
		"set_of_null":        {`INSERT INTO measurement_set VALUES (sha256('null'), 'null')`, "are not an object of strings"},
		"set_of_numbers":     {`INSERT INTO measurement_set VALUES (sha256('{"a":1}'), '{"a":1}')`, "are not an object of strings"},
		"set_with_spaces":    {`INSERT INTO measurement_set VALUES (sha256('{"a": "1"}'), '{"a": "1"}')`, "are not an object of strings"},
		"set_with_nul":       {`INSERT INTO measurement_set SELECT sha256(convert_to(f, 'UTF8')), f FROM (VALUES ('{"a":"\u0000"}')) AS v (f)`, "its rows of facts are not those"},
		"facts_of_no_set":    {`INSERT INTO measurement_fact VALUES ('pcr.7', '00', sha256('x'))`, "its rows of facts are not those"},
		"span_of_a_node":     {`UPDATE node_state SET span_zone = 'vault'`, "its open interval is not"},
		"span_taken_away":    {`UPDATE node_state SET span_zone = NULL`, "its open interval is not"},
		"span_from_earlier":  {`UPDATE node_state SET span_from = span_from - interval '1 hour'`, "its open interval is not"},
		"span_of_nobody":     {`UPDATE node_state SET span_measured = sha256('x')`, "an open interval names it"},
		"state_of_a_node":    {`UPDATE node_state SET last = gen_random_uuid()`, "last accepted"},
		"unlogged_open_rows": {`INSERT INTO log_entry SELECT log_id, 100000, entries FROM log_entry LIMIT 1`, "index 100000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, anchor := tampered(t)
			w.db.Exec(t, freely+tc.sql)
			if got := w.problems(anchor.text); !strings.Contains(got, tc.want) {
				t.Errorf("%q is not among the problems:\n%s", tc.want, got)
			}
		})
	}
}

// TestT60_RewrittenFromScratch: somebody cuts the log and writes another, whole
// one. Only what stands outside the database can show it, and signing stops.
func TestT60_RewrittenFromScratch(t *testing.T) {
	t.Parallel()
	w, anchor := tampered(t)
	signer, _ := logKeys()
	w.db.Exec(t, freely+`TRUNCATE attestation, evidence_part, svid, drift_event, evidence, measurement_interval, log_entry, log_tile, checkpoint, node, node_state, admission;
		DELETE FROM log_head; DELETE FROM log_writer`)
	forger := w.db.Open(t, nil)
	forged := &world{t: t, db: w.db, s: forger}
	forged.enrol(1)
	if got := forged.problems(""); got != "" {
		t.Errorf("the rewritten log is not whole in itself: %s", got)
	}
	if got := forged.problems(anchor.text); !strings.Contains(got, "reaches beyond the log") {
		t.Errorf("the anchor does not tell: %s", got)
	}
	_, err := forger.SignCheckpoint(t.Context(), signer, anchor)
	wantCode(t, err, reason.LedgerFork)
	_, err = forger.Append(t.Context(), event(t))
	wantCode(t, err, reason.LedgerFork)
	_, err = forger.SignCheckpoint(t.Context(), signer, &memoryAnchor{})
	wantCode(t, err, reason.LedgerFork)
}

func TestFencesHoldForTheSuperuser(t *testing.T) {
	t.Parallel()
	w, _ := tampered(t)
	for _, sql := range []string{
		`UPDATE attestation SET zone = 'x'`, `DELETE FROM attestation`, `TRUNCATE attestation`,
		`UPDATE evidence_part SET kind = 'x'`, `DELETE FROM svid`, `UPDATE svid SET serial = 'x'`, `DELETE FROM drift_event`,
		`UPDATE evidence_content SET packed = 'x'`, `UPDATE measurement_set SET facts = 'x'`, `DELETE FROM measurement_fact`, `UPDATE log_tile SET n = n + 9`, `DELETE FROM log_tile`, `DELETE FROM log_entry`,
		`UPDATE log_entry SET first_idx = first_idx + 1`, `TRUNCATE log_entry`, `UPDATE checkpoint SET size = 1`, `DELETE FROM checkpoint`,
		`UPDATE log_head SET size = 1`, `DELETE FROM log_head`, `DELETE FROM node`, `UPDATE node SET root_hash = sha256('x')`,
		`UPDATE admission SET machine = 'x'`, `DELETE FROM admission`,
	} {
		if err := w.tryExec(w.db.OwnerDSN, sql); err == nil {
			t.Errorf("%s was carried out", sql)
		}
	}
	part := query[string](t, w.db, `SELECT tableoid::regclass::text FROM attestation LIMIT 1`)
	for _, sql := range []string{`TRUNCATE ` + part, `DELETE FROM ` + part} {
		if err := w.tryExec(w.db.OwnerDSN, sql); err == nil {
			t.Errorf("%s was carried out", sql)
		}
	}
	for _, sql := range []string{
		`UPDATE attestation SET zone = 'x'`, `DELETE FROM evidence`, `UPDATE key SET der = 'x'`, `UPDATE object SET bytes = 'x'`,
		`CREATE TABLE x (a int)`, `ALTER TABLE attestation DISABLE TRIGGER ALL`, `DELETE FROM node_state`,
	} {
		if err := w.tryExec(w.db.WriterDSN, sql); pgState(err) != "42501" {
			t.Errorf("the writer's role: %s gives %v", sql, err)
		}
	}
	for _, sql := range []string{`INSERT INTO pending VALUES (sha256('x'), '', now(), now())`, `UPDATE node_state SET version = 9`} {
		if err := w.tryExec(w.db.ReaderDSN, sql); pgState(err) != "42501" {
			t.Errorf("the reader's role: %s gives %v", sql, err)
		}
	}
	if err := w.tryExec(w.db.ReaderDSN, `SELECT 1 FROM attestation, log_tile, node LIMIT 1`); err != nil {
		t.Errorf("the reader's role cannot read: %v", err)
	}
}
