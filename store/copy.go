package store

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// copyBuffer builds the binary format of COPY (Postgres documentation, "COPY",
// Binary Format). pgx's CopyFrom asks for the columns on every call; this one
// knows them, and saves the round trip.
type copyBuffer struct {
	b     []byte
	first int // end of the first row
}

var copyHeader = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// postgresEpoch is 2000-01-01 in µs since 1970.
const postgresEpoch = 946_684_800_000_000

func (c *copyBuffer) row(fields int) {
	if c.b == nil {
		c.b = append(make([]byte, 0, 64<<10), copyHeader...)
	} else if c.first == 0 {
		c.first = len(c.b)
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

// reader hands out the first row, then calls between, then the rest: a process
// that stops in between holds the table inside COPY.
func (c *copyBuffer) reader(between func()) io.Reader {
	c.b = binary.BigEndian.AppendUint16(c.b, 0xffff)
	if c.first == 0 {
		c.first = len(c.b) - 2
	}
	return &copyReader{head: c.b[:c.first], tail: c.b[c.first:], between: between}
}

type copyReader struct {
	head, tail []byte
	between    func()
}

func (r *copyReader) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if r.between != nil {
		r.between()
		r.between = nil
	}
	if len(r.tail) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.tail)
	r.tail = r.tail[n:]
	return n, nil
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
	step := func() { t.w.s.cfg.Step("store.copy") }
	for _, c := range []struct {
		buf  *copyBuffer
		sql  string
		step func()
	}{
		{&records, copyAttestation, step},
		{&parts, copyEvidencePart, nil},
		{&svids, copySVIDs, nil},
		{&drift, copyDrift, nil},
	} {
		if c.buf.b == nil {
			continue
		}
		if _, err := t.w.conn.PgConn().CopyFrom(ctx, c.buf.reader(c.step), c.sql); err != nil {
			return err
		}
	}
	return nil
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
