package broker

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// Keeper does what needs the rights of the database's owner: it makes and takes
// away leaves of partitions, and deletes what an erasure names. Errors are as
// those of Store.
type Keeper interface {
	// Alone runs fn while no other replica sweeps or erases, from the plan up to the
	// deletion: lists that two of them make at once would differ, and both be
	// published. reason.RequestOverloaded where another is at it.
	Alone(ctx context.Context, fn func(ctx context.Context) error) error
	// MakeGroups makes the leaves of the retention groups 1 to n in this and the
	// coming weeks. It has to come before rows are given such a number.
	MakeGroups(ctx context.Context, n int, now time.Time) error
	// Leaves returns the partitions of a class whose week had ended by now and by
	// the database's clock, oldest first.
	Leaves(ctx context.Context, class string, now time.Time) ([]ledger.Leaf, error)
	// Plan says what would go of a leaf: it never lists what rights rest on.
	// reason.StoreRowForged where a row is not what the log says, or of a group that
	// it was never given.
	Plan(ctx context.Context, leaf ledger.Leaf, group ledger.GroupAt) (ledger.LeafPlan, error)
	// Drop takes away what a plan lists. reason.RequestOverloaded where the rows are
	// in use, or a hold was placed since the plan was made.
	Drop(ctx context.Context, plan ledger.LeafPlan) error
	// ForgetHours deletes hourly counts older than a time.
	ForgetHours(ctx context.Context, before time.Time) error

	// ErasurePlan lists the rows of a node in this log, and the holds on them.
	ErasurePlan(ctx context.Context, node ledger.NodeID) (ledger.ErasurePlan, error)
	// Erase deletes what the recorded erasure of a node names; again, too.
	Erase(ctx context.Context, node ledger.NodeID) (ledger.Erased, error)
}

// Retained is the part of a Store that says what is kept.
type Retained interface {
	// Retention returns the version in force, nil before the first.
	Retention(ctx context.Context) (*ledger.Retention, error)
	// Retentions returns the newest 500 versions, the oldest first.
	Retentions(ctx context.Context) ([]ledger.Retention, error)
	// Holds returns the legal holds, those in force first, the newest first.
	Holds(ctx context.Context, released bool) ([]ledger.Hold, error)
	// Hold returns one, released or not; nil where there is none.
	Hold(ctx context.Context, id uuid.UUID) (*ledger.Hold, error)
	// Erasure returns the erasure of a node, nil for none.
	Erasure(ctx context.Context, node ledger.NodeID) (*ledger.Erasure, error)
	// PartitionsAhead returns for how many whole weeks after now's there is room.
	PartitionsAhead(ctx context.Context, now time.Time) (int, error)
	// Prove returns entries with their inclusion in the tree of a size, and that it
	// extends the one of an older size, 0 for without.
	Prove(ctx context.Context, size, older int64, indexes []int64) (ledger.LogProof, error)
}
