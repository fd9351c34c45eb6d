package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

func inventoryCommit(t testing.TB, machines ...string) ledger.Commit {
	t.Helper()
	list := make([]ledger.InventoryMachine, len(machines))
	for i, m := range machines {
		list[i].Machine = m
	}
	c := event(t)
	g := ledger.Grant{Type: ledger.TypeInventoryImport, ID: c.Record.ID, By: "uid:0", Subject: "00", Machines: int64(len(list)), At: time.Now().UnixMilli()}
	var err error
	if c.Record, err = g.Record(salt()); err != nil {
		t.Fatal(err)
	}
	c.Inventory = &ledger.Inventory{Machines: list}
	return c
}

// TestTurnComesFirst: who waits for the turn of all brokers has written nothing
// yet that the one whose turn it is might wait for.
func TestTurnComesFirst(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	l.append(event(t))
	conn, err := pgx.Connect(t.Context(), l.db.WriterDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	m, err := ledger.NewMeasurement(map[string]string{"pcr.4": strings.Repeat("ab", 32)})
	if err != nil {
		t.Fatal(err)
	}
	c := inventoryCommit(t, "a")
	c.Measurement = &m
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT size FROM log_head WHERE log_id = 'main' FOR UPDATE; SET LOCAL lock_timeout = '500ms'`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := l.other.s.Append(t.Context(), c)
		done <- err
	}()
	const waiting = `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')
		AND database IS NOT DISTINCT FROM CASE locktype WHEN 'tuple' THEN (SELECT oid FROM pg_database WHERE datname = current_database()) END`
	for range 100 {
		if query[int](t, l.db, waiting) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO measurement_set (digest, facts) VALUES ($1, $2)`, m.Digest[:], string(m.Facts)); err != nil {
		t.Errorf("the one whose turn it is waits for another: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestInventoryThroughTwoLogs: of imports at once, through brokers with a log
// each, one list stands as a whole and none is refused.
func TestInventoryThroughTwoLogs(t *testing.T) {
	t.Parallel()
	l := newTwoLogs(t)
	// The turn is that of the first log, which is known once each has its head.
	l.append(event(t))
	l.other.append(event(t))
	lists := [][]string{{"a", "c"}, {"b", "c"}}
	for range 15 {
		var wg sync.WaitGroup
		for i, w := range []*world{l.world, l.other} {
			wg.Go(func() {
				if _, err := w.s.Append(t.Context(), inventoryCommit(t, lists[i]...)); err != nil {
					t.Errorf("import %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		got := strings.Fields(query[string](t, l.db, `SELECT string_agg(machine, ' ' ORDER BY machine) FROM inventory`))
		if !slices.ContainsFunc(lists, func(list []string) bool { return slices.Equal(list, got) }) {
			t.Fatalf("the list is %v", got)
		}
	}
}
