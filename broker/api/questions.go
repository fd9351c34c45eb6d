package api

import "time"

// AsOf says how fresh an answer is: what the log held when it was read.
type AsOf struct {
	Log        string    `json:"log"`
	Size       int64     `json:"size"`
	RecordedAt time.Time `json:"recorded_at"` // of its last record; the zero time for an empty log
	Replica    bool      `json:"replica"`     // read from a standby, which may be behind
}

// Interval is a span in which a node earned one zone, with one measurement,
// under one policy version, without a gap.
type Interval struct {
	Node          string    `json:"node"`
	Zone          string    `json:"zone"`
	Measured      string    `json:"measured"` // SHA-256 of the facts that were measured, hex
	PolicyVersion int64     `json:"policy_version"`
	From          time.Time `json:"from"`       // decision of the first attestation
	Until         time.Time `json:"until"`      // to which its evidence was fresh, or when it was ended before that
	ExpiresAt     time.Time `json:"expires_at"` // latest end of the SVIDs issued in it to the node
	First         string    `json:"first"`      // record of its first attestation
	Last          string    `json:"last"`       // and of its last
	Renewals      int64     `json:"renewals"`   // attestations after the first
	Ended         string    `json:"ended"`      // "changed", "denied", "lapsed", "split"; "" while it is open
}

// MembersQuery asks who had earned a zone at a time.
type MembersQuery struct {
	Zone   string    `query:"zone"`
	At     time.Time `query:"at"`     // zero is now
	Grace  bool      `query:"grace"`  // counts nodes whose SVIDs had not expired, too
	Cursor string    `query:"cursor"` // NextCursor of the page before
	Limit  int       `query:"limit"`  // default 50, at most 500
}

// MemberPage is a page of members, ordered by node. NextCursor is "" at the end.
type MemberPage struct {
	At         time.Time `json:"at"`
	Members    []Member  `json:"members"`
	NextCursor string    `json:"next_cursor"`
	AsOf       AsOf      `json:"as_of"`
}

// Member is a node in a zone, with the evidence and the policy that earned it.
type Member struct {
	Node          string    `json:"node"`
	Machine       string    `json:"machine"` // label of its admission, "" without
	Zone          string    `json:"zone"`
	From          time.Time `json:"from"`
	Until         time.Time `json:"until"`
	ExpiresAt     time.Time `json:"expires_at"`
	PolicyVersion int64     `json:"policy_version"`
	Measured      string    `json:"measured"`
	First         string    `json:"first"`
	Last          string    `json:"last"`
	Renewals      int64     `json:"renewals"`
	Ended         string    `json:"ended"`
}

// NodeAtQuery asks what a node was at a time.
type NodeAtQuery struct {
	Node string
	At   time.Time `query:"at"` // zero is now
}

// NodeAt is what the history says of one node at a time.
type NodeAt struct {
	Node      string    `json:"node"`
	At        time.Time `json:"at"`
	Zone      string    `json:"zone"`               // that it had earned, "" for none
	Interval  *Interval `json:"interval,omitempty"` // that covers At; left out where the node was in no zone
	Record    *Entry    `json:"record,omitempty"`   // the last attestation at or before At; left out for none
	Denied    bool      `json:"denied"`             // that attestation was refused
	ValidSVID bool      `json:"valid_svid"`         // an SVID of the node had not expired
	AsOf      AsOf      `json:"as_of"`
}

// IntervalsQuery asks for the spans of one node.
type IntervalsQuery struct {
	Node  string
	Since time.Time `query:"since"` // default: a week before Until
	Until time.Time `query:"until"` // zero is now
	Limit int       `query:"limit"` // default 50, at most 500
}

// IntervalPage are the newest spans of a node, newest first; there may be more
// where there are as many as were asked for.
type IntervalPage struct {
	Node      string     `json:"node"`
	Since     time.Time  `json:"since"`
	Until     time.Time  `json:"until"`
	Intervals []Interval `json:"intervals"`
	AsOf      AsOf       `json:"as_of"`
}

// UnseenQuery asks for nodes that no accepted attestation came from.
type UnseenQuery struct {
	Since  time.Time `query:"since"` // required: seen since then is seen
	Zone   string    `query:"zone"`
	Silent bool      `query:"silent"` // leaves out those that tried and were refused since
	Cursor string    `query:"cursor"`
	Limit  int       `query:"limit"`
}

// UnseenPage is a page of them, ordered by node.
type UnseenPage struct {
	Since      time.Time `json:"since"`
	Nodes      []Unseen  `json:"nodes"`
	NextCursor string    `json:"next_cursor"`
	AsOf       AsOf      `json:"as_of"`
}

// Unseen is a node that was not seen for a while. Zero times are never.
type Unseen struct {
	Node          string    `json:"node"`
	Machine       string    `json:"machine"`
	Zone          string    `json:"zone"`
	Status        string    `json:"status"`
	LastOKAt      time.Time `json:"last_ok_at"`
	LastAttemptAt time.Time `json:"last_attempt_at"`
	Reason        string    `json:"reason"` // of the last refusal, "" where the last attempt was accepted
}

// PopulationQuery asks how many nodes had a fact at a time.
type PopulationQuery struct {
	Fact  string    `query:"fact"`  // "pcr.0" to "pcr.23", "event_log", "secure_boot", "firmware" or "boot.…"
	Value string    `query:"value"` // "" groups by value
	Zone  string    `query:"zone"`
	At    time.Time `query:"at"` // zero is now
	Limit int       `query:"limit"`
}

// PopulationPage has a row for each value, the most frequent first.
type PopulationPage struct {
	Fact   string       `json:"fact"`
	At     time.Time    `json:"at"`
	Values []Population `json:"values"`
	AsOf   AsOf         `json:"as_of"`
}

// Population is one value of a fact and who had it.
type Population struct {
	Value string   `json:"value"`
	Nodes int64    `json:"nodes"`
	Some  []string `json:"some"` // at most ten of them
}
