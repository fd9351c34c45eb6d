package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
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

// TokenSealer seals renewals.
type TokenSealer struct{ s sealer }

// NewTokenSealer returns one for a cluster key.
func NewTokenSealer(cluster [32]byte) *TokenSealer {
	return &TokenSealer{s: sealer{cluster: cluster, rand: rand.Reader}}
}

// Seal seals a challenge issued at t.
func (s *TokenSealer) Seal(t time.Time) (string, error) {
	return s.s.seal(&challenge{
		Purpose: verifier.PurposeRenew, Format: verifier.FormatTPM2, Nonce: make([]byte, 32), Node: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Version: 7,
		AKName: make([]byte, 34), Select: "ff4300", IssuedAt: t.UnixMilli(), ExpiresAt: t.Add(tokenTTL).UnixMilli(),
	})
}

// Open opens a token.
func (s *TokenSealer) Open(token string, now time.Time) error {
	_, err := s.s.open(token, now)
	return err
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

// MaxFullRepeats bounds the full records of one kind of refusal in a row.
const MaxFullRepeats = maxFullRepeats

// PendingCap bounds the queue of machines that wait.
const PendingCap = pendingCap

// MaxRefusalKeys bounds the counter of refusals.
const MaxRefusalKeys = maxRefusalKeys

// RecordTimeout bounds one append.
const RecordTimeout = recordTimeout

// LogCacheBytes bounds the bytes of logs in the cache of event logs.
const LogCacheBytes = logCacheBytes / logCacheShare

// EnrolmentRate is the number of credentials a second.
const EnrolmentRate = enrolmentRate

// What platforms are asked for strangers.
const (
	EnrichRate   = enrichRate
	EnrichAtOnce = enrichAtOnce
)

// The background jobs, one turn each.
func (b *Broker) FlushRefusals(ctx context.Context) error  { return b.flushRefusals(ctx) }
func (b *Broker) FlushPending(ctx context.Context) error   { return b.flushPending(ctx) }
func (b *Broker) PollAdmissions(ctx context.Context) error { return b.pollAdmissions(ctx) }
func (b *Broker) RotateCA(ctx context.Context) error       { return b.rotateCA(ctx) }
func (b *Broker) RotateTokens(ctx context.Context) error   { return b.rotateTokens(ctx) }
func (b *Broker) RefreshBundle(ctx context.Context) error  { return b.refreshBundle(ctx) }
func (b *Broker) CheckClock(ctx context.Context) error     { return b.checkClock(ctx) }
func (b *Broker) SignNow(ctx context.Context) error        { return b.signCheckpoint(ctx) }

// EnrolSlotsTaken returns how many places of the enrolment semaphore are taken.
func (b *Broker) EnrolSlotsTaken() int { return len(b.enrolSlots) }

// FillEnrolSlots takes every place of the enrolment semaphore and returns what
// gives them back.
func (b *Broker) FillEnrolSlots() (free func()) {
	for range cap(b.enrolSlots) {
		b.enrolSlots <- struct{}{}
	}
	return func() {
		for range cap(b.enrolSlots) {
			<-b.enrolSlots
		}
	}
}

// RefusalKeys returns how many kinds of refusals are counted and not written.
func (b *Broker) RefusalKeys() int {
	b.refusals.mu.Lock()
	defer b.refusals.mu.Unlock()
	return len(b.refusals.by)
}

// CountRefusal counts a refusal of a node.
func (b *Broker) CountRefusal(hour time.Time, code string, node ledger.NodeID) {
	b.refusals.add(refusalKey{hour: hour, code: code, node: node})
}

// RecordsInFull reports whether a refusal would be a record, and counts it as one.
func (b *Broker) RecordsInFull(hour time.Time, code string, node ledger.NodeID) bool {
	return b.refusals.full(refusalKey{hour: hour, code: code, node: node})
}

// CacheLog puts a log into the cache, CachedLogs tells how many it holds.
func (b *Broker) CacheLog(log []byte) { b.logs.put(eventlog.Keep(log)) }

// CachedLogs returns the number of cached logs.
func (b *Broker) CachedLogs() int {
	b.logs.mu.Lock()
	defer b.logs.mu.Unlock()
	return len(b.logs.by)
}

// Reseal opens a token and seals it again after a change of node or version,
// as only somebody with the cluster key could.
func (b *Broker) Reseal(token string, now time.Time, node ledger.NodeID, version int64) (string, error) {
	c, err := b.seal.open(token, now)
	if err != nil {
		return "", err
	}
	c.Node, c.Version = node, version
	return b.seal.seal(c)
}

// MaterialHash is materialHash.
func MaterialHash(ekPublic, ekCertificate []byte, chain ...api.Bytes) [32]byte {
	return materialHash(ekPublic, ekCertificate, chain)
}

// PageSize is pageSize.
func PageSize(limit int) int { return pageSize(limit) }

// MaxNodeRates bounds the buckets of nodes.
const MaxNodeRates = maxNodeRates

// AllowNode takes one from the bucket of a node.
func (b *Broker) AllowNode(id ledger.NodeID, now time.Time) bool { return b.nodes.allow(id, now) }

// NodeRates returns the number of buckets.
func (b *Broker) NodeRates() int {
	b.nodes.mu.Lock()
	defer b.nodes.mu.Unlock()
	return len(b.nodes.by)
}

// ParseCSR is parseCSR.
func ParseCSR(der []byte, id string) (*x509.CertificateRequest, error) { return parseCSR(der, id) }
