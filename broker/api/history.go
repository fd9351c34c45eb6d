package api

import "time"

// Explanation says why an attestation was denied, as far as the recorded
// evidence and the recorded policy tell.
type Explanation struct {
	ID         string     `json:"id"` // of the record
	RecordedAt time.Time  `json:"recorded_at"`
	Node       string     `json:"node"`
	Zone       string     `json:"zone"`    // that the node would have earned, "" where none was chosen
	Code       string     `json:"code"`    // of the first reason
	Remedy     string     `json:"remedy"`  // for the first reason
	Reasons    []Reason   `json:"reasons"` // all of them, in order of the checks
	Mismatches []Mismatch `json:"mismatches"`
	AsOf       AsOf       `json:"as_of"`
}

// Mismatch is one PCR that differs from the reference set that came closest.
type Mismatch struct {
	PCR  int    `json:"pcr"`
	Set  string `json:"set"`  // reference set
	Kind string `json:"kind"` // "value": the PCR is another; "events": the set names events, and some are missing
	// Expected are the values that the set allows, or the digests of the events
	// that are missing; hex.
	Expected []string `json:"expected"`
	// Seen is the quoted value, "" for a PCR that was not quoted; hex.
	Seen string `json:"seen"`
	// Event is where this boot left the path of the accepted one; nil where no
	// accepted boot is known to compare with.
	Event *EventDifference `json:"event,omitempty"`
}

// EventDifference is the first event of a PCR that the accepted boot does not
// have. Type and descriptions are what the log says of itself; only the digests
// are proved by the quote.
type EventDifference struct {
	Number            int    `json:"number"` // in the log of this boot, the Spec ID record being 0; 0 where the log lacks an event
	Type              string `json:"type"`
	Description       string `json:"description"`
	Digest            string `json:"digest"`             // SHA-256, hex; "" where the log lacks an event
	Before            string `json:"before"`             // digest at that place in the accepted boot, "" where there was no event
	BeforeDescription string `json:"before_description"` // what the accepted boot's log said of it
	Against           string `json:"against"`            // record id of the accepted boot, "" for the events of the reference set
}

// Kinds of Mismatch.
const (
	MismatchValue  = "value"
	MismatchEvents = "events"
)

// DriftQuery filters what changed. Zero values do not filter; all that are set
// have to hold.
type DriftQuery struct {
	Node   string    `query:"node"`
	Kind   string    `query:"kind"` // "pcr.4", "firmware", "secure_boot", "event_log", "zone", "tier", "verdict", "reason" or "policy"
	Zone   string    `query:"zone"`
	Since  time.Time `query:"since"`  // default: a day before Until
	Until  time.Time `query:"until"`  // zero is now
	Cursor string    `query:"cursor"` // NextCursor of the page before, "" starts at the newest
	Limit  int       `query:"limit"`  // default 50, at most 500
}

// DriftPage is a page of changes, newest record first, within a record in order
// of PCRs and facts. NextCursor is "" at the end.
type DriftPage struct {
	Since      time.Time `json:"since"`
	Changes    []Drift   `json:"changes"`
	NextCursor string    `json:"next_cursor"`
	AsOf       AsOf      `json:"as_of"`
}

// Drift is one change of one node, with what stood before and after it.
type Drift struct {
	Log        string    `json:"log"`   // name of the log
	Index      int64     `json:"index"` // of the record, in that log
	ID         string    `json:"id"`    // of the record that brought it
	RecordedAt time.Time `json:"recorded_at"`
	Node       string    `json:"node"`
	Zone       string    `json:"zone"` // of the node at that time
	Kind       string    `json:"kind"`
	Before     string    `json:"before"`
	After      string    `json:"after"`
}

// TimelineQuery asks for the life of one node.
type TimelineQuery struct {
	Node   string
	Since  time.Time `query:"since"`  // default: a week before Until
	Until  time.Time `query:"until"`  // zero is now
	Cursor string    `query:"cursor"` // NextCursor of the page before, "" starts at the newest
	Limit  int       `query:"limit"`  // default 50, at most 500
}

// TimelinePage is a page of a node's life. The newest page comes first, and
// within a page the oldest entry, as one reads a log; NextCursor leads to the
// page before it, "" at the beginning.
type TimelinePage struct {
	Node       string          `json:"node"`
	Since      time.Time       `json:"since"`
	Entries    []TimelineEntry `json:"entries"`
	NextCursor string          `json:"next_cursor"`
	AsOf       AsOf            `json:"as_of"`
}

// TimelineEntry is one thing that happened to a node.
type TimelineEntry struct {
	Log        string         `json:"log"` // name of the log
	Index      int64          `json:"index"`
	ID         string         `json:"id"`
	RecordedAt time.Time      `json:"recorded_at"`
	Type       string         `json:"type"`    // of the record
	Verdict    string         `json:"verdict"` // of an attestation, else ""
	Zone       string         `json:"zone"`
	Tier       int            `json:"tier"`
	Reasons    []Reason       `json:"reasons"` // of a denial
	Events     []string       `json:"events"`  // codes, for example tpm2.rebooted
	Drift      []DriftChange  `json:"drift"`
	SVIDs      []TimelineSVID `json:"svids"`
	By         string         `json:"by"`   // of a grant: who
	Note       string         `json:"note"` // of a grant: why
}

// TimelineSVID is an SVID that a record authorised.
type TimelineSVID struct {
	Profile   string    `json:"profile"` // "x509" or "jwt"
	SPIFFEID  string    `json:"spiffe_id"`
	Audience  string    `json:"audience,omitempty"` // of a JWT
	Serial    string    `json:"serial"`
	Key       string    `json:"key"` // "tpm" or "software"
	ExpiresAt time.Time `json:"expires_at"`
}
