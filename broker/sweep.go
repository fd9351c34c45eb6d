package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// sweepEvery is how often the weeks are looked at whose time may have come.
const sweepEvery = 6 * time.Hour

const day = 24 * time.Hour

// Sweep drops what the retention policy in force lets go, week by week: the log
// says first what goes, then it goes. A crash in between is made up for by the
// next sweep. A dry run changes nothing.
func (b *Broker) Sweep(ctx context.Context, c Caller, req api.SweepRequest) (api.SweepReport, error) {
	out := api.SweepReport{Leaves: []api.SweptLeaf{}}
	if b.cfg.Keeper == nil {
		return out, reason.New(reason.StoreUnavailable, "this replica has no access as the database's owner")
	}
	if !b.retention.mu.TryLock() {
		return out, errKeeping()
	}
	defer b.retention.mu.Unlock()
	err := b.cfg.Keeper.Alone(ctx, func(ctx context.Context) error { return b.sweep(ctx, c, req, &out) })
	return out, err
}

func (b *Broker) sweep(ctx context.Context, c Caller, req api.SweepRequest, out *api.SweepReport) error {
	now, err := b.slowerClock(ctx)
	if err != nil {
		return err
	}
	if err := b.pollRetention(ctx); err != nil {
		return err
	}
	r := b.retention.active.Load()
	if r == nil {
		return nil
	}
	s := &sweep{b: b, r: r, by: c.Operator, dry: req.DryRun, now: now}
	out.Retention = r.row.Version
	if s.group, err = b.groupsEver(ctx); err != nil {
		return err
	}
	var refused error // the first leaf that is not what the log says: the others go
	for _, class := range ledger.Classes {
		leaves, err := b.cfg.Keeper.Leaves(ctx, class, s.now)
		if err != nil {
			return err
		}
		for _, l := range leaves {
			swept, due, err := s.leaf(ctx, l)
			switch {
			case reason.Of(err) == reason.StoreRowForged && refused == nil:
				refused = fmt.Errorf("%s: %w", l.Table, err)
			case err != nil && reason.Of(err) != reason.StoreRowForged:
				return err
			case due:
				out.Leaves = append(out.Leaves, swept)
			}
		}
	}
	if s.dry || refused != nil {
		return refused
	}
	if err := s.hours(ctx); err != nil {
		return err
	}
	return b.pollRetention(ctx)
}

// slowerClock is the time by which periods end: by our clock and by the database's,
// whichever is behind. Where they differ as much as no replica may, nothing goes:
// one that was put forward by a year would drop a year.
func (b *Broker) slowerClock(ctx context.Context) (time.Time, error) {
	if err := b.checkClock(ctx); err != nil {
		return time.Time{}, err
	}
	return b.cfg.Now().Add(min(0, time.Duration(b.skew.Load()))), nil
}

// sweep is one of them.
type sweep struct {
	b   *Broker
	r   *activeRetention
	by  string
	dry bool
	now time.Time

	group ledger.GroupAt
}

// replicasFollow is how long a replica may give rows groups by a document that is
// not in force any more: it looks every minute, unless the database is away.
const replicasFollow = time.Hour

// groupsEver says which group the documents up to some time gave a zone, and none
// before the first: a row with another has it from somebody else, who may want it
// dropped early.
func (b *Broker) groupsEver(ctx context.Context) (ledger.GroupAt, error) {
	rows, err := b.cfg.Store.Retentions(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*activeRetention, len(rows))
	for i, row := range rows {
		if all[i], err = b.openRetention(ctx, row); err != nil {
			return nil, err
		}
	}
	return func(zone string, at time.Time, keep int16) bool {
		if keep == 0 && (len(all) == 0 || at.Before(all[0].row.CreatedAt.Add(replicasFollow))) {
			return true
		}
		return slices.ContainsFunc(all, func(r *activeRetention) bool {
			return !r.row.CreatedAt.After(at.Add(maxSkew)) && r.keepOf(zone) == keep
		})
	}, nil
}

// ended reports whether rows of a week, of some groups, may all go.
func (s *sweep) ended(l ledger.Leaf, keeps ...int16) bool {
	return !slices.ContainsFunc(keeps, func(k int16) bool { return !s.r.periods(k).Ended(l.Class, l.Week.Add(7*day), s.now) })
}

// mayBeDue looks before the rows are read: a leaf of several groups may hold one
// whose time has come.
func (s *sweep) mayBeDue(l ledger.Leaf) bool {
	if l.Keep >= 0 {
		return s.ended(l, l.Keep)
	}
	for keep := range int16(len(s.r.row.Groups)) + 1 {
		if s.ended(l, keep) {
			return true
		}
	}
	return false
}

func (s *sweep) leaf(ctx context.Context, l ledger.Leaf) (swept api.SweptLeaf, due bool, err error) {
	if !s.mayBeDue(l) {
		return swept, false, nil
	}
	plan, err := s.b.cfg.Keeper.Plan(ctx, l, s.group)
	if err == nil && len(plan.Keeps) == 0 && !s.dry {
		return swept, false, s.empty(ctx, plan)
	}
	if err != nil || plan.Rows == 0 || !s.ended(l, plan.Keeps...) {
		return swept, false, err
	}
	swept = api.SweptLeaf{Class: l.Class, Leaf: l.Table, Week: l.Week, Keeps: wireKeeps(plan.Keeps), Rows: plan.Rows}
	swept.Outcome, swept.Detail, err = s.drop(ctx, plan)
	return swept, true, err
}

// empty takes away a leaf without rows: every partition makes planning slower.
func (s *sweep) empty(ctx context.Context, plan ledger.LeafPlan) error {
	err := s.b.cfg.Keeper.Drop(ctx, plan)
	if reason.Of(err) == reason.RequestOverloaded {
		return nil
	}
	return err
}

func (s *sweep) drop(ctx context.Context, plan ledger.LeafPlan) (outcome, detail string, err error) {
	switch {
	case len(plan.Holds) > 0:
		h := plan.Holds[0]
		return api.SweepHeld, "legal hold " + h.ID.String() + ": " + h.Reason, nil
	case s.dry:
		return api.SweepDue, "", nil
	}
	if plan.Missing.Rows > 0 {
		if err := s.publish(ctx, plan); err != nil {
			return "", "", err
		}
	}
	if plan.Other != "" {
		return api.SweepWaiting, "log " + plan.Other + " has to declare its rows: sweep at one of its brokers", nil
	}
	s.b.cfg.Step("retention.published")
	err = s.b.cfg.Keeper.Drop(ctx, plan)
	if reason.Of(err) == reason.RequestOverloaded {
		return api.SweepBusy, reason.Detail(err), nil
	}
	return api.SweepDropped, "", err
}

// publish records what goes before it goes.
func (s *sweep) publish(ctx context.Context, plan ledger.LeafPlan) error {
	plan.Missing.Retention = s.r.row.Version
	raw, err := plan.Missing.Bytes()
	if err != nil {
		return err
	}
	o := ledger.Object{Kind: ledger.ObjectDropped, Digest: sha256.Sum256(raw), Bytes: raw}
	g := ledger.Grant{Type: ledger.TypeDropped, By: s.by, Subject: plan.Table, Object: hex.EncodeToString(o.Digest[:])}
	_, _, err = s.b.grant(ctx, g, func(c *ledger.Commit) { c.Object = &o })
	return err
}

// hours forgets the hourly counts that no group's decisions reach back to.
func (s *sweep) hours(ctx context.Context) error {
	longest := s.r.document.Default.Decisions
	for _, g := range s.r.document.Groups {
		if g.Decisions == 0 || longest == 0 {
			longest = 0
			break
		}
		longest = max(longest, g.Decisions)
	}
	if longest == 0 {
		return nil
	}
	return s.b.cfg.Keeper.ForgetHours(ctx, s.now.AddDate(0, 0, -longest).Add(-7*day))
}

// sweepDaily is the job of every replica; one that finds another at it leaves it
// to that one.
func (b *Broker) sweepDaily(ctx context.Context) error {
	if b.cfg.Keeper == nil || b.retention.active.Load() == nil {
		return nil
	}
	report, err := b.Sweep(ctx, Caller{Operator: "replica:" + b.cfg.Replica, Role: RoleAdmin}, api.SweepRequest{})
	if reason.Of(err) == reason.RequestOverloaded {
		return nil
	}
	for _, l := range report.Leaves {
		b.cfg.Logger.InfoContext(ctx, "retention", "class", l.Class, "leaf", l.Leaf, "rows", l.Rows, "outcome", l.Outcome, "detail", l.Detail)
	}
	return err
}

func wireKeeps(keeps []int16) []int {
	out := make([]int, len(keeps))
	for i, k := range keeps {
		out[i] = int(k)
	}
	return out
}

// droppedWeeks reads what the log declares gone, newest first. The lists are
// large; what is said of each is kept.
func (b *Broker) droppedWeeks(ctx context.Context) ([]api.DroppedWeek, error) {
	rows, err := b.cfg.Store.Records(ctx, ledger.Query{Type: ledger.TypeDropped, Limit: droppedListed})
	if err != nil {
		return nil, err
	}
	out := make([]api.DroppedWeek, 0, len(rows))
	known := make(map[string]api.DroppedWeek, len(rows))
	for _, r := range rows {
		d, ok := b.retention.reads[r.ID.String()]
		if !ok {
			if d, ok, err = b.droppedWeek(ctx, r); err != nil {
				return nil, err
			}
		}
		if ok {
			out, known[d.Record] = append(out, d), d
		}
	}
	b.retention.reads = known
	return out, nil
}

func (b *Broker) droppedWeek(ctx context.Context, r ledger.Stored) (api.DroppedWeek, bool, error) {
	var g ledger.Grant
	if err := json.Unmarshal(r.Body, &g); err != nil {
		return api.DroppedWeek{}, false, err
	}
	digest, err := parseDigest(g.Object)
	if err != nil {
		return api.DroppedWeek{}, false, nil // history verify finds it
	}
	o, err := b.cfg.Store.ObjectByDigest(ctx, ledger.ObjectDropped, digest)
	if err != nil || o == nil {
		return api.DroppedWeek{}, false, err
	}
	m, spans, err := ledger.ParseMissing(o.Bytes)
	if err != nil || len(spans) == 0 {
		return api.DroppedWeek{}, false, nil // as above
	}
	return api.DroppedWeek{
		Record: r.ID.String(), At: r.RecordedAt, Class: m.Class, Week: m.Week, Keeps: wireKeeps(m.Keeps), Retention: m.Retention,
		Rows: m.Rows, First: spans[0].First, Last: spans[len(spans)-1].Last,
	}, true, nil
}
