package store_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/migrations"
	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/store/storetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestMigrateFromNothingAndAgain(t *testing.T) {
	db := storetest.Empty(t)
	_, err := store.Open(t.Context(), db.Config())
	if _, ok := errors.AsType[*migrations.OlderError](err); !ok {
		t.Errorf("an empty database opens: %v", err)
	}
	var mu sync.Mutex
	var steps []string
	progress := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		steps = append(steps, s)
	}
	if err := store.Migrate(t.Context(), db.OwnerDSN, progress); err != nil {
		t.Fatal(err)
	}
	all, err := migrations.All()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(strings.Join(steps, "\n"), "applied "); got != len(all) {
		t.Errorf("%d of %d files were reported: %v", got, len(all), steps)
	}
	steps = nil
	if err := store.Migrate(t.Context(), db.OwnerDSN, progress); err != nil || len(steps) != 0 {
		t.Errorf("a second run: %v, %v", steps, err)
	}
	if owner := query[string](t, db, `SELECT tableowner FROM pg_tables WHERE tablename = 'attestation'`); owner != store.OwnerRole {
		t.Errorf("attestation belongs to %s", owner)
	}
	s, err := store.Open(t.Context(), db.Config())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestMigrateMakesTheDatabase(t *testing.T) {
	db := storetest.Empty(t)
	missing := strings.Replace(db.OwnerDSN, db.Name, db.Name+"_made", 1)
	t.Cleanup(func() { db.Exec(t, `DROP DATABASE IF EXISTS `+db.Name+`_made WITH (FORCE)`) })
	if err := store.Migrate(t.Context(), missing, nil); err != nil {
		t.Fatal(err)
	}
}

func TestReplicasMigrateTogether(t *testing.T) {
	t.Parallel()
	db := storetest.Empty(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := store.Migrate(t.Context(), db.OwnerDSN, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestForeignSchemaStops(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  string
		want func(error) bool
	}{
		"newer": {`INSERT INTO schema_file (version, name, sha256) VALUES (9999, '9999_future.sql', sha256('x'))`, func(err error) bool {
			e, ok := errors.AsType[*migrations.NewerError](err)
			return ok && e.Have == 9999 && strings.Contains(err.Error(), "schema 9999")
		}},
		"changed": {`UPDATE schema_file SET sha256 = sha256('x') WHERE version = 2`, func(err error) bool {
			e, ok := errors.AsType[*migrations.ChangedError](err)
			return ok && e.File == "0002_history.sql"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			db := storetest.New(t)
			db.Exec(t, tc.sql)
			if _, err := store.Open(t.Context(), db.Config()); !tc.want(err) {
				t.Errorf("open: %v", err)
			}
			if err := store.Migrate(t.Context(), db.OwnerDSN, nil); !tc.want(err) {
				t.Errorf("migrate: %v", err)
			}
		})
	}
	t.Run("older", func(t *testing.T) {
		db := storetest.New(t)
		db.Exec(t, `DELETE FROM schema_file WHERE version = 3`)
		_, err := store.Open(t.Context(), db.Config())
		if _, ok := errors.AsType[*migrations.OlderError](err); !ok {
			t.Errorf("open: %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	db := storetest.New(t)
	t.Run("a_role_that_is_no_writer", func(t *testing.T) {
		cfg := db.Config()
		cfg.DSN = db.ReaderDSN
		_, err := store.Open(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), store.WriterRole) {
			t.Errorf("open: %v", err)
		}
	})
	for name, change := range map[string]func(*store.Config){
		"no_row_key": func(c *store.Config) { c.RowKey = [32]byte{} },
		"no_log":     func(c *store.Config) { c.LogID = "" },
		"no_writer":  func(c *store.Config) { c.Writer = "" },
		"no_DSN":     func(c *store.Config) { c.DSN = "" },
	} {
		cfg := db.Config()
		change(&cfg)
		if _, err := store.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	t.Run("a_DSN_with_a_secret_is_not_shown", func(t *testing.T) {
		cfg := db.Config()
		cfg.DSN = "postgres://u:hunter2@[::1"
		if _, err := store.Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("synchronous_commit_off", func(t *testing.T) {
		// A default of the database does not weaken the writer.
		db.Exec(t, `ALTER DATABASE `+db.Name+` SET synchronous_commit = off`)
		s := db.Open(t, func(c *store.Config) {
			c.Step = func(name string) {
				if name == "store.precommit" {
					if v := query[string](t, db, `SELECT current_setting('synchronous_commit')`); v != "off" {
						t.Errorf("the default of this test is %s", v)
					}
				}
			}
		})
		if _, err := s.Append(t.Context(), event(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPartitionsAhead(t *testing.T) {
	db := storetest.New(t)
	const count = `SELECT count(*) FROM pg_inherits WHERE inhparent = 'attestation'::regclass`
	before := query[int](t, db, count)
	if before < 3 {
		t.Errorf("only %d partitions after the migration", before)
	}
	if def := query[int](t, db, `SELECT count(*) FROM pg_partitioned_table WHERE partdefid <> 0 AND partstrat = 'r'`); def != 0 {
		t.Error("there is a default partition for a week that nobody made")
	}
	now := time.Now()
	for range 2 {
		if err := store.EnsurePartitions(t.Context(), db.OwnerDSN, now.AddDate(0, 0, 21)); err != nil {
			t.Fatal(err)
		}
	}
	if after := query[int](t, db, count); after != before+3 {
		t.Errorf("%d partitions became %d; three weeks later there must be three more", before, after)
	}
	// All of the next three weeks can be written.
	end := query[time.Time](t, db, `SELECT max((regexp_match(pg_get_expr(relpartbound, oid), 'TO \(''([^'']+)'))[1]::timestamptz) FROM pg_class WHERE relispartition AND relkind = 'p'`)
	if end.Before(now.AddDate(0, 0, 42)) {
		t.Errorf("partitions end at %s", end)
	}
}

// TestPartitionsBesideWriters: attaching must not stop recording.
func TestPartitionsBesideWriters(t *testing.T) {
	w := newWorld(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := w.s.Append(t.Context(), event(t)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := store.EnsurePartitions(t.Context(), w.db.OwnerDSN, time.Now().AddDate(0, 0, 70)); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	w.verify("")
}

// TestMissingPartitionFailsLoudly: nothing is acknowledged that has no place.
func TestMissingPartitionFailsLoudly(t *testing.T) {
	w := newWorld(t)
	part := query[string](t, w.db, `SELECT c.relname::text FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
		WHERE i.inhparent = 'attestation'::regclass AND c.relname <= 'attestation_p' || to_char(now(), 'YYYYMMDD') ORDER BY 1 DESC LIMIT 1`)
	w.db.Exec(t, `DROP TABLE `+part)
	began := time.Now()
	_, err := w.s.Append(t.Context(), event(t))
	wantCode(t, err, reason.StoreUnavailable)
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("refused only after %s", d)
	}
}
