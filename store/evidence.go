package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// largePart is the size from which it pays to ask first whether a part is stored
// already: event logs that a whole fleet shares.
const largePart = 4 << 10

// rememberParts bounds storedParts: twice as many digests, about 1 MB.
const rememberParts = 8 << 10

// storedParts are digests of evidence that commits on the writer's connection
// made durable: PCR values that a node shows with every renewal need not go to
// the database each time. No broker deletes evidence, and a database that was
// put back to an earlier state has lost its connections. What its superuser
// deletes is not sent again meanwhile; VerifyHistory finds it (THREATS.md).
type storedParts struct{ recent, older map[[32]byte]struct{} }

func (p *storedParts) has(digest [32]byte) bool {
	if _, ok := p.recent[digest]; ok {
		return true
	}
	_, ok := p.older[digest]
	if ok {
		p.add(digest)
	}
	return ok
}

func (p *storedParts) add(digest [32]byte) {
	if p.recent == nil || len(p.recent) >= rememberParts {
		p.older, p.recent = p.recent, make(map[[32]byte]struct{})
	}
	p.recent[digest] = struct{}{}
}

// remember notes the parts of a committed batch that other records may name
// again: not those over a nonce or a new key.
func (p *storedParts) remember(items []*item) {
	for _, it := range items {
		for i := range it.commit.Evidence {
			switch part := &it.commit.Evidence[i]; part.Kind {
			case ledger.PartQuote, ledger.PartSignature, ledger.PartCertify, ledger.PartSPKI, ledger.PartCSR:
			default:
				if part.Bytes != nil {
					p.add(part.Digest)
				}
			}
		}
	}
}

// queueEvidence adds the parts of the winners by content, sorted by digest so
// that two writers meet in the same order. Equal parts are stored once.
func (t *transaction) queueEvidence(ctx context.Context, b *pgx.Batch) error {
	parts := make(map[[32]byte][]byte)
	var large [][]byte
	for _, it := range t.winners {
		for i := range it.commit.Evidence {
			p := &it.commit.Evidence[i]
			if _, seen := parts[p.Digest]; seen || p.Bytes == nil || t.w.stored.has(p.Digest) {
				continue
			}
			parts[p.Digest] = p.Bytes
			if len(p.Bytes) >= largePart {
				large = append(large, p.Digest[:])
			}
		}
	}
	if len(large) > 0 {
		rows, err := t.w.conn.Query(ctx, `SELECT digest FROM evidence WHERE digest = ANY ($1)`, large)
		if err != nil {
			return err
		}
		stored, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return err
		}
		for _, d := range stored {
			delete(parts, [32]byte(d))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	digests := make([][]byte, 0, len(parts))
	for d := range parts {
		digests = append(digests, slices.Clone(d[:]))
	}
	slices.SortFunc(digests, bytes.Compare)
	bodies := make([][]byte, len(digests))
	for i, d := range digests {
		bodies[i] = parts[[32]byte(d)]
	}
	const add = `INSERT INTO evidence (digest, bytes) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING`
	b.Queue(add, digests, bodies)
	return nil
}

// Evidence returns the stored bytes of a part; nil where there is none. Bytes
// that do not have their digest are reason.StoreRowForged.
func (s *Store) Evidence(ctx context.Context, digest [32]byte) ([]byte, error) {
	var out []byte
	err := s.read(ctx, "read evidence", func(ctx context.Context, c *pgxpool.Conn) error {
		err := c.QueryRow(ctx, `SELECT bytes FROM evidence WHERE digest = $1`, digest[:]).Scan(&out)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && sha256.Sum256(out) != digest {
			out = nil
			s.cfg.OnForged("evidence", hex.EncodeToString(digest[:]))
			return reason.New(reason.StoreRowForged, "stored evidence does not have its digest")
		}
		return err
	})
	return out, err
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
