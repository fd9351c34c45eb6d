package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// useToken takes a join token for a node; no row comes back where it is used, or
// is no longer the row of which the new HMAC was made.
const useToken = `UPDATE join_token SET used_by = $2, mac = $3
	WHERE token_id = $1 AND used_by IS NULL AND mac = $4 RETURNING token_id::text`

// sealUse makes the HMAC of the token that it uses, with the use in it. Nothing
// else of a token ever changes, so it can be read before the item is queued.
func (s *Store) sealUse(ctx context.Context, it *item) error {
	t, err := s.token(ctx, selectToken+`WHERE token_id = $1`, *it.commit.JoinToken)
	if err != nil {
		return err
	}
	if t == nil || t.UsedBy != "" {
		return errSpent()
	}
	used := t.JoinToken
	used.UsedBy = it.commit.State.Node
	it.macs.unusedToken = t.mac
	if it.macs.usedToken, err = s.rowMAC("join_token", used); err != nil {
		return reason.Wrap(reason.Internal, "", err)
	}
	return nil
}

// queueGrants writes the granting rows of a commit. They come after the log's
// lock, so their order is that of the log.
func (t *transaction) queueGrants(b *pgx.Batch, it *item) {
	c := &it.commit
	if a := c.Admission; a != nil {
		const put = `INSERT INTO admission (admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac,
				change_log, changed_at, timed_seq)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $9)
			ON CONFLICT (admission_id) DO UPDATE SET kind = EXCLUDED.kind, machine = EXCLUDED.machine, groups = EXCLUDED.groups,
				ek_hashes = EXCLUDED.ek_hashes, granted_by = EXCLUDED.granted_by, revoked = EXCLUDED.revoked,
				created_at = EXCLUDED.created_at, change_seq = EXCLUDED.change_seq, mac = EXCLUDED.mac,
				change_log = EXCLUDED.change_log, changed_at = EXCLUDED.changed_at, timed_seq = EXCLUDED.timed_seq`
		hashes := make([][]byte, len(a.EKHashes))
		for i := range a.EKHashes {
			hashes[i] = a.EKHashes[i][:]
		}
		p := t.out.pos[it]
		b.Queue(put, a.ID, a.Kind, a.Machine, full(a.Groups), hashes, a.By, a.Revoked, a.CreatedAt, p.Index+1, it.macs.admission,
			t.w.s.cfg.LogID, p.RecordedAt)
	}
	if j := c.NewJoinToken; j != nil {
		const put = `INSERT INTO join_token (token_id, secret_hash, machine, groups, granted_by, created_at, expires_at, mac)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
		b.Queue(put, j.ID, j.SecretHash[:], j.Machine, full(j.Groups), j.By, j.CreatedAt, j.ExpiresAt, it.macs.token)
	}
	if k := c.Key; k != nil {
		const put = `INSERT INTO key (key_id, kind, replica, der, not_before, not_after, mac) VALUES ($1, $2, $3, $4, $5, $6, $7)`
		b.Queue(put, k.ID, k.Kind, k.Replica, full(k.DER), k.NotBefore, k.NotAfter, it.macs.key)
	}
	if o := c.Object; o != nil {
		const put = `WITH made AS (
			INSERT INTO object (kind, digest, version, bytes)
			SELECT $1, $2, coalesce((SELECT max(version) FROM object WHERE kind = $1), 0) + 1, $3
			ON CONFLICT (kind, digest) DO NOTHING RETURNING version)
		SELECT version FROM made UNION ALL SELECT version FROM object WHERE kind = $1 AND digest = $2 LIMIT 1`
		b.Queue(put, o.Kind, o.Digest[:], full(o.Bytes)).QueryRow(func(row pgx.Row) error {
			p := t.out.pos[it]
			err := row.Scan(&p.Version)
			t.out.pos[it] = p
			return err
		})
	}
	t.queueOperator(b, it)
	queueInventory(b, c)
	t.queueRetention(b, it)
	if c.EndPending != nil {
		b.Queue(`DELETE FROM pending WHERE ek_hash = $1`, c.EndPending[:])
	}
}

const selectAdmission = `SELECT admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac, change_log, changed_at FROM admission `

// admissionRow is an admission as it stands in the table.
type admissionRow struct {
	ledger.Admission
	changed inLog              // the record of its last change; index is that of the record plus one
	at      pgtype.Timestamptz // of that record; NULL where a broker of schema 3 wrote it
	mac     []byte
}

// scanAdmission reads a row of selectAdmission and what the query added to it.
func scanAdmission(row pgx.CollectableRow, more ...any) (admissionRow, error) {
	var a admissionRow
	var hashes [][]byte
	dest := []any{&a.ID, &a.Kind, &a.Machine, &a.Groups, &hashes, &a.By, &a.Revoked, &a.CreatedAt, &a.changed.index, &a.mac, &a.changed.log, &a.at}
	err := row.Scan(append(dest, more...)...)
	for _, h := range hashes {
		var d [32]byte
		copy(d[:], h)
		a.EKHashes = append(a.EKHashes, d)
	}
	a.CreatedAt = a.CreatedAt.UTC()
	return a, err
}

func plainAdmission(row pgx.CollectableRow) (admissionRow, error) { return scanAdmission(row) }

// AdmissionByEK reads the newest admission of one EK hash, revoked or not; nil
// where there is none with our HMAC.
func (s *Store) AdmissionByEK(ctx context.Context, ekHash [32]byte) (*ledger.Admission, error) {
	// Within a log the place alone decides, as it did when there was one; between
	// logs the time, for which that of the admission stands where a program of
	// schema 3 wrote none.
	const query = selectAdmission + `WHERE ek_hashes @> ARRAY[$1::bytea] ORDER BY
		max(coalesce(changed_at, created_at)) OVER (PARTITION BY change_log ORDER BY change_seq) DESC, change_seq DESC LIMIT 100`
	var out *ledger.Admission
	err := s.read(ctx, "read admission", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, ekHash[:])
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, plainAdmission)
		for _, a := range all {
			if s.genuine("admission", a.ID.String(), a.Admission, a.mac) {
				out = &a.Admission
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

const selectToken = `SELECT token_id, secret_hash, machine, groups, granted_by, created_at, expires_at, used_by, mac FROM join_token `

type tokenRow struct {
	ledger.JoinToken
	mac []byte
}

func scanToken(row pgx.CollectableRow) (tokenRow, error) {
	var t tokenRow
	var secret []byte
	var used *string
	err := row.Scan(&t.ID, &secret, &t.Machine, &t.Groups, &t.By, &t.CreatedAt, &t.ExpiresAt, &used, &t.mac)
	copy(t.SecretHash[:], secret)
	t.CreatedAt, t.ExpiresAt = t.CreatedAt.UTC(), t.ExpiresAt.UTC()
	if used != nil {
		t.UsedBy = ledger.NodeID(*used)
	}
	return t, err
}

// JoinTokenByHash reads an unexpired, unused token with our HMAC; nil where there
// is none.
func (s *Store) JoinTokenByHash(ctx context.Context, secretHash [32]byte, now time.Time) (*ledger.JoinToken, error) {
	t, err := s.token(ctx, selectToken+`WHERE secret_hash = $1`, secretHash[:])
	if err != nil || t == nil || t.UsedBy != "" || !now.Before(t.ExpiresAt) {
		return nil, err
	}
	return &t.JoinToken, nil
}

// token reads one token, used or not; nil where there is none with our HMAC.
func (s *Store) token(ctx context.Context, query string, arg any) (*tokenRow, error) {
	var out *tokenRow
	err := s.read(ctx, "read join token", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, arg)
		if err != nil {
			return err
		}
		t, err := pgx.CollectExactlyOneRow(rows, scanToken)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && s.genuine("join_token", t.ID.String(), t.JoinToken, t.mac) {
			out = &t
		}
		return err
	})
	return out, err
}

const selectKey = `SELECT key_id, kind, replica, der, not_before, not_after, mac FROM key `

type keyRow struct {
	ledger.Key
	mac []byte
}

func scanKey(row pgx.CollectableRow) (keyRow, error) {
	var k keyRow
	err := row.Scan(&k.ID, &k.Kind, &k.Replica, &k.DER, &k.NotBefore, &k.NotAfter, &k.mac)
	k.NotBefore, k.NotAfter = k.NotBefore.UTC(), k.NotAfter.UTC()
	return k, err
}

// Keys returns the published keys of the kinds whose notAfter lies after now and
// whose HMAC holds, the oldest first.
func (s *Store) Keys(ctx context.Context, kinds []string, now time.Time) ([]ledger.Key, error) {
	const query = selectKey + `WHERE kind = ANY ($1) AND not_after > $2 ORDER BY not_before, key_id`
	var out []ledger.Key
	err := s.read(ctx, "read keys", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, kinds, now)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanKey)
		for _, k := range all {
			if s.genuine("key", k.ID, k.Key, k.mac) {
				out = append(out, k.Key)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
