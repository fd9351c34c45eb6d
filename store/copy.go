package store

import (
	"cmp"
	"context"
	"encoding/binary"
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

// copyRows writes the history rows of the winners.
func (t *transaction) copyRows(ctx context.Context) error {
	var records, parts, svids, drift copyBuffer
	logID := t.w.s.cfg.LogID
	for _, it := range t.winners {
		c, p := &it.commit, t.out.pos[it]
		copyRecord(&records, logID, p, c.Record)
		for i, e := range c.Evidence {
			parts.row(6)
			parts.time(p.RecordedAt)
			parts.text(logID)
			parts.int64(p.Index)
			parts.int16(i)
			parts.text(e.Kind)
			parts.bytes(e.Digest[:])
		}
		for i, v := range c.SVIDs {
			copySVID(&svids, logID, p, i, c.Record.Node, v)
		}
		for i, d := range c.Drift {
			drift.row(10)
			drift.time(p.RecordedAt)
			drift.text(logID)
			drift.int64(p.Index)
			drift.int16(i)
			drift.uuid(c.Record.ID)
			drift.text(string(c.Record.Node))
			drift.text(c.DriftZone)
			drift.text(d.Kind)
			drift.text(d.Before)
			drift.text(d.After)
		}
	}
	var queries []string
	var buffers []*copyBuffer
	for _, c := range []struct {
		buf *copyBuffer
		sql string
	}{
		{&records, copyAttestation},
		{&parts, copyEvidencePart},
		{&svids, copySVIDs},
		{&drift, copyDrift},
	} {
		if c.buf.b != nil {
			queries, buffers = append(queries, c.sql), append(buffers, c.buf)
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
		attested_at, fresh_until, policy_version, salt, body) FROM STDIN (FORMAT binary)`
	copyEvidencePart = `COPY evidence_part (recorded_at, log_id, log_idx, ord, kind, digest) FROM STDIN (FORMAT binary)`
	copySVIDs        = `COPY svid (recorded_at, log_id, log_idx, ord, node_id, profile, serial, spiffe_id, not_before, not_after,
		tbs_sha256, ca_key_id, key, audience) FROM STDIN (FORMAT binary)`
	copyDrift = `COPY drift_event (recorded_at, log_id, log_idx, ord, record_id, node_id, zone, kind, before_value, after_value) FROM STDIN (FORMAT binary)`
)

func copyRecord(c *copyBuffer, logID string, p ledger.Position, r ledger.Record) {
	c.row(14)
	c.time(p.RecordedAt)
	c.text(logID)
	c.int64(p.Index)
	c.uuid(r.ID)
	c.text(r.Type)
	c.text(string(r.Node))
	c.text(r.Zone)
	c.text(r.Verdict)
	c.text(r.Reason)
	c.time(r.AttestedAt)
	c.time(r.FreshUntil)
	c.int64(r.PolicyVersion)
	c.bytes(r.Salt[:])
	c.bytes(r.Body)
}

func copySVID(c *copyBuffer, logID string, p ledger.Position, ord int, node ledger.NodeID, v ledger.IssuedSVID) {
	c.row(14)
	c.time(p.RecordedAt)
	c.text(logID)
	c.int64(p.Index)
	c.int16(ord)
	c.text(string(node))
	c.text(v.Profile)
	c.text(v.Serial)
	c.text(v.SPIFFEID)
	c.time(time.Unix(v.NotBefore, 0))
	c.time(time.Unix(v.NotAfter, 0))
	c.text(v.TBSSHA256)
	c.text(v.CAKeyID)
	c.text(v.Key)
	c.text(v.Audience)
}
