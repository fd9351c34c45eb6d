package store_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/store"
)

// rights are what a role may do to a table beyond reading it.
type rights struct{ writer, reader string }

// matrix reads the table of docs/retention.md.
func matrix(t *testing.T) map[string]rights {
	t.Helper()
	raw, err := os.ReadFile("../docs/retention.md")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]rights)
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		for _, name := range strings.Split(cells[1], ",") {
			out[strings.Trim(name, " `")] = rights{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	return out
}

// TestRolesAreAsWritten: of every table in the catalogue, partitions too, each
// role may do what the written matrix says, and nothing else.
func TestRolesAreAsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := store.NewOwner(w.s, w.db.OwnerDSN).MakeGroups(t.Context(), 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	want := matrix(t)
	conn, err := pgx.Connect(t.Context(), w.db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const may = `SELECT c.relname::text, c.relispartition,
		(SELECT string_agg(p, ' ' ORDER BY n) FROM unnest($2::text[]) WITH ORDINALITY AS v (p, n) WHERE has_table_privilege($1, c.oid, p))
		FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1`
	verbs := []string{"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"}
	seen := map[string]bool{}
	for _, role := range []string{store.WriterRole, store.ReaderRole} {
		rows, err := conn.Query(t.Context(), may, role, verbs)
		if err != nil {
			t.Fatal(err)
		}
		var name string
		var part bool
		var got *string
		_, err = pgx.ForEachRow(rows, []any{&name, &part, &got}, func() error {
			has := ""
			if got != nil {
				has = *got
			}
			if strings.HasPrefix(name, "goose") {
				return nil // the tool's own table, of the owner alone
			}
			if part {
				// Rows are reached by their table alone.
				if has != "" {
					t.Errorf("%s may %s on partition %s", role, has, name)
				}
				return nil
			}
			seen[name] = true
			r, known := want[name]
			expected := map[string]string{store.WriterRole: r.writer, store.ReaderRole: r.reader}[role]
			if !known || expected != has {
				t.Errorf("%s on %s: %q, docs/retention.md has %q", role, name, has, expected)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("docs/retention.md has %s, which is no table", name)
		}
	}
}

// history is what nobody changes: what was recorded, and what was sent for it.
var history = []string{"attestation", "evidence", "evidence_part", "evidence_content", "svid", "drift_event", "measurement_interval", "measurement_set", "measurement_fact"}

// TestHistoryIsAppendOnlyToTheLeaf: the grants keep the writer from changing the
// history, and the triggers everybody, on tables, weeks and leaves.
func TestHistoryIsAppendOnlyToTheLeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.attested()
	conn, err := pgx.Connect(t.Context(), w.db.OwnerDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const tables = `WITH RECURSIVE all_of AS (SELECT c.oid FROM pg_class c WHERE c.oid = ANY ($1::regclass[])
			UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN all_of a ON i.inhparent = a.oid)
		SELECT oid::regclass::text FROM all_of ORDER BY 1`
	rows, err := conn.Query(t.Context(), tables, history)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 30 || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "_k0") }) {
		t.Fatalf("only %d tables: %v", len(names), names)
	}
	for _, name := range names {
		const appendOnly, forbidden = "55000", "42501"
		if got := pgState(w.tryExec(w.db.OwnerDSN, `TRUNCATE `+name+` CASCADE`)); got != appendOnly {
			t.Errorf("TRUNCATE %s as superuser: %q", name, got)
		}
		for _, sql := range []string{`TRUNCATE ` + name, `DELETE FROM ` + name, `UPDATE ` + name + ` SET ` + columnOf(name) + ` = ` + columnOf(name)} {
			if got := pgState(w.tryExec(w.db.WriterDSN, sql)); got != forbidden {
				t.Errorf("%s as the writer: %q", sql, got)
			}
		}
		if query[int](t, w.db, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM %s LIMIT 1) one`, name)) == 0 {
			continue // no row, no trigger
		}
		for _, sql := range []string{`DELETE FROM ` + name, `UPDATE ` + name + ` SET ` + columnOf(name) + ` = ` + columnOf(name)} {
			for _, role := range []string{``, `SET ROLE zb_owner; `} {
				if got := pgState(w.tryExec(w.db.OwnerDSN, role+sql)); got != appendOnly {
					t.Errorf("%s%s: %q", role, sql, got)
				}
			}
		}
	}
}

func columnOf(table string) string {
	switch {
	case strings.HasPrefix(table, "measurement_set"):
		return "facts"
	case strings.HasPrefix(table, "measurement_fact"):
		return "value"
	case strings.HasPrefix(table, "evidence"):
		return "digest"
	}
	return "node_id"
}
