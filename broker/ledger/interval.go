package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Interval is a span in which a node earned one zone, with one measurement,
// under one policy version, without a gap: each attestation came before the one
// before it had gone stale. It grants nothing and can be made again from the
// records.
type Interval struct {
	Node          NodeID
	Zone          string
	Measured      [32]byte // digest of the Measurement
	PolicyVersion int64
	From          time.Time // decision of the first attestation
	Until         time.Time // FreshUntil of the last one, or when it was ended before that
	Expires       time.Time // latest notAfter of the SVIDs issued in it to the node
	First, Last   uuid.UUID // records
	Renewals      int64     // attestations after the first
	Ended         string    // an Ended constant, "" while it is open
}

// Why an interval ended.
const (
	EndedChanged = "changed" // the next attestation earned another zone, or showed or was judged by something else
	EndedDenied  = "denied"  // the next attestation was refused
	EndedLapsed  = "lapsed"  // no attestation came in time
	EndedSplit   = "split"   // the week ended: no interval is longer than one
)

// Measurement is what a machine measured, as facts by name: "pcr.4" (SHA-256,
// hex), "event_log" (digest of the log, hex), "secure_boot", "firmware", and the
// boot facts that its log proves ("boot.kernel" and others). Equal machines share
// one.
type Measurement struct {
	Digest [32]byte // SHA-256 of Facts
	Facts  []byte   // RFC 8785 object of strings
}
