//go:build benchhistory

package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// benchBatch is the number of records of one transaction of the load.
const benchBatch = 4096

// loader writes what a fleet does into the tables, in the form in which the writer
// writes it, each record at its own time.
type loader struct {
	conn     *pgx.Conn
	owner    string // DSN
	fleet    *fleet
	progress io.Writer

	frontier ledger.Frontier
	open     []byte // entries of the tile that is not full
	last     time.Time
	weeks    map[time.Time]bool
	contents map[benchContent]bool
	stored   map[[32]byte]bool // measurements
	hours    map[benchHour]int64
	begun    time.Time
}

// benchContent is an event log that was stored in a week.
type benchContent struct {
	digest [32]byte
	week   time.Time
}

type benchHour struct {
	hour                  time.Time
	zone, verdict, reason string
}

func newLoader(ctx context.Context, ownerDSN string, f *fleet, progress io.Writer) (*loader, error) {
	cfg, err := pgx.ParseConfig(ownerDSN)
	if err != nil {
		return nil, err
	}
	// Only the load: what is measured afterwards only reads.
	cfg.RuntimeParams["synchronous_commit"] = "off"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &loader{
		conn: conn, owner: ownerDSN, fleet: f, progress: progress, weeks: make(map[time.Time]bool), contents: make(map[benchContent]bool),
		stored: make(map[[32]byte]bool), hours: make(map[benchHour]int64), begun: time.Now(),
	}, nil
}

// until loads until the log has so many entries.
func (l *loader) until(ctx context.Context, rows int64) error {
	type ready struct {
		items []*item
		at    []time.Time
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := make(chan ready, 1)
	from := l.frontier.Size()
	go func() {
		defer close(next)
		for at := from; at < rows; at += benchBatch {
			var r ready
			r.items, r.at, r.err = l.compose(int(min(benchBatch, rows-at)))
			select {
			case next <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	said := time.Now()
	for r := range next {
		if r.err != nil {
			return r.err
		}
		if err := l.write(ctx, r.items, r.at); err != nil {
			return err
		}
		if n := l.frontier.Size(); time.Since(said) > 10*time.Second || n == rows {
			said = time.Now()
			fmt.Fprintf(l.progress, "loaded %d of %d rows, %s\n", n, rows, time.Since(l.begun).Round(time.Second))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.finish(ctx)
}

// compose decides in order, and makes bodies and packs them on all cores.
func (l *loader) compose(n int) (items []*item, at []time.Time, err error) {
	steps := make([]decided, n)
	for i := range steps {
		steps[i] = l.fleet.next()
	}
	items, at = make([]*item, n), make([]time.Time, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for part := range slices.Chunk(slices.Collect(upTo(n)), (n+3)/4) {
		wg.Go(func() {
			for _, i := range part {
				items[i], errs[i] = benchItem(&steps[i])
				at[i] = steps[i].at
			}
		})
	}
	wg.Wait()
	return items, at, cmp.Or(errs...)
}

func upTo(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func benchItem(d *decided) (*item, error) {
	salt := sha256.Sum256([]byte(d.at.String()))
	it := &item{commit: d.commit}
	var err error
	switch body := d.body.(type) {
	case ledger.Attestation:
		it.commit.Record, err = body.Record(salt)
		it.commit.SVIDs = body.SVIDs
	case ledger.Issuance:
		it.commit.Record, err = body.Record(salt)
		it.commit.SVIDs = body.SVIDs
	}
	r := &it.commit.Record
	it.packed = packBody(r.Body, r.ID, string(r.Node))
	it.inline = packInline(it.commit.Evidence)
	return it, err
}

// write is one transaction: COPY of the rows, what they share, and the log.
func (l *loader) write(ctx context.Context, items []*item, at []time.Time) error {
	if err := l.ensureWeeks(ctx, at); err != nil {
		return err
	}
	c := copies{logID: "main"}
	b := &pgx.Batch{}
	for i, it := range items {
		p := ledger.Position{Index: l.frontier.Size(), RecordedAt: at[i]}
		c.item(it, p)
		l.grow(b, it, at[i])
		l.share(b, it, at[i])
	}
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		for _, table := range []struct {
			buf *copyBuffer
			sql string
		}{{&c.records, copyAttestation}, {&c.parts, copyEvidencePart}, {&c.svids, copySVIDs}, {&c.drift, copyDrift}, {&c.intervals, copyIntervals}} {
			if table.buf.b == nil {
				continue
			}
			answer := l.conn.PgConn().Exec(ctx, table.sql)
			err := sendCopies(l.conn.PgConn().Frontend(), []*copyBuffer{table.buf})
			if err := cmp.Or(answer.Close(), err); err != nil {
				return err
			}
		}
		return tx.SendBatch(ctx, b).Close()
	})
}

func (l *loader) ensureWeeks(ctx context.Context, at []time.Time) error {
	for _, t := range []time.Time{at[0], at[len(at)-1]} {
		if week := ledger.Week(t); !l.weeks[week] {
			if err := EnsurePartitions(ctx, l.owner, t); err != nil {
				return err
			}
			l.weeks[week] = true
		}
	}
	return nil
}

// grow appends the entry of a record to the log, as sequence does for a batch of
// one.
func (l *loader) grow(b *pgx.Batch, it *item, at time.Time) {
	s := sequence(l.frontier, l.open, []*item{it}, at)
	l.frontier, _ = ledger.UnmarshalFrontier(s.frontier)
	l.open, l.last = s.tail, at
	s.chunk = nil // the open tile is written at the end
	s.queue(b, "main")
}

// share counts, and adds the measurement and the event log of a record once.
func (l *loader) share(b *pgx.Batch, it *item, at time.Time) {
	c := &it.commit
	if c.Record.Type != ledger.TypeAttestation {
		return
	}
	l.hours[benchHour{at.Truncate(time.Hour), c.Record.Zone, c.Record.Verdict, c.Record.Reason}]++
	if c.Interval == nil {
		return
	}
	var set *benchSet
	for i := range l.fleet.sets {
		if l.fleet.sets[i].m.Digest == c.Interval.Measured {
			set = &l.fleet.sets[i]
		}
	}
	if !l.stored[set.m.Digest] {
		l.stored[set.m.Digest] = true
		facts, _ := set.m.ByName()
		b.Queue(`INSERT INTO measurement_set (digest, facts) VALUES ($1, $2)`, set.m.Digest[:], string(set.m.Facts))
		for name, value := range facts {
			b.Queue(`INSERT INTO measurement_fact (name, value, digest) VALUES ($1, $2, $3)`, name, value, set.m.Digest[:])
		}
	}
	week := ledger.Week(at)
	if key := (benchContent{set.log, week}); !l.contents[key] {
		l.contents[key] = true
		b.Queue(`INSERT INTO evidence_content (recorded_at, keep, digest, kind, size, packed) VALUES ($1, 0, $2, $3, $4, $5)`,
			week, set.log[:], ledger.PartEventLog, 5*benchLogBytes, l.fleet.bytes(benchLogBytes))
	}
}

// finish writes the head of the log, the counts, and where each node stands now.
func (l *loader) finish(ctx context.Context) error {
	b := &pgx.Batch{}
	if len(l.open) > 0 {
		b.Queue(`DELETE FROM log_entry WHERE log_id = 'main'`)
		b.Queue(`INSERT INTO log_entry (log_id, first_idx, entries) VALUES ('main', $1, $2)`, l.frontier.Size()-int64(len(l.open)/ledger.EntrySize), l.open)
	}
	b.Queue(`INSERT INTO log_head (log_id, size, frontier, recorded_at) VALUES ('main', $1, $2, $3)
		ON CONFLICT (log_id) DO UPDATE SET size = EXCLUDED.size, frontier = EXCLUDED.frontier, recorded_at = EXCLUDED.recorded_at`,
		l.frontier.Size(), l.frontier.Marshal(), l.last)
	for _, h := range slices.SortedFunc(maps.Keys(l.hours), func(a, c benchHour) int {
		return cmp.Or(a.hour.Compare(c.hour), cmp.Compare(a.zone, c.zone), cmp.Compare(a.verdict, c.verdict), cmp.Compare(a.reason, c.reason))
	}) {
		b.Queue(`INSERT INTO attest_hourly (hour, zone, verdict, reason, writer, n) VALUES ($1, $2, $3, $4, 'main/broker-1', $5)
			ON CONFLICT (hour, zone, verdict, reason, writer) DO UPDATE SET n = attest_hourly.n + EXCLUDED.n`, h.hour, h.zone, h.verdict, h.reason, l.hours[h])
	}
	clear(l.hours)
	for _, n := range l.fleet.nodes {
		l.stand(b, n)
	}
	return l.conn.SendBatch(ctx, b).Close()
}

// stand writes a node and its state. Their HMACs are no HMACs: no reader has the
// key.
func (l *loader) stand(b *pgx.Batch, n *benchNode) {
	const node = `INSERT INTO node (node_id, root_kind, root_hash, ek_public, ak_public, ak_name, manufacturer, tpm_model, tpm_version, ek_expired,
		admitted_by, admission, machine, groups, status, ak_approved, created_at, mac)
		VALUES ($1, 'ek', $2, $3, $4, $5, 'id:53544D20', $6, 'id:00010102', false, 'inventory', gen_random_uuid(), $7, $8, 'active', true, now(), sha256('')) ON CONFLICT DO NOTHING`
	machine := "machine-" + string(n.id[:8])
	b.Queue(node, string(n.id), n.root[:], l.fleet.bytes(120), l.fleet.bytes(120), append([]byte{0, 11}, n.ak[:]...), modelName(n.model), machine, []string{"rack-" + string(n.id[:1])})
	b.Queue(`INSERT INTO inventory (machine, model, site, import) VALUES ($1, $2, $3, gen_random_uuid()) ON CONFLICT DO NOTHING`, machine, modelName(n.model), "site-"+string(n.id[:1]))
	const state = `INSERT INTO node_state (node_id, rebaseline, has_clock, tier, reset_count, restart_count, firmware, policy_version, repeats, zone, verdict, reason,
		secure_boot, pcrs, event_log, version, clock, last, attested_at, fresh_until, expires_at, last_attempt_at, last_ok_at, mac,
		span_zone, span_measured, span_policy, span_from, span_first, span_until, span_expires, span_last, span_renewals)
		VALUES ($1, false, true, 2, 3, 1, 65793, $2, 0, $3, $4, $5, 'on', $6, $7, 1, 1, $8, $9, $10, $11, $12, $13, sha256(''), $14, $15, $16, $17, $18, $19, $20, $21, $22)
		ON CONFLICT (node_id) DO UPDATE SET policy_version = $2, verdict = $4, reason = $5, pcrs = $6, event_log = $7, last = $8, attested_at = $9, fresh_until = $10,
		expires_at = $11, last_attempt_at = $12, last_ok_at = $13, span_zone = $14, span_measured = $15, span_policy = $16, span_from = $17, span_first = $18,
		span_until = $19, span_expires = $20, span_last = $21, span_renewals = $22`
	st, open := &n.state, spanRow(n.open)
	b.Queue(state, string(n.id), st.PolicyVersion, n.zone, st.Verdict, st.Reason, string(st.PCRs), st.EventLog[:], uuidArg(st.Last), timeArg(st.AttestedAt),
		timeArg(st.FreshUntil), timeArg(st.ExpiresAt), timeArg(st.LastAttemptAt), timeArg(st.LastOKAt),
		open.zone, open.measured, open.policy, open.from, open.first, open.until, open.expires, open.last, open.renewals)
}
