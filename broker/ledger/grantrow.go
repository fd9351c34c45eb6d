package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// The canonical bytes of a granting row are what its HMAC and the record of its
// grant commit to. Times are UTC in microseconds, as the database keeps them,
// and an absent list equals an empty one.

// Canonical returns the RFC 8785 form of the row.
func (n Node) Canonical() ([]byte, error) {
	n.Groups, n.CreatedAt = list(n.Groups), micro(n.CreatedAt)
	n.EKPublic, n.AKPublic, n.AKName = list(n.EKPublic), list(n.AKPublic), list(n.AKName)
	return Canonical(&n)
}

// Canonical returns the RFC 8785 form of the row.
func (a Admission) Canonical() ([]byte, error) {
	a.Groups, a.EKHashes, a.CreatedAt = list(a.Groups), list(a.EKHashes), micro(a.CreatedAt)
	return Canonical(a)
}

// Canonical returns the RFC 8785 form of the state.
func (s NodeState) Canonical() ([]byte, error) {
	for _, t := range []*time.Time{&s.AttestedAt, &s.FreshUntil, &s.ExpiresAt, &s.LastAttemptAt, &s.LastOKAt, &s.RebootUntil} {
		*t = micro(*t)
	}
	return Canonical(&s)
}

// Canonical returns the RFC 8785 form of the row with the use that was made of
// it. The record of its grant commits to the unused one.
func (t JoinToken) Canonical() ([]byte, error) {
	t.Groups, t.CreatedAt, t.ExpiresAt = list(t.Groups), micro(t.CreatedAt), micro(t.ExpiresAt)
	return Canonical(t)
}

// Canonical returns the RFC 8785 form of the row.
func (k Key) Canonical() ([]byte, error) {
	k.DER, k.NotBefore, k.NotAfter = list(k.DER), micro(k.NotBefore), micro(k.NotAfter)
	return Canonical(k)
}

// Canonical returns the RFC 8785 form of what names the object: its digest
// stands for the bytes, and the version is given only when it is written.
func (o Object) Canonical() ([]byte, error) {
	return Canonical(struct {
		Kind   string `json:"kind"`
		Digest string `json:"digest"`
	}{o.Kind, hex.EncodeToString(o.Digest[:])})
}

// GrantRowHash returns the hex SHA-256 of the canonical bytes of the row that a
// commit writes, for Grant.RowHash: it ties the row to the log. It is "" where
// the commit writes none.
func GrantRowHash(c Commit) (string, error) {
	switch {
	case c.Admission != nil:
		return RowHash(*c.Admission)
	case c.NewJoinToken != nil:
		return RowHash(*c.NewJoinToken)
	case c.Key != nil:
		return RowHash(*c.Key)
	case c.Operator != nil:
		return RowHash(*c.Operator)
	case c.Retention != nil:
		return RowHash(*c.Retention)
	case c.Hold != nil:
		return RowHash(*c.Hold)
	case c.Node != nil:
		return RowHash(*c.Node)
	case c.Object != nil:
		return RowHash(*c.Object)
	}
	return "", nil
}

// RowHash returns the hex SHA-256 of the canonical bytes of a granting row.
func RowHash(row interface{ Canonical() ([]byte, error) }) (string, error) {
	raw, err := row.Canonical()
	if err != nil {
		return "", err
	}
	d := sha256.Sum256(raw)
	return hex.EncodeToString(d[:]), nil
}

func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
