package ledger

import (
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/google/uuid"
)

// Changes compares what two decisions of a node left behind and names what
// drifted, PCRs first in order of index. A node that had no accepted
// attestation before has nothing to drift from, except its verdict.
func Changes(before, after NodeState) []Drift {
	var out []Drift
	add := func(kind, from, to string) {
		if from != to {
			out = append(out, Drift{Kind: kind, Before: from, After: to})
		}
	}
	if before.Last != uuid.Nil {
		out = append(out, pcrChanges(before.PCRs, after.PCRs)...)
		add("event_log", digestOrEmpty(before.EventLog), digestOrEmpty(after.EventLog))
		add("firmware", strconv.FormatUint(before.Firmware, 10), strconv.FormatUint(after.Firmware, 10))
		add("zone", before.Zone, after.Zone)
		add("tier", strconv.Itoa(before.Tier), strconv.Itoa(after.Tier))
	}
	if before.Verdict != "" {
		add("verdict", before.Verdict, after.Verdict)
		if before.Verdict == VerdictDeny && after.Verdict == VerdictDeny {
			add("reason", before.Reason, after.Reason)
		}
	}
	return out
}

// pcrChanges compares two PCR objects (index to hex). One that does not parse
// counts as empty.
func pcrChanges(before, after []byte) []Drift {
	from, to := pcrMap(before), pcrMap(after)
	var indexes []int
	for k := range from {
		indexes = append(indexes, k)
	}
	for k := range to {
		if _, both := from[k]; !both {
			indexes = append(indexes, k)
		}
	}
	slices.Sort(indexes)
	var out []Drift
	for _, i := range indexes {
		if from[i] != to[i] {
			out = append(out, Drift{Kind: "pcr." + strconv.Itoa(i), Before: from[i], After: to[i]})
		}
	}
	return out
}

func pcrMap(raw []byte) map[int]string {
	var m map[int]string
	if len(raw) == 0 || json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

func digestOrEmpty(d [32]byte) string {
	if d == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(d[:])
}
