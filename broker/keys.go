package broker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	// Keys that ended within this time still count for the bundle's sequence,
	// so that taking one out raises it.
	sequenceWindow = 48 * time.Hour
)

// publishedKinds are the kinds of key that stand in the bundle.
var publishedKinds = []string{issuer.KindCA, issuer.KindJWTES256, issuer.KindJWTRS256}

// bundleDocument is what is served of the published keys; both documents are of
// one reading.
type bundleDocument struct{ json, jwks []byte }

// nextCA is a published CA that readers of the bundle still have to learn of.
// Only Start and the ca job touch it, one after the other.
type nextCA struct {
	ca  *issuer.CA
	use time.Time
}

// rotateCA makes the next CA at half the life of the current one, publishes it,
// and uses it only once every reader of the bundle had time to fetch it. The
// first CA of a replica is used at once: nothing else could sign.
func (b *Broker) rotateCA(ctx context.Context) error {
	now := b.cfg.Now()
	if b.next == nil {
		if now.Before(b.cfg.Issuer.RotateAt()) {
			return nil
		}
		ca, key, err := b.cfg.Issuer.NewCA(now)
		if err != nil {
			return err
		}
		use := b.cfg.Issuer.UseFrom(ca)
		err = b.appendGrant(ctx, ledger.TypeKeyPublished, "replica:"+b.cfg.Replica, key.ID, "", func(c *ledger.Commit) { c.Key = &key })
		if err != nil {
			return err
		}
		b.next = &nextCA{ca: ca, use: use}
		if err := b.refreshBundle(ctx); err != nil {
			return err
		}
	}
	if b.cfg.Now().Before(b.next.use) {
		return nil
	}
	next := b.next
	b.next = nil
	return b.cfg.Issuer.Activate(next.ca)
}

// refreshBundle renders the SPIFFE bundle and the key set of OIDC from the
// published keys. A key row
// that fails its HMAC never gets here.
func (b *Broker) refreshBundle(ctx context.Context) error {
	now := b.cfg.Now()
	keys, err := b.cfg.Store.Keys(ctx, publishedKinds, now.Add(-sequenceWindow))
	if err != nil {
		return err
	}
	var live []ledger.Key
	for _, k := range keys {
		if now.Before(k.NotAfter) {
			live = append(live, k)
		}
	}
	doc, err := issuer.Bundle(b.cfg.TrustDomain, live, sequenceOf(keys, now), issuer.DefaultRefreshHint)
	if err != nil {
		return fmt.Errorf("render bundle: %w", err)
	}
	jwks, err := issuer.JWKS(live)
	if err != nil {
		return fmt.Errorf("render key set: %w", err)
	}
	b.bundle.Store(&bundleDocument{json: doc, jwks: jwks})
	return nil
}

// sequenceOf numbers the bundle so that replicas agree without talking and every
// change raises the number: the second of the newest change, then how many there
// were in the hour before it. A key is dated to a minute before it was made, and
// replicas' clocks differ, so a new key may be older than the last end of one.
func sequenceOf(keys []ledger.Key, now time.Time) uint64 {
	var changes []int64
	for _, k := range keys {
		changes = append(changes, k.NotBefore.Unix())
		if !now.Before(k.NotAfter) {
			changes = append(changes, k.NotAfter.Unix())
		}
	}
	if len(changes) == 0 {
		return 0
	}
	newest, recent := slices.Max(changes), uint64(0)
	for _, at := range changes {
		if at > newest-3600 {
			recent++
		}
	}
	return uint64(newest)<<10 + min(recent, 1<<10-1)
}

// Bundle returns the SPIFFE bundle as JSON.
func (b *Broker) Bundle(context.Context) ([]byte, error) { return b.bundleJSON() }

func (b *Broker) bundleJSON() ([]byte, error) {
	if d := b.bundle.Load(); d != nil {
		return d.json, nil
	}
	return nil, reason.New(reason.IssuerUnavailable, "no bundle yet")
}

// appendGrant records that something was granted, withdrawn or published, with
// the row that does it in the same transaction.
func (b *Broker) appendGrant(ctx context.Context, kind, by, subject, note string, fill func(*ledger.Commit)) error {
	_, _, err := b.grant(ctx, ledger.Grant{Type: kind, By: by, Subject: subject, Note: note}, fill)
	return err
}

func (b *Broker) grant(ctx context.Context, g ledger.Grant, fill func(*ledger.Commit)) (uuid.UUID, ledger.Position, error) {
	if b.forked.Load() {
		return uuid.Nil, ledger.Position{}, reason.New(reason.LedgerFork, "the log does not extend its anchor; nothing is recorded")
	}
	now := b.cfg.Now().Truncate(time.Millisecond)
	id, err := ledger.NewRecordID(now, b.cfg.Rand)
	if err != nil {
		return uuid.Nil, ledger.Position{}, err
	}
	var c ledger.Commit
	fill(&c)
	if c.Node != nil && c.Node.Status != ledger.StatusActive {
		c.Closed, c.Interval = ledger.Deny(c.Interval, c.State, now), nil
		c.KeepClosed = b.keepOf(c.Closed)
	}
	hash, err := ledger.GrantRowHash(c)
	if err != nil {
		return uuid.Nil, ledger.Position{}, err
	}
	salt, err := b.salt()
	if err != nil {
		return uuid.Nil, ledger.Position{}, err
	}
	g.ID, g.RowHash, g.At = id, hash, now.UnixMilli()
	if c.Record, err = g.Record(salt); err != nil {
		return uuid.Nil, ledger.Position{}, err
	}
	pos, err := b.cfg.Store.Append(ctx, c)
	return id, pos, err
}

// signCheckpoint signs the head of the log. A head that does not extend what
// the anchor holds means that history was rolled back or rewritten: nothing is
// issued any more.
func (b *Broker) signCheckpoint(ctx context.Context) error {
	if b.forked.Load() {
		return reason.New(reason.LedgerFork, "signing has stopped")
	}
	text, err := b.cfg.SignCheckpoint(ctx)
	if err != nil {
		if reason.Of(err) == reason.LedgerFork {
			b.stopForFork(ctx, "the log does not extend its anchor")
		}
		return err
	}
	b.checkpoint.Store(&text)
	return nil
}

func (b *Broker) stopForFork(ctx context.Context, why string) {
	if b.forked.CompareAndSwap(false, true) {
		b.cfg.Logger.ErrorContext(ctx, "ledger fork: nothing is issued until an operator decides", "why", why)
	}
}

// Checkpoint returns the newest signed checkpoint, "" before the first.
func (b *Broker) Checkpoint(context.Context) (string, error) {
	if t := b.checkpoint.Load(); t != nil {
		return *t, nil
	}
	return "", nil
}

// checkClock compares our clock with the database's: a replica whose clock is
// off would call evidence fresh that is not.
func (b *Broker) checkClock(ctx context.Context) error {
	d, err := b.cfg.Store.ClockSkew(ctx)
	if err != nil {
		return err
	}
	b.skew.Store(int64(d))
	return b.clockErr()
}

func (b *Broker) clockErr() error {
	if d := time.Duration(b.skew.Load()); d.Abs() > maxSkew {
		return reason.Newf(reason.IssuerUnavailable, "this replica's clock differs from the database's by %s (at most %s); set the clocks by NTP", d.Round(time.Millisecond), maxSkew)
	}
	return nil
}

func (b *Broker) salt() ([32]byte, error) {
	var s [32]byte
	_, err := readFull(b.cfg.Rand, s[:])
	return s, err
}
