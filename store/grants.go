package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// useToken takes a join token for a node; no row comes back where it is used.
const useToken = `UPDATE join_token SET used_by = $2 WHERE token_id = $1 AND used_by IS NULL RETURNING token_id::text`

// queueGrants writes the granting rows of a commit. They come after the log's
// lock, so their order is that of the log.
func (t *transaction) queueGrants(b *pgx.Batch, it *item) {
	c := &it.commit
	if a := c.Admission; a != nil {
		const put = `INSERT INTO admission (admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (admission_id) DO UPDATE SET kind = EXCLUDED.kind, machine = EXCLUDED.machine, groups = EXCLUDED.groups,
				ek_hashes = EXCLUDED.ek_hashes, granted_by = EXCLUDED.granted_by, revoked = EXCLUDED.revoked,
				created_at = EXCLUDED.created_at, change_seq = EXCLUDED.change_seq, mac = EXCLUDED.mac`
		hashes := make([][]byte, len(a.EKHashes))
		for i := range a.EKHashes {
			hashes[i] = a.EKHashes[i][:]
		}
		b.Queue(put, a.ID, a.Kind, a.Machine, full(a.Groups), hashes, a.By, a.Revoked, a.CreatedAt, t.out.pos[it].Index+1, it.macs.admission)
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
	if c.EndPending != nil {
		b.Queue(`DELETE FROM pending WHERE ek_hash = $1`, c.EndPending[:])
	}
}

const selectAdmission = `SELECT admission_id, kind, machine, groups, ek_hashes, granted_by, revoked, created_at, change_seq, mac FROM admission `

// admissionRow is an admission as it stands in the table.
type admissionRow struct {
	ledger.Admission
	seq int64
	mac []byte
}

func scanAdmission(row pgx.CollectableRow) (admissionRow, error) {
	var a admissionRow
	var hashes [][]byte
	err := row.Scan(&a.ID, &a.Kind, &a.Machine, &a.Groups, &hashes, &a.By, &a.Revoked, &a.CreatedAt, &a.seq, &a.mac)
	for _, h := range hashes {
		var d [32]byte
		copy(d[:], h)
		a.EKHashes = append(a.EKHashes, d)
	}
	a.CreatedAt = a.CreatedAt.UTC()
	return a, err
}

// AdmissionByEK reads the newest admission of one EK hash, revoked or not; nil
// where there is none with our HMAC.
func (s *Store) AdmissionByEK(ctx context.Context, ekHash [32]byte) (*ledger.Admission, error) {
	const query = selectAdmission + `WHERE ek_hashes @> ARRAY[$1::bytea] ORDER BY change_seq DESC LIMIT 100`
	var out *ledger.Admission
	err := s.read(ctx, "read admission", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, ekHash[:])
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanAdmission)
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

// AdmissionsSince returns admissions changed after cursor, in the order of the
// log, and the next cursor. Cursor 0 starts. Forged rows are left out without
// shortening the page.
func (s *Store) AdmissionsSince(ctx context.Context, cursor int64, limit int) ([]ledger.Admission, int64, error) {
	const query = selectAdmission + `WHERE change_seq > $1 ORDER BY change_seq, admission_id LIMIT $2`
	limit = max(limit, 1)
	next := cursor
	var out []ledger.Admission
	err := s.read(ctx, "read admissions", func(ctx context.Context, c *pgxpool.Conn) error {
		for more := true; more && len(out) < limit; {
			want := limit - len(out)
			rows, err := c.Query(ctx, query, next, want)
			if err != nil {
				return err
			}
			page, err := pgx.CollectRows(rows, scanAdmission)
			if err != nil {
				return err
			}
			for _, a := range page {
				if s.genuine("admission", a.ID.String(), a.Admission, a.mac) {
					out = append(out, a.Admission)
				}
				next = max(next, a.seq)
			}
			more = len(page) == want
		}
		return nil
	})
	if err != nil {
		return nil, cursor, err
	}
	return out, next, nil
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
	var out *ledger.JoinToken
	err := s.read(ctx, "read join token", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, selectToken+`WHERE secret_hash = $1`, secretHash[:])
		if err != nil {
			return err
		}
		t, err := pgx.CollectExactlyOneRow(rows, scanToken)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.genuine("join_token", t.ID.String(), t.JoinToken, t.mac) && t.UsedBy == "" && now.Before(t.ExpiresAt) {
			out = &t.JoinToken
		}
		return nil
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

// Keys returns the published keys of kind whose notAfter lies after now and
// whose HMAC holds, the oldest first.
func (s *Store) Keys(ctx context.Context, kind string, now time.Time) ([]ledger.Key, error) {
	const query = selectKey + `WHERE kind = $1 AND not_after > $2 ORDER BY not_before, key_id`
	var out []ledger.Key
	err := s.read(ctx, "read keys", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, kind, now)
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
