package store

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// queueMeasurements adds what the winners measured, each set once, sorted so that
// two writers meet in the same order.
func (t *transaction) queueMeasurements(b *pgx.Batch) {
	sets := make(map[contentKey]*ledger.Measurement)
	for _, it := range t.winners {
		m := it.commit.Measurement
		if m == nil || t.w.s.stored.has(measurementKey(m.Digest)) {
			continue
		}
		sets[measurementKey(m.Digest)] = m
	}
	if len(sets) == 0 {
		return
	}
	t.fresh = append(t.fresh, slices.Collect(maps.Keys(sets))...)
	var digests, of [][]byte
	var texts, names, values []string
	for _, k := range slices.SortedFunc(maps.Keys(sets), contentKey.compare) {
		m := sets[k]
		digests, texts = append(digests, m.Digest[:]), append(texts, string(m.Facts))
		facts, err := m.ByName()
		if err != nil {
			continue // no broker composes one; the set alone says nothing
		}
		for _, name := range slices.Sorted(maps.Keys(facts)) {
			names, values, of = append(names, name), append(values, facts[name]), append(of, m.Digest[:])
		}
	}
	const addSets = `INSERT INTO measurement_set (digest, facts) SELECT * FROM unnest($1::bytea[], $2::text[]) ON CONFLICT DO NOTHING`
	const addFacts = `INSERT INTO measurement_fact (name, value, digest) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) ON CONFLICT DO NOTHING`
	b.Queue(addSets, digests, texts)
	b.Queue(addFacts, names, values, of)
}

// hourKey is what attestations are counted by.
type hourKey struct{ zone, verdict, reason string }

func (k hourKey) compare(o hourKey) int {
	return cmp.Or(cmp.Compare(k.zone, o.zone), cmp.Compare(k.verdict, o.verdict), cmp.Compare(k.reason, o.reason))
}

// queueHours counts the attestations of the batch into their hour. The rows are
// this replica's own, so that writers of other logs never wait for them.
func (t *transaction) queueHours(b *pgx.Batch) {
	counts := make(map[hourKey]int64)
	for _, it := range t.winners {
		if r := &it.commit.Record; r.Type == ledger.TypeAttestation {
			counts[hourKey{r.Zone, r.Verdict, r.Reason}]++
		}
	}
	if len(counts) == 0 {
		return
	}
	var zones, verdicts, reasons []string
	var ns []int64
	for _, k := range slices.SortedFunc(maps.Keys(counts), hourKey.compare) {
		zones, verdicts, reasons, ns = append(zones, k.zone), append(verdicts, k.verdict), append(reasons, k.reason), append(ns, counts[k])
	}
	const count = `INSERT INTO attest_hourly AS h (hour, zone, verdict, reason, writer, n)
		SELECT $1, c.zone, c.verdict, c.reason, $2, c.n FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[]) AS c (zone, verdict, reason, n)
		ON CONFLICT (hour, zone, verdict, reason, writer) DO UPDATE SET n = h.n + EXCLUDED.n`
	b.Queue(count, t.log.recordedAt.Truncate(time.Hour), t.w.s.cfg.LogID+"/"+t.w.s.cfg.Writer, zones, verdicts, reasons, ns)
}
