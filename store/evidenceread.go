package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// A part is looked for in the week of its record, then in all that are kept,
// then where programs of schema 3 put it.
const (
	contentNear = `SELECT packed FROM evidence_content WHERE digest = $1 AND recorded_at = $2 LIMIT 1`
	contentAny  = `SELECT packed FROM evidence_content WHERE digest = $1 ORDER BY recorded_at DESC LIMIT 1`
	contentOld  = `SELECT bytes FROM evidence WHERE digest = $1`
)

// Evidence returns the stored bytes of a part that records share; nil where there
// is none. Near is the time of a record that names it, a hint. Bytes that do not
// have their digest are reason.StoreRowForged.
func (s *Store) Evidence(ctx context.Context, digest [32]byte, near time.Time) ([]byte, error) {
	var out []byte
	err := s.read(ctx, "read evidence", func(ctx context.Context, c *pgxpool.Conn) error {
		var err error
		out, err = s.sharedPart(ctx, c, digest, near)
		return err
	})
	return out, err
}

func (s *Store) sharedPart(ctx context.Context, c *pgxpool.Conn, digest [32]byte, near time.Time) ([]byte, error) {
	for _, q := range []struct {
		sql    string
		args   []any
		packed bool
	}{
		{contentNear, []any{digest[:], ledger.Week(near)}, true},
		{contentAny, []any{digest[:]}, true},
		{contentOld, []any{digest[:]}, false},
	} {
		var raw []byte
		err := c.QueryRow(ctx, q.sql, q.args...).Scan(&raw)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if q.packed {
			raw, err = unpackContent(raw)
		}
		if err != nil || sha256.Sum256(raw) != digest {
			s.cfg.OnForged("evidence", hex.EncodeToString(digest[:]))
			return nil, reason.New(reason.StoreRowForged, "stored evidence does not have its digest")
		}
		return raw, nil
	}
	return nil, nil
}

// RecordEvidence returns what is kept of the named parts of a record, by the hex
// of the digest. Bytes that do not have their digest are reason.StoreRowForged.
func (s *Store) RecordEvidence(ctx context.Context, id uuid.UUID, parts []ledger.EvidenceID) (map[string][]byte, error) {
	out := make(map[string][]byte, len(parts))
	err := s.read(ctx, "read evidence", func(ctx context.Context, c *pgxpool.Conn) error {
		if err := s.inlineOf(ctx, c, id, out); err != nil {
			return err
		}
		for _, p := range parts {
			raw, err := hex.DecodeString(p.SHA256)
			if err != nil || len(raw) != sha256.Size {
				return reason.New(reason.StoreRowForged, "a record names evidence by something that is no digest")
			}
			if out[p.SHA256] != nil {
				continue
			}
			shared, err := s.sharedPart(ctx, c, [32]byte(raw), ledger.RecordTime(id))
			if err != nil {
				return err
			}
			if shared != nil {
				out[p.SHA256] = shared
			}
		}
		return nil
	})
	return out, err
}

// inlineOf reads a record's own evidence by digest. Bytes that the record does
// not name answer nothing, so that changed ones are missing.
func (s *Store) inlineOf(ctx context.Context, c *pgxpool.Conn, id uuid.UUID, into map[string][]byte) error {
	const near = `SELECT p.packed FROM attestation a JOIN evidence_part p ON p.log_id = a.log_id AND p.log_idx = a.log_idx AND p.recorded_at = a.recorded_at
		WHERE a.record_id = $1 AND a.recorded_at >= $2 AND a.recorded_at < $3
		AND p.recorded_at >= $2 AND p.recorded_at < $3 AND p.packed IS NOT NULL LIMIT 1`
	at := ledger.RecordTime(id)
	var packed []byte
	err := c.QueryRow(ctx, near, id, at.Add(-nearBefore), at.Add(nearAfter)).Scan(&packed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	parts, err := unpackInline(packed)
	if err != nil {
		s.cfg.OnForged("evidence", id.String())
		return reason.Wrap(reason.StoreRowForged, "stored evidence of a record does not unpack", err)
	}
	for _, p := range parts {
		d := sha256.Sum256(p.Bytes)
		into[hex.EncodeToString(d[:])] = p.Bytes
	}
	return nil
}

// ObjectByDigest returns an object by content; nil where there is none. Bytes
// that do not have the digest count as absent.
func (s *Store) ObjectByDigest(ctx context.Context, kind string, digest [32]byte) (*ledger.Object, error) {
	var out *ledger.Object
	err := s.read(ctx, "read object", func(ctx context.Context, c *pgxpool.Conn) error {
		o := ledger.Object{Kind: kind, Digest: digest}
		err := c.QueryRow(ctx, `SELECT version, bytes FROM object WHERE kind = $1 AND digest = $2`, kind, digest[:]).Scan(&o.Version, &o.Bytes)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		case sha256.Sum256(o.Bytes) != digest:
			s.cfg.OnForged("object", hex.EncodeToString(digest[:]))
			return nil
		}
		out = &o
		return nil
	})
	return out, err
}
