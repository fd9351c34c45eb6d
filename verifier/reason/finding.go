package reason

// Outcome says how a check ended.
type Outcome uint8

const (
	// Passed: the check was made and nothing is to be said against the evidence.
	Passed Outcome = iota
	// Noted: something worth recording that refuses nothing by itself.
	Noted
	// Unchecked: the evidence lacks what the check needs, and the caller allowed
	// that. It is listed so that nobody takes it for passed.
	Unchecked
	// Refused: the check failed, and the evidence with it.
	Refused
)

// String returns "passed", "noted", "unchecked" or "refused".
func (o Outcome) String() string {
	switch o {
	case Passed:
		return "passed"
	case Noted:
		return "noted"
	case Unchecked:
		return "unchecked"
	}
	return "refused"
}

// Finding is the outcome of one check: what was judged, how it ended, and which
// bytes of the evidence decided it. The zero value is a check without a name
// that passed; only this package's users that verify make any.
type Finding struct {
	Check   string // dotted name, its parts are the branches of a tree: "tpm2.signature.value"
	Outcome Outcome
	Code    Code   // "" where nothing is to be said; an event, a weakness or a denial else
	Detail  string // for people; names expected and seen values where there are any

	// Part names the piece of evidence that was read ("quote", "signature",
	// "ak_public", "pcrs", "event_log" ...), "" where there is none; Bytes are
	// those that decided, from Offset in that part. They share memory with the
	// evidence.
	Part   string
	Offset int
	Bytes  []byte

	// Event is the number of the log record, 0 for none: record 0 of every event
	// log is its header. PCR counts where InPCR is set.
	Event int
	PCR   int
	InPCR bool
}
