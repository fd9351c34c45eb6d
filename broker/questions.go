package broker

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Questions is what compliance teams ask of the history. It may read a standby,
// and each answer says how fresh it is. Lists are bounded by their Limit (at most
// 500) and by their times, and continued by their cursors. Every method returns
// reason.StoreUnavailable where the database does not answer in time.
type Questions interface {
	// Members returns who had earned a zone at a time.
	Members(ctx context.Context, q ledger.MembersQuery) ([]ledger.Member, ledger.AsOf, error)
	// NodeAt returns what a node was at a time; its Record is nil where the node
	// had not attested yet.
	NodeAt(ctx context.Context, node ledger.NodeID, at time.Time) (ledger.NodeAt, ledger.AsOf, error)
	// Intervals returns the spans of a node in a zone, newest first, the open one
	// included.
	Intervals(ctx context.Context, node ledger.NodeID, since, until time.Time, limit int) ([]ledger.Interval, ledger.AsOf, error)
	// Unseen returns nodes that no accepted attestation came from.
	Unseen(ctx context.Context, q ledger.UnseenQuery) ([]ledger.Unseen, ledger.AsOf, error)
	// Population counts nodes by the value of a fact.
	Population(ctx context.Context, q ledger.PopulationQuery) ([]ledger.Population, ledger.AsOf, error)
	// Issued returns SVIDs with the records that authorised them, newest first.
	Issued(ctx context.Context, q ledger.IssuedQuery) ([]ledger.Issued, ledger.AsOf, error)
	// Detections returns drift with the time that it may have gone unseen, newest
	// first; DetectionSummary sums it up by kind.
	Detections(ctx context.Context, q ledger.DriftQuery) ([]ledger.Detection, ledger.AsOf, error)
	DetectionSummary(ctx context.Context, zone string, since, until time.Time) ([]ledger.DetectionSummary, ledger.AsOf, error)
	// Rates returns attestations an hour and zone, oldest first.
	Rates(ctx context.Context, q ledger.RateQuery) ([]ledger.Rate, ledger.AsOf, error)
	// CrossCheck returns the hours whose count is not that of their rows; none
	// where all agree.
	CrossCheck(ctx context.Context, since, until time.Time) ([]ledger.CrossCheck, ledger.AsOf, error)
	// Coverage compares the imported inventory with what attests.
	Coverage(ctx context.Context, q ledger.CoverageQuery) (ledger.Coverage, ledger.AsOf, error)
	// Baseline returns nodes that differ from their fleet.
	Baseline(ctx context.Context, q ledger.BaselineQuery) ([]ledger.Deviation, ledger.AsOf, error)
}
