package api

import "time"

// DetectionQuery asks how long drift went unseen. Zero values do not filter.
type DetectionQuery struct {
	Node   string    `query:"node"`
	Kind   string    `query:"kind"`
	Zone   string    `query:"zone"`
	Since  time.Time `query:"since"` // default: a day before Until
	Until  time.Time `query:"until"` // zero is now
	Cursor string    `query:"cursor"`
	Limit  int       `query:"limit"`
}

// DetectionPage is a page of drift with the time that it may have gone unseen,
// newest first.
type DetectionPage struct {
	Since      time.Time   `json:"since"`
	Detections []Detection `json:"detections"`
	NextCursor string      `json:"next_cursor"`
	AsOf       AsOf        `json:"as_of"`
}

// Detection says how long one change may have gone unseen: it came after
// LastGood, and was recorded Took later.
type Detection struct {
	ID         string    `json:"id"` // of the record that brought it
	RecordedAt time.Time `json:"recorded_at"`
	Node       string    `json:"node"`
	Zone       string    `json:"zone"`
	Kind       string    `json:"kind"`
	Before     string    `json:"before"`
	After      string    `json:"after"`
	LastGood   time.Time `json:"last_good"` // of the accepted attestation before
	TookMS     int64     `json:"took_ms"`
}

// SummaryQuery asks for the times to detect by kind of drift.
type SummaryQuery struct {
	Zone  string    `query:"zone"`
	Since time.Time `query:"since"`
	Until time.Time `query:"until"`
}

// DetectionSummary sums up the times to detect of a span.
type DetectionSummary struct {
	Since time.Time       `json:"since"`
	Until time.Time       `json:"until"`
	Kinds []KindDetection `json:"kinds"`
	AsOf  AsOf            `json:"as_of"`
}

// KindDetection is over all drift of one kind.
type KindDetection struct {
	Kind   string `json:"kind"`
	Events int64  `json:"events"`
	P50MS  int64  `json:"p50_ms"`
	P99MS  int64  `json:"p99_ms"`
	MaxMS  int64  `json:"max_ms"`
}

// Baselines that nodes are compared with.
const (
	BaselineReference = "reference" // values of a reference set of the policy in force
	BaselineModel     = "model"     // what most nodes of the TPM model measured
	BaselineGroup     = "group"     // what most nodes of the group measured
)

// BaselineQuery asks which nodes differ from their fleet.
type BaselineQuery struct {
	By     string `query:"by"`   // a Baseline constant
	Name   string `query:"name"` // of the reference set (required), model or group
	Zone   string `query:"zone"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit"`
}

// BaselinePage is a page of them, ordered by node.
type BaselinePage struct {
	By         string      `json:"by"`
	Deviations []Deviation `json:"deviations"`
	NextCursor string      `json:"next_cursor"`
	AsOf       AsOf        `json:"as_of"`
}

// Deviation is a node that differs from its baseline.
type Deviation struct {
	Node     string           `json:"node"`
	Machine  string           `json:"machine"`
	Zone     string           `json:"zone"`
	Cohort   string           `json:"cohort"` // reference set, model or group
	Nodes    int64            `json:"nodes"`  // in the cohort
	LastOKAt time.Time        `json:"last_ok_at"`
	Facts    []FactDifference `json:"facts"`
}

// FactDifference is one fact that differs.
type FactDifference struct {
	Name     string   `json:"name"`
	Expected []string `json:"expected"` // allowed, or what most of the cohort showed
	Seen     string   `json:"seen"`     // "" where the node did not show it
}

// RateQuery asks for attestations by hour and zone, at most 31 days of them.
type RateQuery struct {
	Zone  string    `query:"zone"`
	Since time.Time `query:"since"`
	Until time.Time `query:"until"`
}

// RateList has an entry for each hour and zone that anything was decided in,
// oldest first.
type RateList struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Rates []Rate    `json:"rates"`
	AsOf  AsOf      `json:"as_of"`
}

// Rate is one hour of one zone.
type Rate struct {
	Hour     time.Time        `json:"hour"`
	Zone     string           `json:"zone"` // "" for attestations that chose none
	Accepted int64            `json:"accepted"`
	Denied   int64            `json:"denied"`
	Success  int64            `json:"success_permille"` // accepted of all, in thousandths, rounded down
	Reasons  map[string]int64 `json:"reasons"`          // of denials, by first code
}

// CrossCheckQuery asks whether the hourly counts are those of the rows, of at most
// seven days.
type CrossCheckQuery struct {
	Since time.Time `query:"since"`
	Until time.Time `query:"until"`
}

// CrossCheck names the hours whose count is not that of their rows; none where
// all agree.
type CrossCheck struct {
	OK          bool              `json:"ok"`
	Since       time.Time         `json:"since"`
	Until       time.Time         `json:"until"`
	Differences []CountDifference `json:"differences"`
	AsOf        AsOf              `json:"as_of"`
}

// CountDifference is one count that is off.
type CountDifference struct {
	Hour    time.Time `json:"hour"`
	Zone    string    `json:"zone"`
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Counted int64     `json:"counted"`
	Rows    int64     `json:"rows"`
}
