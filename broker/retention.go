package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	retentionEvery = time.Minute
	// weeksAlarm: with fewer weeks of partitions ahead a database that nobody looks
	// at over two weekends would stop recording.
	weeksAlarm = 2
	// droppedListed bounds what the retention policy lists of what is gone.
	droppedListed = 500
)

// retention is what is kept for how long, and what is gone.
type retention struct {
	active atomic.Pointer[activeRetention]
	page   atomic.Pointer[api.Retention]
	ahead  atomic.Int64 // weeks of partitions after this one, -1 before the first look

	mu    sync.Mutex // of one sweep, erasure or change at a time
	poll  sync.Mutex
	reads map[string]api.DroppedWeek // by record id; guarded by poll
}

// activeRetention is one version of the retention policy.
type activeRetention struct {
	row      ledger.Retention
	document policy.Retention
	text     string
}

// keepOf is the group number that rows of a zone get.
func (r *activeRetention) keepOf(zone string) int16 {
	if r == nil {
		return 0
	}
	if g := r.document.Group(zone); g != nil {
		return int16(slices.Index(r.row.Groups, g.Name) + 1)
	}
	return 0
}

// periods are those of a group's number. Rows of a group that the document does
// not name any more are kept as those of no group.
func (r *activeRetention) periods(keep int16) policy.Periods {
	if keep > 0 && int(keep) <= len(r.row.Groups) {
		for _, g := range r.document.Groups {
			if g.Name == r.row.Groups[keep-1] {
				return g.Periods
			}
		}
	}
	return r.document.Default
}

// ApplyRetention puts a retention document in force: its groups get their leaves
// before any row is given their number, and the log records it. The document that
// is in force stays as it is.
func (b *Broker) ApplyRetention(ctx context.Context, c Caller, req api.RetentionRequest) (api.Retention, error) {
	if err := req.Validate(); err != nil {
		return api.Retention{}, err
	}
	doc, problems := policy.LoadRetention(policy.File{Name: "document", Bytes: []byte(req.Document)})
	if len(problems) > 0 {
		return api.Retention{}, reason.Newf(reason.PolicyInvalid, "%d problems, the first: %s", len(problems), problems[0])
	}
	if !b.retention.mu.TryLock() {
		return api.Retention{}, errKeeping()
	}
	defer b.retention.mu.Unlock()
	old, err := b.cfg.Store.Retention(ctx)
	if err != nil {
		return api.Retention{}, err
	}
	next := ledger.Retention{
		Version: 1, Document: sha256.Sum256([]byte(req.Document)), By: c.Operator, CreatedAt: b.cfg.Now().UTC().Truncate(time.Microsecond),
	}
	if old != nil {
		next.Version, next.Groups = old.Version+1, slices.Clone(old.Groups)
	}
	for _, g := range doc.Groups {
		if !slices.Contains(next.Groups, g.Name) {
			next.Groups = append(next.Groups, g.Name)
		}
	}
	if len(next.Groups) > ledger.MaxGroups {
		return api.Retention{}, reason.Newf(reason.PolicyInvalid, "there would have been %d groups (%s); at most %d, because rows keep the number of theirs: use a name again",
			len(next.Groups), strings.Join(next.Groups, ", "), ledger.MaxGroups)
	}
	if old == nil || old.Document != next.Document {
		if err := b.activateRetention(ctx, c, next, req.Document); err != nil {
			return api.Retention{}, err
		}
	}
	if err := b.pollRetention(ctx); err != nil {
		return api.Retention{}, err
	}
	return b.Retention(ctx)
}

func (b *Broker) activateRetention(ctx context.Context, c Caller, next ledger.Retention, text string) error {
	if b.cfg.Keeper == nil {
		return reason.New(reason.StoreUnavailable, "this replica has no access as the database's owner")
	}
	if err := b.cfg.Keeper.MakeGroups(ctx, len(next.Groups), b.cfg.Now()); err != nil {
		return err
	}
	g := ledger.Grant{
		Type: ledger.TypeRetention, By: c.Operator, Subject: strconv.FormatInt(next.Version, 10), Object: hex.EncodeToString(next.Document[:]),
	}
	_, _, err := b.grant(ctx, g, func(cm *ledger.Commit) {
		cm.Retention = &next
		cm.Object = &ledger.Object{Kind: ledger.ObjectRetention, Digest: next.Document, Bytes: []byte(text)}
	})
	return err
}

func errKeeping() error {
	return reason.New(reason.RequestOverloaded, "a sweep, an erasure or a change of the retention policy is under way; try again")
}

// pollRetention reads what is in force and what is gone, of all replicas, and how
// far the partitions reach.
func (b *Broker) pollRetention(ctx context.Context) error {
	b.retention.poll.Lock()
	defer b.retention.poll.Unlock()
	row, err := b.cfg.Store.Retention(ctx)
	if err != nil {
		return err
	}
	if now := b.retention.active.Load(); row != nil && (now == nil || now.row.Version != row.Version) {
		if err := b.loadRetention(ctx, *row); err != nil {
			return err
		}
	}
	if err := b.refreshRetention(ctx); err != nil {
		return err
	}
	ahead, err := b.cfg.Store.PartitionsAhead(ctx, b.cfg.Now())
	if err != nil {
		return err
	}
	b.retention.ahead.Store(int64(ahead))
	if err := b.roomErr(); err != nil {
		b.cfg.Logger.ErrorContext(ctx, "history partitions", "error", err)
	}
	return nil
}

func (b *Broker) loadRetention(ctx context.Context, row ledger.Retention) error {
	r, err := b.openRetention(ctx, row)
	if err == nil {
		b.retention.active.Store(r)
	}
	return err
}

// openRetention reads the document of a version.
func (b *Broker) openRetention(ctx context.Context, row ledger.Retention) (*activeRetention, error) {
	o, err := b.cfg.Store.ObjectByDigest(ctx, ledger.ObjectRetention, row.Document)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, reason.Newf(reason.StoreRowForged, "the document of retention version %d is gone or was changed", row.Version)
	}
	doc, problems := policy.LoadRetention(policy.File{Name: "document", Bytes: o.Bytes})
	if len(problems) > 0 {
		return nil, fmt.Errorf("retention version %d does not load: %s", row.Version, problems[0])
	}
	return &activeRetention{row: row, document: *doc, text: string(o.Bytes)}, nil
}

// roomErr says that the history will soon have no place for new records.
func (b *Broker) roomErr() error {
	if n := b.retention.ahead.Load(); n >= 0 && n < weeksAlarm {
		return reason.Newf(reason.StoreUnavailable, "partitions are made for %d weeks after this one, want %d: recording ends with them", n, weeksAlarm)
	}
	return nil
}

// PartitionsAhead is for how many whole weeks after this one the history has
// room, -1 where nobody has looked yet.
func (b *Broker) PartitionsAhead() int64 { return b.retention.ahead.Load() }

// Retention returns the retention policy in force, with what is gone by it.
func (b *Broker) Retention(context.Context) (api.Retention, error) {
	if p := b.retention.page.Load(); p != nil {
		return *p, nil
	}
	return api.Retention{}, reason.New(reason.StoreUnavailable, "the retention policy was not read yet")
}

// refreshRetention makes what is served of the retention policy.
func (b *Broker) refreshRetention(ctx context.Context) error {
	page := api.Retention{Groups: []api.RetentionGroup{}, Dropped: []api.DroppedWeek{}}
	if r := b.retention.active.Load(); r != nil {
		page.Version, page.Document, page.By, page.CreatedAt = r.row.Version, r.text, r.row.By, r.row.CreatedAt
		page.SHA256 = hex.EncodeToString(r.row.Document[:])
		page.Groups = append(page.Groups, wireGroup("", 0, nil, r.document.Default))
		for _, g := range r.document.Groups {
			page.Groups = append(page.Groups, wireGroup(g.Name, slices.Index(r.row.Groups, g.Name)+1, g.Zones, g.Periods))
		}
	}
	dropped, err := b.droppedWeeks(ctx)
	if err != nil {
		return err
	}
	for _, d := range dropped {
		below := map[string]*int64{
			ledger.ClassDecisions: &page.MinIndex.Decisions, ledger.ClassEvidence: &page.MinIndex.Evidence, ledger.ClassSVIDs: &page.MinIndex.SVIDs,
		}[d.Class]
		if below != nil {
			*below = max(*below, d.Last+1)
		}
	}
	page.Dropped = append(page.Dropped, dropped...)
	b.retention.page.Store(&page)
	return nil
}

func wireGroup(name string, keep int, zones []string, p policy.Periods) api.RetentionGroup {
	return api.RetentionGroup{Name: name, Keep: keep, Zones: nonNil(zones), Decisions: p.Decisions, Evidence: p.Evidence, SVIDs: p.SVIDs}
}

// evidenceGone says why a part of a record's evidence is not there. A record
// whose week the log declares gone was not tampered with.
func (b *Broker) evidenceGone(body ledger.Attestation, part string) error {
	week, keep := ledger.Week(ledger.RecordTime(body.ID)), int(b.keep(body.DriftZone()))
	if p := b.retention.page.Load(); p != nil {
		for _, d := range p.Dropped {
			if d.Class == ledger.ClassEvidence && d.Week.Equal(week) && slices.Contains(d.Keeps, keep) {
				return reason.Newf(reason.RequestNotFound, "the evidence of this record was dropped on %s with the week of %s, whose period had ended by retention version %d; the record stands, and cannot be judged again",
					d.At.UTC().Format(time.DateOnly), d.Week.Format(time.DateOnly), d.Retention)
			}
		}
	}
	return reason.Newf(reason.RequestNotFound, "evidence part %s is not there, and no drop of its week is published; run zonebroker history verify", part)
}
