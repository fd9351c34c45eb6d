package eventlog

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

type value = [sha256.Size]byte

// Replay returns the SHA-256 values that the log leads to: reset values where it
// has no event (all ones for PCR 17 to 22, zero for the others, the startup
// locality in the last byte of PCR 0).
func (l Log) Replay() [PCRs][]byte {
	values, _ := l.replay()
	var out [PCRs][]byte
	for i := range values {
		out[i] = bytes.Clone(values[i][:])
	}
	return out
}

// replay also returns, per PCR, the index of its first extending event; 0 means
// that it has none (index 0 is the Spec ID record).
func (l Log) replay() (values [PCRs]value, first [PCRs]int) {
	for i := range values {
		values[i] = resetValue(i)
	}
	values[0][sha256.Size-1] = l.locality
	var buf [2 * sha256.Size]byte
	for i := range l.events {
		e := &l.events[i]
		if !e.extends() {
			continue
		}
		if first[e.PCR] == 0 {
			first[e.PCR] = e.Index
		}
		copy(buf[:sha256.Size], values[e.PCR][:])
		copy(buf[sha256.Size:], e.Digest)
		values[e.PCR] = sha256.Sum256(buf[:])
	}
	return values, first
}

// resetValue is the value of a PCR after TPM2_Startup(CLEAR) at locality 0: the
// PCRs of a dynamic launch (17 to 22) start with all bits set.
func resetValue(pcr int) value {
	var v value
	if pcr >= 17 && pcr <= 22 {
		for i := range v {
			v[i] = 0xff
		}
	}
	return v
}

// Explain compares the log with the quoted SHA-256 values, which must come from
// a verified quote, and returns what the log then proves about the PCRs that
// were quoted. About others it proves nothing.
//
// Refusals: tpm2.pcr.unexplained (a quoted value that no event leads to),
// eventlog.replay_mismatch (events lead to another value), tpm2.pcr.length,
// eventlog.pcr_index. The lowest PCR that fails is named.
func (l Log) Explain(quoted map[int][]byte) (Explained, error) {
	values, first := l.replay()
	known, err := compare(&values, &first, quoted)
	if err != nil {
		return Explained{}, err
	}
	return l.facts(known), nil
}

// compare returns which PCRs were quoted, where the replayed values are those of
// the quote.
func compare(values *[PCRs]value, first *[PCRs]int, quoted map[int][]byte) (known [PCRs]bool, err error) {
	order, err := indexes(quoted)
	if err != nil {
		return known, err
	}
	for _, pcr := range order {
		known[pcr] = true
		if bytes.Equal(values[pcr][:], quoted[pcr]) {
			continue
		}
		if first[pcr] == 0 {
			return known, reason.Newf(reason.TPM2PCRUnexplained, "pcr=%d is not at its reset value and the log has no event for it", pcr)
		}
		return known, reason.Newf(reason.EventLogReplayMismatch, "pcr=%d: the log leads to another value; its events begin with event %d", pcr, first[pcr])
	}
	return known, nil
}

// Unlogged judges a quote that came without any log: every quoted PCR must be at
// its reset value, otherwise the refusal is eventlog.missing.
func Unlogged(quoted map[int][]byte) error {
	order, err := indexes(quoted)
	if err != nil {
		return err
	}
	for _, pcr := range order {
		reset := resetValue(pcr)
		if !bytes.Equal(reset[:], quoted[pcr]) {
			return reason.Newf(reason.EventLogMissing, "pcr=%d is not at its reset value; send the event log", pcr)
		}
	}
	return nil
}

// indexes returns the quoted PCRs in ascending order, so that the same evidence
// always gives the same refusal.
func indexes(quoted map[int][]byte) ([]int, error) {
	order := make([]int, 0, len(quoted))
	for pcr := range quoted {
		order = append(order, pcr)
	}
	slices.Sort(order)
	for _, pcr := range order {
		if pcr < 0 || pcr > maxPCR {
			return nil, reason.Newf(reason.EventLogPCRIndex, "quoted PCR index %d", pcr)
		}
		if len(quoted[pcr]) != sha256.Size {
			return nil, reason.Newf(reason.TPM2PCRLength, "pcr=%d has %d bytes, want %d", pcr, len(quoted[pcr]), sha256.Size)
		}
	}
	return order, nil
}
