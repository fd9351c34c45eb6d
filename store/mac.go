package store

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// canonicaler is a granting row.
type canonicaler interface {
	Canonical() ([]byte, error)
}

// rowMAC is HMAC-SHA256 over "zonebroker-row-v1" ‖ lp(table) ‖ lp(RFC 8785 of the
// row). The table is in it so that no row can be carried into another table.
func (s *Store) rowMAC(table string, row canonicaler) ([]byte, error) {
	raw, err := row.Canonical()
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, s.cfg.RowKey[:])
	var n [4]byte
	h.Write([]byte("zonebroker-row-v1"))
	binary.BigEndian.PutUint32(n[:], uint32(len(table)))
	h.Write(n[:])
	h.Write([]byte(table))
	binary.BigEndian.PutUint32(n[:], uint32(len(raw)))
	h.Write(n[:])
	h.Write(raw)
	return h.Sum(nil), nil
}

// genuine reports whether a row carries our HMAC. One that does not counts as
// absent: somebody without the key wrote it.
func (s *Store) genuine(table, id string, row canonicaler, mac []byte) bool {
	want, err := s.rowMAC(table, row)
	if err == nil && hmac.Equal(want, mac) {
		return true
	}
	s.cfg.OnForged(table, id)
	return false
}
