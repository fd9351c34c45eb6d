package eventlog

import "bytes"

// ChangeKind says what happened to an event between two boots.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed" // an event of the same type stands in its place
)

// Change is one difference between two boots, and the PCR that it explains.
// Before is nil for what was added, After for what was removed.
type Change struct {
	PCR    int
	Kind   ChangeKind
	Before *Event
	After  *Event
}

// maxTable bounds the work for one PCR: beyond 1 000 events by 1 000 that are
// neither the same at the begin nor at the end, what is in between counts as
// removed and added.
const maxTable = 1 << 20

// Diff compares the events of two boots, PCR by PCR in ascending order, by digest.
// Both must be of one bank. What the two have in common in the same order is
// left out; EV_NO_ACTION extends nothing and is no difference.
func Diff(before, after []Event) []Change {
	var out []Change
	a, b := byPCR(before), byPCR(after)
	for pcr := range PCRs {
		out = append(out, diffPCR(pcr, a[pcr], b[pcr])...)
	}
	return out
}

func byPCR(events []Event) (out [PCRs][]*Event) {
	for i := range events {
		if e := &events[i]; e.extends() && e.PCR >= 0 && e.PCR < PCRs {
			out[e.PCR] = append(out[e.PCR], e)
		}
	}
	return out
}

func same(a, b *Event) bool { return bytes.Equal(a.Digest, b.Digest) }

func diffPCR(pcr int, a, b []*Event) []Change {
	for len(a) > 0 && len(b) > 0 && same(a[0], b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(a[len(a)-1], b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var out []Change
	i, j := 0, 0 // begin of the stretch that differs
	for _, m := range common(a, b) {
		out = append(out, stretch(pcr, a[i:m.a], b[j:m.b])...)
		i, j = m.a+1, m.b+1
	}
	return append(out, stretch(pcr, a[i:], b[j:])...)
}

// match is a pair of equal events.
type match struct{ a, b int }

// common is a longest common subsequence, nil where the table would be too large.
func common(a, b []*Event) []match {
	w := len(b) + 1
	if (len(a)+1)*w > maxTable {
		return nil
	}
	best := make([]int32, (len(a)+1)*w) // of the tails from i and j
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if same(a[i], b[j]) {
				best[i*w+j] = best[(i+1)*w+j+1] + 1
			} else {
				best[i*w+j] = max(best[(i+1)*w+j], best[i*w+j+1])
			}
		}
	}
	var out []match
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case same(a[i], b[j]):
			out = append(out, match{i, j})
			i, j = i+1, j+1
		case best[(i+1)*w+j] >= best[i*w+j+1]:
			i++
		default:
			j++
		}
	}
	return out
}

// stretch pairs what went with what came: an event of the same type in the same
// order took its place.
func stretch(pcr int, a, b []*Event) []Change {
	var out []Change
	left := make(map[uint32]int) // events of b by type
	for _, came := range b {
		left[came.Type]++
	}
	for _, gone := range a {
		if left[gone.Type] == 0 {
			out = append(out, Change{PCR: pcr, Kind: Removed, Before: gone})
			continue
		}
		for ; b[0].Type != gone.Type; b = b[1:] {
			left[b[0].Type]--
			out = append(out, Change{PCR: pcr, Kind: Added, After: b[0]})
		}
		left[gone.Type]--
		out = append(out, Change{PCR: pcr, Kind: Changed, Before: gone, After: b[0]})
		b = b[1:]
	}
	for _, came := range b {
		out = append(out, Change{PCR: pcr, Kind: Added, After: came})
	}
	return out
}
