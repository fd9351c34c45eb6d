//go:build benchhistory

// The benchmark of the history's questions, behind "make bench-history": it loads
// a million and then ten million records in the form in which the writer leaves
// them, and asks everything at both sizes.

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/store/embedded"
)

// benchReport is what the benchmark found.
type benchReport struct {
	Nodes   int         `json:"nodes"`
	Sizes   []tableSize `json:"sizes"` // at the last step
	Answers []answer    `json:"answers"`
}

// tableSize is what a table and its indices take.
type tableSize struct {
	Table   string  `json:"table"`
	Rows    int64   `json:"rows"`
	HeapB   int64   `json:"heap_bytes"`
	IndexB  int64   `json:"index_bytes"`
	PerRow  float64 `json:"bytes_per_row"`    // of the table
	PerMain float64 `json:"bytes_per_record"` // of the log
}

func TestBenchHistory(t *testing.T) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, nodes := setting(t, "ROWS", 10_000_000), int(setting(t, "NODES", 10_000))
	dir, err := os.MkdirTemp(os.Getenv("DIR"), "zonebroker-bench-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}()
	// Started by root, Postgres runs as another user, who has to get in.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &historyBench{dir: dir, progress: os.Stderr, report: benchReport{Nodes: nodes}}
	defer b.stop()
	if err := b.run(ctx, rows, nodes); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(os.Getenv("REPORT"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.report.print(out, os.Getenv("OUTPUT")), out.Close()); err != nil {
		t.Fatal(err)
	}
}

func setting(t *testing.T, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number", name, text)
	}
	return n
}

type historyBench struct {
	dir      string
	progress io.Writer
	pg       *embedded.Server
	report   benchReport
}

// run asks everything at a tenth of the rows and at all of them.
func (b *historyBench) run(ctx context.Context, rows int64, nodes int) error {
	if err := b.start(ctx); err != nil {
		return err
	}
	owner := b.pg.DSN(embedded.Superuser, "bench")
	if err := Migrate(ctx, owner, nil); err != nil {
		return err
	}
	f := newFleet(nodes, rows, time.Now())
	l, err := newLoader(ctx, owner, f, b.progress)
	if err != nil {
		return err
	}
	for _, step := range []int64{rows / 10, rows} {
		if err := l.until(ctx, step); err != nil {
			return err
		}
		if err := b.settle(ctx, l); err != nil {
			return err
		}
		if l.conn, err = pgx.ConnectConfig(ctx, l.conn.Config()); err != nil {
			return err
		}
		if err := b.askAll(ctx, l, step); err != nil {
			return err
		}
	}
	if b.report.Sizes, err = sizes(ctx, l.conn, rows); err != nil {
		return err
	}
	return l.conn.Close(ctx)
}

func (b *historyBench) start(ctx context.Context) (err error) {
	b.pg, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(b.dir, "pg")})
	return err
}

func (b *historyBench) stop() {
	if b.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = b.pg.Stop(ctx) // the folder goes in any case
	}
}

// settle does what autovacuum would have done by then, and starts the server
// again, so that the first answers come from disk or from the system's memory.
func (b *historyBench) settle(ctx context.Context, l *loader) error {
	fmt.Fprintln(b.progress, "vacuum, analyze, restart")
	if _, err := l.conn.Exec(ctx, `VACUUM (ANALYZE)`); err != nil {
		return err
	}
	if _, err := l.conn.Exec(ctx, `CHECKPOINT`); err != nil {
		return err
	}
	if err := l.conn.Close(ctx); err != nil {
		return err
	}
	b.stop()
	return b.start(ctx)
}

func (b *historyBench) askAll(ctx context.Context, l *loader, rows int64) error {
	x, err := readExamples(ctx, l.conn, l.fleet, rows)
	if err != nil {
		return err
	}
	r, err := OpenReader(ctx, ReaderConfig{DSN: b.pg.DSN(ReaderRole, "bench"), LogID: "main"})
	if err != nil {
		return err
	}
	s, err := Open(ctx, Config{DSN: b.pg.DSN(WriterRole, "bench"), RowKey: [32]byte{1}, LogID: "main", Writer: "bench"})
	if err != nil {
		return err
	}
	seen := &Spy{}
	if err := errors.Join(seen.on(ctx, &r.pool), seen.on(ctx, &s.pool)); err != nil {
		return err
	}
	defer r.Close()
	defer s.Close()
	for _, q := range questions(r, s, x) {
		a, err := measure(ctx, q, seen, l.conn, rows)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.progress, "%-40s first %8.2f ms, warm %8.2f ms\n", a.Question, a.FirstMS, a.WarmMS)
		b.report.Answers = append(b.report.Answers, a)
	}
	return nil
}

// sizes are those of the tables of the history and of the log, with their weeks.
func sizes(ctx context.Context, conn *pgx.Conn, records int64) ([]tableSize, error) {
	const query = `SELECT t.name, COALESCE(sum(c.reltuples), 0)::bigint, sum(pg_table_size(p.relid))::bigint, sum(pg_indexes_size(p.relid))::bigint
		FROM unnest($1::text[]) WITH ORDINALITY AS t (name, at)
		CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(t.name::regclass) WHERE isleaf UNION SELECT t.name::regclass) AS p
		JOIN pg_class c ON c.oid = p.relid AND c.relkind = 'r' GROUP BY t.name, t.at ORDER BY t.at`
	tables := []string{
		"attestation", "evidence_part", "svid", "drift_event", "measurement_interval", "evidence_content",
		"measurement_set", "measurement_fact", "attest_hourly", "log_tile", "node", "node_state",
	}
	rows, err := conn.Query(ctx, query, tables)
	if err != nil {
		return nil, err
	}
	all := tableSize{Table: "all"}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s tableSize, err error) {
		err = row.Scan(&s.Table, &s.Rows, &s.HeapB, &s.IndexB)
		s.PerRow, s.PerMain = float64(s.HeapB+s.IndexB)/float64(max(1, s.Rows)), float64(s.HeapB+s.IndexB)/float64(records)
		all.HeapB, all.IndexB = all.HeapB+s.HeapB, all.IndexB+s.IndexB
		return s, err
	})
	all.Rows, all.PerMain = records, float64(all.HeapB+all.IndexB)/float64(records)
	all.PerRow = all.PerMain
	return append(out, all), err
}

func (r benchReport) print(w io.Writer, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "QUESTION\tROWS\tFIRST MS\tWARM MS\tGOAL\tPAGES\tPLAN\n")
	for _, a := range r.Answers {
		goal := "-"
		if a.GoalMS > 0 {
			goal = strconv.FormatFloat(a.GoalMS, 'f', 0, 64)
			if a.WarmMS > a.GoalMS {
				goal += " MISSED"
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%.2f\t%.2f\t%s\t%d\t%s\n", a.Question, a.Rows, a.FirstMS, a.WarmMS, goal, a.Buffers, a.Plan)
	}
	fmt.Fprintf(t, "\nTABLE\tROWS\tTABLE BYTES\tINDEX BYTES\tBYTES/ROW\tBYTES/RECORD\n")
	for _, s := range r.Sizes {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%.0f\n", s.Table, s.Rows, s.HeapB, s.IndexB, s.PerRow, s.PerMain)
	}
	return t.Flush()
}
