package ledger

import "time"

// Stored is a record as read back.
type Stored struct {
	Record
	LogID      string
	Index      int64 // in that log
	RecordedAt time.Time
	Drift      []Drift
}

// Place is where the record stands in lists.
func (s Stored) Place() Place {
	return Place{RecordedAt: s.RecordedAt, Index: s.Index, LogID: s.LogID}
}

// Query filters records of all logs. Zero values do not filter, but that
// TypeHistoryRead has to be asked for; Limit is at most 500.
type Query struct {
	Node    NodeID
	Zone    string
	Verdict string
	Type    string
	Reason  string // first code of a denial
	Since   time.Time
	Until   time.Time
	After   Place // the last one of the page before
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
	Size     int64    // of our log
	Root     [32]byte // of our log
	Logs     []LogSum // of all, by name
	Records  int64
	Dropped  int64 // records that retention or an erasure removed, as the log says
	Grants   int64
	Problems []string // empty means that the history is whole
}

// LogSum is what all entries of a log add up to.
type LogSum struct {
	Log  string
	Size int64
	Root [32]byte
}
