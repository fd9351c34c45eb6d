package api

import "time"

// SVIDQuery asks for issued SVIDs. Zero values do not filter; all that are set
// have to hold.
type SVIDQuery struct {
	Node      string    `query:"node"`
	Zone      string    `query:"zone"`
	Fact      string    `query:"fact"` // with Value: of the measurement under which it was issued
	Value     string    `query:"value"`
	Policy    int64     `query:"policy"`     // version that decided
	Evidence  string    `query:"evidence"`   // SHA-256 of a part of the evidence behind it, hex
	DeniedNow bool      `query:"denied_now"` // still valid, of nodes whose last attestation was refused or that may not ask any more
	Since     time.Time `query:"since"`      // issued since; default: a day before Until
	Until     time.Time `query:"until"`      // zero is now
	Cursor    string    `query:"cursor"`
	Limit     int       `query:"limit"`
}

// SVIDPage is a page of them, newest first.
type SVIDPage struct {
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until"`
	SVIDs      []SVID    `json:"svids"`
	NextCursor string    `json:"next_cursor"`
	AsOf       AsOf      `json:"as_of"`
}

// SVID is an issued SVID with the records behind it.
type SVID struct {
	Serial        string    `json:"serial"`  // hex; of a JWT its jti
	Profile       string    `json:"profile"` // "x509" or "jwt"
	Node          string    `json:"node"`
	Zone          string    `json:"zone"`
	SPIFFEID      string    `json:"spiffe_id"` // of "svid show"; "" in lists, which do not read the records
	Key           string    `json:"key"`       // "tpm" or "software"
	Audience      string    `json:"audience"`  // of a JWT
	NotBefore     time.Time `json:"not_before"`
	NotAfter      time.Time `json:"not_after"`
	PolicyVersion int64     `json:"policy_version"`
	Index         int64     `json:"index"`       // of its record, in the log
	Record        string    `json:"record"`      // that authorised it
	Attestation   string    `json:"attestation"` // that the record rests on
	RecordedAt    time.Time `json:"recorded_at"`
}

// SVIDTrail leads from a serial number to the decision and to its evidence.
type SVIDTrail struct {
	SVID     SVID           `json:"svid"`
	Decision *Entry         `json:"decision,omitempty"` // the attestation; left out where it is no longer kept
	Evidence []EvidencePart `json:"evidence"`           // of the decision, by content
	AsOf     AsOf           `json:"as_of"`
}

// EvidencePart names a part of the evidence by content.
type EvidencePart struct {
	Kind   string `json:"kind"`
	SHA256 string `json:"sha256"` // hex
}
