package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// copyBuffer builds the binary format of COPY (Postgres documentation, "COPY",
// Binary Format). pgx's CopyFrom asks for the columns on every call, and waits
// for the end of each; these columns are known, and their tables go together.
type copyBuffer struct{ b []byte }

var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// copyChunk bounds what the server has to hold of a COPY at once.
const copyChunk = 64 << 10

// postgresEpoch is 2000-01-01 in µs since 1970.
const postgresEpoch = 946_684_800_000_000

func (c *copyBuffer) row(fields int) {
	if c.b == nil {
		c.b = append(make([]byte, 0, copyChunk), copyHeader...)
	}
	c.b = binary.BigEndian.AppendUint16(c.b, uint16(fields))
}

func (c *copyBuffer) bytes(v []byte) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(v)))
	c.b = append(c.b, v...)
}

func (c *copyBuffer) text(v string) {
	c.b = binary.BigEndian.AppendUint32(c.b, uint32(len(v)))
	c.b = append(c.b, v...)
}

func (c *copyBuffer) int64(v int64) {
	c.b = binary.BigEndian.AppendUint32(c.b, 8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(v))
}

func (c *copyBuffer) int16(v int) {
	c.b = binary.BigEndian.AppendUint32(c.b, 2)
	c.b = binary.BigEndian.AppendUint16(c.b, uint16(v))
}

func (c *copyBuffer) uuid(v uuid.UUID) { c.bytes(v[:]) }

// time writes a timestamptz; the zero time is NULL.
func (c *copyBuffer) time(v time.Time) {
	if v.IsZero() {
		c.b = binary.BigEndian.AppendUint32(c.b, 0xffffffff)
		return
	}
	c.int64(v.UnixMicro() - postgresEpoch)
}

// copies are the history rows of a batch, by table.
type copies struct {
	logID                                   string
	records, parts, svids, drift, intervals copyBuffer
}

// copyRows writes the history rows of the winners.
func (t *transaction) copyRows(ctx context.Context) error {
	c := copies{logID: t.w.s.cfg.LogID}
	for _, it := range t.winners {
		c.item(it, t.out.pos[it])
	}
	var queries []string
	var buffers []*copyBuffer
	for _, table := range []struct {
		buf *copyBuffer
		sql string
	}{
		{&c.records, copyAttestation},
		{&c.parts, copyEvidencePart},
		{&c.svids, copySVIDs},
		{&c.drift, copyDrift},
		{&c.intervals, copyIntervals},
	} {
		if table.buf.b != nil {
			queries, buffers = append(queries, table.sql), append(buffers, table.buf)
		}
	}
	return t.w.copyIn(ctx, strings.Join(queries, ";"), buffers)
}

// copyIn runs several COPY in one round trip: the server takes the data of the
// next one after the end of that before, and ignores what follows an error. A
// process that stops after the start holds the first table inside COPY.
func (w *writer) copyIn(ctx context.Context, queries string, buffers []*copyBuffer) error {
	conn := w.conn.PgConn()
	answer := conn.Exec(ctx, queries)
	if conn.IsClosed() {
		// It broke while the queries were sent, and pgx is taking leave of the
		// server on it: nobody else may write there.
		return cmp.Or(answer.Close(), errors.New("the connection broke"))
	}
	w.s.cfg.Step("store.copy")
	err := sendCopies(conn.Frontend(), buffers)
	// What the server says tells more than that the connection broke.
	return cmp.Or(answer.Close(), err)
}

func sendCopies(to *pgproto3.Frontend, buffers []*copyBuffer) error {
	for _, c := range buffers {
		const trailer = "\xff\xff"
		for chunk := range slices.Chunk(append(c.b, trailer...), copyChunk) {
			to.Send(&pgproto3.CopyData{Data: chunk})
			if err := to.Flush(); err != nil {
				return err
			}
		}
		to.Send(&pgproto3.CopyDone{})
	}
	return to.Flush()
}

const (
	copyAttestation = `COPY attestation (recorded_at, log_id, log_idx, record_id, type, node_id, zone, verdict, reason,
		attested_at, fresh_until, policy_version, salt, packed, keep) FROM STDIN (FORMAT binary)`
	copyEvidencePart = `COPY evidence_part (recorded_at, log_id, log_idx, ord, kind, digest, packed, keep) FROM STDIN (FORMAT binary)`
	copySVIDs        = `COPY svid (recorded_at, log_id, log_idx, ord, node_id, profile, serial, spiffe_id, not_before, not_after,
		tbs_sha256, ca_key_id, key, audience, keep) FROM STDIN (FORMAT binary)`
	copyDrift = `COPY drift_event (recorded_at, log_id, log_idx, ord, record_id, node_id, zone, kind, before_value, after_value,
		last_good, keep) FROM STDIN (FORMAT binary)`
	copyIntervals = `COPY measurement_interval (recorded_at, log_id, log_idx, keep, node_id, zone, measured, policy_version, valid_from,
		valid_until, expires_at, first_record, last_record, renewals, ended) FROM STDIN (FORMAT binary)`
)

func (c *copies) item(it *item, p ledger.Position) {
	c.record(it, p)
	if it.inline != nil {
		b := &c.parts
		c.begin(b, 8, p)
		b.int16(0)
		b.text(kindInline)
		b.bytes(nil)
		b.bytes(it.inline)
		b.int16(int(it.commit.Keep))
	}
	for i, v := range it.commit.SVIDs {
		c.svid(it, p, i, v)
	}
	for i, d := range it.commit.Drift {
		c.drifted(it, p, i, d)
	}
	if it.commit.Closed != nil {
		c.interval(it, p, it.commit.Closed)
	}
}

// begin writes the key that each row of the history begins with.
func (c *copies) begin(b *copyBuffer, fields int, p ledger.Position) {
	b.row(fields)
	b.time(p.RecordedAt)
	b.text(c.logID)
	b.int64(p.Index)
}

func (c *copies) record(it *item, p ledger.Position) {
	b, r := &c.records, &it.commit.Record
	c.begin(b, 15, p)
	b.uuid(r.ID)
	b.text(r.Type)
	b.text(string(r.Node))
	b.text(r.Zone)
	b.text(r.Verdict)
	b.text(r.Reason)
	b.time(r.AttestedAt)
	b.time(r.FreshUntil)
	b.int64(r.PolicyVersion)
	b.bytes(r.Salt[:])
	b.bytes(it.packed)
	b.int16(int(it.commit.Keep))
}

// svid leaves out what nobody looks an SVID up by: it stands in the body.
func (c *copies) svid(it *item, p ledger.Position, ord int, v ledger.IssuedSVID) {
	b := &c.svids
	c.begin(b, 15, p)
	b.int16(ord)
	b.text(string(it.commit.Record.Node))
	b.text(v.Profile)
	b.text(v.Serial)
	b.text("")
	b.time(time.Unix(v.NotBefore, 0))
	b.time(time.Unix(v.NotAfter, 0))
	b.text("")
	b.text("")
	b.text(v.Key)
	b.text(v.Audience)
	b.int16(int(it.commit.Keep))
}

func (c *copies) drifted(it *item, p ledger.Position, ord int, d ledger.Drift) {
	b := &c.drift
	c.begin(b, 12, p)
	b.int16(ord)
	b.uuid(it.commit.Record.ID)
	b.text(string(it.commit.Record.Node))
	b.text(it.commit.DriftZone)
	b.text(d.Kind)
	b.text(d.Before)
	b.text(d.After)
	b.time(it.commit.LastGood)
	b.int16(int(it.commit.Keep))
}

func (c *copies) interval(it *item, p ledger.Position, i *ledger.Interval) {
	b := &c.intervals
	c.begin(b, 15, p)
	b.int16(int(it.commit.KeepClosed))
	b.text(string(i.Node))
	b.text(i.Zone)
	b.bytes(i.Measured[:])
	b.int64(i.PolicyVersion)
	b.time(i.From)
	b.time(i.Until)
	b.time(i.Expires)
	b.uuid(i.First)
	b.uuid(i.Last)
	b.int64(i.Renewals)
	b.text(i.Ended)
}
