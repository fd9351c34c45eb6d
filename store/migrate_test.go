package store_test

import (
	"compress/gzip"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
)

// schema3Key is the cluster key of the demo that wrote testdata/schema3.data.sql.gz,
// thrown away with it.
const schema3Key = "0cb80ad5699dc9174c8d98e7a685d9a9ef1af713f0bd343c269e3bdf6f467ea2"

// schema3Tables are what programs of schema 3 made weekly partitions of.
var schema3Tables = []string{"attestation", "evidence_part", "svid", "drift_event"}

// schema3 is the database of a program of schema 3, its log, and how that is
// checked: first as that program left it, then migrated.
type schema3 struct {
	*world
	key    note.Verifier
	anchor string
}

func newSchema3(t *testing.T) *schema3 {
	t.Helper()
	db := storetest.Empty(t)
	if err := store.MigrateTo(t.Context(), db.OwnerDSN, 3); err != nil {
		t.Fatal(err)
	}
	for _, table := range schema3Tables {
		part := table + "_p20261116"
		db.Exec(t, `CREATE TABLE `+part+` (LIKE `+table+` INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)`,
			`ALTER TABLE `+part+` OWNER TO zb_owner`,
			`ALTER TABLE `+table+` ATTACH PARTITION `+part+` FOR VALUES FROM ('2026-11-16T00:00:00Z') TO ('2026-11-23T00:00:00Z')`)
	}
	f, err := os.Open("testdata/schema3.data.sql.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, string(data))
	return &schema3{world: &world{t: t, db: db}, key: schema3LogKey(t), anchor: testdata(t, "schema3.anchor")}
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func schema3LogKey(t *testing.T) note.Verifier {
	t.Helper()
	key, err := note.NewVerifier(strings.TrimSpace(testdata(t, "schema3.log.pub")))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// migrate brings it to the latest schema, with partitions around the time of its
// records, and opens it.
func (s *schema3) migrate() {
	s.t.Helper()
	ctx := context.Background()
	if err := store.Migrate(ctx, s.db.OwnerDSN, nil); err != nil {
		s.t.Fatal(err)
	}
	if err := store.EnsurePartitions(ctx, s.db.OwnerDSN, time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)); err != nil {
		s.t.Fatal(err)
	}
	cluster, err := hex.DecodeString(schema3Key)
	if err != nil {
		s.t.Fatal(err)
	}
	row, err := hkdf.Key(sha256.New, cluster, nil, "zonebroker-row-v1", 32)
	if err != nil {
		s.t.Fatal(err)
	}
	s.s = s.db.Open(s.t, func(c *store.Config) { c.RowKey = [32]byte(row) })
}

// whole wants a history without problems and returns how many records it has.
func (s *schema3) whole() int64 {
	s.t.Helper()
	v, err := s.s.VerifyHistory(s.t.Context(), s.anchor, s.key, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range v.Problems {
		s.t.Errorf("problem: %s", p)
	}
	return v.Records
}

// newestNode is the node of the newest record that was accepted.
func (s *schema3) newestNode() ledger.Snapshot {
	s.t.Helper()
	id := query[string](s.t, s.db, `SELECT node_id FROM attestation WHERE verdict = 'allow' ORDER BY log_idx DESC LIMIT 1`)
	snap, err := s.s.NodeByID(s.t.Context(), ledger.NodeID(id))
	if err != nil || !snap.Found {
		s.t.Fatalf("node %s: found %t, %v", id, snap.Found, err)
	}
	return snap
}

// TestMigrateRows: what a program of schema 3 wrote stays whole and readable, its
// evidence is found, and its nodes renew.
func TestMigrateRows(t *testing.T) {
	t.Parallel()
	s := newSchema3(t)
	s.migrate()
	if n := s.whole(); n != 12 {
		t.Errorf("%d records", n)
	}
	id := query[uuid.UUID](t, s.db, `SELECT record_id FROM attestation WHERE verdict = 'deny'`)
	r, err := s.s.Record(t.Context(), id)
	if err != nil || r == nil || len(r.Drift) != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	var body ledger.Attestation
	if err := json.Unmarshal(r.Body, &body); err != nil {
		t.Fatal(err)
	}
	parts, err := s.s.RecordEvidence(t.Context(), id, body.Evidence)
	if err != nil || len(parts) != len(body.Evidence) {
		t.Errorf("%d of %d parts of its evidence, %v", len(parts), len(body.Evidence), err)
	}
	snap := s.newestNode()
	if snap.Open != nil {
		t.Errorf("a node of schema 3 has the span %+v", snap.Open)
	}
	c := attestation(t, snap, ledger.VerdictAllow)
	c.State.Version = s.append(c).Version
	snap.State, snap.Open = *c.State, c.Interval
	s.append(attestation(t, snap, ledger.VerdictDeny))
	if n := s.whole(); n != 14 {
		t.Errorf("%d records", n)
	}
	if n := query[int](t, s.db, `SELECT count(*) FROM measurement_interval WHERE ended = 'denied'`); n != 1 {
		t.Errorf("%d intervals ended", n)
	}
}

// TestOlderReleaseRestarts: a program of schema 3 starts on the latest one, as
// owner too, and changes nothing.
func TestOlderReleaseRestarts(t *testing.T) {
	t.Parallel()
	db := storetest.New(t)
	if err := store.MigrateTo(t.Context(), db.OwnerDSN, 3); err != nil {
		t.Fatal(err)
	}
	if n := query[int64](t, db, `SELECT max(version) FROM schema_file`); n != 3 {
		t.Errorf("a program of schema 3 would stop at schema %d", n)
	}
	db.Open(t, nil)
}

// TestProgramsOfSchema3 run their statements on the latest schema, in the role of
// the writer; what they leave is gone on with.
func TestProgramsOfSchema3(t *testing.T) {
	t.Parallel()
	s := newSchema3(t)
	s.migrate()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.db.WriterDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for block := range strings.SplitSeq(testdata(t, "schema3.sql"), "\n\n") {
		if strings.HasPrefix(block, "--") {
			continue
		}
		ran++
		if !strings.HasPrefix(block, "COPY") {
			_, err = conn.PgConn().Exec(ctx, block).ReadAll()
		} else {
			sql, rows, _ := strings.Cut(block, ";\n")
			_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(rows+"\n"), sql)
		}
		if err != nil {
			t.Fatalf("%s: %v", block, err)
		}
	}
	if ran < 40 {
		t.Errorf("only %d statements ran", ran)
	}
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	s.overtake()
}

// overtake has a program of schema 3 accept a node whose span is open: the span
// ends where it was overtaken.
func (s *schema3) overtake() {
	t := s.t
	snap := s.newestNode()
	c := attestation(t, snap, ledger.VerdictAllow)
	c.State.Version = s.append(c).Version
	snap.State = *c.State
	old := attestation(t, snap, ledger.VerdictAllow)
	// That program leaves the columns of the span as they are.
	old.Interval, old.Closed, old.Measurement = c.Interval, nil, nil
	old.State.Version = s.append(old).Version
	got, err := s.s.NodeByID(t.Context(), snap.Node.ID)
	if err != nil || got.Open == nil || got.Open.Last == got.State.Last {
		t.Fatalf("%+v, %v", got.Open, err)
	}
	at := time.Now().Truncate(time.Millisecond)
	_, closed := ledger.Earn(got.Open, &got.State, ledger.Earned{Node: got.Node.ID, Zone: got.Open.Zone, At: at, FreshUntil: at})
	if closed == nil || closed.Ended != ledger.EndedChanged || !closed.Until.Equal(got.State.LastOKAt) {
		t.Errorf("the overtaken span ended as %+v", closed)
	}
}
