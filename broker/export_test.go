package broker

import (
	"bytes"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
)

// SealAt seals a challenge issued at t with the given life. Its randomness is
// fixed, so that every process of a fuzz run seals the same token.
func SealAt(cluster [32]byte, t time.Time, ttl time.Duration) (string, error) {
	s := sealer{cluster: cluster, rand: bytes.NewReader(bytes.Repeat([]byte{42}, 64))}
	return s.seal(&challenge{
		Purpose: verifier.PurposeRenew, Format: verifier.FormatTPM2, Nonce: make([]byte, 32), Node: "n", Version: 7,
		AKName: []byte{0, 11}, Select: "ff4300", IssuedAt: t.UnixMilli(), ExpiresAt: t.Add(ttl).UnixMilli(),
	})
}

// OpenAt opens a token and returns the version inside.
func OpenAt(cluster [32]byte, token string, now time.Time) (int64, error) {
	s := sealer{cluster: cluster}
	c, err := s.open(token, now)
	if err != nil {
		return 0, err
	}
	return c.Version, nil
}

// Standing is standing.
func Standing(st ledger.NodeState, now time.Time) string { return standing(st, now) }

// TokenTTL is the life of a token.
const TokenTTL = tokenTTL
