package broker

import (
	"context"
	"encoding/hex"
	"regexp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// What was asked of Questions, as a reading names it.
const (
	readMembers    = "history.members"
	readNodeAt     = "node.as-of"
	readIntervals  = "node.intervals"
	readUnseen     = "node.unseen"
	readPopulation = "history.population"
)

// factForm is what a measurement names its facts: PCRs, what the log says of the
// whole boot, and the facts that it proves.
var factForm = regexp.MustCompile(`^(pcr\.([0-9]|1[0-9]|2[0-3])|event_log|secure_boot|firmware|boot\.[a-z0-9_.]{1,48})$`)

func checkFact(fact string) error {
	if !factForm.MatchString(fact) {
		return reason.New(reason.RequestMalformed, `fact: want pcr.0 to pcr.23, event_log, secure_boot, firmware or a boot fact such as boot.kernel`)
	}
	return nil
}

// asks records the question and returns who answers it. The reader may be a
// standby: its answer says how fresh it is by itself.
func (b *Broker) asks(ctx context.Context, c Caller, what string, filter map[string]string) (Questions, error) {
	if b.cfg.Questions == nil {
		return nil, reason.New(reason.StoreUnavailable, "this replica has no reader of the history")
	}
	// A question that nobody can answer is not asked of anybody, nor recorded.
	out, err := b.cfg.Questions(ctx)
	if err != nil {
		return nil, reason.Wrap(reason.StoreUnavailable, "the reader of the history does not answer", err)
	}
	if _, err := b.reads(ctx, c, what, filter); err != nil {
		return nil, err
	}
	return out, nil
}

// Members returns a page of who had earned a zone at a time, by node.
func (b *Broker) Members(ctx context.Context, c Caller, q api.MembersQuery) (page api.MemberPage, err error) {
	if q.At, err = b.moment(q.At); err != nil {
		return page, err
	}
	ask, err := b.asks(ctx, c, readMembers, filterOf(q))
	if err != nil {
		return page, err
	}
	limit := pageSize(q.Limit)
	rows, asOf, err := ask.Members(ctx, ledger.MembersQuery{Zone: q.Zone, At: q.At, Grace: q.Grace, After: ledger.NodeID(q.Cursor), Limit: limit})
	if err != nil {
		return page, err
	}
	page = api.MemberPage{At: q.At, Members: make([]api.Member, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, m := range rows {
		i := wireInterval(m.Interval)
		page.Members = append(page.Members, api.Member{
			Node: i.Node, Machine: m.Machine, Zone: i.Zone, From: i.From, Until: i.Until, ExpiresAt: i.ExpiresAt,
			PolicyVersion: i.PolicyVersion, Measured: i.Measured, First: i.First, Last: i.Last, Renewals: i.Renewals, Ended: i.Ended,
		})
	}
	if len(rows) == limit {
		page.NextCursor = string(rows[limit-1].Node)
	}
	return page, nil
}

func wireInterval(i ledger.Interval) api.Interval {
	return api.Interval{
		Node: string(i.Node), Zone: i.Zone, Measured: hex.EncodeToString(i.Measured[:]), PolicyVersion: i.PolicyVersion,
		From: i.From.UTC(), Until: i.Until.UTC(), ExpiresAt: i.Expires.UTC(),
		First: idOrEmpty(i.First), Last: idOrEmpty(i.Last), Renewals: i.Renewals, Ended: i.Ended,
	}
}

// NodeAt returns what a node was at a time. A node that the broker does not know
// is request.not_found.
func (b *Broker) NodeAt(ctx context.Context, c Caller, q api.NodeAtQuery) (out api.NodeAt, err error) {
	if q.At, err = b.moment(q.At); err != nil {
		return out, err
	}
	ask, err := b.asks(ctx, c, readNodeAt, filterOf(q, "node", q.Node))
	if err != nil {
		return out, err
	}
	if err := b.knows(ctx, q.Node); err != nil {
		return out, err
	}
	n, asOf, err := ask.NodeAt(ctx, ledger.NodeID(q.Node), q.At)
	if err != nil {
		return out, err
	}
	out = api.NodeAt{Node: q.Node, At: q.At, Denied: n.Denied, ValidSVID: n.ValidSVID, AsOf: wireAsOf(asOf)}
	if n.Interval != nil {
		i := wireInterval(*n.Interval)
		out.Interval, out.Zone = &i, i.Zone
	}
	if n.Record != nil {
		e := wireEntry(*n.Record, false)
		out.Record = &e
	}
	return out, nil
}

// knows tells a node without history from a misspelt one.
func (b *Broker) knows(ctx context.Context, node string) error {
	snap, err := b.cfg.Store.NodeByID(ctx, ledger.NodeID(node))
	if err == nil && !snap.Found {
		err = reason.New(reason.RequestNotFound, "no such node")
	}
	return err
}

// Intervals returns the newest spans of a node. A node that the broker does not
// know is request.not_found.
func (b *Broker) Intervals(ctx context.Context, c Caller, q api.IntervalsQuery) (page api.IntervalPage, err error) {
	if q.Since, err = b.window(q.Since, q.Until, nodeSpan); err != nil {
		return page, err
	}
	ask, err := b.asks(ctx, c, readIntervals, filterOf(q, "node", q.Node))
	if err != nil {
		return page, err
	}
	if err := b.knows(ctx, q.Node); err != nil {
		return page, err
	}
	until := b.endOf(q.Until)
	rows, asOf, err := ask.Intervals(ctx, ledger.NodeID(q.Node), q.Since, until, pageSize(q.Limit))
	if err != nil {
		return page, err
	}
	page = api.IntervalPage{Node: q.Node, Since: q.Since, Until: until, Intervals: make([]api.Interval, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, i := range rows {
		page.Intervals = append(page.Intervals, wireInterval(i))
	}
	return page, nil
}

// Unseen returns a page of nodes that no accepted attestation came from since a
// time, by node.
func (b *Broker) Unseen(ctx context.Context, c Caller, q api.UnseenQuery) (page api.UnseenPage, err error) {
	if q.Since.IsZero() {
		return page, reason.New(reason.RequestMalformed, "since: say from when on a node should have been seen")
	}
	if err := notAhead("since", q.Since, b.cfg.Now()); err != nil {
		return page, err
	}
	ask, err := b.asks(ctx, c, readUnseen, filterOf(q))
	if err != nil {
		return page, err
	}
	limit := pageSize(q.Limit)
	rows, asOf, err := ask.Unseen(ctx, ledger.UnseenQuery{Since: q.Since, Zone: q.Zone, Silent: q.Silent, After: ledger.NodeID(q.Cursor), Limit: limit})
	if err != nil {
		return page, err
	}
	page = api.UnseenPage{Since: q.Since.UTC(), Nodes: make([]api.Unseen, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, n := range rows {
		page.Nodes = append(page.Nodes, api.Unseen{
			Node: string(n.Node), Machine: n.Machine, Zone: n.Zone, Status: string(n.Status),
			LastOKAt: n.LastOKAt.UTC(), LastAttemptAt: n.LastAttemptAt.UTC(), Reason: n.Reason,
		})
	}
	if len(rows) == limit {
		page.NextCursor = string(rows[limit-1].Node)
	}
	return page, nil
}

// Population counts nodes by the value of a fact at a time.
func (b *Broker) Population(ctx context.Context, c Caller, q api.PopulationQuery) (page api.PopulationPage, err error) {
	if err := checkFact(q.Fact); err != nil {
		return page, err
	}
	if q.At, err = b.moment(q.At); err != nil {
		return page, err
	}
	ask, err := b.asks(ctx, c, readPopulation, filterOf(q))
	if err != nil {
		return page, err
	}
	rows, asOf, err := ask.Population(ctx, ledger.PopulationQuery{Fact: q.Fact, Value: q.Value, Zone: q.Zone, At: q.At, Limit: pageSize(q.Limit)})
	if err != nil {
		return page, err
	}
	page = api.PopulationPage{Fact: q.Fact, At: q.At, Values: make([]api.Population, 0, len(rows)), AsOf: wireAsOf(asOf)}
	for _, p := range rows {
		page.Values = append(page.Values, api.Population{Value: p.Value, Nodes: p.Nodes, Some: wireNodes(p.Some)})
	}
	return page, nil
}

func wireNodes(ids []ledger.NodeID) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}
