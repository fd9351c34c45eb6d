package ledger

import "time"

// Stored is a record as read back.
type Stored struct {
	Record
	Index      int64
	RecordedAt time.Time
	Drift      []Drift
}

// Query filters records. Zero values do not filter; Before 0 starts at the
// newest; Limit is at most 500.
type Query struct {
	Node    NodeID
	Zone    string
	Verdict string
	Type    string
	Reason  string // first code of a denial
	Since   time.Time
	Until   time.Time
	Before  int64
	Limit   int
}

// RefusalCount is a share of one hour's refusals that are not records.
type RefusalCount struct {
	Hour  time.Time // truncated to the hour, UTC
	Code  string
	Node  NodeID // "" for strangers; repeats of an authenticated node name it
	Count int64
}

// Verification is what checking a history found.
type Verification struct {
	Size     int64
	Root     [32]byte
	Records  int64
	Grants   int64
	Problems []string // empty means that the history is whole
}
