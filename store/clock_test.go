package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/store"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// stepClock makes the clock that this database tells jump. What is simulated is
// clock_timestamp(), by which records are dated: the function of that name is put
// behind one of ours, in the catalogue of this database alone. What is not is the
// machine's clock: now() and Postgres's own timers go on as they were.
func (w *world) stepClock(by time.Duration) {
	w.t.Helper()
	if query[bool](w.t, w.db, `SELECT to_regprocedure('pg_catalog.true_clock_timestamp()') IS NULL`) {
		w.db.Exec(w.t, `SET allow_system_table_mods = on;
			CREATE TABLE clock_step (by interval NOT NULL); INSERT INTO clock_step VALUES ('0'); GRANT SELECT ON clock_step TO zb_writer;
			ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp;
			CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
				AS 'SELECT pg_catalog.true_clock_timestamp() + by FROM public.clock_step'`)
	}
	w.db.Exec(w.t, fmt.Sprintf(`UPDATE clock_step SET by = '%d seconds'`, int64(by/time.Second)))
}

// TestClockStepsUnderTheRecorder: two brokers record while the database's clock
// and their own step hours and days both ways. Time and index of the log agree
// all the while; a broker's own clock dates nothing.
func TestClockStepsUnderTheRecorder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := w.enrolled(6)
	w.stepClock(0)
	a := newAcks("0", "1")
	var own, failures atomic.Int64
	var stops []func()
	for _, name := range []string{"0", "1"} {
		stops = append(stops, w.startLoad(name, nodes, a, &failures, func(c *store.Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(own.Load())) }
		}))
	}
	const head = `SELECT recorded_at FROM log_head`
	var latest time.Time
	for _, step := range []time.Duration{2 * time.Hour, -3 * time.Hour, 9 * 24 * time.Hour, time.Minute, -6 * time.Hour, 10 * 24 * time.Hour} {
		w.stepClock(step)
		own.Store(int64(-step))
		a.progress(t, 10)
		at := query[time.Time](t, w.db, head)
		if at.Before(latest) {
			t.Errorf("after a step to %s the log goes on at %s and was at %s", step, at, latest)
		}
		if told := time.Now().Add(step); told.After(latest.Add(time.Minute)) && at.Sub(told).Abs() > time.Minute {
			t.Errorf("after a step to %s records are dated %s", step, at)
		}
		latest = at
		skew, err := w.s.ClockSkew(t.Context())
		if err != nil || (skew-step).Abs() > 5*time.Second {
			t.Errorf("a skew of %s counts as %s (%v)", step, skew, err)
		}
	}
	for _, stop := range stops {
		stop()
	}
	if n := failures.Load(); n != 0 {
		t.Errorf("%d requests were refused", n)
	}
	w.checkWhole(a)
}

// TestClockBeyondThePartitions: a clock that steps past every partition stops the
// recorder, and does not harm it.
func TestClockBeyondThePartitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// Before the first statement: a prepared one keeps the function that it found.
	w.stepClock(0)
	w.append(event(t))
	w.stepClock(400 * 24 * time.Hour)
	_, err := w.s.Append(t.Context(), event(t))
	wantCode(t, err, reason.StoreUnavailable)
	w.stepClock(0)
	if p := w.append(event(t)); p.Index != 1 || time.Since(p.RecordedAt).Abs() > time.Minute {
		t.Errorf("it goes on at index %d, dated %s", p.Index, p.RecordedAt)
	}
	w.verify("")
}
